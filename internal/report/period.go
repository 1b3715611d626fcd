package report

import (
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/toll"
)

// Period is a run of whole local dates, [From, To).
type Period struct {
	From, To toll.WallTime // midnights
	Title    string        // as it is written over a report: Thursday, 10 February 2022
}

// Days returns how many dates the period has.
func (p Period) Days() int { return int((p.To - p.From) / secondsPerDay) }

const secondsPerDay = 86400

// OfDay returns the period of a date such as 2022-02-10, or of yesterday; now is on the clock that
// the report is for.
func OfDay(text string, now toll.WallTime) (Period, error) {
	var from toll.WallTime
	if text == "yesterday" {
		from = midnight(now) - secondsPerDay
	} else if err := parse(&from, time.DateOnly, text); err != nil {
		return Period{}, hint.Usagef("--day %q is neither a date such as 2022-02-10 nor yesterday", text)
	}
	return Period{from, from + secondsPerDay, from.Format("Monday, 2 January 2006")}, nil
}

// OfWeek returns the period from Monday to Sunday that holds a date such as 2022-02-10, or the last
// one that has ended.
func OfWeek(text string, now toll.WallTime) (Period, error) {
	var day toll.WallTime
	if text == "last" {
		day = midnight(now) - 7*secondsPerDay
	} else if err := parse(&day, time.DateOnly, text); err != nil {
		return Period{}, hint.Usagef("--week %q is neither a date such as 2022-02-10 nor last", text)
	}
	date := time.Unix(int64(day), 0).UTC()
	from := day - toll.WallTime((int(date.Weekday())+6)%7*secondsPerDay)
	year, week := date.ISOWeek()
	return Period{from, from + 7*secondsPerDay, fmt.Sprintf("Week %d of %d, from %s to %s", week, year,
		from.Format("Monday, 2 January"), (from + 6*secondsPerDay).Format("Sunday, 2 January 2006"))}, nil
}

// OfMonth returns the period of a month such as 2022-02, or of the last one that has ended.
func OfMonth(text string, now toll.WallTime) (Period, error) {
	var from toll.WallTime
	if text == "last" {
		at := time.Unix(int64(now), 0).UTC()
		from = toll.WallTime(time.Date(at.Year(), at.Month()-1, 1, 0, 0, 0, 0, time.UTC).Unix())
	} else if err := parse(&from, "2006-01", text); err != nil {
		return Period{}, hint.Usagef("--month %q is neither a month such as 2022-02 nor last", text)
	}
	to := toll.WallTime(time.Unix(int64(from), 0).UTC().AddDate(0, 1, 0).Unix())
	return Period{from, to, from.Format("January 2006")}, nil
}

func midnight(w toll.WallTime) toll.WallTime {
	_, second := w.Day()
	return w - toll.WallTime(second)
}

func parse(into *toll.WallTime, layout, text string) error {
	t, err := time.Parse(layout, text)
	*into = toll.WallTime(t.Unix())
	if err == nil && !into.Valid() {
		err = fmt.Errorf("the year %d is out of range", t.Year())
	}
	return err
}
