package ingest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
)

func deltaOf(plaza int16, partition int32, prev, next int64) *toll.Delta {
	return &toll.Delta{Epoch: 1, Partition: partition, First: prev, Next: next,
		PlazaDelta: toll.PlazaDelta{Plaza: plaza, Prev: prev}}
}

// loopOf notes what is emitted, and keeps the acknowledgements back until they are asked for.
type loopOf struct {
	mu       sync.Mutex
	messages []string
	dones    []func(error)
}

func (l *loopOf) emit(plaza int16, message []byte, done func(error)) error {
	text := fmt.Sprint(plaza, ":")
	for _, d := range must(wire.DecodeDeltas(message)) {
		text += fmt.Sprintf(" %d/%d", d.Partition, d.Next)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if plaza < 0 {
		return errors.New("no such plaza")
	}
	l.messages = append(l.messages, text)
	l.dones = append(l.dones, done)
	return nil
}

// take returns what was emitted since.
func (l *loopOf) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	messages := l.messages
	l.messages = nil
	return messages
}

// TestDeltaSender has deltas of several partitions wait for each other's round.
func TestDeltaSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loop := new(loopOf)
		ctx, cancel := context.WithCancel(t.Context())
		hurry, stop := context.WithCancel(t.Context())
		s := NewSender(loop.emit, 10*time.Millisecond, 0)
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx, hurry) })
		var ended []string
		send := func(name string, deltas ...*toll.Delta) {
			t.Helper()
			if err := s.Send(deltas,
				func(err error) { ended = append(ended, fmt.Sprint(name, " ", err)) }); err != nil {
				t.Fatal(err)
			}
		}
		emits := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if got := loop.take(); !reflect.DeepEqual(got, want) {
				t.Errorf("emitted %q, want %q", got, want)
			}
		}

		send("a", deltaOf(7, 0, 0, 10), deltaOf(7, 0, 10, 20))
		emits("7: 0/10 0/20") // at once
		send("b", deltaOf(8, 1, 0, 5))
		send("c", deltaOf(7, 1, 0, 5))
		send("d", deltaOf(8, 2, 0, 3))
		time.Sleep(9 * time.Millisecond)
		emits() // it rests for one message
		time.Sleep(2 * time.Millisecond)
		emits("8: 1/5 2/3", "7: 1/5")
		send("e", deltaOf(8, 1, 5, 6))
		time.Sleep(18 * time.Millisecond)
		emits() // for two
		stop()
		emits("8: 1/6") // no more once it is in a hurry
		send("f", deltaOf(-1, 0, 0, 1))
		emits()

		loop.dones[1](nil)
		loop.dones[2](simtest.ErrLost)
		if want := []string{"f no such plaza", "b <nil>", "d <nil>",
			"c " + simtest.ErrLost.Error()}; !reflect.DeepEqual(ended, want) {
			t.Errorf("ended %q, want %q", ended, want)
		}
		cancel()
		running.Wait()
		if err := s.Send([]*toll.Delta{deltaOf(7, 0, 20, 30)}, nil); !errors.Is(err, errSenderEnded) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestDeltaSenderEnds: what waits when the run ends fails.
func TestDeltaSenderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loop := new(loopOf)
		ctx, cancel := context.WithCancel(t.Context())
		s := NewSender(loop.emit, time.Hour, 0)
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx, ctx) })
		var errs []error
		for next := range int64(2) {
			if err := s.Send([]*toll.Delta{deltaOf(7, 0, next, next+1)},
				func(err error) { errs = append(errs, err) }); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		cancel() // while the second one waits for its round
		running.Wait()
		synctest.Wait()
		if got := loop.take(); len(got)+len(errs) != 2 {
			t.Errorf("emitted %q, failed %v", got, errs)
		}
	})
}

// TestDeltaSenderSize: what would make a message too large goes into the next one, in order.
func TestDeltaSenderSize(t *testing.T) {
	loop := new(loopOf)
	s := NewSender(loop.emit, 0, 0)
	large := func(partition int32) *toll.Delta {
		d := deltaOf(7, partition, 0, 1)
		for m := range toll.Minute(9_000) {
			d.Panes = append(d.Panes,
				toll.Pane{Start: 3 * m, Types: []toll.TypeCount{{Type: "car", Count: 1}}})
		}
		d.Events = 9_000
		return d
	}
	size := len(wire.AppendDelta(nil, large(0)))
	if size > maxDeltasBytes/2 || 3*size < maxDeltasBytes {
		t.Fatalf("a delta takes %d bytes, for the test it should be between a third and half of %d", size,
			maxDeltasBytes)
	}
	for p := range int32(5) {
		if err := s.Send([]*toll.Delta{large(p)}, func(error) {}); err != nil {
			t.Fatal(err)
		}
	}
	n, _ := s.round()
	if want := []string{"7: 0/1 1/1", "7: 2/1 3/1", "7: 4/1"}; n != 3 ||
		!reflect.DeepEqual(loop.messages, want) {
		t.Errorf("%d messages: %q, want %q", n, loop.messages, want)
	}
}
