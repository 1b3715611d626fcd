package live

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

// oldRecord is how old the newest stored record of a partition may be where more of it wait:
// storing a batch takes less.
const oldRecord = 15 * time.Second

// readHealth adds whether events arrive and processes run. newest is the timestamp of the newest
// record that is stored, zero for none.
//
// An event arrives when it is appended to the topic. That is the record's timestamp, unless the
// producer has set another: so what was observed counts too, by the processes, and between two
// boards by this reader.
func (r *Reader) readHealth(ctx context.Context, b *board.Board, cursors []toll.Cursor,
	backlog *topology.Backlog, newest time.Time) error {
	if err := r.readProcesses(ctx, b); err != nil {
		return err
	}
	f := &b.Feed
	r.observed = r.observed || r.ends > 0
	if r.ends > 0 && backlog.Ends > r.ends {
		r.growing = b.At
	}
	r.ends = backlog.Ends
	for _, at := range []time.Time{newest, r.growing} {
		if at.IsZero() {
			continue
		}
		if at.After(b.At) { // by a wrong clock
			at = b.At
		}
		if f.ArrivedAt == nil || at.After(*f.ArrivedAt) {
			f.ArrivedAt = new(at.In(r.cfg.Location))
		}
	}
	f.Newest = backlog.Offsets == 0 || r.observed
	records := map[int32]int64{} // timestamps of the newest that are stored, by partition
	for _, c := range cursors {
		clock, err := wire.DecodeClock(c.Clock)
		if err != nil {
			return fmt.Errorf("read the clock of partition %d: %w", c.Partition, err)
		}
		records[c.Partition] = clock.Record
	}
	for partition, waiting := range backlog.ByPartition {
		if b.At.Sub(time.UnixMilli(records[partition])) > oldRecord {
			b.Processing.Behind += waiting
		}
	}
	return nil
}

// readProcesses adds the processes, their times by this machine's clock.
func (r *Reader) readProcesses(ctx context.Context, b *board.Board) error {
	all, now, err := r.store.Processes(ctx)
	if err != nil {
		return err
	}
	own := func(t time.Time) time.Time { return b.At.Add(-max(now.Sub(t), 0)).In(r.cfg.Location) }
	b.Processing.All = []board.Instance{}
	for i := range all {
		p := &all[i]
		in := board.Instance{Name: p.Instance, Version: p.Version, StartedAt: own(p.Started),
			SeenAt: own(p.Seen), Ended: p.Ended, Problem: p.Problem, DrainPerSecond: p.DrainPerSecond}
		if !p.Stopped.IsZero() {
			in.StoppedAt = new(own(p.Stopped))
		}
		b.Processing.All = append(b.Processing.All, in)
		b.Feed.Share = max(b.Feed.Share, p.ArrivalShare)
		if p.Arrived.IsZero() {
			continue
		}
		if at := own(p.Arrived); b.Feed.ArrivedAt == nil || at.After(*b.Feed.ArrivedAt) {
			b.Feed.ArrivedAt = &at
		}
	}
	return nil
}
