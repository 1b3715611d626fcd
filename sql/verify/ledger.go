package verify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// sums is a number of events with their checksum.
type sums struct {
	events   int64
	checksum uint64
}

func (s *sums) add(o sums) { s.events += o.events; s.checksum += o.checksum }
func (s *sums) sub(o sums) { s.events -= o.events; s.checksum -= o.checksum }

// entry is what the outbox holds of one plaza from one source partition: the deltas at or below
// what the plaza's state has merged, and those above, which are in flight.
type entry struct {
	merged   sums
	at       int64 // Next of the last delta within merged, 0 for none
	flight   sums
	last     int64   // Next of the last delta of all, 0 for none
	consumed int64   // Next of the last delta within ledger.consumed, 0 for none
	points   []point // the deltas in flight, as long as there are few
	partial  bool    // points lacks some
}

// point is one delta in flight.
type point struct {
	next int64
	sums
}

// maxPoints bounds the deltas that an entry remembers one by one. Beyond it, it is read again
// once they are merged.
const maxPoints = 256

type entryKey struct {
	partition int32
	plaza     int16
}

// ledger adds the outbox up. It can go on where it ended before, as the outbox is only ever
// appended to; a token at the place where it ended shows whether the outbox is still the same one.
type ledger struct {
	databaseID string
	topicID    string
	epoch      uint64 // the highest of the cursors
	cursors    []tables.CursorRow
	partitions []int32 // that have a cursor or batches, ascending
	entries    map[entryKey]*entry
	ends       map[int32]toll.BatchRef // per partition the last batch that was added
	states     map[int16]mergedState   // as they were last seen
	keepPoints bool
	only       *int16 // this plaza alone is added; nil for all
	// per partition an offset below which the deltas were published and consumed
	consumed map[int32]int64
}

// mergedState is how far a state has come.
type mergedState struct {
	epoch  uint64
	merged []toll.Merged
}

func newLedger(keepPoints bool) *ledger {
	return &ledger{keepPoints: keepPoints, entries: map[entryKey]*entry{},
		ends: map[int32]toll.BatchRef{}, states: map[int16]mergedState{}}
}

// observe takes note of how far a state has come.
func (b *ledger) observe(plaza int16, state *toll.State) {
	if state == nil {
		delete(b.states, plaza)
		return
	}
	b.states[plaza] = mergedState{state.Epoch, slices.Clone(state.Merged)}
}

// mergedIn returns what a plaza's state has merged of a partition. A state of an older epoch counts
// as empty.
func (b *ledger) mergedIn(key entryKey) int64 {
	s, ok := b.states[key.plaza]
	if !ok || s.epoch < b.epoch {
		return 0
	}
	for _, m := range s.merged {
		if m.Partition == key.partition {
			return m.Next
		}
	}
	return 0
}

// add adds a batch's deltas, which must follow on those that were added of its partition.
func (b *ledger) add(row *tables.BatchRow, deltas []toll.PlazaDelta) {
	for i := range deltas {
		if b.only == nil || deltas[i].Plaza == *b.only {
			b.addDelta(row, &deltas[i])
		}
	}
	b.end(row)
}

// end notes that a batch was added.
func (b *ledger) end(row *tables.BatchRow) {
	b.ends[row.Partition] = toll.BatchRef{First: row.First, Token: row.Token}
}

func (b *ledger) addDelta(row *tables.BatchRow, d *toll.PlazaDelta) {
	key := entryKey{row.Partition, d.Plaza}
	a := b.entries[key]
	if a == nil {
		a = new(entry)
		b.entries[key] = a
	}
	end := d.End(row.Next)
	a.last = end
	if end <= b.consumed[row.Partition] {
		a.consumed = end
	}
	s := sums{d.Events, d.Checksum}
	switch {
	case end <= b.mergedIn(key):
		a.merged.add(s)
		a.at = end
		return
	case b.keepPoints && !a.partial && len(a.points) < maxPoints:
		a.points = append(a.points, point{end, s})
	default:
		a.partial = true
	}
	a.flight.add(s)
}

// advance moves what was merged since out of flight. It reports false where the entry does not
// hold what that is.
func (a *entry) advance(merged int64) bool {
	n := 0
	for ; n < len(a.points) && a.points[n].next <= merged; n++ {
		a.merged.add(a.points[n].sums)
		a.flight.sub(a.points[n].sums)
		a.at = a.points[n].next
	}
	a.points = slices.Delete(a.points, 0, n)
	return a.at <= merged && !(a.partial && len(a.points) == 0 && merged > a.at)
}

// errOtherOutbox means that the outbox is not the one that a ledger was begun with, or that the
// ledger does not hold what was merged since.
var errOtherOutbox = errors.New("the outbox must be read again")

// update adds what was stored since the last update.
func (b *ledger) update(ctx context.Context, s *Verifier, q db.Reader) error {
	m, err := tables.ReadMeta(ctx, q)
	if err != nil {
		return err
	}
	if b.databaseID != "" && (b.databaseID != m.DatabaseID || b.topicID != m.TopicID) {
		return errOtherOutbox
	}
	b.databaseID, b.topicID = m.DatabaseID, m.TopicID
	if b.cursors, err = tables.ReadCursors(ctx, q, m.TopicID); err != nil {
		return err
	}
	b.epoch = tables.HighestEpoch(b.cursors)
	for key, a := range b.entries {
		if !a.advance(b.mergedIn(key)) {
			return errOtherOutbox
		}
	}
	begun, found := len(b.ends), 0
	var deltas []toll.PlazaDelta
	b.partitions = b.partitions[:0]
	for _, c := range b.cursors {
		b.partitions = append(b.partitions, c.Partition)
		end, goesOn := b.ends[c.Partition]
		err := tables.ReadBatches(ctx, q, m.TopicID, c.Partition, end.First,
			func(row *tables.BatchRow) error {
				if goesOn && row.First == end.First && row.Token == end.Token {
					found++
					return nil
				}
				var err error
				if deltas, err = s.decodeSums(deltas[:0], row.Blob); err != nil {
					return fmt.Errorf("read the outbox of the batch at %d:%d: %w", c.Partition, row.First, err)
				}
				b.add(row, deltas)
				return nil
			})
		if err != nil {
			return err
		}
	}
	if found < begun {
		return errOtherOutbox
	}
	return nil
}

// entriesOf yields the entries of a plaza, ascending by partition.
func (b *ledger) entriesOf(plaza int) iter.Seq2[entryKey, *entry] {
	return func(yield func(entryKey, *entry) bool) {
		if plaza == tables.NullPlaza {
			return
		}
		for _, partition := range b.partitions {
			key := entryKey{partition, int16(plaza)}
			if a := b.entries[key]; a != nil && !yield(key, a) {
				return
			}
		}
	}
}

// nextOf returns a partition's cursor, 0 for none.
func (b *ledger) nextOf(partition int32) int64 {
	for _, c := range b.cursors {
		if c.Partition == partition {
			return c.Next
		}
	}
	return 0
}

// plazas returns all plazas that have deltas, a state, rows or a baseline, ascending.
func (b *ledger) plazas(states map[int16]*toll.State, counts ...map[int]tables.RowCount) []int {
	set := map[int]bool{}
	for key := range b.entries {
		set[int(key.plaza)] = true
	}
	for plaza := range states {
		set[int(plaza)] = true
	}
	for _, c := range counts {
		for plaza := range c {
			set[plaza] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// LogCheck is how the log of a partition compares with what was stored of it, as someone found who
// can read it. With both texts empty it is the same.
type LogCheck struct {
	Replaced  string // why it is another one
	Unchecked string // why it is not known
}

// checkLog reports a log that is not the one that was stored.
func (v *verification) checkLog(c *tables.CursorRow, r *PartitionReport) {
	found, checked := v.in.Logs[c.Partition]
	why := c.LogReplaced
	if why == "" {
		why = found.Replaced
	}
	switch {
	case why != "":
		r.Log = LogReplaced
		v.found.ofPartition(KindLogReplaced, c.Partition, 0, 0,
			"the log was replaced, or lost its end: %s", why)
	case checked && found.Unchecked == "":
		r.Log = LogSame
	case checked:
		r.Log = LogUnchecked
		v.report.Notes = append(v.report.Notes,
			fmt.Sprintf(
				"partition %d: it was not checked whether the log is still the one that was stored: %s",
				c.Partition, found.Unchecked))
	}
}

// The outcomes of comparing a partition's log, as a report has them.
const (
	LogSame      = "same"
	LogReplaced  = "replaced"
	LogUnchecked = "unchecked"
)
