package dbtest

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Live stores batches by the real writer and merges their deltas, as a process does.
type Live struct {
	T      *testing.T
	S      *Store
	W      *ingest.Writer
	mu     sync.Mutex
	States map[int16]*toll.State
}

func (l *Live) Snapshot() map[int16]*toll.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	states := map[int16]*toll.State{}
	for plaza, s := range l.States {
		c := *s
		c.Merged = slices.Clone(s.Merged)
		states[plaza] = &c
	}
	return states
}

func (l *Live) Partition(p int32, batches int, events func(batch int) []toll.Event) {
	ctx := context.Background()
	cursor, _, err := l.W.Load(ctx, p, 0)
	if err != nil {
		l.T.Error(err)
		return
	}
	chain := map[int16]int64{}
	zone := toll.NewZone(Berlin)
	for i := range batches {
		b := toll.Batch{Partition: p, First: cursor.Next, Epoch: cursor.Epoch, Expect: cursor.Token,
			Token: tables.NewToken(), Rows: l.W.NewRows(), Chain: []byte{}}
		deltas := map[int16]*toll.PlazaDelta{}
		for _, e := range events(i) {
			d := deltas[e.Plaza]
			if d == nil {
				d = &toll.PlazaDelta{Plaza: e.Plaza, Prev: chain[e.Plaza]}
				deltas[e.Plaza] = d
			}
			d.Events++
			d.Checksum += uint64(b.Rows.Append(&e))
			AddEvent(d, zone.Minute(e.Time), e.Type)
		}
		b.Next = b.First + int64(b.Rows.Len()) + 2
		b.Rejects = []toll.Reject{{Offset: b.Next - 1, Reason: "event: empty", Payload: []byte{}}}
		var all []toll.PlazaDelta
		for _, plaza := range slices.Sorted(maps.Keys(deltas)) {
			all = append(all, *deltas[plaza])
			chain[plaza] = b.Next
		}
		b.Minutes = tables.MinutesOf(all)
		if b.Deltas, err = json.Marshal(all); err != nil {
			l.T.Error(err)
		}
		if err := l.W.Commit(ctx, &b, nil); err != nil {
			l.T.Error(err)
			return
		}
		cursor.Next, cursor.Token = b.Next, b.Token
		l.mu.Lock()
		for _, d := range all {
			if l.States[d.Plaza] == nil {
				l.States[d.Plaza] = &toll.State{}
			}
			l.States[d.Plaza].Merge(&toll.Delta{Epoch: cursor.Epoch, Partition: p, First: b.First,
				Next: b.Next, PlazaDelta: d})
		}
		l.mu.Unlock()
	}
}

// AddEvent counts an event that was on time in a delta's panes.
func AddEvent(d *toll.PlazaDelta, m toll.Minute, vehicleType string) {
	at, found := slices.BinarySearchFunc(d.Panes, m, func(p toll.Pane, m toll.Minute) int {
		return cmp.Compare(p.Start, m)
	})
	if !found {
		d.Panes = slices.Insert(d.Panes, at, toll.Pane{Start: m})
	}
	d.Panes[at].Types = toll.AddTypes(d.Panes[at].Types,
		[]toll.TypeCount{{Type: vehicleType, Count: 1}})
}
