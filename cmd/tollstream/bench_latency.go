package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"tollstream/codecs"
	"tollstream/internal/simulate"
	"tollstream/toll"
	"tollstream/topology"
)

// behind works off the whole topic by a processor inside of this process, and records the longest time that a stored
// batch waited until the last of its plazas was merged. It is a run of its own, as what it notes of each batch costs time.
func (b *bench) behind(ctx context.Context) error {
	if err := b.reset(ctx); err != nil {
		return err
	}
	state, err := os.MkdirTemp(b.dir, "state-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	times := newBatchTimes(nil)
	if err := b.processor(state, times).run(ctx, true); err != nil {
		return err
	}
	longest, events := 0.0, int64(0)
	for _, batch := range times.batches {
		if batch.unmerged != 0 {
			return errors.New("a stored batch was not merged")
		}
		longest = max(longest, batch.merged.Sub(batch.stored).Seconds())
		events += batch.events
	}
	if events != int64(b.settings.Events) {
		return fmt.Errorf("%d events were seen as stored, want %d", events, b.settings.Events)
	}
	b.record("merged_behind_stored_seconds", longest)
	return nil
}

// processor returns a processor inside of this process.
func (b *bench) processor(state string, o topology.Observer) *process {
	cfg := b.config(state)
	return &process{con: b.con, cfg: cfg, load: b.mode, log: cfg.Log, observer: o, windows: defaultWindowSettings()}
}

const (
	// latencyWarmUp is how long events come and are merged before they are timed.
	latencyWarmUp = 3 * time.Second
	// latencyPatience is how long a processor may take for what should take a moment.
	latencyPatience = time.Minute
	// visibleEvery is the shortest time from one look at the view to the next, and so how exactly visible is timed.
	visibleEvery = 5 * time.Millisecond
	// visibleShare is how many times longer than a look the pause after it is, where there are many plazas.
	visibleShare = 4
)

// latency emits at a steady rate beside a processor and a view inside of this process. It times each batch from when its
// oldest event was handed to the emitter until the last of its plazas is merged, and until the view has that.
func (b *bench) latency(ctx context.Context) (err error) {
	b.say("measuring latency at %s events/s for %v …", number(int64(b.settings.Rate)), b.settings.length)
	starts, err := b.cursors(ctx)
	if err != nil {
		return err
	}
	times := newBatchTimes(starts)
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer func() {
		cancel(context.Canceled)
		running.Wait()
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
	}()
	ready := make(chan *topology.Processor, 1)
	p := b.processor(b.state(), times)
	p.ready = func(p *topology.Processor) { ready <- p }
	running.Go(func() { cancel(p.run(ctx, false)) })
	table, err := topology.NewTable(b.con.cluster, b.con.group, quietLog())
	if err != nil {
		return err
	}
	running.Go(func() { cancel(table.Run(ctx)) })
	running.Go(func() { cancel(times.follow(ctx, table)) })

	begun, err := b.emitSteadily(ctx, times)
	if err != nil {
		return err
	}
	end, err := b.con.cluster.FindEnd(b.con.topic)
	if err != nil {
		return err
	}
	select {
	case processor := <-ready:
		if err := processor.AwaitEnd(ctx, end); err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := within(ctx, latencyPatience, "the view to have all batches", times.settled); err != nil {
		return err
	}
	merged, visible := times.since(begun)
	if len(merged) == 0 {
		return errors.New("no batch was timed")
	}
	b.record("produced_to_merged_p50_ms", percentile(merged, 50))
	b.record("produced_to_merged_p99_ms", percentile(merged, 99))
	b.record("produced_to_visible_p50_ms", percentile(visible, 50))
	b.record("produced_to_visible_p99_ms", percentile(visible, 99))
	return nil
}

// emitSteadily emits at the rate until the time is up, and returns from when on events count: after something was merged
// and a while has passed.
func (b *bench) emitSteadily(ctx context.Context, times *batchTimes) (begun time.Time, err error) {
	emitter, err := topology.NewEmitter(ctx, topology.EmitterConfig{Cluster: b.con.cluster, Topic: b.con.topic, Format: codecs.CSV, Location: time.UTC})
	if err != nil {
		return begun, err
	}
	defer func() { err = errors.Join(err, emitter.Close(ctx)) }()
	g := simulate.New(benchPlazas(b.settings.Plazas), 4, simulate.Live(time.Now))
	pace := newPacer(float64(b.settings.Rate))
	var e toll.Event
	var line []byte
	started := time.Now()
	for n := int64(0); begun.IsZero() || time.Since(begun) < b.settings.length; n++ {
		if !pace.wait(ctx, n, func() {}) {
			return begun, ctx.Err()
		}
		if begun.IsZero() {
			first := times.firstMerged()
			switch {
			case !first.IsZero() && time.Since(first) > latencyWarmUp:
				begun = time.Now()
			case time.Since(started) > latencyPatience:
				return begun, fmt.Errorf("nothing was merged within %v", latencyPatience)
			}
		}
		g.Next(&e)
		line = codecs.AppendCSV(line[:0], &e)
		if err := emitter.EmitRaw(ctx, "", line, nil); err != nil {
			return begun, err
		}
	}
	return begun, nil
}

// cursors returns the offset that comes next in each partition.
func (b *bench) cursors(ctx context.Context) (map[int32]int64, error) {
	store, err := b.con.openStore(b.mode, quietLog())
	if err != nil {
		return nil, err
	}
	defer store.Close()
	progress, err := store.Progress(ctx)
	next := map[int32]int64{}
	for _, p := range progress {
		next[p.Partition] = p.Next
	}
	return next, err
}

// within waits until something is so.
func within(ctx context.Context, limit time.Duration, what string, so func() bool) error {
	deadline := time.Now().Add(limit)
	for !so() {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v for %s", limit, what)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// batchTimes notes when each batch was stored, merged and visible. It is a topology.Observer.
type batchTimes struct {
	mu      sync.Mutex
	next    map[int32]int64 // per partition, where the batch begins that is stored next
	batches map[batchKey]*batchTime
	unseen  []unseenDelta // merged, and not visible yet
	first   time.Time     // when a delta was first merged
}

// batchKey names a batch by where it ends.
type batchKey struct {
	partition int32
	next      int64
}

type batchTime struct {
	events                          int64
	unmerged, unseen                int64     // events of them
	oldest, stored, merged, visible time.Time // oldest: when its first record was produced
}

type unseenDelta struct {
	batch  *batchTime
	key    batchKey
	plaza  int16
	events int64
}

// newBatchTimes returns the times of batches from where the cursors are, nil for a database that has none yet.
func newBatchTimes(cursors map[int32]int64) *batchTimes {
	if cursors == nil {
		cursors = map[int32]int64{}
	}
	return &batchTimes{next: cursors, batches: map[batchKey]*batchTime{}}
}

// Stored implements topology.Observer. It is called before a delta of the batch is published, and the bench's topic has
// no offset without a record, so batches join each other.
func (t *batchTimes) Stored(partition int32, events, rejected int, _ time.Duration) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next[partition] += int64(events + rejected)
	t.batches[batchKey{partition, t.next[partition]}] = &batchTime{
		events: int64(events), unmerged: int64(events), unseen: int64(events), stored: now,
	}
}

// Merged implements topology.Observer.
func (t *batchTimes) Merged(d *toll.Delta, outcome toll.Outcome, oldest time.Time) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	key := batchKey{d.Partition, d.Next}
	batch := t.batches[key]
	if outcome != toll.Applied || batch == nil {
		return
	}
	if t.first.IsZero() {
		t.first = now
	}
	if !oldest.IsZero() {
		batch.oldest = oldest
	}
	if batch.unmerged -= d.Events; batch.unmerged == 0 {
		batch.merged = now
	}
	t.unseen = append(t.unseen, unseenDelta{batch, key, d.Plaza, d.Events})
}

func (t *batchTimes) firstMerged() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// follow looks at a view again and again for what is merged.
func (t *batchTimes) follow(ctx context.Context, table *topology.Table) error {
	if err := table.WaitRecovered(ctx); err != nil {
		return err
	}
	for {
		began := time.Now()
		states, err := table.States()
		if err != nil {
			return err
		}
		t.look(states, time.Now())
		select {
		case <-time.After(max(visibleEvery, visibleShare*time.Since(began))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *batchTimes) look(states map[int16]*toll.State, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := t.unseen[:0]
	for _, d := range t.unseen {
		if s := states[d.plaza]; s == nil || s.MergedIn(d.key.partition) < d.key.next {
			left = append(left, d)
			continue
		}
		if d.batch.unseen -= d.events; d.batch.unseen == 0 {
			d.batch.visible = now
		}
	}
	t.unseen = left
}

// settled reports whether all batches are visible.
func (t *batchTimes) settled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.batches {
		if b.unseen != 0 {
			return false
		}
	}
	return true
}

// since returns, in milliseconds, how long the batches took whose oldest event was produced at begun or later.
func (t *batchTimes) since(begun time.Time) (merged, visible []float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.batches {
		if b.oldest.Before(begun) {
			continue
		}
		merged = append(merged, float64(b.merged.Sub(b.oldest).Microseconds())/1000)
		visible = append(visible, float64(b.visible.Sub(b.oldest).Microseconds())/1000)
	}
	return merged, visible
}
