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
	"slices"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// TallyRows calls each with all groups, ascending by plaza and minute, once it has read every row
// and added them up by itself. That takes half of what the server needs to make groups, and leaves
// it the smaller part: it is the sums that cost, not the rows on their way. It returns
// ErrManyGroups before the first call where there are too many.
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
			tally.add(plaza, text)
			if tally.groups+int64(len(tally.plazas)) > MaxTallied {
				return ErrManyGroups
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
	groups int64 // of a plaza and a minute, but the plazas' last ones
	clock  timeReader
	zone   *toll.Zone // of the times
}

// plazaTally is what was read of a plaza. Rows of a minute mostly follow each other, and are added
// to the map when another comes.
type plazaTally struct {
	minutes  map[toll.Minute]int64
	minute   toll.Minute // of the rows that were read last
	rows     int64       // of that minute, which minutes lacks
	untimed  int64
	checksum uint64
}

// add adds a row, of which it is given the text that checksums are made of.
func (t *rowTally) add(plaza int64, text []byte) {
	p := t.plazas[plaza]
	if p == nil {
		p = &plazaTally{minutes: map[toll.Minute]int64{}}
		t.plazas[plaza] = p
	}
	p.checksum += uint64(crc32.ChecksumIEEE(text))
	wall, timed := t.clock.read(text)
	if !timed {
		p.untimed++
		return
	}
	if minute := t.zone.Minute(wall); minute != p.minute {
		t.put(p)
		p.minute = minute
	}
	p.rows++
}

// put adds the rows of a plaza's last minute to the map.
func (t *rowTally) put(p *plazaTally) {
	if p.rows > 0 {
		before := len(p.minutes)
		p.minutes[p.minute] += p.rows
		p.rows = 0
		t.groups += int64(len(p.minutes) - before)
	}
}

// each calls f with the groups. The first of a plaza has the checksums of all.
func (t *rowTally) each(f func(*Group) error) error {
	for _, plaza := range slices.Sorted(maps.Keys(t.plazas)) {
		p := t.plazas[plaza]
		t.put(p)
		g := Group{Plaza: int(plaza),
			RowCount: tables.RowCount{Rows: p.untimed, Checksum: p.checksum, Exact: true}}
		if p.untimed > 0 {
			if err := f(&g); err != nil {
				return err
			}
			g.Checksum = 0
		}
		g.Timed = true
		for _, minute := range slices.Sorted(maps.Keys(p.minutes)) {
			g.Minute, g.Rows = minute, p.minutes[minute]
			if err := f(&g); err != nil {
				return err
			}
			g.Checksum = 0
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
