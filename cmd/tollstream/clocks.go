package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

// clockReader reads the clocks that have a say when something old is deleted.
type clockReader struct {
	server   func(ctx context.Context) (time.Time, error) // the database server's
	own      func() time.Time
	lateness time.Duration
	idle     time.Duration
}

func newClockReader(store *sql.Store, lateness, idle time.Duration) *clockReader {
	return &clockReader{server: store.Now, own: time.Now, lateness: lateness, idle: idle}
}

// read returns what the clocks show. Event time is what the cursors say of it, without a look at
// Kafka: a partition whose records are old counts as idle, whatever is left to store of it.
func (r *clockReader) read(ctx context.Context, cursors []toll.Cursor) (toll.Clocks, error) {
	c, _, err := r.passed(ctx, cursors)
	return c, err
}

// passed also returns the minute that the event time of all partitions has passed, idle ones too; 0
// where it is not known.
func (r *clockReader) passed(ctx context.Context, cursors []toll.Cursor) (c toll.Clocks,
	all toll.Minute, err error) {
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
	mark := toll.StreamWatermark(times, int64(r.lateness/time.Second), r.idle.Milliseconds())
	c.Event = eventTime(mark)
	if mark.Known {
		all = toll.MinuteAt(mark.All)
	}
	c.Server, err = r.server(ctx)
	c.Own = r.own().UTC()
	return c, all, err
}

// eventTime returns a watermark as a time, zero where it is not known.
func eventTime(mark toll.Watermark) time.Time {
	if !mark.Known {
		return time.Time{}
	}
	return time.Unix(mark.Time, 0).UTC()
}

// clockNames say which clocks are meant.
var clockNames = map[toll.ClockName]string{
	toll.EventClock:  "event time",
	toll.RecordClock: "the newest record's timestamp",
	toll.ServerClock: "MySQL's clock",
}

// clockWarnings says which clocks are wrong, or this machine's is, in sentences.
func clockWarnings(skews []toll.Skew) []string {
	var all []string
	for _, s := range skews {
		if s.Wrong() {
			way := "ahead of"
			if s.Ahead < 0 {
				way = "behind"
			}
			all = append(all, fmt.Sprintf("%s is %s %s this machine's clock", clockNames[s.Clock],
				text.Minutes(int64(s.Ahead.Abs()/time.Minute)), way))
		}
	}
	return all
}

// clocksKey is equal as long as the same clocks are wrong in the same way.
func clocksKey(skews []toll.Skew) string {
	var b strings.Builder
	for _, s := range skews {
		if s.Wrong() {
			fmt.Fprintf(&b, "%s %v ", s.Clock, s.Ahead > 0)
		}
	}
	return b.String()
}
