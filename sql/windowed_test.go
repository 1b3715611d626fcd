package sql

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// passage is some vehicles passing a plaza at a time, as the stream found them.
type passage struct {
	plaza int16
	at    string // wall clock of the database
	typ   string
	n     int
	how   toll.Timeliness
}

// windowed stores events by the real writer, knows what every window holds, and hands windows over.
type windowed struct {
	t        testing.TB
	s        *testStore
	w        *Writer
	cfg      ResultsConfig
	zone     *toll.Zone
	mu       sync.Mutex
	cursors  map[int32]toll.Cursor
	chain    map[int32]map[int16]int64
	passages []passage
	deltas   []toll.Delta
	rule     func(toll.WallTime) toll.Minute // in which minute a time is counted; nil for the zone's
	// days were closed step by step, so one may end before a step that brought no event
	stepped bool
}

func newWindowed(t testing.TB, s *testStore, windows string) *windowed {
	t.Helper()
	return newWindowedIn(t, s, berlin, windows)
}

func newWindowedIn(t testing.TB, s *testStore, loc *time.Location, windows string) *windowed {
	t.Helper()
	id := testIdentity
	id.Timezone = loc.String()
	if _, err := s.Init(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	kinds, err := toll.ParseWindows(windows)
	if err != nil {
		t.Fatal(err)
	}
	return &windowed{t: t, s: s, w: s.Writer(testIdentity.TopicID),
		cfg:  ResultsConfig{Windows: kinds, Location: loc},
		zone: toll.NewZone(loc), cursors: map[int32]toll.Cursor{}, chain: map[int32]map[int16]int64{}}
}

func (x *windowed) results() *Results { return x.s.Results(testIdentity.TopicID, x.cfg) }

func (x *windowed) zoneOf(plaza int16) *toll.Zone {
	return toll.NewZoneSet(x.zone, x.cfg.PlazaZones).Of(plaza)
}

func (x *windowed) minute(w toll.WallTime) toll.Minute {
	if x.rule != nil {
		return x.rule(w)
	}
	return x.zone.Clone().Minute(w)
}

// store stores a batch.
func (x *windowed) store(partition int32, passages ...passage) {
	x.t.Helper()
	ctx := context.Background()
	x.mu.Lock()
	c, begun := x.cursors[partition]
	x.mu.Unlock()
	if !begun {
		var err error
		if c, _, err = x.w.Load(ctx, partition, 100); err != nil {
			x.t.Error(err)
			return
		}
	}
	b := toll.Batch{Partition: partition, First: c.Next, Epoch: c.Epoch, Expect: c.Token,
		Token: NewToken(), Rows: x.w.NewRows(),
		Chain: []byte{}, Clock: []byte("clock")}
	deltas := map[int16]*toll.PlazaDelta{}
	tooLate := map[toll.WindowID]toll.TooLateCount{}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.chain[partition] == nil {
		x.chain[partition] = map[int16]int64{}
	}
	for _, p := range passages {
		d := deltas[p.plaza]
		if d == nil {
			d = &toll.PlazaDelta{Plaza: p.plaza, Prev: x.chain[partition][p.plaza], Earliest: math.MaxInt64,
				Latest: math.MinInt64}
			deltas[p.plaza] = d
		}
		e := toll.Event{Time: wallTime(x.t, p.at), Type: p.typ, Plaza: p.plaza}
		d.Earliest, d.Latest = min(d.Earliest, e.Time), max(d.Latest, e.Time)
		m := x.minute(e.Time)
		for range p.n {
			d.Events++
			d.Checksum += uint64(b.Rows.Append(&e))
			switch p.how {
			case toll.OnTime, toll.Late:
				addEvent(d, m, p.typ)
				if p.how == toll.Late {
					i := slices.IndexFunc(d.Panes, func(p toll.Pane) bool { return p.Start == m })
					d.Panes[i].Late++
				}
			case toll.LateQuarter:
				late := toll.PlazaDelta{Panes: d.LateQuarter}
				addEvent(&late, m, p.typ)
				d.LateQuarter = late.Panes
			case toll.TooLate:
				late := toll.PlazaDelta{Panes: d.TooLate}
				addEvent(&late, m, p.typ)
				d.TooLate = late.Panes
			}
		}
		for i := range x.cfg.Windows {
			k := &x.cfg.Windows[i]
			if !countsTooLate(k, p.how) {
				continue
			}
			for _, w := range k.Covering(x.zoneOf(p.plaza), m, nil) {
				id := toll.WindowID{Plaza: p.plaza, Kind: k.Name, Start: w.Start}
				tooLate[id] = toll.TooLateCount{WindowID: id, End: w.End,
					Events: tooLate[id].Events + int64(p.n)}
			}
		}
	}
	b.Next = b.First + int64(b.Rows.Len()) + 1
	var all []toll.PlazaDelta
	for _, plaza := range slices.Sorted(maps.Keys(deltas)) {
		all = append(all, *deltas[plaza])
		x.chain[partition][plaza] = b.Next
	}
	b.Minutes = minutesOf(all)
	b.TooLate = slices.Collect(maps.Values(tooLate)) // in no order
	var err error
	if b.Deltas, err = json.Marshal(all); err != nil {
		x.t.Error(err)
	}
	x.mu.Unlock()
	for range 10 { // as a source does that finds the cursor where it was
		if err = x.w.Commit(ctx, &b, nil); number(err) != errDeadlock {
			break
		}
	}
	x.mu.Lock()
	if err != nil {
		x.t.Error(err)
		return
	}
	c.Next, c.Token = b.Next, b.Token
	x.cursors[partition] = c
	x.passages = append(x.passages, passages...)
	for _, d := range all {
		x.deltas = append(x.deltas, toll.Delta{Epoch: c.Epoch, Partition: partition, First: b.First,
			Next: b.Next, PlazaDelta: d})
	}
}

func countsTooLate(k *toll.WindowKind, how toll.Timeliness) bool {
	return how == toll.TooLate || how == toll.LateQuarter && !k.OfQuarters()
}

// counts returns what the windows of a plaza hold that have closed by a minute, by adding up one
// event after the other.
func (x *windowed) counts(plaza int16, until toll.Minute) map[toll.WindowID]toll.WindowCount {
	zone := x.zoneOf(plaza)
	counts := map[toll.WindowID]toll.WindowCount{}
	for _, p := range x.passages {
		m := x.minute(wallTime(x.t, p.at))
		for i := range x.cfg.Windows {
			k := &x.cfg.Windows[i]
			if p.plaza != plaza || countsTooLate(k, p.how) {
				continue
			}
			for _, w := range k.Covering(zone, m, nil) {
				end := k.StepEnd(zone, w, until)
				if m >= end {
					continue
				}
				id := toll.WindowID{Plaza: plaza, Kind: k.Name, Start: w.Start}
				c, ok := counts[id]
				if !ok {
					c = toll.WindowCount{WindowID: id, End: end, Whole: end == w.End,
						Reason: toll.ClosedByWatermark}
				}
				c.Types = toll.AddTypes(c.Types, []toll.TypeCount{{Type: p.typ, Count: int64(p.n)}})
				if p.how != toll.OnTime {
					c.Late += int64(p.n)
				}
				counts[id] = c
			}
		}
	}
	return counts
}

// closing hands over all windows of a plaza that have closed by a time.
func (x *windowed) closing(plaza int16, until string) toll.Closing {
	end := minuteOf(x.t, until)
	c := toll.Closing{Plaza: plaza, Epoch: x.epoch(), From: end, Until: end,
		Reason: toll.ClosedByWatermark}
	for _, n := range x.counts(plaza, end) {
		c.Windows = append(c.Windows, n)
	}
	return c
}

func (x *windowed) epoch() uint64 {
	for _, c := range x.cursors {
		return c.Epoch
	}
	return 0
}

// settle hands over, and publishes what comes back until nothing is left. It returns the notices as
// text.
func (x *windowed) settle(r *Results, closings ...toll.Closing) string {
	x.t.Helper()
	closings = slices.Clone(closings)
	for i := range closings {
		// Of every other plaza, what closed before looks as if it closed for the first time.
		if c := &closings[i]; c.Plaza%2 == 1 && c.From == c.Until && len(c.Recount) == 0 {
			c.From, c.Until = math.MinInt32, math.MinInt32
		}
	}
	var b strings.Builder
	var refs []traffic.NoticeRef
	for {
		notices, stored, err := r.Settle(x.t.(*testing.T).Context(), closings, refs)
		if err != nil {
			x.t.Fatal(err)
		}
		x.sameAsStored(r, notices)
		refs = refs[:0]
		for _, n := range notices {
			fmt.Fprintln(&b, x.text(n))
			refs = append(refs, n.Ref)
		}
		if stored && len(refs) == 0 {
			return b.String()
		}
	}
}

// unpublishedOf returns what is not known to be published of some plazas. The tests of results set it.
var unpublishedOf func(ctx context.Context, r *Results, plazas []int16) ([]traffic.Notice, error)

// sameAsStored compares notices with what the database has to publish of their plazas: after a
// crash these are published, under the same names.
func (x *windowed) sameAsStored(r *Results, notices []traffic.Notice) {
	x.t.Helper()
	var plazas []int16
	for _, n := range notices {
		plazas = append(plazas, n.Ref.Plaza)
	}
	if unpublishedOf == nil {
		return
	}
	stored, err := unpublishedOf(context.Background(), r, distinct(plazas))
	if err != nil || len(stored) != len(notices) || len(stored) > 0 &&
		!reflect.DeepEqual(stored, notices) {
		x.t.Fatalf("got notices %v, stored are %v, %v", notices, stored, err)
	}
}

// text writes a notice: 4000 15m 10:00–10:15 r1 {"car":2} late 1 too late 0 watermark
func (x *windowed) text(n traffic.Notice) string {
	if t := n.Transition; t != nil {
		return fmt.Sprintf("%d %s→%s at %s since %s: %s", t.Plaza, t.From, t.To, x.clock(t.Detected),
			x.clock(t.Since), t.Why)
	}
	w := n.Window
	text := fmt.Sprintf("%d %s %s–%s r%d %s late %d too late %d %s", w.Plaza, w.Kind, x.clock(w.Start),
		x.clock(w.End), w.Revision,
		appendTypes(nil, w.Types), w.Late, w.TooLate, w.Reason)
	if !w.Whole {
		text += " so far"
	}
	return text
}

func (x *windowed) clock(m toll.Minute) string { return x.zone.Wall(m.Time()).Format("15:04") }

// check compares toll_window with what windows hold that have closed by a time, for the given
// plazas, and too_late at any time.
func (x *windowed) check(until string, plazas ...int16) {
	x.t.Helper()
	tooLate := map[toll.WindowID]int64{}
	for _, p := range x.passages {
		for i := range x.cfg.Windows {
			if k := &x.cfg.Windows[i]; countsTooLate(k, p.how) {
				for _, w := range k.Covering(x.zoneOf(p.plaza), x.zone.Minute(wallTime(x.t, p.at)), nil) {
					tooLate[toll.WindowID{Plaza: p.plaza, Kind: k.Name, Start: w.Start}] += int64(p.n)
				}
			}
		}
	}
	want := map[toll.WindowID]toll.WindowCount{}
	for _, plaza := range plazas {
		maps.Copy(want, x.counts(plaza, minuteOf(x.t, until)))
	}
	rows, err := readWindows(context.Background(), x.s.db,
		"ORDER BY toll_plaza_id, kind, start_minute")
	if err != nil {
		x.t.Fatal(err)
	}
	bad := 0
	report := func(format string, args ...any) {
		if bad++; bad <= 10 {
			x.t.Errorf(format, args...)
		}
	}
	for _, row := range rows {
		if row.tooLateNow != tooLate[row.WindowID] {
			report("%v: %d too late, want %d", row.WindowID, row.tooLateNow, tooLate[row.WindowID])
		}
		delete(tooLate, row.WindowID)
		if row.Revision == 0 {
			continue
		}
		got, w := row.WindowCount, want[row.WindowID]
		got.Reason, w.Reason = "", ""
		if x.stepped && !got.Whole && got.End < w.End {
			w.End = got.End
		}
		if !reflect.DeepEqual(got, w) || row.events != w.Events() {
			report("got %+v with %d events, want %+v", got, row.events, w)
		}
		delete(want, row.WindowID)
	}
	for id, w := range want {
		if w.Events() > 0 {
			report("%v is missing: %+v", id, w)
		}
	}
	for id, n := range tooLate {
		report("%v: no row, want %d too late", id, n)
	}
}

// random returns passages, ascending by time or nearly so.
func (x *windowed) random(random *rand.Rand, n int, from string, minutes int,
	plazas ...int16) []passage {
	types := []string{"car", "truck", "Lkw-Größe €"}
	start := wallTime(x.t, from)
	all := make([]passage, n)
	for i := range all {
		how := toll.OnTime
		if random.IntN(5) == 0 {
			how = toll.Timeliness(random.IntN(4))
		}
		at := start + toll.WallTime(random.IntN(minutes*60))
		all[i] = passage{plazas[random.IntN(len(plazas))], at.String(), types[random.IntN(len(types))],
			1 + random.IntN(3), how}
	}
	slices.SortFunc(all, func(a, b passage) int { return cmp.Compare(a.at, b.at) })
	return all
}
