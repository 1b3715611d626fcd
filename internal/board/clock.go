package board

import (
	"strings"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// ClockTime writes a time as a clock shows it, with the date where that is not the one of today's
// minute.
func ClockTime(clock *time.Location, at time.Time, today toll.Minute) string {
	at = at.In(clock)
	if at.Format(time.DateOnly) != today.Time().In(clock).Format(time.DateOnly) {
		return at.Format("2006-01-02 15:04")
	}
	return at.Format("15:04")
}

// ClockSpan writes a window as a clock shows it, with the date where that is not the one of today's
// minute: 07:00–08:00, 2026-03-23 23:00–24:00. A whole date is 2026-03-23.
func ClockSpan(clock *time.Location, from, until time.Time, today toll.Minute) string {
	start, end := ClockTime(clock, from, today), until.In(clock).Format("15:04")
	if end == "00:00" && until.After(from) {
		end = "24:00"
	}
	if date, ok := strings.CutSuffix(start, " 00:00"); ok && end == "24:00" {
		return date
	}
	return start + "–" + end
}
