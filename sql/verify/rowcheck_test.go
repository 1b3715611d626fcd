package verify_test

import (
	"context"
	"errors"
	"hash/crc32"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/rowscan"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// TestSnapshots: a server has a second snapshot of the same moment, the embedded one makes do with
// one.
func TestSnapshots(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		err := verify.Snapshots(context.Background(), s.DB, func(q, rows db.Reader) error {
			if same := q == rows; same != s.DB.Embedded(context.Background()) {
				t.Errorf("one snapshot for both: %v", same)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestRowScanIsStopped: an early return ends the scan, also one whose groups nobody takes.
func TestRowScanIsStopped(t *testing.T) { dbtest.OnServers(t, testRowScanIsStopped) }

func testRowScanIsStopped(t *testing.T, s *dbtest.Store) {
	dbtest.Initialize(t, s)
	// Each row is a group, and there are more than may wait.
	dbtest.Exec(t, s, `INSERT INTO livetolldata WITH digits AS (
		SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION
		SELECT 6 UNION SELECT 7
		UNION SELECT 8 UNION SELECT 9)
		SELECT FROM_DAYS(719528) + INTERVAL a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d MINUTE,
		1, 'car', 1
		FROM digits a, digits b, digits c, digits e, digits f WHERE f.d < 2`)
	err := verify.Snapshots(context.Background(), s.DB, func(q, rows db.Reader) error {
		scan := &rowscan.Scan{Zone: toll.NewZone(dbtest.Berlin), Deep: true, Many: true}
		stop := scan.Start(context.Background(), rows)
		enough := errors.New("enough")
		if err := scan.Minutes(context.Background(), q, math.MinInt16, math.MaxInt16+1,
			func(*rowscan.Group) error { return enough }); !errors.Is(err, enough) {
			t.Error(err)
		}
		stop()
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// More groups than are held, of which the states say nothing: the server makes them after all.
	defer func(n int64) { rowscan.MaxBlocks = n }(rowscan.MaxBlocks)
	for _, rowscan.MaxBlocks = range []int64{100, 1_000_000} {
		r := dbtest.Verify(t, s, verify.Input{Deep: true})
		if r.Rows != 20000 || r.Status != verify.Mismatch {
			t.Errorf("%d groups are held: got %d rows, status %s", rowscan.MaxBlocks, r.Rows, r.Status)
		}
	}
}

// TestTally: what is summed here is what the server sums, of any rows.
func TestTally(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES ('2022-02-10 10:23:02', 1, 'car', 7),
			('2022-02-10 10:23:59', 2, 'car', 7), ('2022-02-10 10:24:00', 3, 'van', 7),
			('2022-02-10 10:23:00', 4, 'a,b: 2022-02-1', 7), ('1000-01-01 00:00:00', 5, 'Zug €', -7),
			('9999-12-31 23:59:59', NULL, NULL, 7),
			('1890-01-01 00:53:27', 1, 'x', 3),
			('1890-01-01 00:53:28', 1, 'x', 3), ('1890-01-01 00:53:29', 1, 'x', 3), ('2022-03-27 02:30:00',
			1, 'x', 3), ('2022-03-27 01:59:00', 1, 'x', 3), (NULL, 6, '2022-02-10 10:2', 7), (NULL, NULL,
			'2022-02-10 10:2', 7), (NULL, NULL, NULL, 7), (NULL, NULL, NULL, NULL), ('2022-02-10 10:23:02',
			8, '', NULL),
			('2022-02-10 10:23:02', -2147483648, 'x', -32768), ('2022-02-10 10:23:02', 2147483647, 'x',
			32767), ('1969-12-31 23:59:59', 9, 'x', 0)`)
		type key struct {
			plaza  int
			minute toll.Minute
			timed  bool
		}
		read := func(read func(each func(*rowscan.Group) error) error) (map[key]int64,
			map[int]tables.RowCount) {
			groups, counts := map[key]int64{}, map[int]tables.RowCount{}
			last := tables.NullPlaza
			err := read(func(g *rowscan.Group) error {
				if g.Plaza < last {
					t.Errorf("plaza %d comes after %d", g.Plaza, last)
				}
				last = g.Plaza
				groups[key{g.Plaza, g.Minute, g.Timed}] += g.Rows
				c := counts[g.Plaza]
				counts[g.Plaza] = tables.RowCount{Rows: c.Rows + g.Rows, Checksum: c.Checksum + g.Checksum,
					Exact: g.Exact}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return groups, counts
		}
		ctx, zone := context.Background(), toll.NewZone(dbtest.Berlin)
		wantGroups, wantCounts := read(func(each func(*rowscan.Group) error) error {
			return rowscan.ReadGroups(ctx, s.DB, "", zone, math.MinInt16, math.MaxInt16+1, each)
		})
		conn, err := s.DB.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		groups, counts := read(func(each func(*rowscan.Group) error) error {
			return rowscan.TallyRows(ctx, conn, zone, each)
		})
		if !maps.Equal(groups, wantGroups) || len(groups) != 13 {
			t.Errorf("got  %v\nwant %v", groups, wantGroups)
		}
		if !maps.Equal(counts, wantCounts) {
			t.Errorf("got  %v\nwant %v", counts, wantCounts)
		}
		defer func(n int64) { rowscan.MaxBlocks = n }(rowscan.MaxBlocks)
		rowscan.MaxBlocks = 3
		if err := rowscan.TallyRows(ctx, conn, zone,
			func(*rowscan.Group) error { t.Error("called"); return nil }); !errors.Is(err,
			rowscan.ErrManyMinutes) {
			t.Error(err)
		}
	})
}

// TestWindowColumnsAroundChanges: where clocks are set, a window's own range of time finds its rows
// too, whatever the database's zone and the plaza's are.
func TestWindowColumnsAroundChanges(t *testing.T) {
	for _, c := range []struct{ zone, from string }{
		{"Europe/Berlin", "2026-03-29 01:00"},
		{"Europe/Berlin", "2026-10-25 01:00"},
		{"America/New_York", "2026-03-08 01:00"},
		{"Australia/Lord_Howe", "2026-10-04 01:00"}, // by half an hour
		{"America/Sao_Paulo", "2018-11-03 23:00"},   // at midnight
		{"Pacific/Apia", "2011-12-29 23:00"},        // a whole day
		{"Europe/Berlin", "1893-03-31 23:00"},       // by 6 minutes and 32 seconds
		{"Africa/Monrovia", "1972-01-06 23:00"},     // the last offset with seconds
	} {
		t.Run(strings.ReplaceAll(c.zone, "/", " ")+" "+c.from, func(t *testing.T) {
			dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
				zone := func(name string) *toll.Zone {
					loc, err := time.LoadLocation(name)
					if err != nil {
						t.Fatal(err)
					}
					return toll.NewZone(loc)
				}
				loc := zone(c.zone).Location()
				x := dbtest.NewWindowedIn(t, s, loc, "1m,5m/1m,15m,1h,day")
				x.Cfg.PlazaZones = map[int16]*toll.Zone{2: zone("Asia/Kathmandu"), 3: zone("America/New_York")}
				random := rand.New(rand.NewPCG(7, 8))
				span := 4 * 60
				if c.zone == "Pacific/Apia" {
					span = 27 * 60
				}
				x.Store(0, x.Random(random, 300, c.from, span, 1, 2, 3)...)
				until := x.Zone.Since(x.Zone.Minute(dbtest.WallTime(t, c.from)) + 10*1440)
				var closings []toll.Closing
				for plaza := int16(1); plaza <= 3; plaza++ {
					closing := toll.Closing{Plaza: plaza, Epoch: x.Epoch(), From: x.Zone.Minute(until),
						Until:  x.Zone.Minute(until),
						Reason: toll.ClosedByWatermark}
					for _, n := range x.Counts(plaza, closing.Until) {
						closing.Windows = append(closing.Windows, n)
					}
					closings = append(closings, closing)
				}
				x.StoreResults(x.Results(), closings...)
				n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window`)
				same := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window w
					WHERE events + too_late = (SELECT COUNT(*) FROM livetolldata l
					WHERE l.toll_plaza_id = w.toll_plaza_id AND l.timestamp >= w.window_start
					AND l.timestamp < w.window_end)`)
				if n < 100 || n != same {
					t.Errorf("%d windows, %d hold as many rows by their wall clock", n, same)
				}
				states := x.States("2022-01-01 00:00")
				for _, state := range states {
					state.Done = x.Zone.Minute(until)
				}
				defer func(n int64) { rowscan.MaxBlocks = n }(rowscan.MaxBlocks)
				for _, rowscan.MaxBlocks = range []int64{10, 1_000_000} { // by the server, and by ourselves
					if r := dbtest.Verify(t, s, x.Input(states, true)); r.Status != verify.Exact {
						t.Errorf("%s: %v", r.Status, r.Problems)
					}
				}
			})
		})
	}
}

// TestRowText: the text that checksums are made of is UTF-8 whatever the column is of, and leaves
// out what is NULL, in rows that only others write as well.
func TestRowText(t *testing.T) {
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		for charset, vehicleType := range map[string]string{"latin1": "Täxi", "utf8mb4": "汽车🚕"} {
			dbtest.Exec(t, s, `DROP TABLE IF EXISTS livetolldata`)
			dbtest.Exec(t, s, `create table livetolldata(timestamp datetime, vehicle_id int,
				vehicle_type char(15), toll_plaza_id smallint) character set `+charset)
			for _, c := range []struct {
				values []any
				want   string
			}{
				{[]any{"2022-02-10 10:23:02", 3728373, vehicleType, 4856},
					"2022-02-10 10:23:02,3728373," + vehicleType + ",4856"},
				{[]any{"1000-01-01", -5, "a,b  c", -1}, "1000-01-01 00:00:00,-5,a,b  c,-1"},
				{[]any{nil, math.MaxInt32, "", math.MaxInt16}, "2147483647,,32767"},
				{[]any{nil, nil, vehicleType, nil}, vehicleType},
				{[]any{nil, nil, nil, nil}, ""},
			} {
				dbtest.Exec(t, s, `DELETE FROM livetolldata`)
				dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES (?, ?, ?, ?)`, c.values...)
				var got string
				var sum int64
				query := `SELECT ` + tables.RowText + `, CRC32(` + tables.RowText + `) FROM livetolldata`
				if err := s.DB.QueryRowContext(t.Context(), query).Scan(&got, &sum); err != nil {
					t.Fatal(err)
				}
				if got != c.want || sum != int64(crc32.ChecksumIEEE([]byte(c.want))) {
					t.Errorf("%s: %q with checksum %d, want %q", charset, got, sum, c.want)
				}
			}
		}
	})
}
