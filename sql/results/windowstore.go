package results

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"slices"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// countedWindow is a window as it is submitted.
type countedWindow struct {
	toll.WindowCount
	epoch uint64
	// again is a guess that the window is stored already: it closed before. It saves a statement.
	again bool
}

// storeWindows stores the windows that were submitted, and those that are to be counted from the
// outbox.
func (r *Writer) storeWindows(ctx context.Context, tx *dbsql.Tx, closings []toll.Closing) error {
	outbox := newRecount(r.cfg.Windows, r.cfg.Decode, r.topicID)
	var all []countedWindow
	for i := range closings {
		c := &closings[i]
		for j := range c.Windows {
			n := &c.Windows[j]
			all = append(all, countedWindow{*n, c.Epoch, closedBefore(r.kind(n.Kind), n, c.From)})
		}
		outbox.add(c, r.zones.Of(c.Plaza))
	}
	slices.SortStableFunc(all, func(a, b countedWindow) int {
		return tables.CompareWindows(a.WindowID, b.WindowID)
	})
	all = newestOf(all)
	err := outbox.run(ctx, tx, func(counted []countedWindow) error {
		// A window is stored once a call, so what was submitted as well waits.
		counted = slices.DeleteFunc(counted, func(n countedWindow) bool {
			at, both := slices.BinarySearchFunc(all, n.WindowID,
				func(a countedWindow, id toll.WindowID) int {
					return tables.CompareWindows(a.WindowID, id)
				})
			if both && newer(&n, &all[at]) {
				all[at] = n
			}
			return both
		})
		return r.store(ctx, tx, counted)
	})
	if err != nil {
		return fmt.Errorf("count windows from the outbox: %w", err)
	}
	return r.store(ctx, tx, all)
}

// kind returns the kind of windows that has a name, nil for none.
func (r *Writer) kind(name string) *toll.WindowKind {
	for i := range r.cfg.Windows {
		if k := &r.cfg.Windows[i]; k.Name == name {
			return k
		}
	}
	return nil
}

// closedBefore guesses whether a window had closed when all minutes before from had.
func closedBefore(k *toll.WindowKind, n *toll.WindowCount, from toll.Minute) bool {
	if k != nil && k.Day {
		return int64(n.Start)+int64(k.Hop) <= int64(from)
	}
	return n.End <= from
}

// newestOf returns each of the windows once, with the count that is to be stored.
func newestOf(sorted []countedWindow) []countedWindow {
	kept := sorted[:0]
	for i := range sorted {
		n := &sorted[i]
		if last := len(kept) - 1; last < 0 || kept[last].WindowID != n.WindowID {
			kept = append(kept, *n)
		} else if newer(n, &kept[last]) {
			kept[last] = *n
		}
	}
	return kept
}

// newer reports whether of two counts of a window a is the one to store.
func newer(a, b *countedWindow) bool {
	had := toll.WindowResult{WindowCount: b.WindowCount, Epoch: b.epoch, Revision: 1}
	_, ok := toll.Revise(&had, a.epoch, &a.WindowCount)
	return ok
}

// store stores counts of different windows, as far as they are news.
func (r *Writer) store(ctx context.Context, tx *dbsql.Tx, counts []countedWindow) error {
	// Whoever locks several rows locks them in this order.
	slices.SortFunc(counts, func(a, b countedWindow) int {
		return tables.CompareWindows(a.WindowID, b.WindowID)
	})
	for chunk := range slices.Chunk(counts, tables.UpsertRows) {
		chunk, err := r.insertFresh(ctx, tx, chunk)
		if err != nil {
			return fmt.Errorf("insert windows: %w", err)
		}
		if len(chunk) == 0 {
			continue
		}
		if err := r.storeSome(ctx, tx, chunk); err != nil {
			return err
		}
	}
	return nil
}

// insertFresh inserts the windows that are not stored yet, as nearly all that close for the first
// time are, without a look at what is there. It returns those that may be stored: if one of the
// others is after all, the server refuses the statement, and all of them are returned.
func (r *Writer) insertFresh(
	ctx context.Context, tx *dbsql.Tx, counts []countedWindow,
) (left []countedWindow, err error) {
	if r.cautious || r.db.KnownEmbedded() {
		return counts, nil // the embedded server may keep rows of a statement that it refuses
	}
	var fresh []toll.WindowResult
	for i := range counts {
		n := &counts[i]
		if n.again {
			left = append(left, *n)
		} else if w, ok := toll.Revise(nil, n.epoch, &n.WindowCount); ok {
			fresh = append(fresh, w)
		}
	}
	if len(fresh) < len(left) {
		return counts, nil
	}
	err = r.writeWindows(ctx, tx, fresh, "")
	if db.Number(err) == db.ErrDuplicateKey {
		return counts, nil
	}
	return left, err
}

// storeSome stores counts of windows that may be stored already.
func (r *Writer) storeSome(ctx context.Context, tx *dbsql.Tx, counts []countedWindow) error {
	existing, err := r.lockWindows(ctx, tx, counts)
	if err != nil {
		return fmt.Errorf("read windows: %w", err)
	}
	var fresh, revised []toll.WindowResult
	for i := range counts {
		n := &counts[i]
		old := existing[n.WindowID]
		if old == nil {
			if w, ok := toll.Revise(nil, n.epoch, &n.WindowCount); ok {
				fresh = append(fresh, w)
			}
			continue
		}
		was := old.WindowResult
		was.TooLate = old.TooLateNow
		w, ok := toll.Revise(&was, n.epoch, &n.WindowCount)
		switch {
		case !ok:
		case !old.Published:
			return ErrConflict // another process stored it just now, and has yet to publish it
		default:
			revised = append(revised, w)
		}
	}
	if err := r.writeWindows(ctx, tx, fresh, ""); err != nil {
		return fmt.Errorf("insert windows: %w", err)
	}
	// These rows are locked, so none of them is inserted.
	if err := r.writeWindows(ctx, tx, revised, reviseWindows); err != nil {
		return fmt.Errorf("revise windows: %w", err)
	}
	return nil
}

const reviseWindows = ` ON DUPLICATE KEY UPDATE end_minute = VALUES(end_minute),
	window_end = VALUES(window_end),
	whole = VALUES(whole), epoch = VALUES(epoch), revision = VALUES(revision),
	events = VALUES(events), late = VALUES(late),
	result_too_late = VALUES(result_too_late), by_type = VALUES(by_type),
	flow_per_hour = VALUES(flow_per_hour),
	reason = VALUES(reason), published = 0, stored_at = VALUES(stored_at)`

// lockWindows reads the rows of some windows and locks them, and perhaps others.
func (r *Writer) lockWindows(ctx context.Context, q db.Reader,
	counts []countedWindow) (map[toll.WindowID]*tables.WindowRow, error) {
	ids := make([]toll.WindowID, len(counts))
	for i := range counts {
		ids[i] = counts[i].WindowID
	}
	where, args := tables.AmongWindows(ids)
	rows, err := tables.ReadWindows(ctx, q,
		"WHERE "+r.db.Many(where)+" ORDER BY toll_plaza_id, kind, start_minute FOR UPDATE", args...)
	if err != nil {
		return nil, err
	}
	found := make(map[toll.WindowID]*tables.WindowRow, len(rows))
	for i := range rows {
		found[rows[i].WindowID] = &rows[i]
	}
	return found, nil
}

// writeWindows inserts results that are not published yet, and notes them for noticesOf. What is to
// become of rows that exist is the tail's to say.
func (r *Writer) writeWindows(ctx context.Context, tx *dbsql.Tx, results []toll.WindowResult,
	tail string) error {
	if err := r.inserter.Insert(ctx, tx, results, tail); err != nil {
		return err
	}
	r.written.add(results)
	return nil
}

// Reader reads results.
type Reader struct{ db *db.DB }

// NewReader returns a reader of a database's results.
func NewReader(db *db.DB) *Reader { return &Reader{db} }

// StoredWindow is a window as toll_window has it.
type StoredWindow struct {
	toll.WindowResult
	// events that came too late to be counted, up to now; TooLate has those up to the revision
	TooLateNow int64
	Published  bool // whether the revision is known to be published
}

// Windows returns a plaza's windows: of each kind, ascending by its name, the newest first, as many
// as limit at most. Those of which all events came too late are among them, with Revision 0.
func (r *Reader) Windows(ctx context.Context, plaza int16, limit int) ([]StoredWindow, error) {
	var all []StoredWindow
	err := r.db.Snapshot(ctx, func(q db.Reader) error {
		kinds, err := readKinds(ctx, q, plaza)
		if err != nil {
			return err
		}
		for _, kind := range kinds {
			rows, err := tables.ReadWindows(ctx, q,
				`WHERE toll_plaza_id = ? AND kind = ? ORDER BY start_minute DESC LIMIT ?`, plaza, kind, limit)
			if err != nil {
				return err
			}
			all = appendStored(all, rows)
		}
		return nil
	})
	return all, r.db.Wrap(fmt.Sprintf("read the windows of plaza %d", plaza), err)
}

func readKinds(ctx context.Context, q db.Reader, plaza int16) ([]string, error) {
	var kinds []string
	var kind string
	rows, err := q.QueryContext(ctx,
		`SELECT DISTINCT kind FROM toll_window WHERE toll_plaza_id = ? ORDER BY kind`, plaza)
	err = db.Each(rows, err, []any{&kind}, func() error {
		kinds = append(kinds, kind)
		return nil
	})
	return kinds, err
}
