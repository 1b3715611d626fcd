package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"

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
