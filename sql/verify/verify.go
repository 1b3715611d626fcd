// Package verify checks the invariants: that every event is stored and counted exactly once.
package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/rowscan"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Input is what the database is verified against.
type Input struct {
	// States are the plazas' states as the group table has them, read before Verify is called: what is
	// merged is then always in the database's snapshot. They are only read.
	States map[int16]*toll.State
	// Deep also sums the checksums of all rows, in the same scan, and so finds rows that were changed.
	// It counts the rows of each plaza's minutes as well, and checks all windows.
	Deep bool
	// Consumed is what was published, and consumed for sure, before the states were read. A state that
	// lacks a delta of it has lost it. Nil where it is not known.
	Consumed *Published
	// Logs are how the logs of the partitions compare with what was stored of them; those that were
	// not looked at are missing.
	Logs map[int32]LogCheck
	// Windows are the kinds of windows that toll_window holds results of; none for not looking at it.
	// Without Deep those windows are checked that end from two days before the newest that was
	// delivered to a day after it.
	Windows []toll.WindowKind
	// Passed is the minute that the event time of every partition, less the allowed lateness, had
	// passed before Verify is called; 0 for not known. Windows that end well before it are due.
	Passed toll.Minute
	// Zones are those that plazas' windows align to. Nil stands for the database's for all.
	Zones *toll.ZoneSet
}

// Report is the result of a verification.
type Report struct {
	Status      string `json:"status"`    // Exact, InFlight or Mismatch
	Events      int64  `json:"events"`    // stored, by the batches
	Records     int64  `json:"records"`   // that hold them: fewer where records hold several
	Rows        int64  `json:"rows"`      // of livetolldata, those from before among them
	Baseline    int64  `json:"baseline"`  // rows from before
	Rejected    int64  `json:"rejected"`  // dead letters, by the batches
	Skipped     int64  `json:"skipped"`   // offsets that held no record for us
	Gone        int64  `json:"gone"`      // records that retention deleted before they were stored
	Merged      int64  `json:"merged"`    // counted by the group table
	InFlight    int64  `json:"in_flight"` // stored and not yet counted
	Pruned      int64  `json:"pruned"`    // rows that tollstream prune deleted
	Batches     int64  `json:"batches"`
	BatchRows   int64  `json:"batch_rows"`  // of toll_batch, in which old batches are compacted
	Unpublished int64  `json:"unpublished"` // batches whose deltas are not known to be published
	// Windows were checked. Of WindowsWaiting among them toll_window has yet to count events that are
	// stored: they are open still, or events are in flight.
	Windows        int64 `json:"windows"`
	WindowsWaiting int64 `json:"windows_waiting"`
	// WindowsDue are those of them that lack events although the event time of all partitions has
	// passed their end by an hour, and the group table has merged the events.
	WindowsDue int64 `json:"windows_due"`
	// WindowsFolded are those that can't be checked, since batches with their minutes were rolled up
	// and the rows are not all there to compare with, or are not looked at.
	WindowsFolded int64 `json:"windows_folded"`
	// MinutesFolded reports that there may be windows of such a time that toll_window lacks. A deep
	// verification misses them by their rows, unless rows were pruned or are from before.
	MinutesFolded bool `json:"minutes_folded"`
	// WindowsRetired are those that can't be checked either, since they were deleted for their age.
	// By kind, RetiredUntil is when the last window of the kind ended that was; how many were of
	// which the minutes were rolled up too is not known any more.
	WindowsRetired int64                `json:"windows_retired"`
	RetiredUntil   map[string]time.Time `json:"retired_until,omitempty"`
	Deep           bool                 `json:"deep"`
	Epoch          uint64               `json:"epoch"`
	Partitions     []PartitionReport    `json:"partitions"`
	Plazas         []PlazaCheck         `json:"plazas"`
	Problems       []Problem            `json:"problems"`
	MoreProblems   int64                `json:"more_problems,omitempty"` // found, but not listed
	Notes          []string             `json:"notes,omitempty"`
	// AcceptedLogs are logs that operators accepted though they are not the ones that were stored: of
	// these rows have no record any more, and records were left out.
	AcceptedLogs []tables.AcceptedLog `json:"accepted_logs,omitempty"`
	TookSeconds  float64              `json:"took_seconds"`
}

// PartitionReport is what the database holds of one source partition.
type PartitionReport struct {
	Partition   int32 `json:"partition"`
	Start       int64 `json:"start"` // where it began when it was first seen
	Next        int64 `json:"next"`  // first offset that is not stored yet
	Batches     int64 `json:"batches"`
	BatchRows   int64 `json:"batch_rows"` // of toll_batch, in which old batches are compacted
	Events      int64 `json:"events"`
	Records     int64 `json:"records"` // that hold them
	Rejected    int64 `json:"rejected"`
	Skipped     int64 `json:"skipped"`
	Gone        int64 `json:"gone"`
	Unpublished int64 `json:"unpublished"`
	// Log is LogSame, LogReplaced or LogUnchecked, empty where nothing is stored or it was not looked
	// at.
	Log string `json:"log,omitempty"`
}

// Verifier checks the invariants of one database.
type Verifier struct {
	db         *db.DB
	decode     func([]byte) ([]toll.PlazaDelta, error)
	decodeSums func(dst []toll.PlazaDelta, blob []byte) ([]toll.PlazaDelta, error)
}

// New returns a verifier. decode reads an outbox, decodeSums appends its deltas without
// their minutes.
func New(db *db.DB, decode func([]byte) ([]toll.PlazaDelta, error),
	decodeSums func(dst []toll.PlazaDelta, blob []byte) ([]toll.PlazaDelta, error)) *Verifier {
	return &Verifier{db: db, decode: decode, decodeSums: decodeSums}
}

// Verify checks the invariants in one snapshot of the database, while processes may go on to write.
// The result is the report; an error means that it could not be made.
func (s *Verifier) Verify(ctx context.Context, in Input) (*Report, error) {
	began := time.Now()
	v := &verification{Verifier: s, in: in, ledger: newLedger(false),
		report: &Report{Deep: in.Deep, Partitions: []PartitionReport{}, Plazas: []PlazaCheck{}}}
	if in.Consumed != nil {
		v.ledger.consumed = in.Consumed.Next
	}
	for plaza, state := range in.States {
		v.ledger.observe(plaza, state)
	}
	if err := snapshots(ctx, s.db, func(q, rows db.Reader) error {
		return v.run(ctx, q, rows)
	}); err != nil {
		return nil, s.db.Wrap("verify", err)
	}
	r := v.report
	r.Problems, r.MoreProblems = v.found.list, v.found.more
	if r.Problems == nil {
		r.Problems = []Problem{}
	}
	r.Status = statusOf(v.found.count(), r.InFlight)
	r.TookSeconds = time.Since(began).Seconds()
	return r, nil
}

type verification struct {
	*Verifier
	in     Input
	ledger *ledger
	report *Report
	found  problems

	windows *windowCheck // nil for nothing to check
}

func (v *verification) run(ctx context.Context, q, rows db.Reader) error {
	baseline, err := tables.ReadBaseline(ctx, q)
	if err != nil {
		return err
	}
	m, err := tables.ReadMeta(ctx, q)
	if err != nil {
		return err
	}
	loc, err := m.Location()
	if err != nil {
		return err
	}
	zone := toll.NewZone(loc)
	scan := &rowscan.Scan{Zone: zone.Clone(), Deep: v.in.Deep, Hint: v.db.BigResult(),
		Many: rowscan.ManyMinutes(v.in.States, baseline)}
	if rows != q {
		defer scan.Start(ctx, rows)()
	}
	b := v.ledger
	if b.cursors, err = tables.ReadCursors(ctx, q, m.TopicID); err != nil {
		return err
	}
	b.epoch = tables.HighestEpoch(b.cursors)
	v.report.Epoch = b.epoch
	if err := v.checkOtherTopics(ctx, q, m.TopicID); err != nil {
		return err
	}
	v.windows = newWindowCheck(v, zone)
	if b.partitions, err = tables.StoredPartitions(ctx, q, m.TopicID, b.cursors); err != nil {
		return err
	}
	for _, partition := range b.partitions {
		if err := v.checkPartition(ctx, q, m.TopicID, partition); err != nil {
			return err
		}
	}
	if v.report.AcceptedLogs, err = tables.ReadAcceptedLogs(ctx, q, m.TopicID); err != nil {
		return err
	}
	if err := v.checkDeadLetters(ctx, q, m.TopicID); err != nil {
		return err
	}
	pruned, err := tables.ReadPruned(ctx, q, tables.PrunedRows)
	if err != nil {
		return err
	}
	if v.windows != nil {
		if err := v.windows.run(ctx, q, scan, m.TopicID, baseline); err != nil {
			return err
		}
	}
	var counts map[int]tables.RowCount
	if v.in.Deep {
		counts = v.windows.counts
	} else if counts, err = scan.Count(ctx, q); err != nil {
		return err
	}
	v.checkPlazas(baseline, pruned, counts) // before the windows' problems, which may be many
	if v.windows != nil {
		v.found.join(&v.windows.found)
		return v.checkStalled(ctx, q)
	}
	return nil
}

// checkOtherTopics looks for what was stored of a topic with another id.
func (v *verification) checkOtherTopics(ctx context.Context, q db.Reader, topicID string) error {
	for _, t := range []struct{ table, thing string }{{"toll_cursor", "cursor"},
		{"toll_batch", "batch"}} {
		var n int64
		err := q.QueryRowContext(ctx,
			`SELECT COUNT(*) FROM `+t.table+` WHERE topic_id < ? OR topic_id > ?`, topicID, topicID).Scan(&n)
		if err != nil {
			return err
		}
		if n > 0 {
			v.found.add(Problem{Kind: KindOtherTopic, Got: n,
				Text: fmt.Sprintf("%s holds %s of a topic with another id than %q", t.table,
					text.Count(n, t.thing),
					topicID)})
		}
	}
	return nil
}

// checkPartition sums a partition's batches and checks that they join.
func (v *verification) checkPartition(ctx context.Context, q db.Reader, topicID string,
	partition int32) error {
	r := PartitionReport{Partition: partition}
	found := &v.found
	i := slices.IndexFunc(v.ledger.cursors, func(c tables.CursorRow) bool {
		return c.Partition == partition
	})
	var cursor *tables.CursorRow
	if i >= 0 {
		cursor = &v.ledger.cursors[i]
		r.Start, r.Next = cursor.Start, cursor.Next
		if cursor.Epoch != v.ledger.epoch {
			found.ofPartition(KindEpoch, partition, int64(v.ledger.epoch), int64(cursor.Epoch),
				"its cursor is of epoch %d, others of %d", cursor.Epoch, v.ledger.epoch)
		}
	}
	at := r.Start
	var last uint64
	err := tables.ReadBatches(ctx, q, topicID, partition, -1<<63, func(b *tables.BatchRow) error {
		if r.BatchRows == 0 && cursor == nil {
			at = b.First
		}
		switch {
		case b.First > at:
			found.ofPartition(KindBatchGap, partition, at, b.First,
				"the offsets %s to %s are in no batch: %s lost",
				text.Number(at), text.Number(b.First-1), text.Count(b.First-at, "offset was", "offsets were"))
		case b.First < at:
			found.ofPartition(KindBatchOverlap, partition, at, b.First,
				"the offsets %s to %s are in two batches",
				text.Number(b.First), text.Number(min(at, b.Next)-1))
		}
		records := b.Events - b.Extra
		if sum := records + b.Rejected + b.Skipped; sum != b.Next-b.First || b.Next <= b.First ||
			min(records, b.Extra, b.Rejected, b.Gone, b.Skipped-b.Gone) < 0 ||
			records == 0 && b.Extra > 0 {
			found.ofPartition(KindBatchSum, partition, b.Next-b.First, sum,
				"the batch of the offsets %s to %s says it has %s, %s rejected and %s skipped, which is not "+
					"their number %s", text.Number(b.First), text.Number(b.Next-1),
				recordsText(b.Events, records), text.Number(b.Rejected), text.Number(b.Skipped),
				text.Number(b.Next-b.First))
		}
		v.checkOutbox(b)
		at = max(at, b.Next)
		last = b.Token
		r.Batches += b.Batches
		r.BatchRows++
		r.Events += b.Events
		r.Records += records
		r.Rejected += b.Rejected
		r.Skipped += b.Skipped - b.Gone
		r.Gone += b.Gone
		if !b.Published {
			r.Unpublished += b.Batches
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case cursor == nil:
		found.ofPartition(KindCursorLost, partition, 1, 0, "it has %s but no cursor",
			text.Count(r.Batches, "batch"))
	case at < cursor.Next:
		found.ofPartition(KindBatchGap, partition, cursor.Next, at,
			"the offsets %s to %s, below its cursor, are in no batch: %s lost",
			text.Number(at), text.Number(cursor.Next-1), text.Count(cursor.Next-at, "offset was",
				"offsets were"))
	case at > cursor.Next:
		found.ofPartition(KindBatchOverlap, partition, cursor.Next, at,
			"its batches reach to offset %s, beyond its cursor at %s; they would be stored again",
			text.Number(at), text.Number(cursor.Next))
	case r.BatchRows > 0 && last != cursor.Token:
		found.ofPartition(KindCursorToken, partition, 0, 0,
			"its last batch is not the one that moved its cursor last")
	}
	if cursor != nil {
		v.checkLog(cursor, &r)
	}
	v.report.Partitions = append(v.report.Partitions, r)
	v.report.Batches += r.Batches
	v.report.BatchRows += r.BatchRows
	v.report.Events += r.Events
	v.report.Records += r.Records
	v.report.Rejected += r.Rejected
	v.report.Skipped += r.Skipped
	v.report.Gone += r.Gone
	v.report.Unpublished += r.Unpublished
	return nil
}

// recordsText names a number of events, and that of their records where it is another.
func recordsText(events, records int64) string {
	if events == records {
		return text.Count(events, "event")
	}
	return text.Count(events, "event") + " of " + text.Count(records, "record")
}

// checkOutbox checks a batch's deltas and adds them to the ledger.
func (v *verification) checkOutbox(b *tables.BatchRow) {
	deltas, err := v.decode(b.Blob)
	if err != nil {
		v.found.ofPartition(KindBatchOutbox, b.Partition, 0, 0,
			"the deltas of the batch at offset %s can't be read: %v", text.Number(b.First), err)
		return
	}
	var events int64
	for i := range deltas {
		d := &deltas[i]
		events += d.Events
		var last int64
		if a := v.ledger.entries[entryKey{b.Partition, d.Plaza}]; a != nil {
			last = a.last
		}
		if end := d.End(b.Next); end > b.Next || end <= d.Prev {
			v.found.ofBoth(KindChain, int(d.Plaza), b.Partition, b.Next, end,
				"a delta of the batch at offset %s goes from %s to %s, outside of the batch",
				text.Number(b.First),
				text.Number(d.Prev), text.Number(end))
		}
		if d.Prev != last {
			v.found.ofBoth(KindChain, int(d.Plaza), b.Partition, last, d.Prev,
				"the delta of the batch at offset %s says it follows one that ends at %s, but the one before "+
					"ends at %s", text.Number(b.First), text.Number(d.Prev), text.Number(last))
		}
		v.ledger.addDelta(b, d) // now, as batches that were compacted hold several deltas of a plaza
	}
	v.ledger.end(b)
	if events != b.Events {
		v.found.ofPartition(KindBatchSum, b.Partition, b.Events, events,
			"the batch at offset %s has %s, its deltas have %s",
			text.Number(b.First), text.Count(b.Events, "event"), text.Number(events))
	}
	if v.windows != nil {
		v.windows.add(b, deltas)
	}
}

// checkDeadLetters compares the dead letters with what the batches rejected.
func (v *verification) checkDeadLetters(ctx context.Context, q db.Reader, topicID string) error {
	rows, err := q.QueryContext(ctx,
		`SELECT partition_id, COUNT(*) FROM toll_dead_letter WHERE topic_id = ? GROUP BY partition_id`,
		topicID)
	letters := map[int32]int64{}
	var partition int32
	var n int64
	if err := db.Each(rows, err, []any{&partition, &n}, func() error {
		letters[partition] = n
		return nil
	}); err != nil {
		return err
	}
	pruned, err := tables.ReadPruned(ctx, q, tables.PrunedLetters)
	if err != nil {
		return err
	}
	check := func(partition int32, rejected int64) {
		rejected -= pruned[int(partition)].Rows // those that were kept for long enough
		switch d := letters[partition] - rejected; {
		case d < 0:
			v.found.ofPartition(KindDeadLetters, partition, rejected, letters[partition],
				"%s in toll_dead_letter, %s rejected: %s deleted",
				text.Number(letters[partition]), text.Number(rejected), text.Count(-d, "dead letter was",
					"dead letters were"))
		case d > 0:
			v.found.ofPartition(KindDeadLetters, partition, rejected, letters[partition],
				"%s in toll_dead_letter, %s rejected: %s added by someone else",
				text.Number(letters[partition]), text.Number(rejected), text.Count(d, "dead letter was",
					"dead letters were"))
		}
		delete(letters, partition)
	}
	for _, r := range v.report.Partitions {
		check(r.Partition, r.Rejected)
	}
	for partition := range letters {
		check(partition, 0)
	}
	return nil
}

// checkPlazas compares states, deltas and rows of every plaza.
func (v *verification) checkPlazas(baseline, pruned, counts map[int]tables.RowCount) {
	r := v.report
	inexact := false
	for _, plaza := range v.ledger.plazas(v.in.States, baseline, pruned, counts) {
		stored := counts[plaza]
		if stored.Rows == 0 && v.in.Deep {
			stored.Exact = true // nothing to sum
		}
		inexact = inexact || v.in.Deep && !stored.Exact
		f := plazaFacts{baseline: baseline[plaza], pruned: pruned[plaza], stored: &stored}
		if plaza != tables.NullPlaza {
			f.state = v.in.States[int16(plaza)]
		}
		before := v.found.count()
		c := v.ledger.checkPlaza(plaza, f, &v.found)
		v.checkConsumed(plaza, f.state)
		c.Status = statusOf(v.found.count()-before, c.InFlight)
		r.Plazas = append(r.Plazas, c)
		r.Rows += stored.Rows
		r.Baseline += c.Baseline
		r.Pruned += c.Pruned
		r.Merged += c.TableCount
		r.InFlight += c.InFlight
	}
	if inexact {
		r.Notes = append(r.Notes,
			"some checksums were not compared: this server sums in floats, which are not exact beyond 2^53")
	}
}

// checkConsumed looks for deltas that the group table must have merged by now.
func (v *verification) checkConsumed(plaza int, state *toll.State) {
	if state != nil && state.Epoch < v.ledger.epoch || v.in.Consumed == nil ||
		v.in.Consumed.Epoch != v.ledger.epoch {
		return // all comes again after a rebuild
	}
	for key, a := range v.ledger.entriesOf(plaza) {
		consumed := a.consumed
		if merged := v.ledger.mergedIn(key); merged < consumed {
			v.found.ofBoth(KindLostDelta, plaza, key.partition, consumed, merged,
				"the group table has merged up to offset %s, but deltas up to %s were published and "+
					"consumed: at least one was lost", text.Number(merged), text.Number(consumed))
		}
	}
}
