// Package journeys counts in the database what toll/journeys counts of events: how long vehicles
// take between plazas, and where they come from and go to. No id of a vehicle leaves the database,
// only numbers of vehicles.
//
// It reads livetolldata, bounded by time, in snapshots of its own that write nothing. The optional
// index tollstream_time (sql/indexes.sql) makes that fast; without it each statement reads the
// whole table, and [Surveyor.Cost] says so before. A statement that is no longer wanted ends on the
// server as well, and none runs for longer than [StatementLimit].
package journeys

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
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

// maxCells bounds what a scan returns. Of vehicles that drive there are some hundred different
// times a section; of random ids nearly each is another one. It is a variable for tests.
var maxCells = 500_000

// chunk is how much of a window one statement counts, where the index bounds it: it reads MaxGap
// more.
const chunk = 4 * 3600

// ErrTooMany means that there are more different times than a scan returns. Ids that are random
// make as many; else a shorter window has fewer.
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

// What a segment is counted for.
const (
	inWindow = iota
	inLast   // minutes of the window, too
	hourBefore
	weekAgo
	offPeak
)

// span is when segments arrive that are counted for one purpose.
type span struct {
	journeys.Window
	class int
}

// Sections counts what arrived in a window, as [journeys.Count] does. The zone is that of the rows'
// times. progress, which may be nil, is called after each of total statements.
func (s *Surveyor) Sections(ctx context.Context, w journeys.Window, zone *time.Location,
	progress func(done, total int)) (*journeys.Counts, error) {
	c := &journeys.Counts{Window: w, Plazas: map[int16]journeys.Seen{}}
	cost, err := s.Cost(ctx, w.Scan())
	if err != nil {
		return nil, err
	}
	step := toll.WallTime(chunk)
	if !cost.Indexed {
		step = w.End - w.Start
	}
	total, done := int((w.End-w.Start+step-1)/max(step, 1)), 0
	var now, recent, before journeys.Tally
	err = s.snapshot(ctx, "count the travel times", func(q db.Reader) error {
		for start := w.Start; start < w.End; start += step {
			part := journeys.Window{Start: start, End: min(start+step, w.End)}
			spans := []span{{part, inWindow}}
			if last := (journeys.Window{Start: max(part.Start, w.Last().Start),
				End: part.End}); last.Start < last.End {
				spans = []span{{last, inLast}, {part, inWindow}} // the first that holds a time counts
			}
			if start == w.Start {
				spans = append(spans,
					span{journeys.Window{Start: w.Start - journeys.Before, End: w.Start}, hourBefore})
			}
			err := s.segments(ctx, q, []journeys.Window{part.Scan()}, spans, zone, func(r *row) {
				pair := journeys.Pair{From: r.from.V, To: r.to}
				seen := c.Plazas[r.to]
				switch {
				case r.class == hourBefore:
					before.Add(pair, r.gap.V, r.vehicles)
					return
				case r.gap.Valid:
					if now.Add(pair, r.gap.V, r.vehicles); r.class == inLast {
						recent.Add(pair, r.gap.V, r.vehicles)
					}
				case !r.from.Valid:
					seen.First += r.vehicles
				}
				seen.Passages += r.vehicles
				c.Plazas[r.to] = seen
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
	c.Sections, c.Recent, c.Before = now.Times(), recent.Times(), before.Times()
	return c, err
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

func (p PastScope) spans(w journeys.Window) (spans []span) {
	if w.End-w.Start > longestWithPast {
		return nil
	}
	earlier := w.Earlier()
	for _, week := range earlier[:p.Weeks] {
		spans = append(spans, span{week, weekAgo})
	}
	if p.OffPeak {
		spans = append(spans, span{w.OffPeakWindow(), offPeak})
	}
	return spans
}

// Scans returns the times that [Surveyor.Past] reads.
func (p PastScope) Scans(w journeys.Window) (scans []journeys.Window) {
	for _, s := range p.spans(w) {
		scans = append(scans, s.Scan())
	}
	return scans
}

// Past counts what a window is compared with: the same windows of the weeks before, and off-peak
// hours. Of a window longer than a day it returns nothing.
func (s *Surveyor) Past(ctx context.Context, w journeys.Window, scope PastScope,
	zone *time.Location) (*Past, error) {
	spans := scope.spans(w)
	if len(spans) == 0 {
		return &Past{}, nil
	}
	var weeks, quiet journeys.Tally
	err := s.snapshot(ctx, "count the travel times of the weeks before", func(q db.Reader) error {
		return s.segments(ctx, q, scope.Scans(w), spans, zone, func(r *row) {
			pair := journeys.Pair{From: r.from.V, To: r.to}
			if r.class == offPeak {
				quiet.Add(pair, r.gap.V, r.vehicles)
			} else {
				weeks.Add(pair, r.gap.V, r.vehicles)
			}
		})
	})
	return &Past{Scope: scope, Weeks: weeks.Times(), OffPeak: quiet.Times()}, err
}

// row is how many passages of a plaza had the same plaza before and took as long.
type row struct {
	class    int
	from     dbsql.Null[int16] // null where the vehicle was not seen within MaxGap before
	to       int16
	gap      dbsql.Null[int32] // null where it is no segment
	vehicles int64
}

// segments calls each with what arrived in the spans.
func (s *Surveyor) segments(ctx context.Context, q db.Reader, scans []journeys.Window, spans []span,
	zone *time.Location, each func(*row)) error {
	var class, segment strings.Builder
	for _, in := range spans {
		fmt.Fprintf(&class, " WHEN m >= %d AND m < %d", moment(in.Start), moment(in.End))
		if in.class == hourBefore {
			fmt.Fprintf(&class, " AND "+took+" <= %d", journeys.Before)
		}
		fmt.Fprintf(&class, " THEN %d", in.class)
	}
	segment.WriteString("m & 65535 <> previous & 65535 AND " + took + " BETWEEN 1 AND " + maxGap)
	for _, c := range changesOf(scans, zone) {
		fmt.Fprintf(&segment, " AND NOT (previous < %d AND m >= %d)", moment(c.End), moment(c.Start))
	}
	where, args := during(scans)
	// A row that repeats its passage follows it, since the order is by time and plaza: it is left out.
	query := bounded + `class, origin, plaza, gap, COUNT(*) FROM (
		SELECT CASE` + class.String() + ` END AS class,
			IF(` + took + ` <= ` + maxGap + `, ` + plazaOf("previous") + `, NULL) AS origin,
			` + plazaOf("m") + ` AS plaza, IF(` + segment.String() + `, ` + took + `, NULL) AS gap
		FROM (SELECT m, LAG(m) OVER (PARTITION BY vehicle_id ORDER BY m) AS previous FROM (
			SELECT vehicle_id, ` + s.packed(ctx) + ` AS m FROM ` + tables.EventTable + `
			WHERE ` + where + known + `) scanned) passages
		WHERE previous IS NULL OR previous <> m) counted
		WHERE class <= ` + strconv.Itoa(inLast) + ` OR class IS NOT NULL AND gap IS NOT NULL
		GROUP BY class, origin, plaza, gap LIMIT ` + strconv.Itoa(maxCells+1)
	var r row
	n := 0
	rows, err := q.QueryContext(ctx, query, args...)
	return db.Each(rows, err, []any{&r.class, &r.from, &r.to, &r.gap, &r.vehicles}, func() error {
		if n++; n > maxCells {
			return ErrTooMany
		}
		each(&r)
		return nil
	})
}

// packed returns the time and the plaza of a row as one number, in whose order passages are. The
// server computes each function over a window by itself, and sorts by each column: with one number
// for both a network's quarter of an hour takes two thirds of the time.
func (s *Surveyor) packed(ctx context.Context) string {
	seconds := `TO_SECONDS(timestamp)`
	if s.db.Embedded(ctx) { // which lacks the function
		seconds = `(TIMESTAMPDIFF(SECOND, '1970-01-01', timestamp) + ` +
			strconv.Itoa(yearZeroToEpoch) + `)`
	}
	return `(` + seconds + ` << 16 | toll_plaza_id + 32768)`
}

// yearZeroToEpoch is the seconds from TO_SECONDS's year 0 to 1970.
const yearZeroToEpoch = 62167219200

// moment returns what packed is at least from a time on.
func moment(t toll.WallTime) int64 { return (int64(t) + yearZeroToEpoch) << 16 }

// plazaOf returns the plaza of a packed number.
func plazaOf(m string) string { return `CAST(` + m + ` & 65535 AS SIGNED) - 32768` }

// took is how long a vehicle took from the previous passage. Numbers in order leave no remainder
// below 0.
const took = `((m >> 16) - (previous >> 16))`

// Trips counts the trips that ended in a window or, with through, passed that plaza in it, as
// [journeys.CountTrips] does.
func (s *Surveyor) Trips(ctx context.Context, w journeys.Window, through *int16,
	zone *time.Location) (*journeys.Trips, error) {
	t := &journeys.Trips{Window: w, Through: through, Cells: map[journeys.Pair]int64{},
		Same: map[int16]int64{}}
	scan := w.TripScan()
	hit, hits, counts := `0`, `0`, `at >= ? AND at < ?`
	passing, passingArgs := during([]journeys.Window{w})
	var hitArgs, countArgs []any
	if through != nil {
		hit = `toll_plaza_id = ? AND timestamp >= ? AND timestamp < ?`
		hits, counts = `SUM(`+hit+`) OVER (w ROWS UNBOUNDED PRECEDING)`,
			`(hits > hits_before OR hit OR first_hit)`
		hitArgs = []any{*through, w.Start.String(), w.End.String()}
		passing, passingArgs = hit, hitArgs
	} else {
		countArgs = []any{w.Start.String(), w.End.String()}
	}
	for _, c := range changesOf([]journeys.Window{scan}, zone) {
		counts += " AND NOT (departed < ? AND at >= ?)"
		countArgs = append(countArgs, c.End.String(), c.Start.String())
	}
	where, whereArgs := during([]journeys.Window{scan})
	// Only vehicles are followed that pass in the window: far fewer rows to sort. Of each trip the
	// first row and the last remain; a trip of one row has just that. Hits are summed up to a row,
	// with its own.
	query := bounded + `origin, plaza, COUNT(*) FROM (
		SELECT plaza, at, hits, hit, ends, IF(starts, plaza, LAG(plaza) OVER w) AS origin,
			IF(starts, at, LAG(at) OVER w) AS departed, IF(starts, hits, LAG(hits) OVER w) AS hits_before,
			IF(starts, hit, LAG(hit) OVER w) AS first_hit
		FROM (SELECT vehicle, plaza, at, hit, hits, COALESCE(gap > ` + maxGap + `, 1) AS starts,
				COALESCE(gap_after > ` + maxGap + `, 1) AS ends
			FROM (SELECT vehicle_id AS vehicle, toll_plaza_id AS plaza, timestamp AS at, ` + hit + ` AS hit,
					` + hits + ` AS hits,
					TIMESTAMPDIFF(SECOND, LAG(timestamp) OVER w, timestamp) AS gap,
					TIMESTAMPDIFF(SECOND, timestamp, LEAD(timestamp) OVER w) AS gap_after
				FROM ` + tables.EventTable + ` WHERE ` + where + known + ` AND vehicle_id IN (
					SELECT vehicle_id FROM ` + tables.EventTable + ` WHERE ` + passing + `)
				WINDOW w AS (PARTITION BY vehicle_id ORDER BY timestamp, toll_plaza_id)) passages) flagged
		WHERE starts OR ends
		WINDOW w AS (PARTITION BY vehicle ORDER BY at, plaza, ends)) trips
		WHERE ends AND ` + counts + ` GROUP BY origin, plaza LIMIT ` + strconv.Itoa(maxCells+1)
	n := 0
	err := s.snapshot(ctx, "count the trips", func(q db.Reader) error {
		var p journeys.Pair
		var vehicles int64
		rows, err := q.QueryContext(ctx, query, concat(hitArgs, hitArgs, whereArgs, passingArgs,
			countArgs)...)
		return db.Each(rows, err, []any{&p.From, &p.To, &vehicles}, func() error {
			if n++; n > maxCells {
				return ErrTooMany
			}
			if p.From == p.To {
				t.Same[p.From] = vehicles
			} else {
				t.Cells[p] = vehicles
			}
			return nil
		})
	})
	return t, err
}

// Departures counts what became of the vehicles that left plazas before a moment, as
// [journeys.CountDepartures] does.
func (s *Surveyor) Departures(ctx context.Context, at toll.WallTime) (*journeys.Departures, error) {
	d := journeys.NewDepartures(at)
	where, args := during([]journeys.Window{{Start: at - journeys.MaxGap, End: at}})
	query := bounded + plazaOf("m") + ` AS plaza, ` + plazaOf("following") + ` AS following_plaza,
			(` + strconv.FormatInt(moment(at)>>16, 10) + ` - 1 - (m >> 16)) DIV 60 AS minutes, COUNT(*)
		FROM (SELECT m, LEAD(m) OVER (PARTITION BY vehicle_id ORDER BY m) AS following FROM (
			SELECT vehicle_id, ` + s.packed(ctx) + ` AS m FROM ` + tables.EventTable + `
			WHERE ` + where + known + `) scanned) passages
		WHERE following IS NULL OR following & 65535 <> m & 65535
		GROUP BY plaza, following_plaza, minutes LIMIT ` + strconv.Itoa(maxCells+1)
	n := 0
	err := s.snapshot(ctx, "count the departures", func(q db.Reader) error {
		var from int16
		var to dbsql.Null[int16]
		var minutes int
		var vehicles int64
		rows, err := q.QueryContext(ctx, query, args...)
		return db.Each(rows, err, []any{&from, &to, &minutes, &vehicles}, func() error {
			if n++; n > maxCells {
				return ErrTooMany
			}
			var next *int16
			if to.Valid {
				next = &to.V
			}
			d.Add(from, next, minutes, vehicles)
			return nil
		})
	})
	return d, err
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

var maxGap = strconv.Itoa(journeys.MaxGap)

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

func concat(all ...[]any) (args []any) {
	for _, a := range all {
		args = append(args, a...)
	}
	return args
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
