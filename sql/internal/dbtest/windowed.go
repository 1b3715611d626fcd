package dbtest

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

	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Passage is some vehicles passing a plaza at a time, as the stream found them.
type Passage struct {
	Plaza int16
	At    string // wall clock of the database
	Typ   string
	N     int
	How   toll.Timeliness
}

// Pass returns a passage.
func Pass(plaza int16, at, typ string, n int, how toll.Timeliness) Passage {
	return Passage{plaza, at, typ, n, how}
}

// Windowed stores events by the real writer, knows what every window holds, and hands windows over.
type Windowed struct {
	T        testing.TB
	S        *Store
	w        *ingest.Writer
	Cfg      results.Config
	Zone     *toll.Zone
	Mu       sync.Mutex
	Cursors  map[int32]toll.Cursor
	chain    map[int32]map[int16]int64
	Passages []Passage
	Deltas   []toll.Delta
	// days were closed step by step, so one may end before a step that brought no event
	stepped bool
}

func NewWindowed(t testing.TB, s *Store, windows string) *Windowed {
	t.Helper()
	return NewWindowedIn(t, s, Berlin, windows)
}

func NewWindowedIn(t testing.TB, s *Store, loc *time.Location, windows string) *Windowed {
	t.Helper()
	id := Identity
	id.Timezone = loc.String()
	if _, err := s.Init(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	kinds, err := toll.ParseWindows(windows)
	if err != nil {
		t.Fatal(err)
	}
	return &Windowed{T: t, S: s, w: s.Writer(Identity.TopicID),
		Cfg:  results.Config{Windows: kinds, Location: loc},
		Zone: toll.NewZone(loc), Cursors: map[int32]toll.Cursor{}, chain: map[int32]map[int16]int64{}}
}

func (x *Windowed) Results() *results.Writer { return x.S.Results(Identity.TopicID, x.Cfg) }

func (x *Windowed) ZoneOf(plaza int16) *toll.Zone {
	return toll.NewZoneSet(x.Zone, x.Cfg.PlazaZones).Of(plaza)
}

func (x *Windowed) minute(w toll.WallTime) toll.Minute {
	return x.Zone.Clone().Minute(w)
}

// Store stores a batch.
func (x *Windowed) Store(partition int32, passages ...Passage) {
	x.T.Helper()
	ctx := context.Background()
	x.Mu.Lock()
	c, begun := x.Cursors[partition]
	x.Mu.Unlock()
	if !begun {
		var err error
		if c, _, err = x.w.Load(ctx, partition, 100); err != nil {
			x.T.Error(err)
			return
		}
	}
	b := toll.Batch{Partition: partition, First: c.Next, Epoch: c.Epoch, Expect: c.Token,
		Token: tables.NewToken(), Rows: x.w.NewRows(),
		Chain: []byte{}, Clock: []byte("clock")}
	deltas := map[int16]*toll.PlazaDelta{}
	tooLate := map[toll.WindowID]toll.TooLateCount{}
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if x.chain[partition] == nil {
		x.chain[partition] = map[int16]int64{}
	}
	for _, p := range passages {
		d := deltas[p.Plaza]
		if d == nil {
			d = &toll.PlazaDelta{Plaza: p.Plaza, Prev: x.chain[partition][p.Plaza], Earliest: math.MaxInt64,
				Latest: math.MinInt64}
			deltas[p.Plaza] = d
		}
		e := toll.Event{Time: WallTime(x.T, p.At), Type: p.Typ, Plaza: p.Plaza}
		d.Earliest, d.Latest = min(d.Earliest, e.Time), max(d.Latest, e.Time)
		m := x.minute(e.Time)
		for range p.N {
			d.Events++
			d.Checksum += uint64(b.Rows.Append(&e))
			switch p.How {
			case toll.OnTime, toll.Late:
				AddEvent(d, m, p.Typ)
				if p.How == toll.Late {
					i := slices.IndexFunc(d.Panes, func(p toll.Pane) bool { return p.Start == m })
					d.Panes[i].Late++
				}
			case toll.LateQuarter:
				late := toll.PlazaDelta{Panes: d.LateQuarter}
				AddEvent(&late, m, p.Typ)
				d.LateQuarter = late.Panes
			case toll.TooLate:
				late := toll.PlazaDelta{Panes: d.TooLate}
				AddEvent(&late, m, p.Typ)
				d.TooLate = late.Panes
			}
		}
		for i := range x.Cfg.Windows {
			k := &x.Cfg.Windows[i]
			if !countsTooLate(k, p.How) {
				continue
			}
			for _, w := range k.Covering(x.ZoneOf(p.Plaza), m, nil) {
				id := toll.WindowID{Plaza: p.Plaza, Kind: k.Name, Start: w.Start}
				tooLate[id] = toll.TooLateCount{WindowID: id, End: w.End,
					Events: tooLate[id].Events + int64(p.N)}
			}
		}
	}
	b.Next = b.First + int64(b.Rows.Len()) + 1
	var all []toll.PlazaDelta
	for _, plaza := range slices.Sorted(maps.Keys(deltas)) {
		all = append(all, *deltas[plaza])
		x.chain[partition][plaza] = b.Next
	}
	b.Minutes = MinutesOf(all)
	b.TooLate = slices.Collect(maps.Values(tooLate)) // in no order
	var err error
	if b.Deltas, err = json.Marshal(all); err != nil {
		x.T.Error(err)
	}
	x.Mu.Unlock()
	for range 10 { // as a source does that finds the cursor where it was
		if err = x.w.Commit(ctx, &b, nil); db.Number(err) != db.ErrDeadlock {
			break
		}
	}
	x.Mu.Lock()
	if err != nil {
		x.T.Error(err)
		return
	}
	c.Next, c.Token = b.Next, b.Token
	x.Cursors[partition] = c
	x.Passages = append(x.Passages, passages...)
	for _, d := range all {
		x.Deltas = append(x.Deltas, toll.Delta{Epoch: c.Epoch, Partition: partition, First: b.First,
			Next: b.Next, PlazaDelta: d})
	}
}

func countsTooLate(k *toll.WindowKind, how toll.Timeliness) bool {
	return how == toll.TooLate || how == toll.LateQuarter && !k.OfQuarters()
}

// Counts returns what the windows of a plaza hold that have closed by a minute, by counting one
// event after the other.
func (x *Windowed) Counts(plaza int16, until toll.Minute) map[toll.WindowID]toll.WindowCount {
	zone := x.ZoneOf(plaza)
	counts := map[toll.WindowID]toll.WindowCount{}
	for _, p := range x.Passages {
		m := x.minute(WallTime(x.T, p.At))
		for i := range x.Cfg.Windows {
			k := &x.Cfg.Windows[i]
			if p.Plaza != plaza || countsTooLate(k, p.How) {
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
				c.Types = toll.AddTypes(c.Types, []toll.TypeCount{{Type: p.Typ, Count: int64(p.N)}})
				if p.How != toll.OnTime {
					c.Late += int64(p.N)
				}
				counts[id] = c
			}
		}
	}
	return counts
}

// Closing submits all windows of a plaza that have closed by a time.
func (x *Windowed) Closing(plaza int16, until string) toll.Closing {
	end := MinuteOf(x.T, until)
	c := toll.Closing{Plaza: plaza, Epoch: x.Epoch(), From: end, Until: end,
		Reason: toll.ClosedByWatermark}
	for _, n := range x.Counts(plaza, end) {
		c.Windows = append(c.Windows, n)
	}
	return c
}

func (x *Windowed) Epoch() uint64 {
	for _, c := range x.Cursors {
		return c.Epoch
	}
	return 0
}

// StoreResults submits, and publishes what comes back until nothing is left. It returns the notices
// as text.
func (x *Windowed) StoreResults(r *results.Writer, closings ...toll.Closing) string {
	x.T.Helper()
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
		notices, stored, err := r.Store(x.T.(*testing.T).Context(), closings, refs)
		if err != nil {
			x.T.Fatal(err)
		}
		x.sameAsStored(r, notices)
		refs = refs[:0]
		for _, n := range notices {
			fmt.Fprintln(&b, x.Text(n))
			refs = append(refs, n.Ref)
		}
		if stored && len(refs) == 0 {
			return b.String()
		}
	}
}

// UnpublishedOf returns what is not known to be published of some plazas. The tests of results set
// it.
var UnpublishedOf func(ctx context.Context, r *results.Writer, plazas []int16) ([]traffic.Notice,
	error)

// sameAsStored compares notices with what the database has to publish of their plazas: after a
// crash these are published, under the same names.
func (x *Windowed) sameAsStored(r *results.Writer, notices []traffic.Notice) {
	x.T.Helper()
	var plazas []int16
	for _, n := range notices {
		plazas = append(plazas, n.Ref.Plaza)
	}
	if UnpublishedOf == nil {
		return
	}
	stored, err := UnpublishedOf(context.Background(), r, tables.Distinct(plazas))
	if err != nil || len(stored) != len(notices) || len(stored) > 0 &&
		!reflect.DeepEqual(stored, notices) {
		x.T.Fatalf("got notices %v, stored are %v, %v", notices, stored, err)
	}
}

// Text writes a notice: 4000 15m 10:00–10:15 r1 {"car":2} late 1 too late 0 watermark
func (x *Windowed) Text(n traffic.Notice) string {
	if t := n.Transition; t != nil {
		return fmt.Sprintf("%d %s→%s at %s since %s: %s", t.Plaza, t.From, t.To, x.Clock(t.Detected),
			x.Clock(t.Since), t.Why)
	}
	w := n.Window
	text := fmt.Sprintf("%d %s %s–%s r%d %s late %d too late %d %s", w.Plaza, w.Kind, x.Clock(w.Start),
		x.Clock(w.End), w.Revision,
		tables.AppendTypes(nil, w.Types), w.Late, w.TooLate, w.Reason)
	if !w.Whole {
		text += " so far"
	}
	return text
}

func (x *Windowed) Clock(m toll.Minute) string { return x.Zone.Wall(m.Time()).Format("15:04") }

// Check compares toll_window with what windows hold that have closed by a time, for the given
// plazas, and too_late at any time.
func (x *Windowed) Check(until string, plazas ...int16) {
	x.T.Helper()
	tooLate := map[toll.WindowID]int64{}
	for _, p := range x.Passages {
		for i := range x.Cfg.Windows {
			if k := &x.Cfg.Windows[i]; countsTooLate(k, p.How) {
				for _, w := range k.Covering(x.ZoneOf(p.Plaza), x.Zone.Minute(WallTime(x.T, p.At)), nil) {
					tooLate[toll.WindowID{Plaza: p.Plaza, Kind: k.Name, Start: w.Start}] += int64(p.N)
				}
			}
		}
	}
	want := map[toll.WindowID]toll.WindowCount{}
	for _, plaza := range plazas {
		maps.Copy(want, x.Counts(plaza, MinuteOf(x.T, until)))
	}
	rows, err := tables.ReadWindows(context.Background(), x.S.DB,
		"ORDER BY toll_plaza_id, kind, start_minute")
	if err != nil {
		x.T.Fatal(err)
	}
	bad := 0
	report := func(format string, args ...any) {
		if bad++; bad <= 10 {
			x.T.Errorf(format, args...)
		}
	}
	for _, row := range rows {
		if row.TooLateNow != tooLate[row.WindowID] {
			report("%v: %d too late, want %d", row.WindowID, row.TooLateNow, tooLate[row.WindowID])
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
		if !reflect.DeepEqual(got, w) || row.Events != w.Events() {
			report("got %+v with %d events, want %+v", got, row.Events, w)
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

// Random returns passages, ascending by time or nearly so.
func (x *Windowed) Random(random *rand.Rand, n int, from string, minutes int,
	plazas ...int16) []Passage {
	types := []string{"car", "truck", "Lkw-Größe €"}
	start := WallTime(x.T, from)
	all := make([]Passage, n)
	for i := range all {
		how := toll.OnTime
		if random.IntN(5) == 0 {
			how = toll.Timeliness(random.IntN(4))
		}
		at := start + toll.WallTime(random.IntN(minutes*60))
		all[i] = Passage{plazas[random.IntN(len(plazas))], at.String(), types[random.IntN(len(types))],
			1 + random.IntN(3), how}
	}
	slices.SortFunc(all, func(a, b Passage) int { return cmp.Compare(a.At, b.At) })
	return all
}
