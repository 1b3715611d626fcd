package toll

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

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
