package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// The kinds of problems. Each is an invariant that does not hold.
const (
	KindRowsMissing = "rows_missing" // livetolldata holds fewer rows of a plaza than were stored
	KindRowsExtra   = "rows_extra"   // livetolldata holds more rows of a plaza than were stored
	// as many rows of a plaza as were stored, but not the same ones
	KindRowsChanged  = "checksum"
	KindBatchGap     = "batch_gap"     // offsets of a partition are in no batch
	KindBatchOverlap = "batch_overlap" // offsets of a partition are in two batches
	// a batch's events, rejects and skipped offsets don't add up to its offsets, or its deltas not to
	// its events
	KindBatchSum    = "batch_sum"
	KindBatchOutbox = "batch_outbox" // a batch's deltas can't be read
	// a delta does not follow the one before of its plaza and partition
	KindChain       = "chain"
	KindCursorLost  = "cursor_lost"  // batches of a partition that has no cursor
	KindCursorToken = "cursor_token" // the last batch is not the one that moved the cursor last
	KindOtherTopic  = "other_topic"  // batches or cursors of another topic id
	// not as many dead letters of a partition as its batches rejected
	KindDeadLetters = "dead_letters"
	KindLogReplaced = "log_replaced" // a partition's log is not the one that was stored
	// cursors, or a plaza's state, of another epoch than the database's
	KindEpoch = "epoch"
	// the group table counts another number of events of a plaza than the deltas that it merged hold
	KindTableTotal    = "table_total"
	KindTableChecksum = "table_checksum" // the same number, but not the same events
	// a plaza's state ends in the midst of a delta, or at one that was never stored
	KindTableOffset = "table_offset"
	// the group table has merged offsets that the database has not stored
	KindTableAhead = "table_ahead"
	// the group table lacks a delta that was published and consumed
	KindLostDelta     = "lost_delta"
	KindWindowMissing = "window_missing" // a closed window has events and no result
	KindWindowBehind  = "window_behind"  // a window's result lacks events that were delivered
	KindWindowCount   = "window_count"   // a window's result counts other events than were stored
	KindWindowExtra   = "window_extra"   // the result of a window without events
	// windows are due for long, and a process does not store them
	KindWindowStalled = "window_stalled"
	// a window has not as many events that came too late as the batches
	KindWindowTooLate = "window_too_late"
	// window_start and window_end are not what a window's minutes are on the database's clock
	KindWindowRange = "window_range"
	// livetolldata holds another number of rows in a window's time than the window counts
	KindWindowRows = "window_rows"
	// livetolldata holds another number of rows of a plaza's minute than were stored
	KindMinuteRows = "minute_rows"
)

const (
	maxProblems = 1000
	// problemsOfOne bounds those of one kind and partition, or of one kind of a plaza's windows or
	// minutes, so that what is broken in one place does not hide the others.
	problemsOfOne = 20
)

// Problem is one violated invariant.
type Problem struct {
	Kind      string `json:"kind"`
	Partition *int32 `json:"partition,omitempty"`
	Plaza     *int   `json:"plaza,omitempty"` // -32769 stands for NULL
	// the kind and the start in UTC: 15m 2022-02-10T09:15:00Z; of a minute without a kind
	Window string `json:"window,omitempty"`
	Want   int64  `json:"want"`
	Got    int64  `json:"got"`
	Text   string `json:"text"` // one sentence
	Next   string `json:"next"` // what to do about it
}

func (p Problem) String() string { return p.Text }

// problems gathers problems, as many as a reader can make use of.
type problems struct {
	list  []Problem
	more  int64
	byOne map[string]int
}

func (p *problems) add(q Problem) {
	q.Next = nextStep(q.Kind)
	one := ""
	switch {
	case q.Partition != nil:
		one = fmt.Sprint(q.Kind, " partition ", *q.Partition)
	case q.Window != "":
		one = fmt.Sprint(q.Kind, " plaza ", *q.Plaza)
	}
	if one != "" {
		if p.byOne == nil {
			p.byOne = map[string]int{}
		}
		if p.byOne[one]++; p.byOne[one] > problemsOfOne {
			p.more++
			return
		}
	}
	if len(p.list) >= maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, q)
}

// join adds those of another.
func (p *problems) join(other *problems) {
	for _, q := range other.list {
		p.add(q)
	}
	p.more += other.more
}

func (p *problems) count() int64 { return int64(len(p.list)) + p.more }

func (p *problems) ofPartition(kind string, partition int32, want, got int64, format string,
	args ...any) {
	p.add(Problem{Kind: kind, Partition: &partition, Want: want, Got: got,
		Text: fmt.Sprintf("partition %d: ", partition) + fmt.Sprintf(format, args...)})
}

func (p *problems) ofPlaza(kind string, plaza int, want, got int64, format string, args ...any) {
	p.add(Problem{Kind: kind, Plaza: &plaza, Want: want, Got: got,
		Text: "plaza " + tables.PlazaName(plaza) + ": " + fmt.Sprintf(format, args...)})
}

func (p *problems) ofBoth(kind string, plaza int, partition int32, want, got int64, format string,
	args ...any) {
	p.add(Problem{Kind: kind, Partition: &partition, Plaza: &plaza, Want: want, Got: got,
		Text: fmt.Sprintf("plaza %s, partition %d: ", tables.PlazaName(plaza), partition) +
			fmt.Sprintf(format,
				args...)})
}

// ofWindows reports a problem of windows of any plazas.
func (p *problems) ofWindows(kind string, got int64, format string, args ...any) {
	p.add(Problem{Kind: kind, Got: got, Text: fmt.Sprintf(format, args...)})
}

// ofWindow reports a problem of a plaza's window, or where that has no kind of a minute.
func (p *problems) ofWindow(kind string, id toll.WindowID, want, got int64, text string) {
	plaza := int(id.Plaza)
	p.add(Problem{Kind: kind, Plaza: &plaza,
		Window: strings.TrimSpace(id.Kind + " " + id.Start.Time().Format(time.RFC3339)),
		Want:   want, Got: got, Text: fmt.Sprintf("plaza %d: %s", plaza, text)})
}

// PlazaCheck compares what the group table, the outbox and livetolldata hold of one plaza.
type PlazaCheck struct {
	Plaza      int   `json:"plaza"`       // -32769 stands for NULL
	TableCount int64 `json:"table_count"` // events that the group table counts
	// rows of livetolldata, those from before among them; nil where counting them took too long
	StoredRows *int64 `json:"stored_rows"`
	Baseline   int64  `json:"baseline"`  // rows from before
	Pruned     int64  `json:"pruned"`    // rows that tollstream prune deleted
	InFlight   int64  `json:"in_flight"` // events that are stored and not yet counted
	// whether the rows are the ones that were stored; nil where not computed
	ChecksumOK *bool     `json:"checksum_ok"`
	Status     string    `json:"status"` // Exact, InFlight, NotVerified or Mismatch
	Note       string    `json:"note,omitempty"`
	Problems   []Problem `json:"problems,omitempty"`
}

// The states of a verification.
const (
	Exact = "exact" // every invariant holds, and the group table has counted all that is stored
	// every invariant holds, and some events are stored and not yet counted, which is healthy
	InFlight = "in_flight"
	// no invariant is known to be broken, but the rows were not read
	NotVerified = "not_verified"
	Mismatch    = "mismatch" // an invariant does not hold
)

func statusOf(problems, inFlight int64) string {
	switch {
	case problems > 0:
		return Mismatch
	case inFlight > 0:
		return InFlight
	}
	return Exact
}

// plazaFacts is what is known of a plaza when it is checked.
type plazaFacts struct {
	state    *toll.State // nil for none
	baseline tables.RowCount
	pruned   tables.RowCount
	stored   *tables.RowCount // nil where not counted
}

// checkPlaza compares what the ledger holds of a plaza with its state and its rows.
func (b *ledger) checkPlaza(plaza int, f plazaFacts, found *problems) PlazaCheck {
	c := PlazaCheck{Plaza: plaza, Baseline: f.baseline.Rows, Pruned: f.pruned.Rows}
	before := found.count()
	var merged, flight sums
	for key, a := range b.entriesOf(plaza) {
		merged.add(a.merged)
		flight.add(a.flight)
		if at := b.mergedIn(key); at != a.at {
			if next := b.nextOf(key.partition); at <= next { // else reported below
				found.ofBoth(KindTableOffset, plaza, key.partition, a.at, at,
					"the group table has merged up to offset %s, where no batch with this plaza ends; the one "+
						"before ends at %s", text.Number(at), text.Number(a.at))
			}
		}
	}
	c.InFlight = flight.events
	checksumOK := true
	if state := f.state; state != nil {
		switch {
		case state.Epoch > b.epoch && len(b.cursors) > 0:
			found.ofPlaza(KindEpoch, plaza, int64(b.epoch), int64(state.Epoch),
				"the group table is of the later epoch %d, the database of %d", state.Epoch, b.epoch)
		case state.Epoch < b.epoch:
			state = &toll.State{} // from before a rebuild
		}
		c.TableCount = state.Events
		for _, m := range state.Merged {
			if next := b.nextOf(m.Partition); m.Next > next {
				found.ofBoth(KindTableAhead, plaza, m.Partition, next, m.Next,
					"the group table has merged up to offset %s, the database has stored up to %s",
					text.Number(m.Next), text.Number(next))
			} else if b.entries[entryKey{m.Partition, int16(plaza)}] == nil {
				found.ofBoth(KindTableOffset, plaza, m.Partition, 0, m.Next,
					"the group table has merged up to offset %s, but no batch has this plaza", text.Number(m.Next))
			}
		}
		switch d := state.Events - merged.events; {
		case d > 0:
			found.ofPlaza(KindTableTotal, plaza, merged.events, state.Events,
				"%s counted in the group table, %s in the deltas that it merged: %s counted twice",
				text.Number(state.Events), text.Number(merged.events), text.Count(d, "event was",
					"events were"))
		case d < 0:
			found.ofPlaza(KindTableTotal, plaza, merged.events, state.Events,
				"%s counted in the group table, %s in the deltas that it merged: %s lost",
				text.Number(state.Events), text.Number(merged.events), text.Count(-d, "event was",
					"events were"))
		case state.Checksum != merged.checksum:
			checksumOK = false
			found.ofPlaza(KindTableChecksum, plaza, int64(merged.checksum), int64(state.Checksum),
				"the group table counts %s as it should, but their checksum is not that of the deltas that "+
					"it merged", text.Count(state.Events, "event"))
		}
	} else if merged.events != 0 {
		panic("sql: deltas merged into no state")
	}
	if f.stored != nil {
		c.StoredRows = &f.stored.Rows
		stored := merged
		stored.add(flight)
		stored.add(sums{f.baseline.Rows, f.baseline.Checksum})
		stored.sub(sums{f.pruned.Rows, f.pruned.Checksum})
		switch d := f.stored.Rows - stored.events; {
		case d < 0:
			checksumOK = false
			found.ofPlaza(KindRowsMissing, plaza, stored.events, f.stored.Rows,
				"%s in livetolldata, %s stored: %s deleted", text.Count(f.stored.Rows,
					"row"), text.Number(stored.events), text.Count(-d, "row was", "rows were"))
		case d > 0:
			checksumOK = false
			found.ofPlaza(KindRowsExtra, plaza, stored.events, f.stored.Rows,
				"%s in livetolldata, %s stored: %s added by someone else, or doubled", text.Count(f.stored.Rows,
					"row"), text.Number(stored.events), text.Count(d, "row was", "rows were"))
		case f.stored.Exact && f.stored.Checksum != stored.checksum:
			checksumOK = false
			found.ofPlaza(KindRowsChanged, plaza, int64(stored.checksum), int64(f.stored.Checksum),
				"%s in livetolldata as it should be, but not the ones that were stored: their checksum differs",
				text.Count(f.stored.Rows, "row"))
		}
		if f.stored.Exact {
			c.ChecksumOK = &checksumOK
		}
	}
	c.Status = statusOf(found.count()-before, c.InFlight)
	if f.stored == nil && c.Status != Mismatch {
		c.Status = NotVerified
	}
	return c
}

// What to do about a problem. None of it is done automatically.
const (
	stepRebuild = "count the plazas again from the stored batches: tollstream rebuild --yes"
	stepRestore = "find out who changed the table; then restore the database from a backup, or " +
		"store all events again, " +
		"as far as the topic still holds them: tollstream reset --yes, then tollstream process"
	stepRestored = "if the database was restored from a backup, restore a newer one; or count the " +
		"plazas again from " +
		"what it holds: tollstream rebuild --yes"
	stepLog = "decide how to go on: tollstream accept-log reports what continuing in this log " +
		"leaves out, and tollstream " +
		"reset what a replay of it would lose"
	stepStalled = "start that process again; if windows still do not close, look at its log and at " +
		"MySQL's transactions and locks"
	stepDelete = "find out who wrote to toll_window; then delete the row, which no stored event " +
		"belongs to"
)

// nextStep returns what to do about a kind of problem.
func nextStep(kind string) string {
	switch kind {
	case KindTableTotal, KindTableChecksum, KindTableOffset, KindLostDelta, KindWindowMissing,
		KindWindowBehind:
		return stepRebuild
	case KindEpoch, KindTableAhead:
		return stepRestored
	case KindRowsMissing, KindRowsExtra, KindRowsChanged, KindMinuteRows, KindWindowRows,
		KindBatchGap, KindBatchOverlap, KindBatchSum, KindBatchOutbox, KindChain, KindCursorLost,
		KindCursorToken,
		KindOtherTopic, KindDeadLetters, KindWindowCount, KindWindowTooLate, KindWindowRange:
		return stepRestore
	case KindLogReplaced:
		return stepLog
	case KindWindowStalled:
		return stepStalled
	case KindWindowExtra:
		return stepDelete
	}
	return ""
}
