// Package report says what passed the plazas in a day, a week or a month: volumes, peaks, incidents
// and how complete the figures are, from the windows that have closed.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
)

// Report is a period of all plazas that were asked for, ascending by plaza.
type Report struct {
	Period   Period
	Location *time.Location // the database's clock
	Made     time.Time
	// the minute up to which windows have closed; nil before the first event
	ClosedUntil *toll.Minute
	Plazas      []Plaza
}

// Plaza is a period of one plaza.
type Plaza struct {
	toll.Plaza
	Location *time.Location // of its clock
	ByHour   []Hour         // ascending; a day in which clocks change has one less or the same
	Days     []Day
	Total
	// the busiest hour, the first of several; nil without a vehicle
	Peak      *Hour
	PHF       *float64 // V/(4·V15) of the peak hour (HCM 2016); nil where its quarters are not stored
	Incidents []incidents.Incident
}

// Day is one date.
type Day struct {
	Date toll.WallTime // its midnight
	Total
	Peak *Hour // nil without a vehicle
}

// Total adds up hours.
type Total struct {
	Vehicles int64
	Types    []toll.TypeCount // of Vehicles
	Late     int64            // of Vehicles: events that came after the watermark
	TooLate  int64            // events that came too late to be counted
	Hours    int              // all of them
	Counted  int              // those that have closed and are stored
	Empty    int              // of those counted, those without a vehicle
}

// Complete is the share of the hours that are counted, 0 to 1.
func (t *Total) Complete() float64 { return float64(t.Counted) / float64(max(t.Hours, 1)) }

// PerDay is the mean of the vehicles that pass in 24 counted hours, 0 where none is.
func (t *Total) PerDay() float64 {
	if t.Counted == 0 {
		return 0
	}
	return float64(t.Vehicles) * 24 / float64(t.Counted)
}

// Coverage is what is known of an hour.
type Coverage string

// The coverages. Of all but Counted the counts are 0 and mean nothing.
const (
	Counted   Coverage = "counted"
	NotClosed Coverage = "not_closed"   // the watermark has not passed its end
	Deleted   Coverage = "deleted"      // its windows were deleted by retention
	Before    Coverage = "before_first" // the plaza's first event came later
)

// Hour is an hour on a plaza's clock. Where clocks are set back, it is one of two real hours.
type Hour struct {
	Window   toll.Window
	Wall     toll.WallTime // what the clock shows when it begins
	Coverage Coverage
	Vehicles int64
	Types    []toll.TypeCount
	Late     int64
	TooLate  int64
}

// known bounds what is known of a plaza.
type known struct {
	first         *toll.Minute // its first window's start
	retiredBefore toll.Minute  // windows that end at or before it may be deleted
	closedUntil   *toll.Minute
}

func (k *known) coverage(w toll.Window) Coverage {
	switch {
	case k.closedUntil == nil || w.End > *k.closedUntil:
		return NotClosed
	case w.End <= k.retiredBefore:
		return Deleted
	case k.first == nil || w.End <= *k.first:
		return Before
	}
	return Counted
}

// hours returns the hours of a period on a plaza's clock, with what the windows in them hold. The
// windows are shorter than an hour or as long, and do not overlap.
func hours(p Period, zone *toll.Zone, windows []results.StoredWindow, k known) []Hour {
	var all []Hour
	next := 0
	for wall := p.From; wall < p.To; wall += 3600 {
		w := toll.Window{Start: zone.Boundary(wall), End: zone.Boundary(wall + 3600)}
		if w.Start == w.End {
			continue // clocks are set forward: there is no such hour
		}
		h := Hour{Window: w, Wall: wall, Coverage: k.coverage(w)}
		for ; next < len(windows) && windows[next].Start < w.End; next++ {
			stored := &windows[next]
			if stored.Start < w.Start {
				continue
			}
			h.Coverage = Counted // also where event time went back since
			h.Vehicles += stored.Events()
			h.Types = toll.AddTypes(h.Types, stored.Types)
			h.Late += stored.Late
			h.TooLate += stored.TooLateNow
		}
		all = append(all, h)
	}
	return all
}

// add adds an hour.
func (t *Total) add(h *Hour) {
	t.Hours++
	if h.Coverage != Counted {
		return
	}
	t.Counted++
	if h.Vehicles == 0 {
		t.Empty++
	}
	t.Vehicles += h.Vehicles
	t.Types = toll.AddTypes(t.Types, h.Types)
	t.Late += h.Late
	t.TooLate += h.TooLate
}

// sum fills in what follows from the hours.
func (p *Plaza) sum() {
	for i := range p.ByHour {
		h := &p.ByHour[i]
		date := midnight(h.Wall)
		if n := len(p.Days); n == 0 || p.Days[n-1].Date != date {
			p.Days = append(p.Days, Day{Date: date})
		}
		d := &p.Days[len(p.Days)-1]
		d.add(h)
		p.Total.add(h)
		d.Peak = busier(d.Peak, h)
		p.Peak = busier(p.Peak, h)
	}
	byCount := func(a, b toll.TypeCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Type, b.Type))
	}
	slices.SortFunc(p.Types, byCount)
}

func busier(peak, h *Hour) *Hour {
	if h.Vehicles > 0 && (peak == nil || h.Vehicles > peak.Vehicles) {
		return h
	}
	return peak
}

// phf returns the peak-hour factor of an hour by its quarters, V/(4·V15), and nil where not all its
// vehicles are in them.
func phf(h *Hour, quarters []results.StoredWindow) *float64 {
	var all, most int64
	for i := range quarters {
		n := quarters[i].Events()
		all, most = all+n, max(most, n)
	}
	if all != h.Vehicles || most == 0 {
		return nil
	}
	return new(float64(all) / float64(4*most))
}

// InIncidents returns how many minutes of the period the plaza was in incidents.
func (p *Plaza) InIncidents() (minutes int64) {
	if len(p.ByHour) == 0 {
		return 0
	}
	begin, end := p.ByHour[0].Window.Start, p.ByHour[len(p.ByHour)-1].Window.End
	for i := range p.Incidents {
		from, to := max(begin, p.Incidents[i].Began), end
		if ended := p.Incidents[i].Ended; ended != nil {
			to = min(to, *ended)
		}
		minutes += max(0, int64(to)-int64(from))
	}
	return minutes
}

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
