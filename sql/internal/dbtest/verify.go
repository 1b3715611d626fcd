package dbtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

func Verify(t *testing.T, s *Store, in verify.Input) *verify.Report {
	t.Helper()
	r, err := s.Verify(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// States merges what was stored, of a partition up to an offset where one is given, and reports how
// far windows were delivered.
func (x *Windowed) States(done string, upTo ...int64) map[int16]*toll.State {
	states := map[int16]*toll.State{}
	for i := range x.Deltas {
		d := &x.Deltas[i]
		if int(d.Partition) < len(upTo) && d.Next > upTo[d.Partition] {
			continue
		}
		if states[d.Plaza] == nil {
			states[d.Plaza] = toll.NewState(0)
		}
		states[d.Plaza].Merge(d)
	}
	for _, s := range states {
		s.Done, s.Dirty = MinuteOf(x.T, done), nil
	}
	return states
}

func (x *Windowed) Input(states map[int16]*toll.State, deep bool) verify.Input {
	return verify.Input{States: states, Deep: deep, Windows: x.Cfg.Windows,
		Zones: toll.NewZoneSet(x.Zone, x.Cfg.PlazaZones)}
}

// ProblemsOf returns the kinds that were found, ascending, and all texts.
func ProblemsOf(r *verify.Report) (kinds, texts string) {
	set := map[string]bool{}
	var b strings.Builder
	for _, p := range r.Problems {
		set[p.Kind] = true
		fmt.Fprintln(&b, p.Text)
	}
	return JoinSorted(set), b.String()
}

// MergedStates returns the states that have merged all that was stored, and whose windows were
// delivered up to a time.
func (x *Windowed) MergedStates(done string) map[int16]*toll.State {
	states := map[int16]*toll.State{}
	for i := range x.Deltas {
		d := &x.Deltas[i]
		if states[d.Plaza] == nil {
			states[d.Plaza] = toll.NewState(d.Epoch)
		}
		states[d.Plaza].Merge(d)
	}
	for _, s := range states {
		s.MarkStored(MinuteOf(x.T, done), nil)
	}
	return states
}

// FullCount gives the count of the rows as long as a busy machine needs.
var FullCount = verify.PlazaOptions{CountLimit: 2 * time.Minute}

func JoinSorted(set map[string]bool) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&b, " %s", k)
	}
	return strings.TrimSpace(b.String())
}
