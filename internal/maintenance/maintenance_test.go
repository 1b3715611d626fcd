package maintenance

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/toll"
)

func TestRollupRounds(t *testing.T) {
	for keep, want := range map[time.Duration]int{0: 1, MinBatches: 1, 30 * time.Minute: 3,
		DefaultRetention().Batches: 10, 30 * day: 10} {
		if got := rollupRounds(keep); got != want {
			t.Errorf("%v: rolled up after %d rounds, want %d", keep, got, want)
		}
	}
}

func TestStats(t *testing.T) {
	stats := NewStats()
	m := &Maintainer{cfg: Config{Stats: stats}}
	began := time.Now()
	m.ran(t.Context(), Join, nil, "")
	m.ran(t.Context(), Rollup, nil, "plaza 1 is behind")
	m.ran(t.Context(), Expire, errors.New("no answer"), "")
	ended, end := context.WithCancel(t.Context())
	end()
	m.ran(ended, Join, context.Canceled, "")
	stats.Compacted(retention.Compacted{Before: 20, After: 3})
	stats.Retired(retention.Retired{Windows: 5, Transitions: 6, DeadLetters: 7})
	stats.SetSkews([]toll.Skew{{Clock: toll.RecordClock, Ahead: time.Hour}})
	got := stats.Read()
	if at := got.LastSuccess[Join]; at.Before(began) || at.After(time.Now()) {
		t.Errorf("joined at %v", at)
	}
	if runs := map[Run]int64{{Join, Done}: 1, {Join, Blocked}: 0, {Join, Failed}: 0,
		{Rollup, Done}: 0, {Rollup, Blocked}: 1, {Rollup, Failed}: 0,
		{Expire, Done}: 0, {Expire, Blocked}: 0, {Expire, Failed}: 1}; !maps.Equal(got.Runs, runs) {
		t.Errorf("got %v, want %v", got.Runs, runs)
	}
	if deleted := map[string]int64{"toll_batch": 17, "toll_window": 5, "toll_transition": 6,
		"toll_dead_letter": 7}; !maps.Equal(got.Deleted, deleted) {
		t.Errorf("got %v, want %v", got.Deleted, deleted)
	}
	if got.Ahead[toll.RecordClock] != time.Hour || len(got.Ahead) != 3 || len(got.LastSuccess) != 3 {
		t.Errorf("got %+v", got)
	}
	stats.SetSkews(nil)
	if ahead := stats.Read().Ahead; ahead[toll.RecordClock] != 0 || len(ahead) != 3 {
		t.Errorf("got %v", ahead)
	}
}
