package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// rowGroup is what livetolldata holds of a plaza in a minute, as a verification that is deep reads
// it.
type rowGroup struct {
	plaza  int // nullPlaza for none
	minute toll.Minute
	timed  bool // false for rows without a time, which have no minute
	rowCount
}

// rowScan reads livetolldata, in one scan: beside all the rest, which takes less, where there is a
// snapshot to read it from.
type rowScan struct {
	zone    *toll.Zone   // of livetolldata's times
	deep    bool         // whether groups are read, by minutes, or counts
	many    bool         // whether there may be too many groups to hold them all
	options countOptions // of counts

	beside bool // whether it has started, and goes on in a goroutine
	groups chan []rowGroup
	block  []rowGroup // received, and not taken yet
	counts map[int]rowCount
	err    error         // once ended is closed
	ended  chan struct{} // closed by the scan's goroutine
}

// Bounds of a scan beside the rest.
const (
	scanBlock  = 512 // groups that are handed on together
	scanBlocks = 16  // blocks that wait
	// scanStall is how long the server keeps a scan whose rows are not taken, while plazas of which
	// others took all memory are read anew.
	scanStall = time.Hour
	// keepAwake is how often the snapshot is used that waits for the scan. MariaDB ends a transaction
	// that is idle for longer than Open says.
	keepAwake = 2 * time.Second
)

// start begins to read from rows, of which it has the sole use until stop returns. A scan that was
// not started reads when it is asked, from the snapshot of whoever asks.
func (s *rowScan) start(ctx context.Context, rows reader) (stop func()) {
	s.beside, s.groups, s.ended = true, make(chan []rowGroup, scanBlocks), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(s.ended)
		defer close(s.groups)
		if s.deep {
			s.err = s.send(ctx, rows)
		} else {
			s.counts, s.err = countRows(ctx, rows, s.options)
		}
	}()
	return func() {
		cancel()
		<-s.ended
	}
}

// send hands all groups on.
func (s *rowScan) send(ctx context.Context, rows reader) error {
	var block []rowGroup
	hand := func() error {
		select {
		case s.groups <- block:
			block = nil
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	each := func(g *rowGroup) error {
		if block = append(block, *g); len(block) < scanBlock {
			return nil
		}
		return hand()
	}
	err := errManyGroups
	if !s.many {
		err = tallyRows(ctx, rows, s.zone, each)
	}
	if errors.Is(err, errManyGroups) {
		err = s.sendSorted(ctx, rows, each)
	}
	if err == nil && len(block) > 0 {
		err = hand()
	}
	return err
}

// sendSorted hands on the groups as the server makes them.
func (s *rowScan) sendSorted(ctx context.Context, rows reader, each func(*rowGroup) error) error {
	set, err := rows.QueryContext(ctx,
		`SET SESSION net_write_timeout = `+strconv.Itoa(int(scanStall.Seconds())))
	if err != nil {
		return err
	}
	if err := set.Close(); err != nil {
		return err
	}
	return readGroups(ctx, rows, s.zone.Clone(), math.MinInt16, math.MaxInt16+1, each)
}

// count returns what livetolldata holds by plaza, as [countRows] does. q is the snapshot that waits
// for it.
func (s *rowScan) count(ctx context.Context, q reader) (map[int]rowCount, error) {
	if !s.beside {
		return countRows(ctx, q, s.options)
	}
	for {
		select {
		case <-s.ended:
			return s.counts, s.err
		case <-time.After(keepAwake):
			if err := touch(ctx, q); err != nil {
				return nil, err
			}
		}
	}
}

// minutes calls each with the groups of the plazas [from, to), and of no plaza with the first of
// them. The ranges ascend. q is the snapshot that waits for it.
func (s *rowScan) minutes(ctx context.Context, q reader, from, to int,
	each func(*rowGroup) error) error {
	if !s.beside {
		return readGroups(ctx, q, s.zone, from, to, each)
	}
	for {
		for i := range s.block {
			if s.block[i].plaza >= to {
				s.block = s.block[i:]
				return nil
			}
			if err := each(&s.block[i]); err != nil {
				return err
			}
		}
		s.block = nil
		select {
		case block, more := <-s.groups:
			if !more {
				<-s.ended
				return s.err
			}
			s.block = block
		case <-time.After(keepAwake):
			if err := touch(ctx, q); err != nil {
				return err
			}
		}
	}
}

// touch uses a snapshot, which would be idle for too long otherwise.
func touch(ctx context.Context, q reader) error {
	var one int
	return q.QueryRowContext(ctx, `SELECT 1`).Scan(&one)
}

// readGroups reads the groups of the plazas [from, to), ascending by plaza; of no plaza with the
// first plaza there can be. The server makes them.
//
// Minutes of the wall clock are minutes of event time since 1973. Before, clocks were seconds apart
// from UTC, so each second is a group, and several groups may be of one minute.
func readGroups(ctx context.Context, q reader, zone *toll.Zone, from, to int,
	each func(*rowGroup) error) error {
	// There may be nearly as many groups as rows. MariaDB is told to sort the rows; with a temporary
	// table of the groups it would take almost half as long again.
	query := `SELECT /*M! SQL_BIG_RESULT */ toll_plaza_id, TO_DAYS(timestamp) * 86400 + HOUR(timestamp) * 3600 + MINUTE(timestamp) * 60 +
		IF(timestamp < '1973-01-01', SECOND(timestamp), 0) AS wall_time, COUNT(*), ` + sumOfRows + ` FROM ` + eventTable
	var args []any
	if from > math.MinInt16 || to <= math.MaxInt16 {
		query += ` WHERE toll_plaza_id >= ? AND toll_plaza_id < ?`
		args = []any{from, to}
		if from == math.MinInt16 {
			query += ` OR toll_plaza_id IS NULL`
		}
	}
	rows, err := q.QueryContext(ctx,
		query+` GROUP BY toll_plaza_id, wall_time ORDER BY toll_plaza_id, wall_time`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var plaza, wall dbsql.NullInt64
		var sum dbsql.NullString
		g := rowGroup{plaza: nullPlaza}
		if err := rows.Scan(&plaza, &wall, &g.rows, &sum); err != nil {
			return err
		}
		if plaza.Valid {
			g.plaza = int(plaza.Int64)
		}
		if wall.Valid {
			g.minute, g.timed = zone.Minute(toll.WallTime(wall.Int64-dayOf1970*86400)), true
		}
		if sum.Valid {
			if g.checksum, g.exact, err = parseSum(sum.String); err != nil {
				return err
			}
		}
		if err := each(&g); err != nil {
			return err
		}
	}
	return rows.Err()
}

// dayOf1970 is what TO_DAYS says of 1 January 1970.
const dayOf1970 = 719528

// maxTallied is how many groups a verification adds up by itself: some 50 MB. It is a variable for
// tests.
var maxTallied int64 = 1_000_000

// errManyGroups says that there are more groups than maxTallied.
var errManyGroups = errors.New("too many minutes")

// manyGroups reports whether the plazas' rows may be of more minutes than maxTallied. Which minutes
// rows from before are of is not known.
func manyGroups(states map[int16]*toll.State, baseline map[int]rowCount) bool {
	var groups int64
	for _, s := range states {
		if s != nil && s.Events > 0 {
			groups += min(s.Events, (int64(s.Latest)-int64(s.Earliest))/60+2)
		}
	}
	for _, c := range baseline {
		groups += c.rows
	}
	return groups > maxTallied
}
