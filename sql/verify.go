package sql

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// VerifyInput is what the database is verified against.
type VerifyInput struct {
	// States are the plazas' states as the group table has them, read before Verify is called: what is
	// merged is then always in the database's snapshot. They are only read.
	States map[int16]*toll.State
	// Deep also sums the checksums of all rows, in the same scan, and so finds rows that were changed.
	// It counts the rows of each plaza's minutes as well, and checks all windows.
	Deep bool
	// Settled is what was published, and consumed for sure, before the states were read. A state that
	// lacks a delta of it has lost it. Nil where it is not known.
	Settled *Published
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
	// WindowsFolded are those that can't be checked, since batches with their minutes were added up
	// and the rows are not all there to compare with, or are not looked at.
	WindowsFolded int64 `json:"windows_folded"`
	// MinutesFolded says that there may be windows of such a time that toll_window lacks. A deep
	// verification misses them by their rows, unless rows were pruned or are from before.
	MinutesFolded bool `json:"minutes_folded"`
	// WindowsRetired are those that can't be checked either, since they were deleted for their age.
	// By kind, RetiredUntil says when the last window of the kind ended that was; how many were of
	// which the minutes were added up too is not known any more.
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
	AcceptedLogs []AcceptedLog `json:"accepted_logs,omitempty"`
	TookSeconds  float64       `json:"took_seconds"`
}

// PartitionReport is what the database holds of one source partition.
type PartitionReport struct {
	Partition   int32 `json:"partition"`
	Start       int64 `json:"start"` // where it began when it was first seen
	Next        int64 `json:"next"`  // first offset that is not stored yet
	Batches     int64 `json:"batches"`
	BatchRows   int64 `json:"batch_rows"` // of toll_batch, in which old batches are compacted
	Events      int64 `json:"events"`
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
	db         *database
	decode     func([]byte) ([]toll.PlazaDelta, error)
	decodeSums func(dst []toll.PlazaDelta, blob []byte) ([]toll.PlazaDelta, error)
}

// newVerifier returns a verifier. decode reads an outbox, decodeSums appends its deltas without
// their minutes.
func newVerifier(db *database, decode func([]byte) ([]toll.PlazaDelta, error),
	decodeSums func(dst []toll.PlazaDelta, blob []byte) ([]toll.PlazaDelta, error)) *Verifier {
	return &Verifier{db: db, decode: decode, decodeSums: decodeSums}
}

// Verify checks the invariants in one snapshot of the database, while processes may go on to write.
// The result is the report; an error means that it could not be made.
func (s *Verifier) Verify(ctx context.Context, in VerifyInput) (*Report, error) {
	began := time.Now()
	v := &verification{Verifier: s, in: in, book: newBook(false),
		report: &Report{Deep: in.Deep, Partitions: []PartitionReport{}, Plazas: []PlazaCheck{}}}
	if in.Settled != nil {
		v.book.settled = in.Settled.Next
	}
	for plaza, state := range in.States {
		v.book.see(plaza, state)
	}
	if err := snapshots(ctx, s.db, func(q, rows reader) error {
		return v.run(ctx, q, rows)
	}); err != nil {
		return nil, s.db.wrap("verify", err)
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
	in     VerifyInput
	book   *book
	report *Report
	found  problems

	windows *windowCheck // nil for nothing to check
}

func (v *verification) run(ctx context.Context, q, rows reader) error {
	baseline, err := readBaseline(ctx, q)
	if err != nil {
		return err
	}
	m, err := readMeta(ctx, q)
	if err != nil {
		return err
	}
	loc, err := m.location()
	if err != nil {
		return err
	}
	zone := toll.NewZone(loc)
	scan := &rowScan{zone: zone.Clone(), deep: v.in.Deep, many: manyGroups(v.in.States, baseline)}
	if rows != q {
		defer scan.start(ctx, rows)()
	}
	b := v.book
	if b.cursors, err = readCursors(ctx, q, m.TopicID); err != nil {
		return err
	}
	b.epoch = highestEpoch(b.cursors)
	v.report.Epoch = b.epoch
	if err := v.checkOtherTopics(ctx, q, m.TopicID); err != nil {
		return err
	}
	v.windows = newWindowCheck(v, zone)
	if b.partitions, err = storedPartitions(ctx, q, m.TopicID, b.cursors); err != nil {
		return err
	}
	for _, partition := range b.partitions {
		if err := v.checkPartition(ctx, q, m.TopicID, partition); err != nil {
			return err
		}
	}
	if v.report.AcceptedLogs, err = readAcceptedLogs(ctx, q, m.TopicID); err != nil {
		return err
	}
	if err := v.checkDeadLetters(ctx, q, m.TopicID); err != nil {
		return err
	}
	pruned, err := readPruned(ctx, q, prunedRows)
	if err != nil {
		return err
	}
	if v.windows != nil {
		if err := v.windows.run(ctx, q, scan, m.TopicID, baseline); err != nil {
			return err
		}
	}
	var counts map[int]rowCount
	if v.in.Deep {
		counts = v.windows.counts
	} else if counts, err = scan.count(ctx, q); err != nil {
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
func (v *verification) checkOtherTopics(ctx context.Context, q reader, topicID string) error {
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

// checkPartition adds up a partition's batches and checks that they join.
func (v *verification) checkPartition(ctx context.Context, q reader, topicID string,
	partition int32) error {
	r := PartitionReport{Partition: partition}
	found := &v.found
	i := slices.IndexFunc(v.book.cursors, func(c cursorRow) bool { return c.partition == partition })
	var cursor *cursorRow
	if i >= 0 {
		cursor = &v.book.cursors[i]
		r.Start, r.Next = cursor.start, cursor.next
		if cursor.epoch != v.book.epoch {
			found.ofPartition(KindEpoch, partition, int64(v.book.epoch), int64(cursor.epoch),
				"its cursor is of epoch %d, others of %d", cursor.epoch, v.book.epoch)
		}
	}
	at := r.Start
	var last uint64
	err := readBatches(ctx, q, topicID, partition, -1<<63, func(b *batchRow) error {
		if r.BatchRows == 0 && cursor == nil {
			at = b.first
		}
		switch {
		case b.first > at:
			found.ofPartition(KindBatchGap, partition, at, b.first,
				"the offsets %s to %s are in no batch: %s lost",
				text.Number(at), text.Number(b.first-1), text.Count(b.first-at, "offset was", "offsets were"))
		case b.first < at:
			found.ofPartition(KindBatchOverlap, partition, at, b.first,
				"the offsets %s to %s are in two batches",
				text.Number(b.first), text.Number(min(at, b.next)-1))
		}
		if sum := b.events + b.rejected + b.skipped; sum != b.next-b.first || b.next <= b.first ||
			min(b.events, b.rejected, b.gone, b.skipped-b.gone) < 0 {
			found.ofPartition(KindBatchSum, partition, b.next-b.first, sum,
				"the batch of the offsets %s to %s says it has %s, %s rejected and %s skipped, which is not their number %s", text.Number(b.first), text.Number(b.next-1),
				text.Count(b.events, "event"), text.Number(b.rejected), text.Number(b.skipped),
				text.Number(b.next-b.first))
		}
		v.checkOutbox(b)
		at = max(at, b.next)
		last = b.token
		r.Batches += b.batches
		r.BatchRows++
		r.Events += b.events
		r.Rejected += b.rejected
		r.Skipped += b.skipped - b.gone
		r.Gone += b.gone
		if !b.published {
			r.Unpublished += b.batches
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
	case at < cursor.next:
		found.ofPartition(KindBatchGap, partition, cursor.next, at,
			"the offsets %s to %s, below its cursor, are in no batch: %s lost",
			text.Number(at), text.Number(cursor.next-1), text.Count(cursor.next-at, "offset was",
				"offsets were"))
	case at > cursor.next:
		found.ofPartition(KindBatchOverlap, partition, cursor.next, at,
			"its batches reach to offset %s, beyond its cursor at %s; they would be stored again",
			text.Number(at), text.Number(cursor.next))
	case r.BatchRows > 0 && last != cursor.token:
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
	v.report.Rejected += r.Rejected
	v.report.Skipped += r.Skipped
	v.report.Gone += r.Gone
	v.report.Unpublished += r.Unpublished
	return nil
}

// checkOutbox checks a batch's deltas and adds them to the book.
func (v *verification) checkOutbox(b *batchRow) {
	deltas, err := v.decode(b.blob)
	if err != nil {
		v.found.ofPartition(KindBatchOutbox, b.partition, 0, 0,
			"the deltas of the batch at offset %s can't be read: %v", text.Number(b.first), err)
		return
	}
	var events int64
	for i := range deltas {
		d := &deltas[i]
		events += d.Events
		var last int64
		if a := v.book.accounts[accountKey{b.partition, d.Plaza}]; a != nil {
			last = a.last
		}
		if end := d.End(b.next); end > b.next || end <= d.Prev {
			v.found.ofBoth(KindChain, int(d.Plaza), b.partition, b.next, end,
				"a delta of the batch at offset %s goes from %s to %s, outside of the batch",
				text.Number(b.first),
				text.Number(d.Prev), text.Number(end))
		}
		if d.Prev != last {
			v.found.ofBoth(KindChain, int(d.Plaza), b.partition, last, d.Prev,
				"the delta of the batch at offset %s says it follows one that ends at %s, but the one before ends at %s", text.Number(b.first), text.Number(d.Prev), text.Number(last))
		}
		v.book.addDelta(b, d) // now, as batches that were compacted hold several deltas of a plaza
	}
	v.book.end(b)
	if events != b.events {
		v.found.ofPartition(KindBatchSum, b.partition, b.events, events,
			"the batch at offset %s has %s, its deltas have %s",
			text.Number(b.first), text.Count(b.events, "event"), text.Number(events))
	}
	if v.windows != nil {
		v.windows.add(b, deltas)
	}
}

// checkDeadLetters compares the dead letters with what the batches rejected.
func (v *verification) checkDeadLetters(ctx context.Context, q reader, topicID string) error {
	rows, err := q.QueryContext(ctx,
		`SELECT partition_id, COUNT(*) FROM toll_dead_letter WHERE topic_id = ? GROUP BY partition_id`,
		topicID)
	if err != nil {
		return err
	}
	defer rows.Close()
	letters := map[int32]int64{}
	for rows.Next() {
		var partition int32
		var n int64
		if err := rows.Scan(&partition, &n); err != nil {
			return err
		}
		letters[partition] = n
	}
	if err := rows.Err(); err != nil {
		return err
	}
	pruned, err := readPruned(ctx, q, prunedLetters)
	if err != nil {
		return err
	}
	check := func(partition int32, rejected int64) {
		rejected -= pruned[int(partition)].rows // those that were kept for long enough
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
func (v *verification) checkPlazas(baseline, pruned, counts map[int]rowCount) {
	r := v.report
	inexact := false
	for _, plaza := range v.book.plazas(v.in.States, baseline, pruned, counts) {
		stored := counts[plaza]
		if stored.rows == 0 && v.in.Deep {
			stored.exact = true // nothing to sum
		}
		inexact = inexact || v.in.Deep && !stored.exact
		f := plazaFacts{baseline: baseline[plaza], pruned: pruned[plaza], stored: &stored}
		if plaza != nullPlaza {
			f.state = v.in.States[int16(plaza)]
		}
		before := v.found.count()
		c := v.book.checkPlaza(plaza, f, &v.found)
		v.checkSettled(plaza, f.state)
		c.Status = statusOf(v.found.count()-before, c.InFlight)
		r.Plazas = append(r.Plazas, c)
		r.Rows += stored.rows
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

// checkSettled looks for deltas that the group table must have merged by now.
func (v *verification) checkSettled(plaza int, state *toll.State) {
	if state != nil && state.Epoch < v.book.epoch || v.in.Settled == nil ||
		v.in.Settled.Epoch != v.book.epoch {
		return // all comes again after a rebuild
	}
	for key, a := range v.book.accountsOf(plaza) {
		settled := a.settled
		if merged := v.book.mergedIn(key); merged < settled {
			v.found.ofBoth(KindLostDelta, plaza, key.partition, settled, merged,
				"the group table has merged up to offset %s, but deltas up to %s were published and consumed: at least one was lost", text.Number(merged), text.Number(settled))
		}
	}
}
