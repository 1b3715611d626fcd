package command

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/toll"
)

const day = 24 * time.Hour

// ParseAge reads for how long something is kept: 90d, 48h, or 0.
func ParseAge(text string) (time.Duration, error) {
	const most = 100_000 * day // room for what is added to it
	d, err := toll.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		return 0, fmt.Errorf("%q is not a time such as 90d, 48h or 0", text)
	}
	return d, nil
}

// FormatAge writes a time as [ParseAge] reads it.
func FormatAge(d time.Duration) string {
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return formatDuration(d)
}

// formatDuration leaves out the zeros that [time.Duration] writes: 24h, not 24h0m0s.
func formatDuration(d time.Duration) string {
	text := d.String() // 1h30m0s, 10m0s, 2h0m0s, 0s
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

// durationValue is the value of a flag that takes a duration. It writes itself without days, since
// that is how [cli.Context.Duration] reads it.
type durationValue time.Duration

func (d *durationValue) Set(text string) error {
	v, err := toll.ParseDuration(text)
	*d = durationValue(v)
	return err
}

func (d *durationValue) String() string {
	if d == nil {
		return ""
	}
	return time.Duration(*d).String()
}

func isDuration(f *cli.GenericFlag) bool {
	_, ok := f.Value.(*durationValue)
	return ok
}

// acceptDays lets duration flags take days as well, such as 90d or 1d12h. urfave/cli reads them by
// [time.ParseDuration], which knows none.
func acceptDays(flags []cli.Flag) {
	for i, f := range flags {
		if d, ok := f.(*cli.DurationFlag); ok {
			flags[i] = &cli.GenericFlag{
				Name: d.Name, EnvVars: d.EnvVars, Value: (*durationValue)(&d.Value),
				DefaultText: cmp.Or(d.DefaultText, formatDuration(d.Value)), Category: d.Category,
				Usage: d.Usage,
			}
		}
	}
}

// LoopbackAddr reads an address to listen on, which must not be reachable from other machines;
// advice says why.
func LoopbackAddr(flag, addr, advice string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", hint.Usagef("--%s: %q is not HOST:PORT", flag, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", hint.Usagef("--%s: %q is not a port", flag, port)
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", hint.With(hint.Usagef("--%s: %q is not a loopback address", flag, host),
			advice)
	}
	return net.JoinHostPort(host, port), nil
}
