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
	s      *testStore
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
