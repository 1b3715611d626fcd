package toll

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The minutes of these tests are those of 1970-01-01 in UTC, so that 620 is 10:20.

func closerOf(t testing.TB, zone, kinds string) *Closer {
	t.Helper()
	parsed, err := ParseWindows(kinds)
	if err != nil {
		t.Fatal(err)
	}
	return &Closer{Kinds: parsed, Zone: zoneOf(t, zone)}
}

// clockMinute reads a time of day, with days before it as in 2d10:20.
func clockMinute(t testing.TB, text string) Minute {
	t.Helper()
	var d, h, m Minute
	if days, rest, ok := strings.Cut(text, "d"); ok {
		fmt.Sscan(days, &d)
		text = rest
	}
	if _, err := fmt.Sscanf(text, "%d:%d", &h, &m); err != nil {
		t.Fatalf("%q is no time: %v", text, err)
	}
	return d*1440 + h*60 + m
}

func clockOf(m Minute) string {
	text := fmt.Sprintf("%02d:%02d", m%1440/60, m%60)
	if m >= 1440 {
		text = fmt.Sprintf("%dd%s", m/1440, text)
	}
	return text
}

// stateWith returns a state of one car at each time, of which windows up to done are stored.
func stateWith(t testing.TB, done string, at ...string) *State {
	t.Helper()
	s := NewState(1)
	for _, a := range at {
		s.add(&PlazaDelta{Events: 1, Panes: []Pane{cars(clockMinute(t, a), 1)}})
	}
	if done != "" {
		s.Done = clockMinute(t, done)
	}
	return s
}

// show writes a closing's windows as kind start=events, with the end of a day so far, and then what
// is to be recounted.
func (c *Closing) show() string {
	var parts []string
	for i := range c.Windows {
		w := &c.Windows[i]
		text := fmt.Sprintf("%s %s=%d", w.Kind, clockOf(w.Start), w.Events())
		if !w.Whole {
			text += " until " + clockOf(w.End)
		}
		parts = append(parts, text)
	}
	for _, w := range c.Recount {
		parts = append(parts, fmt.Sprintf("recount %s-%s", clockOf(w.Start), clockOf(w.End)))
	}
	return strings.Join(parts, ", ")
}

func TestCloseDue(t *testing.T) {
	for _, c := range []struct {
		name, kinds, done string
		at                []string
		until, want       string
	}{
		{"just passed", "1m", "", []string{"10:20", "10:21"}, "10:21", "1m 10:20=1"},
		{"a minute short", "15m", "", []string{"10:20"}, "10:29", ""},
		{"its end", "15m", "", []string{"10:20", "10:15", "10:14"}, "10:30", "15m 10:00=1, 15m 10:15=2"},
		{"what was stored stays", "1m,15m", "10:21", []string{"10:20", "10:21"}, "10:22", "1m 10:21=1"},
		{"a window from before", "15m", "10:29", []string{"10:15"}, "10:30", "15m 10:15=1"},
		{"windows without events are none", "1m", "", []string{"10:20"}, "12:00", "1m 10:20=1"},
		{"hopping", "5m/1m", "10:22", []string{"10:20"}, "10:24", "5m/1m 10:18=1, 5m/1m 10:19=1"},
		{"hopping, to the last", "5m/1m", "10:24", []string{"10:20"}, "11:00", "5m/1m 10:20=1"},
		{"hopping over what follows", "5m/1m", "", []string{"10:20", "10:23"}, "10:24",
			"5m/1m 10:16=1, 5m/1m 10:17=1, 5m/1m 10:18=1, 5m/1m 10:19=2"},
		{"the day so far", "day", "", []string{"10:20", "10:29", "10:30"}, "10:44",
			"day 00:00=2 until 10:30"},
		{"the day so far, no step", "day", "10:30", []string{"10:20", "10:31"}, "10:44", ""},
		{"the day so far, another step", "day", "10:44", []string{"10:20", "10:31"}, "10:45",
			"day 00:00=2 until 10:45"},
		{"the whole day", "day", "23:50", []string{"10:20", "1d00:00"}, "1d00:01", "day 00:00=1"},
		{"yesterday and today", "day", "23:50", []string{"10:20", "1d00:00"}, "1d00:20",
			"day 00:00=1, day 1d00:00=1 until 1d00:15"},
		{"hours that hop", "1h/15m", "", []string{"10:20"}, "10:45", "1h/15m 09:30=1, 1h/15m 09:45=1"},
	} {
		closing, due := closerOf(t, "UTC", c.kinds).Close(4000, stateWith(t, c.done, c.at...),
			clockMinute(t, c.until), math.MaxInt32)
		if got := closing.show(); got != c.want || !due {
			t.Errorf("%s: got %s (%v), want %s", c.name, got, due, c.want)
		}
		if closing.Until != clockMinute(t, c.until) || closing.Plaza != 4000 || closing.Epoch != 1 ||
			closing.Reason != ClosedByWatermark {
			t.Errorf("%s: %+v", c.name, closing)
		}
	}
}

func TestCloseNothing(t *testing.T) {
	for _, until := range []string{"10:30", "10:00"} {
		if closing, due := closerOf(t, "UTC", DefaultWindows).Close(4000, stateWith(t, "10:30", "10:20"),
			clockMinute(t, until), math.MaxInt32); due {
			t.Errorf("until %s: %+v", until, closing)
		}
	}
}

func TestCloseReasons(t *testing.T) {
	s := stateWith(t, "", "10:20", "10:25")
	closing, _ := closerOf(t, "UTC", "1m").Close(4000, s, clockMinute(t, "10:26"),
		clockMinute(t, "10:21"))
	if len(closing.Windows) != 2 || closing.Windows[0].Reason != ClosedByWatermark ||
		closing.Windows[1].Reason != ClosedByIdle || closing.Reason != ClosedByIdle {
		t.Errorf("%+v", closing)
	}
}

// What came since its windows were stored is due at once, whatever the watermark.
func TestCloseDirty(t *testing.T) {
	for _, c := range []struct {
		name, kinds, done, at, until, want string
	}{
		{"a minute and its hour", "1m,1h", "11:10", "10:20", "11:10", "1m 10:20=2, 1h 10:00=2"},
		{"an hour that is open", "1m,1h", "10:50", "10:20", "10:50", "1m 10:20=2"},
		{"the watermark went back", "1m", "10:50", "10:20", "10:00", "1m 10:20=2"},
		{"the day so far", "day", "10:50", "10:20", "10:50", "day 00:00=2 until 10:45"},
		{"the day so far is not so far", "day", "10:50", "10:47", "10:50", "day 00:00=1 until 10:45"},
		{"a day that is over", "day", "1d10:50", "10:20", "1d10:50", "day 00:00=2"},
		{"with what closes now", "1m,1h", "10:50", "10:20", "11:00", "1m 10:20=2, 1h 10:00=2"},
		{"hopping", "5m/1m", "10:23", "10:20", "10:23", "5m/1m 10:16=2, 5m/1m 10:17=2, 5m/1m 10:18=2"},
	} {
		s := stateWith(t, c.done, "10:20")
		s.add(&PlazaDelta{Events: 1,
			Panes: []Pane{{Start: clockMinute(t, c.at), Types: []TypeCount{{"car", 1}}, Late: 1}}})
		closing, due := closerOf(t, "UTC", c.kinds).Close(4000, s, clockMinute(t, c.until), math.MaxInt32)
		if got := closing.show(); got != c.want || !due {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		for i := range closing.Windows {
			if w := &closing.Windows[i]; c.at == "10:20" && w.Late != 1 {
				t.Errorf("%s: %+v", c.name, w)
			}
		}
		if closing.Until != max(s.Done, clockMinute(t, c.until)) {
			t.Errorf("%s: until %s", c.name, clockOf(closing.Until))
		}
		s.MarkStored(closing.Until, nil)
		if closing, due := closerOf(t, "UTC", c.kinds).Close(4000, s, s.Done, math.MaxInt32); due {
			t.Errorf("%s: stored, and due again: %s", c.name, closing.show())
		}
	}
}

// Events that were late for minutes are due in windows of quarters.
func TestCloseLateQuarter(t *testing.T) {
	s := stateWith(t, "13:00", "10:20")
	s.add(&PlazaDelta{Events: 2, LateQuarter: []Pane{cars(clockMinute(t, "10:22"), 2)},
		TooLate: []Pane{cars(clockMinute(t, "10:23"), 1)}})
	closing, _ := closerOf(t, "UTC", "1m,5m/1m,15m,1h").Close(4000, s, s.Done, math.MaxInt32)
	var quarters []string
	for i := range closing.Windows {
		if w := &closing.Windows[i]; w.Kind == "15m" || w.Kind == "1h" {
			quarters = append(quarters, fmt.Sprintf("%s=%d late %d", w.Kind, w.Events(), w.Late))
		} else if w.Events() != 1 || w.Late != 0 {
			t.Errorf("%+v", w)
		}
	}
	if got, want := strings.Join(quarters, ", "), "15m=3 late 2, 1h=3 late 2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A closing covers so many minutes from the first that holds events, and the rest comes with those
// after it.
func TestCloseSpan(t *testing.T) {
	c := closerOf(t, "UTC", "1m")
	s := stateWith(t, "01:00", "02:00", "1d01:59", "1d02:00", "4d20:00")
	var got []string
	for range 10 {
		closing, due := c.Close(4000, s, clockMinute(t, "9d00:00"), math.MaxInt32)
		if !due {
			break
		}
		got = append(got, closing.show()+" until "+clockOf(closing.Until))
		s.MarkStored(closing.Until, nil)
	}
	want := []string{"1m 02:00=1, 1m 1d01:59=1 until 1d02:00", "1m 1d02:00=1 until 2d02:00",
		"1m 4d20:00=1 until 5d20:00", " until 9d00:00"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCloseAll(t *testing.T) {
	s := stateWith(t, "10:21", "10:20", "10:21", "2000d10:00")
	s.Minutes.Gap, s.Quarters.Gap = Window{clockMinute(t, "300d00:00"), clockMinute(t, "301d00:00")},
		Window{}
	closing, due := closerOf(t, "UTC", "1m,1h,day").CloseAll(4000, s)
	want :=
		"1m 10:21=1, 1m 2000d10:00=1, 1h 10:00=2, 1h 2000d10:00=1, day 00:00=2, day 2000d00:00=1, " +
			"recount 300d00:00-301d00:00"
	if got := closing.show(); got != want || !due {
		t.Errorf("got %s, want %s", got, want)
	}
	for i := range closing.Windows {
		if closing.Windows[i].Reason != ClosedByEnd {
			t.Errorf("%+v", closing.Windows[i])
		}
	}
	if closing.Reason != ClosedByEnd || closing.Until != math.MaxInt32 ||
		closing.From != closing.Until {
		t.Errorf("%+v", closing)
	}
	if closing, due := closerOf(t, "UTC", "1m").CloseAll(4000, stateWith(t, "10:21", "10:20")); due ||
		closing.From != closing.Until {
		t.Errorf("%+v is due", closing)
	}
}

// What congestion is judged by: the minutes that close now and an hour before.
func TestClosePanes(t *testing.T) {
	for _, c := range []struct {
		name, done  string
		at          []string
		until, from string
		want        []string
	}{
		{"an hour before", "11:00", []string{"09:59", "10:00", "10:59", "11:00", "11:04", "11:05"},
			"11:05", "11:00", []string{"10:00", "10:59", "11:00", "11:04"}},
		{"the first time", "", []string{"10:00", "10:20", "10:30"}, "10:30", "10:00",
			[]string{"10:00", "10:20"}},
		{"the first time, nothing yet", "", []string{"10:40"}, "10:30", "10:30", nil},
		{"only what changed", "11:00", []string{"10:00"}, "11:00", "11:00", nil},
	} {
		s := stateWith(t, c.done, c.at...)
		s.Dirty = AddRange(s.Dirty, Window{600, 601})
		closing, _ := closerOf(t, "UTC", "1m").Close(4000, s, clockMinute(t, c.until), math.MaxInt32)
		var got []string
		for i := range closing.Panes {
			got = append(got, clockOf(closing.Panes[i].Start))
		}
		if !slices.Equal(got, c.want) || closing.PanesLost || closing.From != clockMinute(t, c.from) {
			t.Errorf("%s: got %v from %s, want %v from %s", c.name, got, clockOf(closing.From), c.want,
				c.from)
		}
	}
	s := stateWith(t, "11:00", "10:20", "11:03")
	s.Minutes.dropBefore(clockMinute(t, "10:30"))
	if closing, _ := closerOf(t, "UTC", "1m").Close(4000, s, clockMinute(t, "11:05"),
		math.MaxInt32); !closing.PanesLost || closing.Panes != nil {
		t.Errorf("judges by what is not known: %+v", closing)
	}
}

func TestMarkStored(t *testing.T) {
	s := stateWith(t, "10:00", "10:20", "2d10:20", "4d10:20")
	s.add(&PlazaDelta{Events: 1, LateQuarter: []Pane{cars(clockMinute(t, "09:00"), 1)}})
	until := clockMinute(t, "4d10:22")
	s.MarkStored(until, []Window{{5, 6}})
	if s.Done != until || !slices.Equal(s.Dirty, []Window{{5, 6}}) {
		t.Errorf("%+v", s)
	}
	if got := startsOf(&s.Minutes); !slices.Equal(got, []Minute{clockMinute(t, "4d10:20")}) ||
		s.Minutes.From != until-120 {
		t.Errorf("minutes %v, from %s", got, clockOf(s.Minutes.From))
	}
	if got := startsOf(&s.Quarters); !slices.Equal(got,
		[]Minute{clockMinute(t, "2d10:15"), clockMinute(t, "4d10:15")}) ||
		s.Quarters.From != clockMinute(t, "2d10:15") {
		t.Errorf("quarters %v, from %s", got, clockOf(s.Quarters.From))
	}
	s.MarkStored(until-100, nil)
	if s.Done != until || len(s.Dirty) != 0 {
		t.Errorf("went back: %+v", s)
	}
	fresh := NewState(1)
	if fresh.MarkStored(math.MinInt32, nil); fresh.Minutes.From != math.MinInt32 ||
		fresh.Quarters.From > math.MinInt32+15 {
		t.Errorf("%+v", fresh)
	}
}

// A window of which all panes were dropped is counted from the outbox.
func TestCloseGivenUp(t *testing.T) {
	for _, c := range []struct {
		name, kinds string
		give        func(s *State)
		want        string
	}{
		{"minutes were dropped as old", "4h5m/5m",
			func(s *State) { s.Minutes.dropBefore(clockMinute(t, "12:00")) }, "recount 10:00-14:05"},
		{"the panes of an hour that has not closed", "1h", func(s *State) {
			s.Done, s.Quarters.List = clockMinute(t, "10:50"), append(s.Quarters.List,
				cars(clockMinute(t, "500d00:00"), 1))
			s.Quarters.bound(s.Done, Quarter, 3, 3)
		}, "recount 10:00-11:00"},
		{"a quarter that has not closed", "15m", func(s *State) {
			s.Done, s.Quarters.List = clockMinute(t, "10:22"), append(s.Quarters.List,
				cars(clockMinute(t, "500d00:00"), 1))
			s.Quarters.bound(s.Done, Quarter, 3, 3)
		}, "recount 10:15-10:30"},
	} {
		s := stateWith(t, "14:00", "10:20")
		c.give(s)
		closing, _ := closerOf(t, "UTC", c.kinds).Close(4000, s, clockMinute(t, "14:05"), math.MaxInt32)
		if got := closing.show(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// An event that comes for a quarter which was dropped revises its windows, whichever of its
// minutes it is in.
func TestCloseLateForGivenUpQuarter(t *testing.T) {
	for _, give := range []func(s *State){
		func(s *State) { s.Quarters.bound(s.Done, Quarter, 3, 0) }, // as old
		func(s *State) { // as ahead, before it had closed
			done := s.Done
			s.Quarters.bound(clockMinute(t, "09:00"), Quarter, 3, 0)
			s.Done = done
		},
	} {
		s := stateWith(t, "12:00", "10:00", "10:15", "11:50")
		give(s)
		s.add(&PlazaDelta{Events: 1, Panes: []Pane{cars(clockMinute(t, "10:22"), 1)}})
		closing, _ := closerOf(t, "UTC", "15m").Close(4000, s, s.Done, math.MaxInt32)
		if !InRanges(closing.Recount, Window{clockMinute(t, "10:22"), clockMinute(t, "10:23")}) {
			t.Errorf("got %s of %+v", closing.show(), s.Quarters)
		}
	}
}

// windowStore stores closings as the database does, and counts from all events what is to be
// recounted.
type windowStore struct {
	closer *Closer
	panes  []Pane // all that came, on time and late
	late   []Pane // late for minutes
	rows   map[WindowID]WindowResult
}

// count counts all windows up to a minute, and those only that the panes in span belong to if
// given.
func (s *windowStore) count(until Minute, ranges []Window) map[WindowID]*WindowCount {
	counts := map[WindowID]*WindowCount{}
	for i := range s.closer.Kinds {
		k := &s.closer.Kinds[i]
		add := func(p *Pane, late int64) {
			for _, w := range k.Covering(s.closer.Zone, p.Start, nil) {
				end := k.StepEnd(s.closer.Zone, w, until)
				if p.Start >= end || ranges != nil && !InRanges(ranges, w) {
					continue
				}
				id := WindowID{Kind: k.Name, Start: w.Start}
				if counts[id] == nil {
					counts[id] = &WindowCount{WindowID: id, End: end, Whole: end == w.End}
				}
				counts[id].Types = AddTypes(counts[id].Types, p.Types)
				counts[id].Late += late
			}
		}
		for i := range s.panes {
			add(&s.panes[i], s.panes[i].Late)
		}
		for i := range s.late {
			if k.OfQuarters() {
				add(&s.late[i], s.late[i].Count())
			}
		}
	}
	return counts
}

func (s *windowStore) store(c *Closing) {
	windows := c.Windows
	if len(c.Recount) > 0 {
		for _, w := range s.count(c.Until, c.Recount) {
			windows = append(windows, *w)
		}
	}
	for i := range windows {
		w := &windows[i]
		var old *WindowResult
		if row, ok := s.rows[w.WindowID]; ok {
			old = &row
		}
		if row, ok := Revise(old, c.Epoch, w); ok {
			s.rows[w.WindowID] = row
		}
	}
}

// check compares what is stored with a count of all events, of windows that have closed.
func (s *windowStore) check(until Minute) error {
	for id, want := range s.count(until, nil) {
		row := s.rows[id]
		if !slices.Equal(row.Types, want.Types) || row.Late != want.Late || want.Whole && !row.Whole {
			return fmt.Errorf("%s at %s, until %s: stored %+v, want %+v", id.Kind, clockOf(id.Start),
				clockOf(until), row, want)
		}
	}
	return nil
}

// However little room there is for panes, and whatever comes when, all windows are submitted or
// asked to be recounted.
func TestCloseLosesNothing(t *testing.T) {
	recounts, closings := 0, 0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 5))
		kinds := []string{DefaultWindows, "1m,7m/2m,day/5m", "4h5m/5m,30m/15m", "23h59m/2h24m,24h/1h",
			"2h30m/30m,25m/10m"}[rng.IntN(5)]
		zone := []string{"UTC", "Asia/Kathmandu", "Africa/Monrovia", "Europe/Berlin",
			"America/St_Johns"}[rng.IntN(5)]
		store := &windowStore{closer: closerOf(t, zone, kinds), rows: map[WindowID]WindowResult{}}
		s := NewState(0)
		minutes, quarters := MinuteBytes, QuarterBytes
		if rng.IntN(3) > 0 {
			minutes, quarters = rng.IntN(80), rng.IntN(80)
		}
		start, now := Minute(rng.IntN(20*1440)), Minute(0)
		if zone == "America/St_Johns" { // clocks are set at 00:01 there
			start = minuteOf(t, "2010-11-06 12:00")
		}
		now = start
		quiet := 1 + rng.IntN(200)
		for range 150 {
			now += Minute(rng.IntN(quiet))
			var d PlazaDelta
			for range 1 + rng.IntN(3) {
				p := cars(now-Minute(rng.IntN(5)), 1+rng.Int64N(3))
				switch rng.IntN(20) {
				case 0:
					p.Start -= Minute(rng.IntN(180))
					p.Late = 1
				case 1:
					p.Start += Minute(rng.IntN(3000))
				case 2:
					p.Start += Minute(rng.IntN(1e6))
				case 3:
					p.Start = math.MaxInt32 - Minute(rng.IntN(20))
				}
				if rng.IntN(15) == 0 {
					p.Late, p.Start = 0, now-Minute(rng.IntN(2*1440))
					d.LateQuarter = append(d.LateQuarter, p)
				} else {
					d.Panes = append(d.Panes, p)
				}
			}
			for _, panes := range [][]Pane{d.Panes, d.LateQuarter} {
				slices.SortFunc(panes, func(a, b Pane) int { return cmp.Compare(a.Start, b.Start) })
			}
			s.add(&d)
			s.Minutes.bound(s.Done, 1, 3, minutes)
			s.Quarters.bound(s.Done, Quarter, 3, quarters)
			store.panes, store.late = append(store.panes, d.Panes...), append(store.late, d.LateQuarter...)
			if rng.IntN(3) > 0 {
				continue
			}
			until := now - Minute(rng.IntN(200))
			for {
				closing, due := store.closer.Close(0, s, until, math.MaxInt32)
				if !due {
					break
				}
				closings++
				if len(closing.Recount) > 0 {
					recounts++
				}
				store.store(&closing)
				s.MarkStored(closing.Until, nil)
				if closing.Until == max(until, s.Done) && len(s.Dirty) == 0 {
					break
				}
			}
			if rng.IntN(5) == 0 {
				if err := store.check(s.Done); err != nil {
					t.Fatalf("seed %d, %s, %s: %v", seed, zone, kinds, err)
				}
			}
		}
		closing, _ := store.closer.CloseAll(0, s)
		store.store(&closing)
		if err := store.check(math.MaxInt32); err != nil {
			t.Fatalf("seed %d, %s, %s, at the end: %v", seed, zone, kinds, err)
		}
		if got, want := len(store.rows), len(store.count(math.MaxInt32, nil)); got != want {
			t.Fatalf("seed %d: %d windows, want %d", seed, got, want)
		}
	}
	t.Logf("%d closings, %d with a recount", closings, recounts)
}

// A state without any panes, as one from before windows were stored, begins to close with
// its first event and not millennia before.
func TestCloseBeginsWithTheFirstEvent(t *testing.T) {
	c := closerOf(t, "UTC", "1m,1h")
	s := stateWith(t, "", "500d10:20")
	s.Earliest = WallTime(clockMinute(t, "500d10:20")) * 60
	everything := Window{math.MinInt32, math.MaxInt32}
	s.Minutes.Gap, s.Quarters.Gap = everything, everything
	until := clockMinute(t, "502d00:00")
	var recount []Window
	for n := 0; s.Done < until; n++ {
		closing, due := c.Close(4000, s, until, math.MaxInt32)
		if !due || n > 10 {
			t.Fatalf("%d closings, the last until %s", n, closing.Until.Time())
		}
		for _, w := range closing.Recount {
			recount = AddRange(recount, w)
		}
		s.MarkStored(closing.Until, nil)
	}
	if event := s.Earliest / 60; !InRanges(recount, Window{Minute(event), Minute(event) + 1}) {
		t.Errorf("got %v", recount)
	}
}

func TestRevise(t *testing.T) {
	id := WindowID{Plaza: 4000, Kind: "15m", Start: 615}
	count := func(n int64, whole bool, end Minute, reason CloseReason) *WindowCount {
		w := &WindowCount{WindowID: id, End: end, Whole: whole, Reason: reason, Late: n / 3}
		if n > 0 {
			w.Types = []TypeCount{{"car", n}}
		}
		return w
	}
	stored := func(n int64, whole bool, end Minute, revision int64) *WindowResult {
		return &WindowResult{WindowCount: *count(n, whole, end, ClosedByIdle), Epoch: 5,
			Revision: revision, TooLate: 2}
	}
	onlyTooLate := &WindowResult{WindowCount: WindowCount{WindowID: id, End: 630}, TooLate: 7}
	for _, c := range []struct {
		name  string
		old   *WindowResult
		epoch uint64
		w     *WindowCount
		want  int64 // the revision to store, 0 for none
	}{
		{"the first", nil, 5, count(3, true, 630, ClosedByWatermark), 1},
		{"the first, of none", nil, 5, count(0, true, 630, ClosedByWatermark), 0},
		{"events came too late before", onlyTooLate, 5, count(3, true, 630, ClosedByWatermark), 1},
		{"events came too late before, and none else", onlyTooLate, 5,
			count(0, true, 630, ClosedByWatermark), 0},
		{"submitted again", stored(3, true, 630, 1), 5, count(3, true, 630, ClosedByWatermark), 0},
		{"more events", stored(3, true, 630, 1), 5, count(4, true, 630, ClosedByWatermark), 2},
		{"more again", stored(4, true, 630, 2), 5, count(9, true, 630, ClosedByEnd), 3},
		{"fewer: an old one, late", stored(9, true, 630, 3), 5, count(4, true, 630, ClosedByWatermark),
			0},
		{"the day so far goes on without events", stored(3, false, 630, 1), 5,
			count(3, false, 645, ClosedByWatermark), 0},
		{"the day so far goes on with events", stored(3, false, 630, 1), 5,
			count(4, false, 645, ClosedByWatermark), 2},
		{"the day is over", stored(3, false, 630, 1), 5, count(3, true, 1440, ClosedByWatermark), 2},
		{"the day is over, a step of it late", stored(3, true, 1440, 2), 5,
			count(3, false, 645, ClosedByWatermark), 0},
		{"a late event after the day", stored(3, true, 1440, 2), 5,
			count(4, true, 1440, ClosedByWatermark), 3},
		{"a newer epoch, fewer: of a compacted outbox", stored(9, true, 630, 3), 6,
			count(4, true, 630, ClosedByWatermark), 0},
		{"a newer epoch, the same", stored(9, true, 630, 3), 6, count(9, true, 630, ClosedByWatermark),
			0},
		{"a newer epoch, more", stored(9, true, 630, 3), 6, count(10, true, 630, ClosedByWatermark), 4},
		{"a newer epoch, the day is over", stored(3, false, 630, 1), 6,
			count(3, true, 1440, ClosedByWatermark), 2},
		{"an older epoch", stored(3, true, 630, 1), 4, count(9, true, 630, ClosedByWatermark), 0},
	} {
		got, ok := Revise(c.old, c.epoch, c.w)
		if ok != (c.want > 0) {
			t.Errorf("%s: %v", c.name, ok)
			continue
		}
		if !ok {
			if c.old != nil && c.old.Revision > 0 && !reflect.DeepEqual(got, *c.old) {
				t.Errorf("%s: got %+v, want what is stored", c.name, got)
			}
			continue
		}
		want := WindowResult{WindowCount: *c.w, Epoch: c.epoch, Revision: c.want}
		if c.old != nil {
			want.TooLate = c.old.TooLate
			if c.old.Revision > 0 {
				want.Reason = c.old.Reason // why it closed at first
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, want)
		}
	}
}

// Whoever submits what and in whatever order, the row ends with the most events, and its
// revisions follow on each other.
func TestReviseInAnyOrder(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 6))
		var row *WindowResult
		most, last := int64(0), int64(0)
		for range 50 {
			w := WindowCount{End: 630, Whole: true, Types: []TypeCount{{"car", rng.Int64N(40)}}}
			if r, ok := Revise(row, 5, &w); ok {
				if r.Revision != last+1 || row != nil && r.Events() <= row.Events() {
					t.Fatalf("seed %d: %+v follows %+v", seed, r, row)
				}
				row, last = &r, r.Revision
			}
			most = max(most, w.Events())
		}
		if row.Events() != most {
			t.Fatalf("seed %d: %d events, want %d", seed, row.Events(), most)
		}
	}
}

func TestEventsOfWindow(t *testing.T) {
	w := WindowCount{Types: []TypeCount{{"bus", 2}, {"car", 5}}}
	if got := w.Events(); got != 7 {
		t.Errorf("got %d", got)
	}
}
