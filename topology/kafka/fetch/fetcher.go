package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tollstream/tollstream/internal/wait"
)

// Sizes and times of fetching.
const (
	// partitionBytes is how much is fetched of a partition at a time, a larger batch apart: a backlog
	// of one partition must neither fill the memory nor keep others waiting.
	partitionBytes = 256 << 10
	// responseBytes bounds an answer, a larger batch apart. Its partitions share the memory.
	responseBytes = 1 << 20
	// idleWait is how long a broker waits for a record where it holds nothing new for any partition.
	// What is new it answers at once. A partition that is added meanwhile has to wait for the answer.
	idleWait = 500 * time.Millisecond
	// addedWait is the same after a partition was added, as others may be soon.
	addedWait = 50 * time.Millisecond
	addedSoon = time.Second
	// busyWait is the same while some partition is left out, since its records wait to be taken: it
	// must not wait for long once they are.
	busyWait = 10 * time.Millisecond
	// littleBytes is an answer after which the fetcher may linger.
	littleBytes = 16 << 10
	// leadersEvery is how often the leaders are asked for though no broker says that there are others.
	// One that is cut off from the others does not know.
	leadersEvery = 30 * time.Second
)

// Chunk is what one fetch brought of a partition: records, or a batch that can't be read, or an
// error that ends the partition.
type Chunk struct {
	Records Records
	// Unsure says that since the chunk before a broker was connected, or an error came: the log may be
	// another one. Compare it before the records are used.
	Unsure bool
	// Oversized is a batch that inflates to more than [MaxInflated], as it is stored in Kafka. It
	// holds the offsets [First, Next), of which those below what was fetched before are left out.
	Oversized   []byte
	First, Next int64
	Time        time.Time // of its first record
	// Err is why nothing more comes. It is [kerr.OffsetOutOfRange] where the log does not hold the
	// next offset.
	Err error
}

// Fetcher reads partitions from their leaders, each from an offset on. It sends a broker one
// request at a time, for all partitions that another chunk is wanted of.
type Fetcher struct {
	// Linger returns how long to wait before a broker is asked again that had little: where records
	// trickle in, a request for each of them costs more than the records. nil is for not at all. Set
	// it before Run.
	Linger func() time.Duration

	c    *Client
	wake chan struct{} // has a value once there may be something to ask for

	mu         sync.Mutex
	partitions []*Partition   // asked for in this order, which rotates
	asking     map[int32]bool // brokers that a request is on its way to
	added      time.Time      // when the last partition was
}

// Partition is a partition that a [Fetcher] reads.
type Partition struct {
	f      *Fetcher
	number int32
	chunks chan Chunk // one may wait; the fetcher sends only while none does

	highWatermark, lastStable atomic.Int64

	// Guarded by the fetcher's mutex, but while a request is on its way, which then owns next.
	next     int64
	wanted   bool // another chunk, of which none waits
	asked    bool
	ended    bool
	unsure   bool      // since the last chunk
	connects int64     // at the last chunk
	pause    time.Time // not before it after an error
}

// NewFetcher returns a fetcher that has no partitions. Run is to be called.
func (c *Client) NewFetcher() *Fetcher {
	return &Fetcher{c: c, wake: make(chan struct{}, 1), asking: map[int32]bool{}}
}

// Add begins to read a partition from an offset on. connects is [Client.Connects] from before its
// log was compared.
func (f *Fetcher) Add(number int32, from, connects int64) *Partition {
	p := &Partition{f: f, number: number, chunks: make(chan Chunk, 1), next: from, connects: connects,
		wanted: true}
	f.mu.Lock()
	f.partitions = append(f.partitions, p)
	f.added = time.Now()
	f.mu.Unlock()
	wait.Signal(f.wake)
	return p
}

// Remove ends the reading of a partition. What waits of it is dropped.
func (f *Fetcher) Remove(p *Partition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.ended = true
	f.partitions = slices.DeleteFunc(f.partitions, func(q *Partition) bool { return q == p })
}

// Want lets the next chunk be fetched, so that it is there when Next is called. Call it when little
// is left of the last one: a chunk may take megabytes.
func (p *Partition) Want() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if !p.wanted && len(p.chunks) == 0 {
		p.wanted = true
		wait.Signal(p.f.wake)
	}
}

// Next waits for the next chunk, and returns ctx's error where that ends.
func (p *Partition) Next(ctx context.Context) (Chunk, error) {
	p.Want()
	select {
	case c := <-p.chunks:
		return c, nil
	case <-ctx.Done():
		return Chunk{}, ctx.Err()
	}
}

// HighWatermark returns the offset behind the last record that all in-sync replicas have, by the
// last fetch; 0 before that.
func (p *Partition) HighWatermark() int64 { return p.highWatermark.Load() }

// LastStable returns the offset of the first record of an open transaction, or the high watermark
// where there is none, by the last fetch; 0 before that.
func (p *Partition) LastStable() int64 { return p.lastStable.Load() }

// Run fetches until ctx ends.
func (f *Fetcher) Run(ctx context.Context) {
	var requests sync.WaitGroup
	defer requests.Wait()
	requests.Go(func() { f.c.followLeaders(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-f.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		timer.Reset(f.askAll(ctx, &requests))
	}
}

// askAll sends a request to each broker that leads partitions which can be asked for, and to which
// none is on its way. It returns when to look again though nothing happens.
func (f *Fetcher) askAll(ctx context.Context, requests *sync.WaitGroup) time.Duration {
	now := time.Now()
	ready, full, again := f.sort(now)
	wait := min(f.idleWait(now), again)
	asks := map[int32]*request{}
	for _, p := range ready {
		l, err := f.leader(ctx, p)
		if err != nil {
			f.failed(err, p)
			again = 0
			continue
		}
		if asks[l.id] == nil {
			asks[l.id] = &request{broker: l.id, wait: wait}
		}
		asks[l.id].partitions = append(asks[l.id].partitions, part{p, l})
	}
	for _, p := range full {
		if r := asks[f.c.knownLeader(p.number)]; r != nil {
			r.wait = busyWait
		}
	}
	for _, r := range asks {
		if !f.begin(r) {
			continue
		}
		requests.Go(func() {
			f.ask(ctx, r)
			f.end(r)
		})
	}
	return again
}

// request is what one broker is asked for.
type request struct {
	broker     int32
	partitions []part
	wait       time.Duration
}

type part struct {
	*Partition
	leader leader
}

// idleWait returns how long a broker may wait that has nothing new.
func (f *Fetcher) idleWait(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.added) < addedSoon {
		return addedWait
	}
	return idleWait
}

// sort returns the partitions that can be asked for, and those that nothing more is wanted of yet.
// Another one comes first each time: of those that come late in a request, brokers leave out what
// does not fit the answer. again is when to look again.
func (f *Fetcher) sort(now time.Time) (ready, full []*Partition, again time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	again = time.Minute
	if len(f.partitions) > 1 {
		f.partitions = append(f.partitions[1:], f.partitions[0])
	}
	for _, p := range f.partitions {
		switch pause := p.pause.Sub(now); {
		case p.asked || p.ended:
		case !p.wanted:
			full = append(full, p)
		case pause > 0:
			again = min(again, pause)
		default:
			ready = append(ready, p)
		}
	}
	return ready, full, again
}

// leader returns the leader of a partition. It waits for a short time only, since all others wait
// meanwhile.
func (f *Fetcher) leader(ctx context.Context, p *Partition) (leader, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return f.c.leader(ctx, p.number)
}

// begin notes that a request is on its way, unless there is one to the broker already.
func (f *Fetcher) begin(r *request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asking[r.broker] {
		return false
	}
	f.asking[r.broker] = true
	for _, p := range r.partitions {
		p.asked = true
	}
	return true
}

func (f *Fetcher) end(r *request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.asking, r.broker)
	for _, p := range r.partitions {
		p.asked = false
	}
	wait.Signal(f.wake)
}

// retryAfter is the pause of a partition after an error that may pass.
const retryAfter = 200 * time.Millisecond

// failed notes an error: one that may pass makes partitions wait and their leaders be asked for,
// another one ends them.
func (f *Fetcher) failed(err error, partitions ...*Partition) {
	var refused *kerr.Error
	for _, p := range partitions {
		f.mu.Lock()
		p.unsure, p.pause = true, time.Now().Add(retryAfter)
		f.mu.Unlock()
		f.c.forgetLeader(p.number)
		if errors.As(err, &refused) && !refused.Retriable {
			f.deliver(p, Chunk{Err: err})
			f.Remove(p)
		}
	}
}

// deliver passes on a chunk.
func (f *Fetcher) deliver(p *Partition, c Chunk) {
	connects := f.c.Connects()
	f.mu.Lock()
	c.Unsure = p.unsure || p.connects != connects
	p.unsure, p.connects, p.wanted = false, connects, false
	p.chunks <- c // there is room: none waits while another one is wanted
	f.mu.Unlock()
}

// ask sends a request and passes on what comes.
func (f *Fetcher) ask(ctx context.Context, r *request) {
	var asked []kmsg.FetchRequestTopicPartition
	for _, p := range r.partitions {
		asked = append(asked, fetchPartition(p.number, p.next, p.leader.epoch, partitionBytes))
	}
	fail := func(err error) {
		if ctx.Err() == nil {
			for _, p := range r.partitions {
				f.failed(err, p.Partition)
			}
		}
	}
	answer, err := f.c.conn.Broker(int(r.broker)).Request(ctx,
		f.c.fetchRequest(r.wait, responseBytes, 1, asked...))
	if err != nil {
		fail(err)
		return
	}
	response, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		fail(ErrUnexpectedResponse)
		return
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		fail(err)
		return
	}
	progress, bytes := false, 0
	for i := range response.Topics {
		for j := range response.Topics[i].Partitions {
			rp := &response.Topics[i].Partitions[j]
			bytes += len(rp.RecordBatches)
			if k := slices.IndexFunc(r.partitions, func(p part) bool {
				return p.number == rp.Partition
			}); k >= 0 {
				progress = f.take(r.partitions[k].Partition, rp) || progress
			}
		}
	}
	rest := time.Duration(0)
	switch {
	case bytes > 0 && !progress: // nothing but the beginning of batches
		rest = busyWait
	case bytes > 0 && bytes < littleBytes && f.Linger != nil:
		rest = f.Linger()
	}
	if rest > 0 {
		_ = wait.For(ctx, rest)
	}
}

// take passes on what came of a partition, and reports whether the next offset moved.
func (f *Fetcher) take(p *Partition, rp *kmsg.FetchResponseTopicPartition) bool {
	if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
		f.failed(fmt.Errorf("read partition %d of topic %s from offset %d: %w", p.number, f.c.topic,
			p.next, err), p)
		return false
	}
	p.highWatermark.Store(rp.HighWatermark)
	p.lastStable.Store(rp.LastStableOffset)
	from := p.next
	if records, next, ok := readBatches(rp, from, f.c.conn.decompressor); ok {
		if p.next = next; records.Len() > 0 {
			f.deliver(p, Chunk{Records: records})
		}
		return next > from
	}
	fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: f.c.topic, Partition: p.number,
	}, rp, f.c.conn.decompressor, nil)
	p.next = next
	if len(fetched.Records) > 0 {
		f.deliver(p, Chunk{Records: RecordsOf(fetched.Records...)})
		return true // an error is met again
	}
	var large *kgo.ErrDecompressTooLarge
	switch {
	case errors.As(fetched.Err, &large):
		p.next = large.NextOffset
		batch := bytes.Clone(batchAt(rp.RecordBatches, large.Offset))
		f.deliver(p, Chunk{Oversized: batch, First: max(from, large.Offset), Next: large.NextOffset,
			Time: batchTime(batch)})
	case fetched.Err != nil:
		f.deliver(p,
			Chunk{Err: fmt.Errorf("read partition %d of topic %s from offset %d: %w", p.number, f.c.topic,
				next, fetched.Err)})
		f.Remove(p)
	}
	return p.next > from
}
