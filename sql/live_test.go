package sql

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

// live stores batches by the real writer and merges their deltas, as a process does.
type live struct {
	t      *testing.T
	s      *Store
	w      *Writer
	mu     sync.Mutex
	states map[int16]*toll.State
}

func (l *live) snapshot() map[int16]*toll.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	states := map[int16]*toll.State{}
	for plaza, s := range l.states {
		c := *s
		c.Merged = slices.Clone(s.Merged)
		states[plaza] = &c
	}
	return states
}

func (l *live) partition(p int32, batches int, events func(batch int) []toll.Event) {
	ctx := context.Background()
	cursor, _, err := l.w.Load(ctx, p, 0)
	if err != nil {
		l.t.Error(err)
		return
	}
	chain := map[int16]int64{}
	zone := toll.NewZone(berlin)
	for i := range batches {
		b := toll.Batch{Partition: p, First: cursor.Next, Epoch: cursor.Epoch, Expect: cursor.Token,
			Token: NewToken(), Rows: l.w.NewRows(), Chain: []byte{}}
		deltas := map[int16]*toll.PlazaDelta{}
		for _, e := range events(i) {
			d := deltas[e.Plaza]
			if d == nil {
				d = &toll.PlazaDelta{Plaza: e.Plaza, Prev: chain[e.Plaza]}
				deltas[e.Plaza] = d
			}
			d.Events++
			d.Checksum += uint64(b.Rows.Append(&e))
			addEvent(d, zone.Minute(e.Time), e.Type)
		}
		b.Next = b.First + int64(b.Rows.Len()) + 2
		b.Rejects = []toll.Reject{{Offset: b.Next - 1, Reason: "event: empty", Payload: []byte{}}}
		var all []toll.PlazaDelta
		for _, plaza := range slices.Sorted(maps.Keys(deltas)) {
			all = append(all, *deltas[plaza])
			chain[plaza] = b.Next
		}
		b.Minutes = minutesOf(all)
		if b.Deltas, err = json.Marshal(all); err != nil {
			l.t.Error(err)
		}
		if err := l.w.Commit(ctx, &b, nil); err != nil {
			l.t.Error(err)
			return
		}
		cursor.Next, cursor.Token = b.Next, b.Token
		l.mu.Lock()
		for _, d := range all {
			if l.states[d.Plaza] == nil {
				l.states[d.Plaza] = &toll.State{}
			}
			l.states[d.Plaza].Merge(&toll.Delta{Epoch: cursor.Epoch, Partition: p, First: b.First,
				Next: b.Next, PlazaDelta: d})
		}
		l.mu.Unlock()
	}
}

// addEvent counts an event that was on time in a delta's panes.
func addEvent(d *toll.PlazaDelta, m toll.Minute, vehicleType string) {
	at, found := slices.BinarySearchFunc(d.Panes, m, func(p toll.Pane, m toll.Minute) int {
		return cmp.Compare(p.Start, m)
	})
	if !found {
		d.Panes = slices.Insert(d.Panes, at, toll.Pane{Start: m})
	}
	d.Panes[at].Types = toll.AddTypes(d.Panes[at].Types,
		[]toll.TypeCount{{Type: vehicleType, Count: 1}})
}

// What the writer stores has the checksum that SQL computes, whatever is in a type.
func TestWrittenRowsVerify(t *testing.T) {
	types := []string{"car", "CAR", "a,b", `a\b`, "it's", `"q"`, "a\nb", "a\tb", "Lkw-Größe €", "汽车",
		"🚗", "a b", "%_?", "\\N", "-- x", "a\x01b", "NULL", "x'y\\"}
	onEngines(t, func(t *testing.T, s *Store) {
		initialize(t, s)
		l := &live{t: t, s: s, w: s.Writer(testIdentity.TopicID), states: map[int16]*toll.State{}}
		l.partition(3, 2, func(int) (events []toll.Event) {
			for i, typ := range types {
				for _, at := range []toll.WallTime{toll.MinWallTime, -1, 0, 1644488582, toll.MaxWallTime} {
					e := toll.Event{Time: at, Vehicle: int32(i), Type: typ, Plaza: int16(i - 5)}
					if err := e.Validate(); err != nil {
						t.Fatal(err)
					}
					events = append(events, e)
				}
			}
			return append(events, toll.Event{Vehicle: toll.MaxVehicle, Type: "car", Plaza: toll.MinPlaza},
				toll.Event{Type: "car", Plaza: toll.MaxPlaza})
		})
		r := verify(t, s, VerifyInput{States: l.states, Deep: true})
		if r.Status != Exact || r.Rows != int64(2*(5*len(types)+2)) || r.Rejected != 2 || r.Skipped != 2 {
			t.Errorf("got %+v", r)
		}
	})
}

// Verification and views never take a running process for a mismatch.
func TestVerifyWhileRunning(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		ctx := context.Background()
		initialize(t, s)
		l := &live{t: t, s: s, w: s.Writer(testIdentity.TopicID), states: map[int16]*toll.State{}}
		var wg sync.WaitGroup
		for p := range int32(2) {
			wg.Go(func() {
				l.partition(p, 60, func(batch int) (events []toll.Event) {
					for i := range 200 {
						events = append(events, toll.Event{Time: toll.WallTime(1644488582 + i), Vehicle: int32(i),
							Type: "car", Plaza: int16(i % (1 + batch%5))})
					}
					return events
				})
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		checker := s.PlazaChecker()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			states := l.snapshot()
			for _, deep := range []bool{true, false} {
				if r := verify(t, s, VerifyInput{States: states, Deep: deep}); r.Status == Mismatch ||
					r.Rows != r.Events {
					t.Fatalf("deep %v: %d rows, %d events, %+v", deep, r.Rows, r.Events, r.Problems)
				}
			}
			states = l.snapshot()
			c, err := checker.Plaza(ctx, 0, states[0], fullCount)
			if err != nil || c.Status == Mismatch || c.TableCount+c.InFlight != *c.StoredRows {
				t.Fatalf("got %+v, %v", c, err)
			}
		}
		if r := verify(t, s, VerifyInput{States: l.snapshot(), Deep: true}); r.Status != Exact ||
			r.Events != 2*60*200 {
			t.Errorf("got %+v", r)
		}
	})
}
