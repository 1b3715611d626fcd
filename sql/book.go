package sql

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/tollstream/tollstream/toll"
)

// sums is a number of events with their checksum.
type sums struct {
	events   int64
	checksum uint64
}

func (s *sums) add(o sums) { s.events += o.events; s.checksum += o.checksum }
func (s *sums) sub(o sums) { s.events -= o.events; s.checksum -= o.checksum }

// account is what the outbox holds of one plaza from one source partition: the deltas at or below
// what the plaza's state has merged, and those above, which are in flight.
type account struct {
	merged  sums
	at      int64 // Next of the last delta within merged, 0 for none
	flight  sums
	last    int64   // Next of the last delta of all, 0 for none
	settled int64   // Next of the last delta within book.settled, 0 for none
	points  []point // the deltas in flight, as long as there are few
	partial bool    // points lacks some
}

// point is one delta in flight.
type point struct {
	next int64
	sums
}

// maxPoints bounds the deltas that an account remembers one by one. Beyond it, it is read again
// once they are merged.
const maxPoints = 256

type accountKey struct {
	partition int32
	plaza     int16
}

// book adds the outbox up. It can go on where it ended before, as the outbox is only ever appended
// to; a token at the place where it ended tells whether the outbox is still the same one.
type book struct {
	databaseID string
	topicID    string
	epoch      uint64 // the highest of the cursors
	cursors    []cursorRow
	partitions []int32 // that have a cursor or batches, ascending
	accounts   map[accountKey]*account
	ends       map[int32]toll.BatchRef // per partition the last batch that was added
	states     map[int16]mergedState   // as they were last seen
	keepPoints bool
	only       *int16 // this plaza alone is added; nil for all
	// per partition an offset below which the deltas are looked for as settled
	settled map[int32]int64
}

// mergedState is how far a state has come.
type mergedState struct {
	epoch  uint64
	merged []toll.Merged
}

func newBook(keepPoints bool) *book {
	return &book{keepPoints: keepPoints, accounts: map[accountKey]*account{},
		ends: map[int32]toll.BatchRef{}, states: map[int16]mergedState{}}
}

// see takes note of how far a state has come.
func (b *book) see(plaza int16, state *toll.State) {
	if state == nil {
		delete(b.states, plaza)
		return
	}
	b.states[plaza] = mergedState{state.Epoch, slices.Clone(state.Merged)}
}

// mergedIn returns what a plaza's state has merged of a partition. A state of an older epoch counts
// as empty.
func (b *book) mergedIn(key accountKey) int64 {
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
func (b *book) add(row *batchRow, deltas []toll.PlazaDelta) {
	for i := range deltas {
		if b.only == nil || deltas[i].Plaza == *b.only {
			b.addDelta(row, &deltas[i])
		}
	}
	b.end(row)
}

// end notes that a batch was added.
func (b *book) end(row *batchRow) {
	b.ends[row.partition] = toll.BatchRef{First: row.first, Token: row.token}
}

func (b *book) addDelta(row *batchRow, d *toll.PlazaDelta) {
	key := accountKey{row.partition, d.Plaza}
	a := b.accounts[key]
	if a == nil {
		a = new(account)
		b.accounts[key] = a
	}
	end := d.End(row.next)
	a.last = end
	if end <= b.settled[row.partition] {
		a.settled = end
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

// advance moves what was merged since out of flight. It reports false where the account can't tell
// what that is.
func (a *account) advance(merged int64) bool {
	n := 0
	for ; n < len(a.points) && a.points[n].next <= merged; n++ {
		a.merged.add(a.points[n].sums)
		a.flight.sub(a.points[n].sums)
		a.at = a.points[n].next
	}
	a.points = slices.Delete(a.points, 0, n)
	return a.at <= merged && !(a.partial && len(a.points) == 0 && merged > a.at)
}

// errOtherOutbox says that the outbox is not the one that a book was begun with, or that the book
// can't tell what was merged since.
var errOtherOutbox = errors.New("the outbox must be read anew")

// update adds what was stored since the last update.
func (b *book) update(ctx context.Context, s *Verifier, q reader) error {
	m, err := readMeta(ctx, q)
	if err != nil {
		return err
	}
	if b.databaseID != "" && (b.databaseID != m.DatabaseID || b.topicID != m.TopicID) {
		return errOtherOutbox
	}
	b.databaseID, b.topicID = m.DatabaseID, m.TopicID
	if b.cursors, err = readCursors(ctx, q, m.TopicID); err != nil {
		return err
	}
	b.epoch = highestEpoch(b.cursors)
	for key, a := range b.accounts {
		if !a.advance(b.mergedIn(key)) {
			return errOtherOutbox
		}
	}
	begun, found := len(b.ends), 0
	var deltas []toll.PlazaDelta
	b.partitions = b.partitions[:0]
	for _, c := range b.cursors {
		b.partitions = append(b.partitions, c.partition)
		end, goesOn := b.ends[c.partition]
		err := readBatches(ctx, q, m.TopicID, c.partition, end.First, func(row *batchRow) error {
			if goesOn && row.first == end.First && row.token == end.Token {
				found++
				return nil
			}
			var err error
			if deltas, err = s.decodeSums(deltas[:0], row.blob); err != nil {
				return fmt.Errorf("read the outbox of the batch at %d:%d: %w", c.partition, row.first, err)
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

// accountsOf yields the accounts of a plaza, ascending by partition.
func (b *book) accountsOf(plaza int) iter.Seq2[accountKey, *account] {
	return func(yield func(accountKey, *account) bool) {
		if plaza == nullPlaza {
			return
		}
		for _, partition := range b.partitions {
			key := accountKey{partition, int16(plaza)}
			if a := b.accounts[key]; a != nil && !yield(key, a) {
				return
			}
		}
	}
}

// nextOf returns a partition's cursor, 0 for none.
func (b *book) nextOf(partition int32) int64 {
	for _, c := range b.cursors {
		if c.partition == partition {
			return c.next
		}
	}
	return 0
}

// plazas returns all plazas that have deltas, a state, rows or a baseline, ascending.
func (b *book) plazas(states map[int16]*toll.State, counts ...map[int]rowCount) []int {
	set := map[int]bool{}
	for key := range b.accounts {
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
