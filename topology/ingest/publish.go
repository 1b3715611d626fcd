package ingest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Stored is a batch that is stored, as far as publishing it goes. Its deltas are kept as they are
// sent: that takes a fraction of their memory.
type Stored struct {
	Ref    toll.BatchRef
	Next   int64
	sizes  []deltaSize // of its deltas, ascending by plaza
	deltas []byte      // one behind the other, as wire.AppendDelta writes them
	events int64
	oldest time.Time          // of the batch's records; zero where it is not known
	trace  monitor.BatchTrace // of its way so far; zero where it was stored before this session
}

// deltaSize is how many bytes a delta takes.
type deltaSize struct {
	plaza int16
	bytes uint32
}

// stored returns a batch of the partition that is stored, with its outbox.
func (p *Partition) stored(ref toll.BatchRef, next int64, deltas []toll.PlazaDelta,
	outbox []byte) Stored {
	const more = 48 // bytes that a delta takes by itself
	b := Stored{Ref: ref, Next: next, sizes: make([]deltaSize, len(deltas)),
		deltas: make([]byte, 0, len(outbox)+more*len(deltas))}
	for i := range deltas {
		d := &deltas[i]
		b.events += d.Events
		start := len(b.deltas)
		b.deltas = wire.AppendDelta(b.deltas, d.Of(p.epoch, p.partition, ref.First, next))
		b.sizes[i] = deltaSize{d.Plaza, uint32(len(b.deltas) - start)}
	}
	return b
}

// take takes the deltas of a plaza, and appends them to list.
func (b *Stored) take(plaza int16, list [][]byte) [][]byte {
	for len(b.sizes) > 0 && b.sizes[0].plaza == plaza {
		n := b.sizes[0].bytes
		list = append(list, b.deltas[:n:n])
		b.sizes, b.deltas = b.sizes[1:], b.deltas[n:]
	}
	return list
}

// published returns its whole way, of which sending its deltas was the last part.
func (b *Stored) published(partition int32, began, ended time.Time,
	err error) monitor.BatchTrace {
	t := b.trace
	t.Partition, t.First, t.Next, t.Events, t.Plazas = partition, b.Ref.First, b.Next, int(b.events),
		len(b.sizes)
	t.Resent = t.Stored.IsZero()
	t.Publishing, t.Ended, t.Err = began, ended, err
	return t
}

const (
	// pendingBatches is how many stored batches of a partition may wait to be published, and how many
	// are published at a time.
	pendingBatches = 12
	// urgentBatches is how many of them are not to wait for more.
	urgentBatches = 10
	// manyBytes is how much of them is enough to be published at a time.
	manyBytes = 2 << 20
)

// DecodeBatch reads the deltas of a batch of the outbox.
func DecodeBatch(b *toll.StoredBatch) ([]toll.PlazaDelta, error) {
	deltas, err := wire.DecodePlazaDeltas(b.Deltas)
	if err != nil {
		return nil,
			toll.Permanent(
				"the row of toll_batch is damaged; restore the database, or run: tollstream reset --yes",
				"read the outbox of partition %d, offset %d: %w", b.Partition, b.First, err)
	}
	return deltas, nil
}

// decode reads a batch of the outbox.
func (p *Partition) decode(b *toll.StoredBatch) (Stored, error) {
	deltas, err := DecodeBatch(b)
	return p.stored(toll.BatchRef{First: b.First, Token: b.Token}, b.Next, deltas, b.Deltas), err
}

// Progress returns the session's epoch and up to where it has stored.
func (p *Partition) Progress() toll.Cursor {
	return toll.Cursor{Partition: p.partition, Epoch: p.epoch, Next: p.progress.storedUpTo()}
}

// PublishedTo returns up to where all that is stored is published and marked so in the database, -1
// while that is under way.
func (p *Partition) PublishedTo() int64 { return p.progress.published() }

// markAcked marks what was acknowledged when no commit comes along to do it. A failure leaves it
// for later: an outage shows at the next batch.
func (p *Partition) markAcked() error {
	acked := p.progress.takeAcked()
	if len(acked) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.grace, 10*time.Second)
	defer cancel()
	err := p.Store.MarkPublished(ctx, p.partition, p.cursor.Epoch, acked)
	p.progress.mark(acked, err)
	if err == nil {
		return nil
	}
	wait.Signal(p.progress.toMark)
	if toll.IsPermanent(err) && p.ctx.Err() == nil {
		return err
	}
	p.cfg.Log.Debug("mark batches published", "partition", p.partition, "error", err)
	return nil
}

// publishAll sends the deltas of the batches that wait, and of further ones only after all of these
// are acknowledged. What is left from before comes first, from the offset sent on.
func (p *Partition) publishAll(sent int64) error {
	if err := p.publishLeft(sent); err != nil {
		return err
	}
	for b := range p.pending {
		p.Pace.Turn(p.ctx)
		if p.ctx.Err() != nil {
			return nil
		}
		if err := p.publishBatches(p.alsoPending(b)); err != nil {
			return err
		}
	}
	return nil
}

// alsoPending returns a batch with those that wait behind it, as far as they may be published
// together.
func (p *Partition) alsoPending(b Stored) []Stored {
	batches := []Stored{b}
	for size := len(b.deltas); len(batches) < pendingBatches && size < manyBytes; {
		select {
		case next, ok := <-p.pending:
			if !ok {
				return batches
			}
			batches = append(batches, next)
			size += len(next.deltas)
		default:
			return batches
		}
	}
	return batches
}

// publishLeft sends again what is not known to be published, page by page out of the database,
// until it has caught up with the committer. After a rebuild that is the whole outbox.
func (p *Partition) publishLeft(sent int64) error {
	for !p.progress.caughtUp() {
		stored := p.progress.storedUpTo()
		page, err := p.readOutbox(sent)
		if p.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if page.Epoch != p.epoch {
			return fmt.Errorf("partition %d: %w", p.partition, ErrOtherEpoch)
		}
		if len(page.Batches) == 0 {
			sent = stored // another owner published the rest
			p.progress.sentUpTo(sent)
		}
		// Together, as the batches that come now are, and without a rest for more of them: all that
		// this partition stores waits behind what is left.
		var batches []Stored
		size := 0
		for i := range page.Batches {
			b, err := p.decode(&page.Batches[i])
			if err != nil {
				return err
			}
			batches, size = append(batches, b), size+len(b.deltas)
			if i < len(page.Batches)-1 && len(batches) < pendingBatches && size < manyBytes {
				continue
			}
			p.Pace.Urge()
			if err := p.publishBatches(batches); err != nil {
				return err
			}
			if p.ctx.Err() != nil {
				return nil
			}
			sent, batches, size = b.Next, nil, 0
		}
	}
	return nil
}

// readOutbox reads a page of what is not known to be published, waiting for the database as long as
// the session lasts.
func (p *Partition) readOutbox(above int64) (toll.OutboxPage, error) {
	var page toll.OutboxPage
	err := wait.Retry(p.ctx, p.cfg.Backoff(), func() (err error) {
		page, err = p.Store.Outbox(p.ctx, p.partition, above, true)
		return err
	})
	return page, err
}

// publishBatches sends the deltas of batches, in their order, and waits until all are acknowledged.
// What a plaza has in several of them is sent together, so that none of it arrives without what
// comes before.
func (p *Partition) publishBatches(batches []Stored) (err error) {
	began := time.Now()
	count := 0
	for i := range batches {
		p.Stats.Publishing(p.partition, batches[i].Next, batches[i].oldest)
		count += len(batches[i].sizes)
	}
	defer func(done func()) {
		done()
		ended := time.Now()
		for i := range batches {
			p.Stats.Published(batches[i].published(p.partition, began, ended, err))
		}
	}(p.Stats.Call(p.partition))
	acks, waits := make(chan error, count), 0
	ack := func(err error) { acks <- err }
	all, rest := make([][]byte, 0, count), slices.Clone(batches)
	for err == nil {
		plaza, ok := firstPlaza(rest)
		if !ok {
			break
		}
		start := len(all)
		for i := range rest {
			all = rest[i].take(plaza, all)
		}
		for deltas := all[start:]; len(deltas) > 0 && err == nil; waits++ {
			n := togetherFrom(deltas)
			err = p.Publish(plaza, deltas[:n:n], ack)
			deltas = deltas[n:]
		}
	}
	for ; waits > 0 && err == nil; waits-- {
		select {
		case err = <-acks:
		case <-p.grace.Done():
			err = p.grace.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("publish the deltas of partition %d up to offset %d: %w", p.partition,
			batches[len(batches)-1].Next, err)
	}
	for i := range batches {
		p.progress.acknowledge(batches[i].Next, batches[i].Ref)
	}
	return nil
}

// firstPlaza returns the lowest plaza that has deltas in batches.
func firstPlaza(batches []Stored) (plaza int16, ok bool) {
	for i := range batches {
		if sizes := batches[i].sizes; len(sizes) > 0 && (!ok || sizes[0].plaza < plaza) {
			plaza, ok = sizes[0].plaza, true
		}
	}
	return plaza, ok
}

// togetherFrom returns how many of a plaza's deltas, from the first on, fit a message.
func togetherFrom(deltas [][]byte) int {
	n, size := 1, len(deltas[0])
	for ; n < len(deltas); n++ {
		if size += len(deltas[n]); size > maxDeltasBytes {
			break
		}
	}
	return n
}
