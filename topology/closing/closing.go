// Package closing decides which windows are due, by the stream's watermark, and stores and
// publishes their results.
//
// The states of the plazas belong to the caller: it gives them to [Windows.Step] after each merge,
// and when [Windows.Watch] has all plazas visited, and writes those that changed.
package closing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Config says which windows close, and when.
type Config struct {
	Topic string // of the events
	// Windows are the kinds of windows whose results are stored and published.
	Windows []toll.WindowKind
	// Zone is the timezone of the events' wall clock.
	Zone *toll.Zone
	// PlazaZones are the timezones of the plazas whose windows align to another than Zone.
	PlazaZones map[int16]*toll.Zone
	// Lateness is how far behind its partition's highest event time an event is still on time, in
	// whole seconds.
	Lateness time.Duration
	// Idle is how far the record time of a partition may be behind the others' before the watermark
	// goes on without it.
	Idle time.Duration

	Log *slog.Logger
	// Backoff returns the pauses between attempts to store results.
	Backoff func() backoff.BackOff
	Stats   *monitor.Stats // nil for none, unless it is watched
}

// Validate reports every value that can't work, with what it is.
func (c *Config) Validate() error {
	if c.Idle < time.Second || c.Idle > 24*time.Hour {
		return fmt.Errorf("idle is %v, want 1s to 24h", c.Idle)
	}
	return nil
}

// Results is where closed windows are stored. Its errors are as those of the processor's Store. One
// goroutine uses it at a time.
type Results interface {
	// Store marks what was published before, and then stores what is submitted in one transaction. It
	// returns the notices that are to be published now, in order; they are valid until the next call.
	//
	// Where some of these plazas' notices are left from before, or are too many for once, it returns
	// those or some, and stored is false: publish them, and call it again, so that no revision is
	// overwritten before it was published.
	Store(ctx context.Context, closings []toll.Closing,
		published []traffic.NoticeRef) (notices []traffic.Notice, stored bool, err error)
}

// Store is what the watermark is read from.
type Store interface {
	// Cursors returns the cursors of all partitions that have one, in one snapshot.
	Cursors(ctx context.Context) ([]toll.Cursor, error)
}

// Kafka reports how far the topic of events goes. It is a [kafka.Admin].
type Kafka interface {
	// Offsets returns the offsets of partitions at their newest record, or at the stable one.
	Offsets(ctx context.Context, topic string, at kafka.At, partitions ...int32) (map[int32]int64,
		error)
	// Empty reports whether a partition holds no record in [from, end).
	Empty(ctx context.Context, topic string, partition int32, from, end int64) (bool, error)
}
