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
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/monitor"
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

func TestPace(t *testing.T) {
	var p pace
	now := time.Now()
	expect := func(want int) {
		t.Helper()
		if got := p.plazas(now); got != want {
			t.Errorf("%d plazas, want %d", got, want)
		}
	}
	expect(0)
	for plaza := -3; plaza < 97; plaza++ {
		p.note(int16(plaza), now)
		p.note(int16(plaza), now)
	}
	expect(100)
	now = now.Add(paceSpan)
	p.note(7, now)
	expect(100) // of the span before
	now = now.Add(paceSpan)
	expect(1)
	for range 2 {
		now = now.Add(paceSpan)
		expect(0)
	}
	p.note(7, now)
	expect(1)
	now = now.Add(3 * paceSpan)
	expect(0)
}

// manyPlazas returns a sender that has seen events of so many plazas just now.
func manyPlazas(loop *loopOf, plazas int, latency time.Duration) *Sender {
	s := NewSender(loop.emit, time.Millisecond, latency)
	for plaza := range plazas {
		s.pace.note(int16(plaza), time.Now())
	}
	return s
}

// TestWaitByPlazas: few plazas keep short batches, and many are given what the latency target
// allows.
func TestWaitByPlazas(t *testing.T) {
	for _, c := range []struct {
		plazas               int
		latency, wait, small time.Duration
	}{
		{0, 250 * time.Millisecond, 20 * time.Millisecond, 0},
		{12, 250 * time.Millisecond, 20 * time.Millisecond, 0},
		{80, 250 * time.Millisecond, 20 * time.Millisecond, 0},
		{400, 250 * time.Millisecond, 100 * time.Millisecond, 12500 * time.Microsecond},
		{5000, 250 * time.Millisecond, 250 * time.Millisecond, 31250 * time.Microsecond},
		{5000, 5 * time.Millisecond, 5 * time.Millisecond, 0},
		{5000, 0, 0, 0},
	} {
		s := manyPlazas(new(loopOf), c.plazas, c.latency)
		if wait, linger := s.Wait(), s.Linger(); wait != c.wait || linger != c.small {
			t.Errorf("%d plazas, target %v: wait %v, linger %v, want %v, %v", c.plazas, c.latency, wait,
				linger, c.wait, c.small)
		}
	}
}

// TestPartitionFills: the time until an event is stored includes that of fetching it and of the
// commit.
func TestPartitionFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ wait, took, age, want time.Duration }{
			{0, 0, 0, 0},
			{5, 1, 2, 5},
			// the shortest wait is not cut: a commit that takes longer makes no smaller batches
			{20, 5, 10, 20},
			{240, 0, 0, 210},
			{240, 10, 0, 200},
			{240, 10, 50, 150},
			{240, 1000, 0, 90}, // a slow commit does not take all of it
			{240, 10, 1000, 20},
		} {
			s := &Partition{Dependencies: Dependencies{Pace: fillFor(c.wait * time.Millisecond)},
				took: c.took * time.Millisecond}
			if got := s.fill(time.Now().Add(-c.age * time.Millisecond)); got != c.want*time.Millisecond {
				t.Errorf("%+v: fills for %v", c, got)
			}
		}
	})
}

// TestDeltasRestForManyPlazas: a partition that stores several batches during a rest sends them in
// one round. A partition that has no room for more ends the rest.
func TestDeltasRestForManyPlazas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loop := new(loopOf)
		ctx, cancel := context.WithCancel(t.Context())
		hurry, stop := context.WithCancel(t.Context())
		s := manyPlazas(loop, 1000, 250*time.Millisecond)
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx, hurry) })
		turn := func() time.Duration {
			began := time.Now()
			s.Turn(t.Context())
			return time.Since(began)
		}
		send := func() {
			t.Helper()
			if err := s.Send([]*toll.Delta{deltaOf(7, 0, 0, 10)}, func(error) {}); err != nil {
				t.Error(err)
			}
			for plaza := range int16(1000) {
				s.mu.Lock()
				s.pace.note(plaza, time.Now())
				s.mu.Unlock()
			}
			time.Sleep(maxRest / joinShare) // more than a round waits for all partitions
			synctest.Wait()
			if n := len(loop.take()); n != 1 {
				t.Errorf("%d messages, want 1", n)
			}
		}
		if waited := turn(); waited != 0 {
			t.Errorf("waited for %v before the first round", waited)
		}
		send()
		if waited, want := turn(), 2*230*time.Millisecond-maxRest/joinShare; waited != want {
			t.Errorf("the rest ended after %v, want %v", waited, want)
		}
		send()
		s.Urge()
		if waited := turn(); waited != 0 {
			t.Errorf("waited for %v after a partition had no room", waited)
		}
		send()
		left, leave := context.WithTimeout(t.Context(), 10*time.Millisecond)
		s.Turn(left)
		leave()
		if !errors.Is(left.Err(), context.DeadlineExceeded) {
			t.Error("a turn came amid the rest")
		}
		stop()
		if waited := turn(); waited != 0 {
			t.Errorf("waited for %v at the end of the run", waited)
		}
		cancel()
		running.Wait()
	})
}

// TestDeltasRestInABacklog: as long as batches are full deltas wait for more of them, also those of
// few plazas, unless a partition has little room.
func TestDeltasRestInABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loop := new(loopOf)
		ctx, cancel := context.WithCancel(t.Context())
		s := NewSender(loop.emit, MessagePause, 250*time.Millisecond)
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx, ctx) })
		rests := func(want time.Duration) {
			t.Helper()
			if err := s.Send([]*toll.Delta{deltaOf(7, 0, 0, 10)}, func(error) {}); err != nil {
				t.Error(err)
			}
			for len(loop.take()) == 0 {
				time.Sleep(time.Millisecond)
			}
			began := time.Now()
			s.Turn(t.Context())
			if rested := time.Since(began); rested < want-backlogStep || rested > want+backlogStep {
				t.Errorf("the rest ended after %v, want about %v", rested, want)
			}
		}
		rests(0)
		s.Full()
		rests(backlogLasts) // no other batch was full since
		full := time.AfterFunc(backlogLasts/2, s.Full)
		s.Full()
		rests(backlogLasts * 3 / 2)
		full.Stop()
		ticker := time.NewTicker(backlogLasts / 2)
		var filling sync.WaitGroup
		filling.Go(func() {
			for ctx.Err() == nil {
				s.Full()
				select {
				case <-ticker.C:
				case <-ctx.Done():
				}
			}
		})
		synctest.Wait()
		rests(backlogRest)
		time.AfterFunc(backlogRest/joinShare+backlogRest/4, s.Urge)
		rests(backlogRest / 4)
		cancel()
		filling.Wait()
		running.Wait()
	})
}

// heldTurn is a Pacer whose turns come when the test says so.
type heldTurn struct {
	fillFor
	turns, urges chan struct{}
}

func (p heldTurn) Turn(ctx context.Context) {
	select {
	case <-p.turns:
	case <-ctx.Done():
	}
}

func (p heldTurn) Urge() { wait.Signal(p.urges) }

// TestPartitionPublishesInTurn: what is stored before a partition's turn comes is published
// together, and a partition that can't store more says so.
func TestPartitionPublishesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.BatchRows = 1
		store := &simtest.Store{Current: toll.Cursor{Token: 1, Epoch: 5}}
		var published []int
		p := heldTurn{turns: make(chan struct{}, 1), urges: make(chan struct{}, 1)}
		s, err := New(cfg,
			Dependencies{Store: store, Pace: p, Mark: func(int64) {}, Stats: monitor.NewStats(),
				Fail: func(err error) { t.Error(err) },
				Publish: func(_ int16, deltas [][]byte, done func(error)) error {
					published = append(published, len(deltas))
					done(nil)
					return nil
				}}, store.Current)
		if err != nil {
			t.Fatal(err)
		}
		s.Start(t.Context(), 0)
		at := int64(0)
		add := func(n int) {
			for range n {
				s.add(testRecord(3 * 11 * at)) // of one plaza
				at++
			}
			synctest.Wait()
		}
		// The publisher holds a batch, and so many wait behind it.
		add(1)
		add(urgentBatches)
		if len(published) > 0 || len(p.urges) > 0 {
			t.Errorf("published %v before its turn, urged %d times", published, len(p.urges))
		}
		add(pendingBatches - urgentBatches)
		if len(p.urges) != 1 {
			t.Error("there was little room left, and the partition did not say so")
		}
		p.turns <- struct{}{}
		synctest.Wait()
		if len(published) != 1 || published[0] != pendingBatches {
			t.Errorf("published %v, want %d deltas together", published, pendingBatches)
		}
		s.Stop()
	})
}
