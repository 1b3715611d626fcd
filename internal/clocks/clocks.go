// Package clocks reads the clocks that decide when old data is deleted, and describes those that
// are wrong.
package clocks

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// Cursors returns the cursors of what the database has stored.
func Cursors(progress []verify.PartitionProgress) []toll.Cursor {
	cursors := make([]toll.Cursor, len(progress))
	for i, p := range progress {
		cursors[i] = toll.Cursor{Partition: p.Partition, Next: p.Next, Epoch: p.Epoch, Chain: p.Chain,
			Clock: p.Clock}
	}
	return cursors
}

// Read returns what the clocks show, and the minute that the event time of all partitions has
// passed, idle ones too; 0 where it is not known. Event time comes from the cursors, without
// asking Kafka: it is their watermark, and a partition whose records are old counts as idle,
// whatever its lag.
func Read(ctx context.Context, store *sql.Store, cursors []toll.Cursor, lateness,
	idle time.Duration) (c toll.Clocks, passed toll.Minute, err error) {
	clocks := make([]toll.Clock, len(cursors))
	times := make([]toll.PartitionTime, len(cursors))
	for i, cursor := range cursors {
		clock, err := wire.DecodeClock(cursor.Clock)
		if err != nil {
			return c, 0, fmt.Errorf("read the clock of partition %d: %w", cursor.Partition, err)
		}
		clocks[i] = clock
		times[i] = toll.PartitionTime{Started: clock.Events > 0, Time: clock.Time, Record: clock.Record,
			CaughtUp: true}
	}
	c.Record = toll.NewestRecord(clocks)
	mark := toll.StreamWatermark(times, int64(lateness/time.Second), idle.Milliseconds())
	c.Event = EventTime(mark)
	if mark.Known {
		passed = toll.MinuteAt(mark.All)
	}
	c.Server, err = store.Now(ctx)
	c.Own = time.Now().UTC()
	return c, passed, err
}

// EventTime returns a watermark as a time, zero where it is not known.
func EventTime(mark toll.Watermark) time.Time {
	if !mark.Known {
		return time.Time{}
	}
	return time.Unix(mark.Time, 0).UTC()
}

// Warnings returns a sentence for each clock that is wrong, or compared with which this machine's
// is.
func Warnings(skews []toll.Skew) []string {
	names := map[toll.ClockName]string{
		toll.EventClock:  "event time",
		toll.RecordClock: "the newest record's timestamp",
		toll.ServerClock: "MySQL's clock",
	}
	var all []string
	for _, s := range skews {
		if s.Wrong() {
			way := "ahead of"
			if s.Ahead < 0 {
				way = "behind"
			}
			all = append(all, fmt.Sprintf("%s is %s %s this machine's clock", names[s.Clock],
				text.Minutes(int64(s.Ahead.Abs()/time.Minute)), way))
		}
	}
	return all
}
