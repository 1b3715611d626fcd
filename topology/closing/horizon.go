package closing

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// Horizon is the stream's watermark as the database had it at one moment, with all that was stored
// until then. A plaza whose state has merged that much has seen every event that the watermark
// speaks of.
type Horizon struct {
	Epoch  uint64
	Mark   toll.Watermark
	until  toll.Minute // windows that end at or before it are closed
	all    toll.Minute // the same without leaving idle partitions out
	Next   []int64     // cursors by partition; 0 for a partition without one
	chains map[int32]map[int16]int64
	ending bool // it was read after the stream had ended
	number int  // in the order of reading
}

// covers reports whether a plaza's state has merged all that was stored when the horizon was read.
func (h *Horizon) covers(plaza int16, s *toll.State) bool {
	if s.Epoch != h.Epoch {
		return false
	}
	for partition, chain := range h.chains {
		if next := chain[plaza]; next > 0 && s.MergedIn(partition) < next {
			return false
		}
	}
	return true
}

// horizons keeps some horizons, the newest first: while a backlog is worked off, states are always
// behind the newest, by as long as deltas rest and merging takes.
type horizons struct {
	mu   sync.RWMutex
	list []*Horizon
}

// latestHorizons is how many horizons are kept whatever they are.
const latestHorizons = 3

// spacedHorizons are the distances, in horizons, of older ones that are kept: two of each, so that
// one is at least as old as its distance. Without one that states can cover no window closes, and
// on a machine with too much to do they are many seconds behind: the last distance is 64 s. Keeping
// all would take memory for the chains of many plazas.
var spacedHorizons = [...]int{4, 16, 64, 256}

func (h *horizons) add(n *Horizon) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []*Horizon{n}
	if len(h.list) > 0 {
		n.number = h.list[0].number + 1
	}
	var kept [len(spacedHorizons)]int
	for _, old := range h.list {
		keep := len(list) < latestHorizons
		for i, distance := range spacedHorizons {
			if old.number%distance == 0 && kept[i] < 2 {
				kept[i]++
				keep = true
			}
		}
		if keep {
			list = append(list, old)
		}
	}
	h.list = list
}

// of returns the newest horizon that a plaza's state covers, nil for none.
func (h *horizons) of(plaza int16, s *toll.State) *Horizon {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, n := range h.list {
		if n.covers(plaza, s) {
			return n
		}
	}
	return nil
}

// newest returns the last horizon, nil for none.
func (h *horizons) newest() *Horizon {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if len(h.list) == 0 {
		return nil
	}
	return h.list[0]
}

// watcher reads horizons.
type watcher struct {
	cfg     *Config
	session Session
	ends    *Ends
}

// read reads the watermark of the stream as it is now. Where it is not known, nothing is closed.
func (w *watcher) read(ctx context.Context) (*Horizon, error) {
	database := w.session.Database // reports outages also where no partition has anything to store
	answered := database.Await(monitor.AllPartitions)
	cursors, err := w.session.Store.Cursors(ctx)
	answered()
	switch {
	case err == nil:
		database.Up(monitor.AllPartitions)
	case ctx.Err() == nil && !toll.IsPermanent(err):
		database.Down(monitor.AllPartitions, err)
	}
	if err != nil {
		return nil, err
	}
	return HorizonOf(w.cfg, cursors, w.session.Partitions,
		func(next map[int32]int64) (map[int32]bool, error) {
			return w.ends.CaughtUp(ctx, w.session.Kafka, w.cfg.Idle, next)
		})
}

// HorizonOf returns the horizon of cursors that were read at one moment. caughtUp reports which
// partitions hold no record at or above an offset of each.
func HorizonOf(cfg *Config, cursors []toll.Cursor, partitions int,
	caughtUp func(next map[int32]int64) (map[int32]bool, error)) (*Horizon, error) {
	h := &Horizon{chains: make(map[int32]map[int16]int64, len(cursors))}
	times := make([]toll.PartitionTime, partitions)
	h.Next = make([]int64, partitions)
	var newest int64
	for _, c := range cursors {
		if int(c.Partition) >= partitions {
			continue
		}
		clock, err := wire.DecodeClock(c.Clock)
		if err != nil {
			return nil, fmt.Errorf("read the clock of partition %d: %w", c.Partition, err)
		}
		if h.chains[c.Partition], err = wire.DecodeChain(c.Chain); err != nil {
			return nil, fmt.Errorf("read the chain of partition %d: %w", c.Partition, err)
		}
		h.Epoch = max(h.Epoch, c.Epoch)
		times[c.Partition] = toll.PartitionTime{Started: clock.Events > 0, Time: clock.Time,
			Record: clock.Record}
		h.Next[c.Partition] = c.Next
		newest = max(newest, clock.Record)
	}
	idle := cfg.Idle.Milliseconds()
	quiet := map[int32]int64{}
	for p := range times {
		// else it is not idle, whatever is left to read
		if t := &times[p]; !t.Started || newest-t.Record > idle {
			quiet[int32(p)] = h.Next[p]
		}
	}
	if len(quiet) > 0 {
		done, err := caughtUp(quiet)
		if err != nil {
			return nil, err
		}
		for p := range quiet {
			times[p].CaughtUp = done[p]
		}
	}
	h.Mark = toll.StreamWatermark(times, int64(cfg.Lateness/time.Second), idle)
	h.until, h.all = math.MinInt32, math.MinInt32
	if h.Mark.Known {
		h.until, h.all = toll.MinuteAt(h.Mark.Time), toll.MinuteAt(h.Mark.All)
	}
	return h, nil
}

// Ends is what is known of the ends of a topic's partitions.
type Ends struct {
	topic string
	// per partition the cursor and the end between which no record was found
	emptied map[int32][2]int64
	Blocked *kafka.OpenTransactions // in partitions of which all is stored that can be read
}

// NewEnds returns what is known of a topic before anyone looked.
func NewEnds(topic string) *Ends {
	return &Ends{topic: topic, emptied: map[int32][2]int64{}, Blocked: kafka.NewOpenTransactions()}
}

// CaughtUp reports which partitions hold no record at or above an offset of each, or none that can
// be read for long: one in which a transaction is open for longer than idle counts as one without
// records, so that windows of other partitions close. What the transaction holds revises them
// later. How late its events are is judged within their own partition, so no count depends on when
// it ends.
//
// The time that a transaction is open is taken here, and starts when its partition falls behind the
// others. A producer whose transactions span partitions ends them one after the other: by record
// time alone, the last ones would be left out for a moment each time.
func (e *Ends) CaughtUp(ctx context.Context, k Kafka, idle time.Duration,
	next map[int32]int64) (map[int32]bool, error) {
	ends, err := k.Offsets(ctx, e.topic, kafka.Newest, slices.Collect(maps.Keys(next))...)
	if err != nil {
		return nil, err
	}
	done := make(map[int32]bool, len(next))
	var behind []int32
	for p := range next {
		if done[p] = next[p] >= ends[p]; !done[p] {
			behind = append(behind, p)
		}
	}
	stable, err := k.Offsets(ctx, e.topic, kafka.Stable, behind...)
	if err != nil {
		return nil, err
	}
	for _, p := range behind {
		if next[p] < stable[p] && e.emptied[p] != [2]int64{next[p], stable[p]} {
			nothing, err := k.Empty(ctx, e.topic, p, next[p], stable[p])
			if err != nil {
				return nil, err
			}
			if !nothing {
				continue
			}
			e.emptied[p] = [2]int64{next[p], stable[p]}
		}
		open, blocked := e.Blocked.Look(p, stable[p], ends[p])
		done[p] = !blocked || e.Blocked.Now().Sub(open.Since) > idle
	}
	return done, nil
}
