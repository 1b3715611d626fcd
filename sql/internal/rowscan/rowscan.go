// Package rowscan reads all of livetolldata in one scan, by plaza and minute.
package rowscan

import (
	"context"
	dbsql "database/sql"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Group is what livetolldata holds of a plaza in a minute, as a verification that is deep reads
// it.
type Group struct {
	Plaza  int // NullPlaza for none
	Minute toll.Minute
	Timed  bool // false for rows without a time, which have no minute
	tables.RowCount
}

// Scan reads livetolldata, in one scan: in parallel with all the rest, which takes less, where
// there is a snapshot to read it from.
type Scan struct {
	Zone    *toll.Zone          // of livetolldata's times
	Deep    bool                // whether groups are read, by minutes, or counts
	Many    bool                // whether there may be too many groups to hold them all
	Options tables.CountOptions // of counts

	parallel bool // whether it has started, and goes on in a goroutine
	groups   chan []Group
	block    []Group // received, and not taken yet
	counts   map[int]tables.RowCount
	err      error         // once ended is closed
	ended    chan struct{} // closed by the scan's goroutine
}

// Bounds of a scan in parallel with the rest.
const (
	scanBlock  = 512 // groups that are handed on together
	scanBlocks = 16  // blocks that wait
	// scanStall is how long the server keeps a scan whose rows are not taken, while plazas of which
	// others took all memory are read again.
	scanStall = time.Hour
	// keepAwake is how often the snapshot is used that waits for the scan. MariaDB ends a transaction
	// that is idle for longer than Open sets.
	keepAwake = 2 * time.Second
)

// Start begins to read from rows, of which it has the sole use until stop returns. A scan that was
// not started reads when it is asked, from the snapshot of whoever asks.
func (s *Scan) Start(ctx context.Context, rows db.Reader) (stop func()) {
	s.parallel, s.groups, s.ended = true, make(chan []Group, scanBlocks), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(s.ended)
		defer close(s.groups)
		if s.Deep {
			s.err = s.send(ctx, rows)
		} else {
			s.counts, s.err = tables.CountRows(ctx, rows, s.Options)
		}
	}()
	return func() {
		cancel()
		<-s.ended
	}
}

// send hands all groups on.
func (s *Scan) send(ctx context.Context, rows db.Reader) error {
	var block []Group
	hand := func() error {
		select {
		case s.groups <- block:
			block = nil
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	each := func(g *Group) error {
		if block = append(block, *g); len(block) < scanBlock {
			return nil
		}
		return hand()
	}
	err := ErrManyGroups
	if !s.Many {
		err = TallyRows(ctx, rows, s.Zone, each)
	}
	if errors.Is(err, ErrManyGroups) {
		err = s.sendSorted(ctx, rows, each)
	}
	if err == nil && len(block) > 0 {
		err = hand()
	}
	return err
}

// sendSorted hands on the groups as the server makes them.
func (s *Scan) sendSorted(ctx context.Context, rows db.Reader, each func(*Group) error) error {
	set, err := rows.QueryContext(ctx,
		`SET SESSION net_write_timeout = `+strconv.Itoa(int(scanStall.Seconds())))
	if err != nil {
		return err
	}
	if err := set.Close(); err != nil {
		return err
	}
	return ReadGroups(ctx, rows, s.Zone.Clone(), math.MinInt16, math.MaxInt16+1, each)
}

// Count returns what livetolldata holds by plaza, as [CountRows] does. q is the snapshot that waits
// for it.
func (s *Scan) Count(ctx context.Context, q db.Reader) (map[int]tables.RowCount, error) {
	if !s.parallel {
		return tables.CountRows(ctx, q, s.Options)
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

// Minutes calls each with the groups of the plazas [from, to), and of no plaza with the first of
// them. The ranges ascend. q is the snapshot that waits for it.
func (s *Scan) Minutes(ctx context.Context, q db.Reader, from, to int,
	each func(*Group) error) error {
	if !s.parallel {
		return ReadGroups(ctx, q, s.Zone, from, to, each)
	}
	for {
		for i := range s.block {
			if s.block[i].Plaza >= to {
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
func touch(ctx context.Context, q db.Reader) error {
	var one int
	return q.QueryRowContext(ctx, `SELECT 1`).Scan(&one)
}

// ReadGroups reads the groups of the plazas [from, to), ascending by plaza; of no plaza with the
// first plaza there can be. The server makes them.
//
// Minutes of the wall clock are minutes of event time since 1973. Before, clocks were seconds apart
// from UTC, so each second is a group, and several groups may be of one minute.
func ReadGroups(ctx context.Context, q db.Reader, zone *toll.Zone, from, to int,
	each func(*Group) error) error {
	// There may be nearly as many groups as rows. The hint has MariaDB sort the rows; with a temporary
	// table of the groups it would take almost half as long again.
	query := `SELECT /*M! SQL_BIG_RESULT */ toll_plaza_id,
		TO_DAYS(timestamp) * 86400 + HOUR(timestamp) * 3600 + MINUTE(timestamp) * 60 +
		IF(timestamp < '1973-01-01', SECOND(timestamp), 0) AS wall_time, COUNT(*), ` + tables.SumOfRows +
		` FROM ` + tables.EventTable
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
		g := Group{Plaza: tables.NullPlaza}
		if err := rows.Scan(&plaza, &wall, &g.Rows, &sum); err != nil {
			return err
		}
		if plaza.Valid {
			g.Plaza = int(plaza.Int64)
		}
		if wall.Valid {
			g.Minute, g.Timed = zone.Minute(toll.WallTime(wall.Int64-dayOf1970*86400)), true
		}
		if sum.Valid {
			if g.Checksum, g.Exact, err = tables.ParseSum(sum.String); err != nil {
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

// MaxTallied is how many groups a verification sums by itself: some 50 MB. It is a variable for
// tests.
var MaxTallied int64 = 1_000_000

// ErrManyGroups means that there are more groups than MaxTallied.
var ErrManyGroups = errors.New("too many minutes")

// ManyGroups reports whether the plazas' rows may be of more minutes than MaxTallied. Which minutes
// rows from before are of is not known.
func ManyGroups(states map[int16]*toll.State, baseline map[int]tables.RowCount) bool {
	var groups int64
	for _, s := range states {
		if s != nil && s.Events > 0 {
			groups += min(s.Events, (int64(s.Latest)-int64(s.Earliest))/60+2)
		}
	}
	for _, c := range baseline {
		groups += c.Rows
	}
	return groups > MaxTallied
}
