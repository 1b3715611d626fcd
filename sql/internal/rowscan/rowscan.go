// Package rowscan reads all of livetolldata in one scan, by plaza and minute.
package rowscan

import (
	"bytes"
	"cmp"
	"context"
	dbsql "database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"slices"
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
	Many    bool                // whether there may be too many minutes to hold their rows
	Hint    string              // for groups that the server makes, see [db.DB.BigResult]
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
	scanBlock  = 512 // groups that are sent together
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

// send sends all groups.
func (s *Scan) send(ctx context.Context, rows db.Reader) error {
	var block []Group
	flush := func() error {
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
		return flush()
	}
	err := ErrManyMinutes
	if !s.Many {
		err = TallyRows(ctx, rows, s.Zone, each)
	}
	if errors.Is(err, ErrManyMinutes) {
		err = s.sendSorted(ctx, rows, each)
	}
	if err == nil && len(block) > 0 {
		err = flush()
	}
	return err
}

// sendSorted sends the groups as the server makes them.
func (s *Scan) sendSorted(ctx context.Context, rows db.Reader, each func(*Group) error) error {
	set, err := rows.QueryContext(ctx,
		`SET SESSION net_write_timeout = `+strconv.Itoa(int(scanStall.Seconds())))
	if err != nil {
		return err
	}
	if err := set.Close(); err != nil {
		return err
	}
	return ReadGroups(ctx, rows, s.Hint, s.Zone.Clone(), math.MinInt16, math.MaxInt16+1, each)
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
		return ReadGroups(ctx, q, s.Hint, s.Zone, from, to, each)
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
func ReadGroups(ctx context.Context, q db.Reader, hint string, zone *toll.Zone, from, to int,
	each func(*Group) error) error {
	query := `SELECT ` + hint + `toll_plaza_id,
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

// A block counts a plaza's rows of 64 minutes: of minutes before 1970 too, which shifting finds.
const (
	blockBits    = 6
	blockMinutes = 1 << blockBits
)

type block struct {
	narrow [blockMinutes]uint8
	wide   *[blockMinutes]uint32 // instead, once a minute has more rows than narrow can count
}

// MaxBlocks is how many blocks a verification holds: some 60 MB. A wide one counts as four. It is a
// variable for tests.
var MaxBlocks int64 = 600_000

// ErrManyMinutes means that rows are of more blocks than MaxBlocks.
var ErrManyMinutes = errors.New("too many minutes")

// ManyMinutes reports whether the plazas' rows may be of more blocks than MaxBlocks. Which minutes
// rows from before are of is not known.
func ManyMinutes(states map[int16]*toll.State, baseline map[int]tables.RowCount) bool {
	var all int64
	for _, s := range states {
		if s == nil || s.Events == 0 {
			continue
		}
		blocks := (int64(s.Latest)-int64(s.Earliest))/60>>blockBits + 2
		if s.Events/blocks > blockMinutes*math.MaxUint8/2 {
			blocks *= 4
		}
		all += min(s.Events, blocks)
	}
	for _, c := range baseline {
		all += c.Rows
	}
	return all > MaxBlocks
}

// TallyRows calls each with all groups, ascending by plaza and minute, once it has read every row
// and added them up by itself. That takes the server half as long as making the groups, and both
// together a little less; above all it needs no disk, on which the server sorts the rows. It
// returns ErrManyMinutes before the first call where there are too many.
func TallyRows(ctx context.Context, q db.Reader, zone *toll.Zone, each func(*Group) error) error {
	tally := rowTally{plazas: map[int64]*plazaTally{}, zone: zone.Clone()}
	// One column, as each costs an allocation. The plaza is apart from the text, which leaves it out
	// where it is NULL.
	query := `SELECT CONCAT_WS('|', COALESCE(toll_plaza_id, ` + strconv.Itoa(tables.NullPlaza) +
		`), ` +
		tables.RowText + `) FROM ` + tables.EventTable
	conn, ok := q.(*dbsql.Conn) // as a snapshot is
	if !ok {
		return fmt.Errorf("read the rows: %T has no connection of its own", q)
	}
	err := conn.Raw(func(c any) error {
		return rawRows(ctx, c, query, func(row []byte) error {
			number, text, _ := bytes.Cut(row, []byte("|"))
			plaza, err := strconv.ParseInt(string(number), 10, 64)
			if err != nil {
				return fmt.Errorf("read a row's plaza: %w", err)
			}
			if tally.add(plaza, text); tally.full || tally.blocks+int64(len(tally.plazas)) > MaxBlocks {
				return ErrManyMinutes
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return tally.each(each)
}

// rawRows calls each with the rows of a query that has one column of text, which is valid until
// each returns. It asks the driver itself: [dbsql.Rows] takes as long for a row as all the rest.
func rawRows(ctx context.Context, conn any, query string, each func([]byte) error) (err error) {
	q, ok := conn.(driver.QueryerContext)
	if !ok {
		return fmt.Errorf("the driver %T can't be asked for rows", conn)
	}
	rows, err := q.QueryContext(ctx, query, nil)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, rows.Close()) }()
	column := make([]driver.Value, 1)
	for {
		switch err := rows.Next(column); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		text, ok := column[0].([]byte)
		if !ok {
			return fmt.Errorf("read a row: %T", column[0])
		}
		if err := each(text); err != nil {
			return err
		}
	}
}

// rowTally adds rows up by plaza and minute.
type rowTally struct {
	plazas map[int64]*plazaTally
	blocks int64 // of all plazas, wide ones as four
	full   bool  // whether a minute has more rows than can be counted
	clock  timeReader
	zone   *toll.Zone // of the times
}

// plazaTally is what was read of a plaza. Rows that follow each other are mostly of one block.
type plazaTally struct {
	blocks   map[toll.Minute]*block // by their first minute, shifted
	last     *block                 // of the row that was read last
	at       toll.Minute            // last's key
	untimed  int64
	checksum uint64
}

// add adds a row, of which it is given the text that checksums are made of.
func (t *rowTally) add(plaza int64, text []byte) {
	p := t.plazas[plaza]
	if p == nil {
		p = &plazaTally{blocks: map[toll.Minute]*block{}}
		t.plazas[plaza] = p
	}
	p.checksum += uint64(crc32.ChecksumIEEE(text))
	wall, timed := t.clock.read(text)
	if !timed {
		p.untimed++
		return
	}
	minute := t.zone.Minute(wall)
	if at := minute >> blockBits; p.last == nil || at != p.at {
		if p.at, p.last = at, p.blocks[at]; p.last == nil {
			p.last = new(block)
			p.blocks[at] = p.last
			t.blocks++
		}
	}
	t.count(p.last, minute&(blockMinutes-1))
}

// count counts a row of a block's i-th minute.
func (t *rowTally) count(b *block, i toll.Minute) {
	if b.wide == nil {
		if b.narrow[i] < math.MaxUint8 {
			b.narrow[i]++
			return
		}
		b.wide = new([blockMinutes]uint32)
		for i, rows := range b.narrow {
			b.wide[i] = uint32(rows)
		}
		t.blocks += 3
	}
	b.wide[i]++
	t.full = t.full || b.wide[i] == 0
}

// each calls f with the groups. The first of a plaza has the checksums of all.
func (t *rowTally) each(f func(*Group) error) error {
	for _, plaza := range slices.Sorted(maps.Keys(t.plazas)) {
		p := t.plazas[plaza]
		g := Group{Plaza: int(plaza),
			RowCount: tables.RowCount{Rows: p.untimed, Checksum: p.checksum, Exact: true}}
		if p.untimed > 0 {
			if err := f(&g); err != nil {
				return err
			}
			g.Checksum = 0
		}
		g.Timed = true
		for _, at := range slices.Sorted(maps.Keys(p.blocks)) {
			b := p.blocks[at]
			for i := range b.narrow {
				if g.Rows = int64(b.narrow[i]); b.wide != nil {
					g.Rows = int64(b.wide[i])
				}
				if g.Rows == 0 {
					continue
				}
				g.Minute = at<<blockBits + toll.Minute(i)
				if err := f(&g); err != nil {
					return err
				}
				g.Checksum = 0
			}
		}
	}
	return nil
}

// timeReader reads the time from texts of rows. It keeps the day, which rarely changes from row to
// row.
type timeReader struct {
	date [len(time.DateOnly)]byte
	day  toll.WallTime // its midnight
	ok   bool          // whether there is such a day
}

// read reports false for a text that begins with no time, or one of no day: 2022-00-00 is one for
// MySQL.
//
// No other text has a time's form: a vehicle's type is shorter than a time, and what is left of a
// row without a time has its commas elsewhere.
func (r *timeReader) read(text []byte) (wall toll.WallTime, ok bool) {
	const date, all = len(time.DateOnly), len(time.DateTime)
	if len(text) < all || len(text) > all && text[all] != ',' || text[date] != ' ' ||
		text[date+3] != ':' || text[date+6] != ':' {
		return 0, false
	}
	if string(text[:date]) != string(r.date[:]) {
		copy(r.date[:], text)
		day, err := time.Parse(time.DateOnly, string(r.date[:]))
		r.day, r.ok = toll.WallTime(day.Unix()), err == nil
	}
	return r.day + toll.WallTime(twoDigits(text[date+1:])*3600+twoDigits(text[date+4:])*60+
		twoDigits(text[date+7:])), r.ok
}

func twoDigits(b []byte) int64 { return int64(b[0]-'0')*10 + int64(b[1]-'0') }
