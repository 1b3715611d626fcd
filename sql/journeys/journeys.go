// Package journeys reads from the database what toll/journeys counts: how long vehicles take
// between plazas, and where they come from and go to. No id of a vehicle leaves the database: it
// gathers the passages of each vehicle into a list, and the lists come without the ids.
//
// It reads livetolldata, bounded by time, in snapshots of its own that write nothing. The optional
// index tollstream_time (sql/indexes.sql) makes that fast; without it each statement reads the
// whole table, and [Surveyor.Cost] says so before. A statement that is no longer wanted ends on the
// server as well, and none runs for longer than [StatementLimit].
package journeys

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/journeys"
)

// StatementLimit is how long the server works on a statement before it gives up.
const StatementLimit = 2 * time.Minute

// maxCells bounds what is counted apart. Of vehicles that drive there are some hundred different
// times a section; of random ids nearly each is another one. It is a variable for tests.
var maxCells = 500_000

// cellsOfDeparture is how many of these a pair of plazas takes in [journeys.Departures].
const cellsOfDeparture = 10

// chunk is how much of a window one statement reads, where the index bounds it, and MaxGap more.
const chunk = 4 * 3600

// ErrTooMany means that there are more different times than are counted. Ids that are random make
// as many; else a shorter window has fewer.
var ErrTooMany = errors.New("too many different travel times: vehicles' ids look random, " +
	"or the window is too long")

// Surveyor counts journeys in a database.
type Surveyor struct {
	db *db.DB
}

// New returns a surveyor of a database.
func New(db *db.DB) *Surveyor { return &Surveyor{db: db} }

// Cost is what a scan reads.
type Cost struct {
	Rows    int64 // as the server estimates them
	Indexed bool  // else it reads the whole table, whatever the time
}

// Past is what travel times of a window are compared with.
type Past struct {
	Scope          PastScope                        // that was read; empty for nothing
	Weeks, OffPeak map[journeys.Pair]journeys.Times // see journeys.History
}

// Of returns what a section's times are compared with; now is what was counted in the window.
func (p *Past) Of(pair journeys.Pair, now *journeys.Counts) journeys.Reference {
	h := journeys.History{Weeks: p.Weeks[pair], Before: now.Before[pair], OffPeak: p.OffPeak[pair]}
	return h.Reference(now.Sections[pair])
}

// Cost estimates what reading the times of some windows costs, without reading them. They are those
// of [journeys.Window.Scan] and the like.
func (s *Surveyor) Cost(ctx context.Context, scans ...journeys.Window) (Cost, error) {
	var c Cost
	if len(scans) == 0 {
		return Cost{Indexed: true}, nil
	}
	if s.db.Embedded(ctx) { // it explains otherwise, and reads from memory
		err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+tables.EventTable).Scan(&c.Rows)
		return c, s.db.Wrap("count the rows", err)
	}
	where, args := during(scans)
	rows, err := s.db.QueryContext(ctx, `EXPLAIN SELECT vehicle_id FROM `+tables.EventTable+` WHERE `+
		where, args...)
	if err != nil {
		return c, s.db.Wrap("ask what reading the rows costs", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return c, s.db.Wrap("ask what reading the rows costs", err)
	}
	var key, access dbsql.NullString
	var estimate dbsql.NullFloat64
	into := make([]any, len(columns))
	for i, name := range columns {
		switch strings.ToLower(name) {
		case "key":
			into[i] = &key
		case "access object": // of TiDB, which names an index so
			into[i] = &access
		case "rows", "estrows":
			into[i] = &estimate
		default:
			into[i] = new(dbsql.RawBytes)
		}
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return c, s.db.Wrap("ask what reading the rows costs", err)
		}
		c.Rows = max(c.Rows, int64(estimate.Float64)) // of TiDB, that of each step
		c.Indexed = c.Indexed || key.String != "" || strings.Contains(access.String, "index:")
	}
	return c, s.db.Wrap("ask what reading the rows costs", rows.Err())
}

// Latest returns the event time until which rows are complete: that until which plazas are
// assessed, or else that of the newest row, for which a table without the index is read whole. It
// returns false where there is none. The zone is that of the rows' times.
func (s *Surveyor) Latest(ctx context.Context, zone *time.Location) (at toll.WallTime, ok bool,
	err error) {
	var minute dbsql.Null[toll.Minute]
	var text dbsql.NullString
	err = s.db.QueryRowContext(ctx, `SELECT MAX(assessed_until) FROM toll_congestion`).Scan(&minute)
	if err == nil && minute.Valid {
		return toll.NewZone(zone).Since(minute.V), true, nil
	}
	if err == nil {
		err = s.db.QueryRowContext(ctx, `SELECT MAX(timestamp) FROM `+tables.EventTable).Scan(&text)
	}
	if err != nil || !text.Valid {
		return 0, false, s.db.Wrap("read the time of the newest rows", err)
	}
	newest, err := db.ParseTime(text.String)
	return toll.WallTimeOf(newest) + 1, err == nil, s.db.Wrap("read the time of the newest rows", err)
}

// Sections counts what arrived in a window, as [journeys.Count] does, and what became of those that
// left plazas before its end, as [journeys.CountDepartures] does. The zone is that of the rows'
// times. progress, which may be nil, is called after each of total statements.
func (s *Surveyor) Sections(ctx context.Context, w journeys.Window, zone *time.Location,
	progress func(done, total int)) (*journeys.Counts, *journeys.Departures, error) {
	cost, err := s.Cost(ctx, w.Scan())
	if err != nil {
		return nil, nil, err
	}
	step := toll.WallTime(chunk)
	if !cost.Indexed {
		step = w.End - w.Start
	}
	total, done := int((w.End-w.Start+step-1)/max(step, 1)), 0
	scan := w.Scan()
	counter := journeys.NewCounter(w, journeys.Changes(zone, scan.Start, scan.End))
	departures := journeys.NewDepartures(w.End)
	err = s.snapshot(ctx, "read the travel times", func(q db.Reader) error {
		for start := w.Start; start < w.End; start += step {
			part := journeys.Window{Start: start, End: min(start+step, w.End)}
			err := tracks(ctx, q, "", nil, []journeys.Window{part.Scan()}, func(p []journeys.Passage) error {
				if counter.Add(p, part); part.End == w.End {
					departures.Add(p)
				}
				if max(counter.Size(), cellsOfDeparture*len(departures.Next)) > maxCells {
					return ErrTooMany
				}
				return nil
			})
			if err != nil {
				return err
			}
			if done++; progress != nil {
				progress(done, total)
			}
		}
		return nil
	})
	return counter.Counts(), departures, err
}

// PastScope is how much of the past is read.
type PastScope struct {
	Weeks   int // the same window of so many weeks before, at most journeys.UsualWeeks
	OffPeak bool
}

// PastScopes are the scopes from little to all.
var PastScopes = [...]PastScope{{1, false}, {2, false}, {3, false}, {4, false}, All}

// All is all that a window is compared with.
var All = PastScope{journeys.UsualWeeks, true}

// longestWithPast is the longest window that is compared with the past: of a longer one that would
// be as many weeks.
const longestWithPast = 86400

// windows returns the windows of the scope, and the off-peak hours where they belong to it.
func (p PastScope) windows(w journeys.Window) (weeks, offPeak []journeys.Window) {
	if w.End-w.Start > longestWithPast {
		return nil, nil
	}
	earlier := w.Earlier()
	if p.OffPeak {
		offPeak = []journeys.Window{w.OffPeakWindow()}
	}
	return slices.Clone(earlier[:p.Weeks]), offPeak
}

// Scans returns the times that [Surveyor.Past] reads.
func (p PastScope) Scans(w journeys.Window) (scans []journeys.Window) {
	weeks, offPeak := p.windows(w)
	for _, part := range slices.Concat(weeks, offPeak) {
		scans = append(scans, part.Scan())
	}
	return scans
}

// Past counts what a window is compared with: the same windows of the weeks before, and off-peak
// hours. Of a window longer than a day it returns nothing.
func (s *Surveyor) Past(ctx context.Context, w journeys.Window, scope PastScope,
	zone *time.Location) (*Past, error) {
	scans := scope.Scans(w)
	if len(scans) == 0 {
		return &Past{}, nil
	}
	weeks, offPeak := scope.windows(w)
	changes := changesOf(scans, zone)
	before := journeys.NewCounter(journeys.Window{}, changes)
	quiet := journeys.NewCounter(journeys.Window{}, changes)
	err := s.snapshot(ctx, "read the travel times of the weeks before", func(q db.Reader) error {
		return tracks(ctx, q, "", nil, scans, func(p []journeys.Passage) error {
			for _, week := range weeks {
				before.Add(p, week)
			}
			for _, hours := range offPeak {
				quiet.Add(p, hours)
			}
			if before.Size()+quiet.Size() > maxCells {
				return ErrTooMany
			}
			return nil
		})
	})
	return &Past{Scope: scope, Weeks: before.Counts().Sections, OffPeak: quiet.Counts().Sections}, err
}

// Trips counts the trips that ended in a window or, with through, passed that plaza in it, as
// [journeys.CountTrips] does.
func (s *Surveyor) Trips(ctx context.Context, w journeys.Window, through *int16,
	zone *time.Location) (*journeys.Trips, error) {
	t := journeys.NewTrips(w, through)
	scans := []journeys.Window{w.TripScan()}
	changes := changesOf(scans, zone)
	// Only vehicles are followed that pass in the window.
	passing, args := during([]journeys.Window{w})
	if through != nil {
		passing, args = passing+" AND toll_plaza_id = ?", append(args, *through)
	}
	err := s.snapshot(ctx, "read the trips", func(q db.Reader) error {
		return tracks(ctx, q, " AND vehicle_id IN (SELECT vehicle_id FROM "+tables.EventTable+" WHERE "+
			passing+")", args, scans, func(p []journeys.Passage) error {
			if t.Add(p, changes); len(t.Cells) > maxCells {
				return ErrTooMany
			}
			return nil
		})
	})
	return t, err
}

// maxTrack bounds the list of a vehicle's passages, in bytes: a million of them. It is a variable
// for tests.
var maxTrack = 12 << 20

// block is how many passages are passed on at once.
const block = 4096

// tracks calls each with the passages of some vehicles after the other, as [journeys.Sort] returns
// them: of the rows of the scans that a further condition does not leave out. Vehicles are numbered
// as they come. The server sorts the rows by vehicle, and gathers the passages of each into a list:
// a third of what a window function costs it.
func tracks(ctx context.Context, q db.Reader, condition string, args []any,
	scans []journeys.Window, each func([]journeys.Passage) error) error {
	set, err := q.QueryContext(ctx, fmt.Sprintf(`SET SESSION group_concat_max_len = %d`, maxTrack))
	if err = db.Each(set, err, nil, nil); err != nil {
		return err
	}
	first := scans[0].Start
	for _, scan := range scans {
		first = min(first, scan.Start)
	}
	where, times := during(scans)
	query := bounded + `COUNT(*), GROUP_CONCAT(CONCAT(TIMESTAMPDIFF(SECOND, ?, timestamp) << 16 |
			toll_plaza_id + 32768, ';') SEPARATOR '') FROM ` + tables.EventTable + `
		WHERE ` + where + known + condition + ` GROUP BY vehicle_id`
	rows, err := q.QueryContext(ctx, query, slices.Concat([]any{first.String()}, times, args)...)
	var n int
	var list dbsql.RawBytes
	var passages []journeys.Passage
	var vehicle int32
	err = db.Each(rows, err, []any{&n, &list}, func() error {
		vehicle++
		before := len(passages)
		// The server cuts off what is longer than it may be, also within a number.
		whole, complete := bytes.CutSuffix(list, []byte{';'})
		for number := range bytes.SplitSeq(whole, []byte{';'}) {
			packed, err := strconv.ParseInt(string(number), 10, 64)
			if err != nil {
				return err
			}
			passages = append(passages, journeys.Passage{At: first + toll.WallTime(packed>>16),
				Vehicle: vehicle, Plaza: int16(packed&0xffff - 32768)})
		}
		if !complete || len(passages)-before != n {
			return fmt.Errorf("one vehicle has %d rows, more than can be followed; "+
				"a shorter window has fewer", n)
		}
		passages = append(passages[:before], journeys.Sort(passages[before:])...)
		if len(passages) < block {
			return nil
		}
		err := each(passages)
		passages = passages[:0]
		return err
	})
	if err != nil {
		return err
	}
	return each(passages)
}

// What a statement takes in the server's memory at most: its sort, and each of its temporary
// tables, which are on disk where they are larger. Of a network's millions of rows the servers'
// defaults, a few megabytes, take half as long again.
const (
	sortBytes  = 64 << 20
	tableBytes = 256 << 20
)

// bounded begins a statement that the server gives up after StatementLimit: MySQL reads the hints,
// MariaDB the comment before.
var bounded = fmt.Sprintf("/*M! SET STATEMENT max_statement_time=%[1]d, sort_buffer_size=%[3]d, "+
	"tmp_memory_table_size=%[4]d, max_heap_table_size=%[4]d FOR */ "+
	"SELECT /*+ MAX_EXECUTION_TIME(%[2]d) SET_VAR(sort_buffer_size=%[3]d) "+
	"SET_VAR(tmp_table_size=%[4]d) */ ", int(StatementLimit.Seconds()),
	StatementLimit.Milliseconds(), sortBytes, tableBytes)

// known leaves out rows that tollstream has not written: those have all columns.
const known = ` AND vehicle_id IS NOT NULL AND toll_plaza_id IS NOT NULL`

// during returns the condition that rows are of some times.
func during(scans []journeys.Window) (where string, args []any) {
	ranges := make([]string, len(scans))
	for i, w := range scans {
		ranges[i] = "timestamp >= ? AND timestamp < ?"
		args = append(args, w.Start.String(), w.End.String())
	}
	return "(" + strings.Join(ranges, " OR ") + ")", args
}

func changesOf(scans []journeys.Window, zone *time.Location) (all []journeys.Change) {
	for _, w := range scans {
		all = append(all, journeys.Changes(zone, w.Start, w.End)...)
	}
	return all
}

// killLimit bounds the statement that ends another.
const killLimit = 5 * time.Second

// snapshot calls read with a view of the database at one moment. When ctx ends, so does what the
// server works on: a server notices that nobody waits only when it sends the first row.
func (s *Surveyor) snapshot(ctx context.Context, action string,
	read func(q db.Reader) error) error {
	err := s.db.Snapshot(ctx, func(q db.Reader) error {
		var id int64
		if err := q.QueryRowContext(ctx, `SELECT CONNECTION_ID()`).Scan(&id); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killLimit)
			defer cancel()
			// Where it fails the statement has ended, or StatementLimit ends it.
			_, _ = s.db.ExecContext(ctx, `KILL QUERY `+strconv.FormatInt(id, 10))
		})
		defer stop()
		return read(q)
	})
	return s.db.Wrap(action, err)
}
