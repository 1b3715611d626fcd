package toll

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Window is the minutes [Start, End) of event time.
type Window struct {
	Start, End Minute
}

// LastMinutes returns the window of n minutes of which the last one is m.
func LastMinutes(m Minute, n int) Window {
	end := min(int64(m)+1, math.MaxInt32)
	return Window{Start: Minute(max(end-int64(n), math.MinInt32)), End: Minute(end)}
}

// Span returns the window's length.
func (w Window) Span() time.Duration {
	return time.Duration(int64(w.End)-int64(w.Start)) * time.Minute
}

// WindowKind is one kind of window: Size minutes long, a new one every Hop minutes. [ParseWindows]
// makes them.
//
// Windows align to the plaza's wall clock. One begins at each time of day that is a multiple of Hop
// since midnight, and ends when Size has passed on that clock. As an instant, such a time is a
// boundary: the first minute in which the clock shows that time or a later one. So boundaries keep
// the order of their times whatever the clock does, and windows of which Size is Hop tile the real
// time line:
//
//   - Clocks set forward: all times that are skipped are one boundary, the change. Where several
//     windows would begin there, the last of them is one and the others are none. So an hour that
//     never occurs has no window, and no two windows of a kind begin at the same minute.
//   - Clocks set back: a time that is shown twice is a boundary the first time only. All minutes
//     until the clock shows a new time belong with the last one before it was set back. So the hour
//     that repeats is one window of two real hours, and of 15m windows the last quarter of that
//     hour has 75 minutes.
//
// Local days have 23, 24 or 25 hours by the same rule, and where clocks are set back across
// midnight the new date stays.
type WindowKind struct {
	Name      string // as in the setting: 1m, 5m/1m, 1h, day; at most 16 characters
	Size, Hop Minute // on the wall clock; a day is a whole number of hops
	// cumulative: a local date from its first minute on; Size is then nominal (1440), Hop the step
	Day bool
}

// Windowing says how the events of a stream are put into windows.
type Windowing struct {
	// Windows are the kinds of windows whose results are stored and published, and for which events
	// may be too late.
	Windows []WindowKind
	// Zone is the timezone of the events' wall clock.
	Zone *Zone
	// PlazaZones are the timezones of the plazas whose windows align to another than Zone.
	PlazaZones map[int16]*Zone
	// Lateness is how far behind its partition's highest event time an event is still on time, in
	// whole seconds. It must not change over the life of a database: how late an event was is stored.
	Lateness time.Duration
}

// Zones returns the zones of all plazas, for one goroutine.
func (w *Windowing) Zones() *ZoneSet { return NewZoneSet(w.Zone, w.PlazaZones) }

// DefaultWindows are the kinds of windows that are counted by default.
const DefaultWindows = "1m,5m/1m,15m,1h,day"

const (
	dayMinutes = 1440
	dayStep    = 15 // minutes; of a day that names none

	// maxWindowKinds bounds the rows that a plaza's events are worth in toll_window.
	maxWindowKinds = 12
	// maxWindowsOver bounds the windows that one late event revises, per kind.
	maxWindowsOver = 60
)

// ParseWindows reads a setting such as [DefaultWindows]: kinds of windows with commas between, each
// one of
//
//	SIZE       a window after the other: 1m, 15m, 1h
//	SIZE/HOP   a window every HOP: 5m/1m, 24h/1h
//	day        the local date so far, every 15 minutes
//	day/STEP   the same every STEP: day/5m
//
// The lengths are durations of whole minutes. HOP and STEP must divide a day, or windows could not
// begin at each local midnight. The error holds every violation.
func ParseWindows(text string) ([]WindowKind, error) {
	var errs []error
	var kinds []WindowKind
	items := strings.Split(text, ",")
	seen := make(map[string]bool, len(items))
	for _, item := range items {
		item = strings.TrimSpace(item)
		kind, violations := parseWindow(item)
		for _, v := range violations {
			errs = append(errs, fmt.Errorf("window %q: %s", item, v))
		}
		if len(violations) > 0 {
			continue
		}
		if seen[kind.Name] {
			errs = append(errs, fmt.Errorf("window %q: %s is there already", item, kind.Name))
		}
		seen[kind.Name] = true
		kinds = append(kinds, kind)
	}
	if len(items) > maxWindowKinds {
		errs = append(errs, fmt.Errorf("windows are of %d kinds, want at most %d", len(items),
			maxWindowKinds))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return kinds, nil
}

// parseWindow reads one kind and reports all that is wrong with it.
func parseWindow(item string) (k WindowKind, violations []string) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			violations = append(violations, fmt.Sprintf(format, args...))
		}
	}
	if item == "" {
		check(false, "want a size such as 15m, a size and a hop such as 5m/1m, or day")
		return k, violations
	}
	length := func(what, text string) Minute { // zero for none
		d, err := ParseDuration(text)
		switch {
		case err != nil:
			check(false, "%s %q is no duration such as 15m or 1h30m", what, text)
		case d < time.Minute || d > dayMinutes*time.Minute:
			check(false, "%s is %s, want 1m to 24h", what, text)
		case d%time.Minute != 0:
			check(false, "%s is %s, want whole minutes", what, text)
		default:
			return Minute(d / time.Minute)
		}
		return 0
	}
	dividesDay := func(what string, n Minute, hint string) {
		check(n == 0 || dayMinutes%n == 0,
			"%s is %s, which does not divide a day, so windows would not begin at midnight%s",
			what, formatMinutes(n), hint)
	}
	switch size, hop, hopping := strings.Cut(item, "/"); {
	case size == "day":
		k.Day, k.Size, k.Hop = true, dayMinutes, dayStep
		if hopping {
			k.Hop = length("step", hop)
		}
		dividesDay("step", k.Hop, "")
	case hopping:
		k.Size, k.Hop = length("size", size), length("hop", hop)
		dividesDay("hop", k.Hop, "")
		if k.Size > 0 && k.Hop > 0 {
			check(k.Hop <= k.Size, "hop is %s, want at most the size, %s", formatMinutes(k.Hop),
				formatMinutes(k.Size))
			over := (k.Size + k.Hop - 1) / k.Hop
			check(over <= maxWindowsOver, "%d windows would hold each minute, want at most %d", over,
				maxWindowsOver)
		}
	default:
		k.Size = length("size", size)
		k.Hop = k.Size
		dividesDay("size", k.Size, "; add a hop that does, such as 1m or 1h")
	}
	if len(violations) == 0 {
		k.Name = k.name()
	}
	return k, violations
}

// name returns how the kind is written in short.
func (k *WindowKind) name() string {
	switch {
	case k.Day && k.Hop == dayStep:
		return "day"
	case k.Day:
		return "day/" + formatMinutes(k.Hop)
	case k.Hop == k.Size:
		return formatMinutes(k.Size)
	}
	return formatMinutes(k.Size) + "/" + formatMinutes(k.Hop)
}

// formatMinutes writes a length as a duration without what is zero: 5m, 1h, 1h30m.
func formatMinutes(n Minute) string {
	switch {
	case n%60 == 0:
		return fmt.Sprintf("%dh", n/60)
	case n < 60:
		return fmt.Sprintf("%dm", n)
	}
	return fmt.Sprintf("%dh%dm", n/60, n%60)
}

// FormatWindows writes kinds as [ParseWindows] reads them, each by its name and in the same order.
func FormatWindows(kinds []WindowKind) string {
	names := make([]string, len(kinds))
	for i := range kinds {
		names[i] = kinds[i].Name
	}
	return strings.Join(names, ",")
}

// OfQuarters reports whether size and hop are whole quarters of an hour. Such windows are sums of
// quarter panes wherever the clock is whole quarters from UTC and changes on the quarter.
func (k *WindowKind) OfQuarters() bool { return k.Size%Quarter == 0 && k.Hop%Quarter == 0 }

// Covering appends the windows of the kind that contain minute m, ascending by start. z is the
// plaza's zone.
//
// The last Minute stands for all later ones and is in no window; a window that reaches beyond it
// ends there.
func (k *WindowKind) Covering(z *Zone, m Minute, into []Window) []Window {
	if m == math.MaxInt32 {
		return into
	}
	hop := int64(k.Hop)
	if k.Day {
		hop = dayMinutes // the step is within the window
	}
	clock := wallClock{loc: z.loc}
	shown := clock.shownBy(m)
	from := floorTo(shown-int64(k.Size), hop) + hop // the first that has not ended
	start := clock.boundary(from)
	for ; from <= shown; from += hop {
		next := clock.boundary(from + hop)
		if start < next { // else its time is skipped, or it is before the first Minute
			into = append(into, Window{Start: start, End: clock.boundary(from + int64(k.Size))})
		}
		start = next
	}
	return into
}

// StepEnd returns for a day window the last step boundary that is not after until: within (w.Start,
// w.End], or w.Start for none. For other kinds it is w.End if that is not after until, else
// w.Start.
func (k *WindowKind) StepEnd(z *Zone, w Window, until Minute) Minute {
	switch {
	case until >= w.End:
		return w.End
	case until <= w.Start || !k.Day:
		return w.Start
	}
	clock := wallClock{loc: z.loc}
	return max(clock.boundary(floorTo(clock.shownBy(until), int64(k.Hop))), w.Start)
}

// wallClock is a plaza's clock with the stretches of time that were looked at last. Its wall times
// are in minutes since 1970-01-01 00:00 on that clock. Offsets lie within a day either way.
type wallClock struct {
	loc  *time.Location
	last [2]stretch // one on either side of a change
}

// noChange is when a stretch ends that has no end.
const noChange = math.MaxInt64 - 86400

// stretch is the instants [from, to), in Unix seconds, over which the offset stays the same.
type stretch struct {
	from, to int64
	offset   int64 // seconds east of UTC
}

// shownBy returns the latest wall time that the clock has shown by the end of a minute. A time has
// been reached by then if and only if its boundary is not after that minute.
func (c *wallClock) shownBy(m Minute) int64 {
	return floorTo(c.latest(int64(m)*60+60), 60) / 60
}

// latest returns the latest wall time that the clock has shown before an instant, in seconds as the
// instant is.
func (c *wallClock) latest(end int64) int64 {
	latest := int64(math.MinInt64)
	// Two days before, the clock showed less than now. The third saves looking again for the
	// boundaries.
	for t := end - 3*86400; t < end; {
		s := c.at(t)
		t = min(s.to, end)
		latest = max(latest, t-1+s.offset)
	}
	return latest
}

// boundary returns the first minute in which the clock shows a wall time or a later one.
func (c *wallClock) boundary(wall int64) Minute {
	t, _ := c.reach(wall * 60)
	return MinuteAt(t)
}

// reach returns the first instant at which the clock shows a wall time or a later one, both in
// seconds, and the stretch that the instant lies in.
func (c *wallClock) reach(wall int64) (int64, stretch) {
	t := wall - 86400 // before it, the clock shows less
	for {
		s := c.at(t)
		t = max(t, wall-s.offset)
		if t < s.to {
			return t, s
		}
		t = s.to
	}
}

// at returns the stretch from an instant on, or from an earlier one that is known.
func (c *wallClock) at(t int64) stretch {
	for _, s := range c.last {
		if t >= s.from && t < s.to {
			return s
		}
	}
	when := time.Unix(t, 0).In(c.loc)
	_, offset := when.Zone()
	s := stretch{from: t, to: noChange, offset: int64(offset)}
	// Of ZoneBounds only the end is of use, and not always: where the changes come from a rule, it
	// takes a year for 365 days, so that on the last day of a leap year the end has passed; nothing
	// changes on the rest of that day. Its start may be before an earlier change.
	if _, end := when.ZoneBounds(); !end.IsZero() {
		s.to = end.Unix()
		if s.to <= t {
			s.to = floorTo(t, 86400) + 86400
		}
	}
	c.last[0], c.last[1] = c.last[1], s
	return s
}

// floorTo returns the greatest multiple of n that is not above x.
func floorTo(x, n int64) int64 {
	r := x % n
	if r < 0 {
		r += n
	}
	return x - r
}
