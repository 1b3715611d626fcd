// Package skipped migrates from version 3 of the tables, which counted events whose times the
// database's clock never shows in other minutes.
package skipped

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// timeRanges is for how many ranges of time one query looks.
const timeRanges = 250

// skippedTimes moves events whose times the database's clock never shows from the minutes in which
// version 3 counted them to the last minute before the clock is set forward.
//
// An outbox does not hold which events of a minute those were. They are taken as they come: first
// of those on time, then of the late ones, then of those that came too late. So every sum by plaza,
// minute and type is right; how many of them were late is an estimate where a minute holds others
// too.
type skippedTimes struct {
	Config
	meta   tables.Meta
	loc    *time.Location
	zone   *toll.Zone
	span   toll.Window // all minutes that are stored, and some around
	counts map[skippedMinute]*skippedCount
	// folded are the minutes before which a plaza's outbox holds sums only.
	folded map[int16]toll.Minute

	epoch                         uint64 // in which the plazas are counted again
	rows, moved, changed, emptied int64
}

// skippedMinute is a minute in which events of skipped times were counted.
type skippedMinute struct {
	plaza int16
	was   toll.Minute
}

type skippedCount struct {
	goes  toll.Minute      // where they belong
	rows  map[string]int64 // of livetolldata, by type
	stays map[string]int64 // rows of the same minute whose times the clock does show
	has   map[string]int64 // events of the minute in the outbox
	// What was moved.
	onTime, quarter, tooLate toll.Pane
}

// Config sets what to migrate, and how.
type Config struct {
	DB *db.DB
	// Decode and Encode read and write an outbox.
	Decode func([]byte) ([]toll.PlazaDelta, error)
	Encode func([]toll.PlazaDelta) []byte
	// Raise raises the epoch, so that the plazas are counted again, and returns the new one. It is the
	// first thing that a transaction does.
	Raise func(ctx context.Context, tx *dbsql.Tx, topicID string) (uint64, error)
	// Plazas reads the plazas that have a timezone.
	Plazas func(context.Context, db.Reader) ([]toll.Plaza, error)
}

// Move moves events to the minutes in which they belong, and returns a sentence about it, empty
// where there are none. It moves them in one transaction. Run again it finds none: what is to be
// moved are a minute's events beyond the rows of that minute. A process that runs meanwhile has to
// wait for it, and then counts the plazas again.
func Move(ctx context.Context, cfg Config) (string, error) {
	m := &skippedTimes{Config: cfg, folded: map[int16]toll.Minute{}}
	var err error
	if m.meta, err = tables.ReadMeta(ctx, m.DB); err != nil ||
		m.meta.Resetting != tables.NotResetting {
		if errors.Is(err, tables.ErrNoMeta) {
			err = nil
		}
		return "", err
	}
	if m.loc, err = m.meta.Location(); err != nil {
		return "", err
	}
	m.zone = toll.NewZone(m.loc)
	var first, last dbsql.Null[int64]
	err = m.DB.QueryRowContext(ctx, `SELECT MIN(first_minute), MAX(last_minute) FROM toll_batch`).
		Scan(&first, &last)
	if err != nil || !first.Valid || !last.Valid {
		return "", err
	}
	// A wrong clock may have said any year.
	const day = 1440
	earliest := time.Date(1840, 1, 1, 0, 0, 0, 0, time.UTC)
	latest := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	m.span = toll.Window{
		Start: max(tables.AddMinutes(toll.Minute(first.V), -2*day), toll.MinuteAt(earliest.Unix())),
		End:   min(tables.AddMinutes(toll.Minute(last.V), 2*day), toll.MinuteAt(latest.Unix())),
	}
	m.DB.Embedded(ctx) // for what follows, see many
	if err := m.fixRanges(ctx); err != nil {
		return "", err
	}
	if err := m.readSkipped(ctx, m.DB); err != nil || m.rows == 0 {
		return "", err
	}
	tx, err := m.DB.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer tx.Rollback()
	if m.epoch, err = m.Raise(ctx, tx, m.meta.TopicID); err != nil {
		return "", err
	}
	if err := m.move(ctx, tx); err != nil {
		return "", err
	}
	if m.moved == 0 {
		return m.note(), nil // nor is anything else changed
	}
	return m.note(), tx.Commit()
}

func (m *skippedTimes) note() string {
	note := fmt.Sprintf("%s stored in livetolldata at times that the clocks of %s skip",
		text.Count(m.rows, "row was", "rows were"), m.meta.Timezone)
	if m.moved > 0 {
		note += fmt.Sprintf(": %s counted in the last minute before the change now, %s corrected "+
			"and %s deleted that would be empty; the plazas are counted again, in epoch %d",
			text.Count(m.moved, "row is", "rows are"), text.Count(m.changed,
				"window"), text.Number(m.emptied), m.epoch)
	}
	if left := m.rows - m.moved; left > 0 {
		note += fmt.Sprintf("; %s counted too late until the topic is replayed, since it is not "+
			"known what their minutes held: tollstream reset --yes", text.Count(left, "row is", "rows are"))
	}
	return note
}

// version3Minute returns the minute in which version 3 counted a time: that of the earliest instant
// at which the clock shows it, or else by the offset before the change.
func version3Minute(loc *time.Location, w toll.WallTime) toll.Minute {
	wall := int64(w)
	_, before := time.Unix(wall-86400, 0).In(loc).Zone()
	_, after := time.Unix(wall+86400, 0).In(loc).Zone()
	for _, offset := range [...]int{max(before, after), min(before, after)} {
		if _, got := time.Unix(wall-int64(offset), 0).In(loc).Zone(); got == offset {
			return toll.MinuteAt(wall - int64(offset))
		}
	}
	return toll.MinuteAt(wall - int64(before))
}

// readSkipped reads the rows at times that the clock skips.
func (m *skippedTimes) readSkipped(ctx context.Context, q db.Reader) error {
	m.rows, m.counts = 0, map[skippedMinute]*skippedCount{}
	return eachRow(ctx, q, m.zone.Skipped(m.span), func(plaza int16, at toll.WallTime, typ string) {
		k, goes := skippedMinute{plaza, version3Minute(m.loc, at)}, m.zone.Minute(at)
		if k.was == goes {
			return
		}
		m.rows++
		n := m.counts[k]
		if n == nil {
			n = &skippedCount{goes: goes, rows: map[string]int64{},
				stays: map[string]int64{}, has: map[string]int64{}}
			m.counts[k] = n
		}
		if n.goes == goes { // else the clock was set twice within hours
			n.rows[typ]++
		}
	})
}

// eachRow calls each with the rows of some ranges of time.
func eachRow(
	ctx context.Context, q db.Reader, ranges [][2]toll.WallTime, each func(int16, toll.WallTime,
		string),
) error {
	read := func(some [][2]toll.WallTime) error {
		var args []any
		for _, r := range some {
			args = append(args, r[0].String(), r[1].String())
		}
		rows, err := q.QueryContext(ctx, `SELECT toll_plaza_id, CAST(timestamp AS CHAR),
			CONVERT(vehicle_type USING utf8mb4) FROM `+tables.EventTable+` WHERE toll_plaza_id IS NOT NULL
				AND
			(timestamp >= ? AND timestamp < ?`+
			strings.Repeat(` OR timestamp >= ? AND timestamp < ?`, len(some)-1)+`)`, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var plaza int16
			var text string
			var typ dbsql.Null[string]
			if err := rows.Scan(&plaza, &text, &typ); err != nil {
				return err
			}
			at, err := db.ParseTime(text)
			if err != nil {
				return err
			}
			each(plaza, toll.WallTimeOf(at), typ.V)
		}
		return rows.Err()
	}
	for some := range slices.Chunk(ranges, timeRanges) {
		if err := read(some); err != nil {
			return err
		}
	}
	return nil
}

// move moves what is to be moved in the outbox, and corrects the windows.
func (m *skippedTimes) move(ctx context.Context, tx *dbsql.Tx) error {
	if err := m.readSkipped(ctx, tx); err != nil {
		return err
	}
	var walls [][2]toll.WallTime
	var minutes []toll.Window
	for k := range m.counts {
		minutes = append(minutes, toll.Window{Start: k.was, End: tables.AddMinutes(k.was, 1)})
	}
	minutes = tables.JoinWindows(minutes)
	for _, w := range minutes {
		walls = append(walls, [2]toll.WallTime{m.zone.Since(w.Start), m.zone.Since(w.End)})
	}
	err := eachRow(ctx, tx, walls, func(plaza int16, at toll.WallTime, typ string) {
		if n := m.counts[skippedMinute{plaza, m.zone.Minute(at)}]; n != nil {
			n.stays[typ]++
		}
	})
	if err != nil {
		return err
	}
	cursors, err := tables.ReadCursors(ctx, tx, m.meta.TopicID)
	if err != nil {
		return err
	}
	seen := map[toll.Origin]bool{} // batches by first offset: whether they hold some of these minutes
	for _, w := range minutes {
		for _, c := range cursors {
			err := tables.ReadMinutes(ctx, tx, m.meta.TopicID, c.Partition, w,
				func(b *tables.BatchRow) error {
					at := toll.Origin{Partition: b.Partition, Offset: b.First}
					if _, again := seen[at]; again {
						return nil
					}
					deltas, err := m.Decode(b.Blob)
					seen[at] = m.count(deltas)
					return err
				})
			if err != nil {
				return fmt.Errorf("read the outbox of partition %d: %w", c.Partition, err)
			}
		}
	}
	m.plan()
	for b, holds := range seen {
		if !holds {
			continue
		}
		if err := m.moveIn(ctx, tx, b.Partition, b.Offset); err != nil {
			return fmt.Errorf("move events of the batch at %d:%d: %w", b.Partition, b.Offset, err)
		}
	}
	for _, n := range m.counts {
		m.moved += n.onTime.Count() + n.quarter.Count() + n.tooLate.Count()
	}
	return m.fixWindows(ctx, tx)
}

// count counts what a batch holds of the minutes, and reports whether that is anything.
func (m *skippedTimes) count(deltas []toll.PlazaDelta) (holds bool) {
	for i := range deltas {
		d := &deltas[i]
		if before, some := m.folded[d.Plaza]; d.Fold != nil && (!some || d.Fold.Before > before) {
			m.folded[d.Plaza] = d.Fold.Before
		}
		for _, panes := range [...][]toll.Pane{d.Panes, d.LateQuarter, d.TooLate} {
			for _, p := range panes {
				n := m.counts[skippedMinute{d.Plaza, p.Start}]
				if n == nil {
					continue
				}
				holds = true
				for _, t := range p.Types {
					n.has[t.Type] += t.Count
				}
			}
		}
	}
	return holds
}

// plan leaves in rows what is to be moved: no more than the outbox holds besides the other rows, so
// that rows from before tollstream stay out of it, and nothing where minutes were folded.
func (m *skippedTimes) plan() {
	for k, n := range m.counts {
		before, some := m.folded[k.plaza]
		if some && min(n.goes, k.was) < before {
			clear(n.rows)
		}
		for typ, rows := range n.rows {
			n.rows[typ] = min(rows, max(n.has[typ]-n.stays[typ], 0))
		}
	}
}

// moveIn moves events in the outbox of a batch.
func (m *skippedTimes) moveIn(ctx context.Context, tx *dbsql.Tx, partition int32,
	first int64) error {
	const key = ` WHERE topic_id = ? AND partition_id = ? AND first_offset = ?`
	var blob []byte
	var firstMinute toll.Minute
	err := tx.QueryRowContext(ctx, `SELECT deltas, first_minute FROM toll_batch`+key,
		m.meta.TopicID, partition, first).Scan(&blob, &firstMinute)
	if err != nil {
		return err
	}
	deltas, err := m.Decode(blob)
	if err != nil {
		return err
	}
	changed, folded := false, false
	for i := range deltas {
		d := &deltas[i]
		folded = folded || d.Fold != nil
		// First from all panes of one kind, then from those of the next.
		for _, panes := range [...]*[]toll.Pane{&d.Panes, &d.LateQuarter, &d.TooLate} {
			for _, p := range slices.Clone(*panes) {
				n := m.counts[skippedMinute{d.Plaza, p.Start}]
				if n == nil {
					continue
				}
				moved := &n.onTime
				switch panes {
				case &d.LateQuarter:
					moved = &n.quarter
				case &d.TooLate:
					moved = &n.tooLate
				}
				changed = n.take(panes, p.Start, moved) || changed
			}
		}
	}
	if !changed {
		return nil
	}
	minutes := tables.MinutesOf(deltas)
	if folded {
		minutes.Start = min(minutes.Start, firstMinute) // which may be of a minute that was folded
	}
	from, to := tables.MinuteColumns(minutes)
	res, err := tx.ExecContext(ctx,
		`UPDATE toll_batch SET deltas = ?, first_minute = ?, last_minute = ?`+key,
		m.Encode(deltas), from, to, m.meta.TopicID, partition, first)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errors.New("the batch was changed meanwhile"), err)
	}
	return nil
}

// take moves events from the pane of a minute to that of the minute where they belong.
func (n *skippedCount) take(panes *[]toll.Pane, was toll.Minute, moved *toll.Pane) bool {
	search := func(m toll.Minute) (int, bool) {
		return slices.BinarySearchFunc(*panes, m, func(p toll.Pane, m toll.Minute) int {
			return cmp.Compare(p.Start, m)
		})
	}
	i, found := search(was)
	if !found {
		return false
	}
	p := &(*panes)[i]
	var stay, goes []toll.TypeCount
	for _, t := range p.Types {
		k := min(t.Count, n.rows[t.Type])
		n.rows[t.Type] -= k
		if k > 0 {
			goes = append(goes, toll.TypeCount{Type: t.Type, Count: k})
		}
		if k < t.Count {
			stay = append(stay, toll.TypeCount{Type: t.Type, Count: t.Count - k})
		}
	}
	if len(goes) == 0 {
		return false
	}
	late := max(p.Late-toll.SumTypes(stay), 0)
	p.Types, p.Late = stay, p.Late-late
	if len(stay) == 0 {
		*panes = slices.Delete(*panes, i, i+1)
	}
	if i, found = search(n.goes); !found {
		*panes = slices.Insert(*panes, i, toll.Pane{Start: n.goes})
	}
	p = &(*panes)[i]
	p.Types = toll.AddTypes(slices.Clone(p.Types), goes)
	p.Late += late
	moved.Types = toll.AddTypes(moved.Types, goes)
	moved.Late += late
	return true
}
