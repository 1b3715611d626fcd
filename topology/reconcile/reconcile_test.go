package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/monitor"
)

// fakeChangelog holds what a test says.
type fakeChangelog struct {
	consumed []int32
	states   map[int16]Progress
}

func (f *fakeChangelog) Consumed(context.Context) ([]int32, error) { return f.consumed, nil }
func (f *fakeChangelog) Progress(context.Context) (map[int16]Progress, error) {
	return f.states, nil
}
func (f *fakeChangelog) PartitionOf(plaza int16) int32 { return int32(plaza % 2) }

// outboxOf returns a store that holds batches, each given by the plazas of its events from one
// offset on.
func outboxOf(batches ...[]int16) *simtest.Store {
	s := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5}}
	chain := map[int16]int64{}
	for _, plazas := range batches {
		b := simtest.Batch{Published: true,
			StoredBatch: toll.StoredBatch{First: s.Current.Next, Next: s.Current.Next + int64(len(plazas)),
				Token: uint64(len(s.Batches)), Events: int64(len(plazas))}}
		var deltas []toll.PlazaDelta
		for _, plaza := range slices.Compact(slices.Sorted(slices.Values(plazas))) {
			deltas = append(deltas, toll.PlazaDelta{Plaza: plaza, Prev: chain[plaza]})
			chain[plaza] = b.Next
		}
		b.Deltas = wire.AppendPlazaDeltas(nil, deltas)
		s.Batches = append(s.Batches, b)
		s.Current.Next = b.Next
	}
	s.Current.Chain = wire.AppendChain(nil, chain)
	return s
}

// newReconciler returns a Reconciler that has had its first round, what it sends, and its log.
func newReconciler(t *testing.T, store *simtest.Store, log *fakeChangelog) (r *Reconciler,
	sent *[]string, lines *bytes.Buffer) {
	t.Helper()
	lines, sent = new(bytes.Buffer), new([]string)
	r = &Reconciler{Logger: slog.New(slog.NewTextHandler(lines, nil)), Store: store,
		PublishedTo: func(int32) int64 {
			return -1
		}, Log: log,
		Stats: monitor.NewStats(),
		Publish: func(deltas []*toll.Delta, done func(error)) error {
			for _, d := range deltas {
				*sent = append(*sent, fmt.Sprintf("%d:[%d,%d)>%d", d.Plaza, d.First, d.Next, d.Prev))
			}
			done(nil)
			return nil
		}}
	if _, err := r.round(t.Context()); err != nil || len(*sent) > 0 {
		t.Fatalf("the first round: %v, sent %v", err, *sent)
	}
	return r, sent, lines
}

func at(epoch uint64, next int64) Progress {
	return Progress{epoch, []toll.Merged{{Partition: 0, Next: next}}}
}

func TestReconcile(t *testing.T) {
	both := []int32{0, 1}
	for _, c := range []struct {
		name     string
		consumed []int32
		states   map[int16]Progress
		change   func(*simtest.Store) // between the rounds
		want     string               // sent
		hint     string               // of a permanent error; "" for none
	}{
		{name: "nothing lacks", consumed: both,
			states: map[int16]Progress{1: at(5, 5), 2: at(5, 6)}},
		{name: "plaza 1 is behind", consumed: both,
			states: map[int16]Progress{1: at(5, 2), 2: at(5, 6)},
			want:   "1:[2,4)>2 1:[4,5)>4"},
		{name: "both are", consumed: both, states: map[int16]Progress{1: at(5, 4), 2: at(5, 2)},
			want: "1:[4,5)>4 2:[5,6)>2"},
		{name: "there is no state", consumed: both, states: map[int16]Progress{2: at(5, 6)},
			want: "1:[0,2)>0 1:[2,4)>2 1:[4,5)>4"},
		{name: "a state of an older epoch is none", consumed: both,
			states: map[int16]Progress{1: at(4, 5), 2: at(5, 6)},
			want:   "1:[0,2)>0 1:[2,4)>2 1:[4,5)>4"},
		{name: "the loop's partition of plaza 1 is not consumed", consumed: []int32{0},
			states: map[int16]Progress{1: at(5, 2), 2: at(5, 2)},
			want:   "2:[5,6)>2"},
		{name: "not published yet", consumed: both,
			states: map[int16]Progress{1: at(5, 2), 2: at(5, 6)},
			change: func(s *simtest.Store) { s.Batches[1].Published = false }},
		{name: "a rebuild began", consumed: both,
			states: map[int16]Progress{1: at(5, 2), 2: at(5, 6)},
			change: func(s *simtest.Store) { s.Current.Epoch++ }},
		{name: "ahead of the database", consumed: both, states: map[int16]Progress{1: at(5, 7)},
			hint: "tollstream rebuild --yes"},
		{name: "ahead of the plaza's last batch", consumed: nil,
			states: map[int16]Progress{1: at(5, 6)},
			hint:   "tollstream rebuild --yes"},
		{name: "of a later epoch", consumed: nil, states: map[int16]Progress{1: at(6, 2)},
			hint: "tollstream rebuild --yes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := outboxOf([]int16{1, 2}, []int16{1, 1}, []int16{1}, []int16{2})
			log := &fakeChangelog{consumed: both}
			r, sent, _ := newReconciler(t, store, log)
			log.consumed, log.states = c.consumed, c.states
			if c.change != nil {
				c.change(store)
			}
			_, err := r.round(t.Context())
			var permanent *toll.PermanentError
			if errors.As(err, &permanent) != (c.hint != "") || c.hint == "" && err != nil || c.hint != "" &&
				!strings.Contains(permanent.Hint, c.hint) {
				t.Errorf("got %v", err)
			}
			if got := strings.Join(*sent, " "); got != c.want {
				t.Errorf("sent %s\nwant %s", got, c.want)
			}
		})
	}
}

// A state that ends where no batch does, twice, is of another database; once it may have been
// compacted since it was read.
func TestReconcileOffTheChain(t *testing.T) {
	store := outboxOf([]int16{1}, []int16{1, 1}, []int16{1})
	log := &fakeChangelog{consumed: []int32{0, 1}}
	r, sent, _ := newReconciler(t, store, log)
	for _, merged := range []int64{2, 1} { // the second is right
		log.states = map[int16]Progress{1: at(5, merged)}
		if _, err := r.round(t.Context()); err != nil {
			t.Fatalf("merged up to %d: %v", merged, err)
		}
	}
	if got := strings.Join(*sent, " "); got != "1:[1,3)>1 1:[3,4)>3" {
		t.Errorf("sent %s", got)
	}
	log.states = map[int16]Progress{1: at(5, 2)}
	if _, err := r.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.round(t.Context()); !toll.IsPermanent(err) ||
		!strings.Contains(err.Error(),
			"plaza 1 has merged partition 0 up to offset 2, where none of its batches ends") {
		t.Errorf("got %v", err)
	}
}

// What is stored while deltas are sent again may be refused where it arrives before them, so it is
// sent too.
func TestReconcileCatchesUp(t *testing.T) {
	store := outboxOf([]int16{1}, []int16{1}, []int16{2})
	log := &fakeChangelog{consumed: []int32{0, 1}}
	r, sent, lines := newReconciler(t, store, log)
	log.states = map[int16]Progress{1: at(5, 1), 2: at(5, 3)}
	publish, more := r.Publish, 3
	r.Publish = func(deltas []*toll.Delta, done func(error)) error {
		if more--; more >= 0 {
			grown := outboxOf([][]int16{{1}, {1}, {2}, {1}, {1}, {1}, {1}}[:6-more]...)
			store.Batches, store.Current = grown.Batches, grown.Current
		}
		return publish(deltas, done)
	}
	got, err := r.round(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(*sent, " "); got != "1:[1,2)>1 1:[3,4)>2 1:[4,5)>4 1:[5,6)>5" {
		t.Errorf("sent %s", got)
	}
	r.report(got)
	if !strings.Contains(lines.String(),
		`"reconcile: plaza 1: sent 4 deltas of partition 0 again from offset 1"`) ||
		r.Stats.Read().Resent != 4 {
		t.Errorf("told %s", lines)
	}
}

// A restart publishes again what a restored database has forgotten to be published.
func TestReconcileMarksLost(t *testing.T) {
	store := outboxOf([]int16{1}, []int16{1})
	r, _, _ := newReconciler(t, store, &fakeChangelog{})
	publishedTo := int64(2)
	r.PublishedTo = func(int32) int64 { return publishedTo }
	if _, err := r.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	store.Batches[1].Published = false
	publishedTo = -1 // it is being marked
	if _, err := r.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	publishedTo = 2
	if _, err := r.round(t.Context()); !errors.Is(err, ingest.ErrMarksLost) {
		t.Errorf("got %v", err)
	}
}
