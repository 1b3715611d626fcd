package sql

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

func verify(t *testing.T, s *testStore, in VerifyInput) *Report {
	t.Helper()
	r, err := s.Verify(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// states merges what was stored, of a partition up to an offset where one is given, and says how
// far windows were delivered.
func (x *windowed) states(done string, upTo ...int64) map[int16]*toll.State {
	states := map[int16]*toll.State{}
	for i := range x.deltas {
		d := &x.deltas[i]
		if int(d.Partition) < len(upTo) && d.Next > upTo[d.Partition] {
			continue
		}
		if states[d.Plaza] == nil {
			states[d.Plaza] = toll.NewState(0)
		}
		states[d.Plaza].Merge(d)
	}
	for _, s := range states {
		s.Done, s.Dirty = minuteOf(x.t, done), nil
	}
	return states
}

func (x *windowed) input(states map[int16]*toll.State, deep bool) VerifyInput {
	return VerifyInput{States: states, Deep: deep, Windows: x.cfg.Windows,
		Zones: toll.NewZoneSet(x.zone, x.cfg.PlazaZones)}
}

// problemsOf returns the kinds that were found, ascending, and all texts.
func problemsOf(r *Report) (kinds, texts string) {
	set := map[string]bool{}
	var b strings.Builder
	for _, p := range r.Problems {
		set[p.Kind] = true
		fmt.Fprintln(&b, p.Text)
	}
	return joinSorted(set), b.String()
}

// mergedStates returns the states that have merged all that was stored, and whose windows were
// delivered up to a time.
func (x *windowed) mergedStates(done string) map[int16]*toll.State {
	states := map[int16]*toll.State{}
	for i := range x.deltas {
		d := &x.deltas[i]
		if states[d.Plaza] == nil {
			states[d.Plaza] = toll.NewState(d.Epoch)
		}
		states[d.Plaza].Merge(d)
	}
	for _, s := range states {
		s.MarkStored(minuteOf(x.t, done), nil)
	}
	return states
}

// fullCount gives the count of the rows as long as a busy machine needs.
var fullCount = PlazaOptions{CountLimit: 2 * time.Minute}

func joinSorted(set map[string]bool) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&b, " %s", k)
	}
	return strings.TrimSpace(b.String())
}
