package command

import (
	"cmp"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/toll"
)

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
