package sql

import (
	"context"
	"errors"
	"maps"
	"math"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

// TestSnapshots: a server has a second snapshot of the same moment, the embedded one makes do with
// one.
func TestSnapshots(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		initialize(t, s)
		err := snapshots(context.Background(), s.db, func(q, rows reader) error {
			if same := q == rows; same != s.db.embedded(context.Background()) {
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
func TestRowScanIsStopped(t *testing.T) { onServers(t, testRowScanIsStopped) }

func testRowScanIsStopped(t *testing.T, s *testStore) {
	initialize(t, s)
	// Each row is a group, and there are more than may wait.
	run(t, s, `INSERT INTO livetolldata WITH digits AS (
		SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7
		UNION SELECT 8 UNION SELECT 9)
		SELECT FROM_DAYS(719528) + INTERVAL a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d MINUTE, 1, 'car', 1
		FROM digits a, digits b, digits c, digits e, digits f WHERE f.d < 2`)
	err := snapshots(context.Background(), s.db, func(q, rows reader) error {
		StartAndStopScan(context.Background(), rows, toll.NewZone(berlin))
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// More groups than are held, of which the states say nothing: the server makes them after all.
	defer func(n int64) { maxTallied = n }(maxTallied)
	for _, maxTallied = range []int64{100, 1_000_000} {
		r := verify(t, s, VerifyInput{Deep: true})
		if r.Rows != 20000 || r.Status != Mismatch {
			t.Errorf("%d groups are held: got %d rows, status %s", maxTallied, r.Rows, r.Status)
		}
	}
}

// TestTally: what is added up here is what the server adds up, of any rows.
func TestTally(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		initialize(t, s)
		run(t, s, `INSERT INTO livetolldata VALUES ('2022-02-10 10:23:02', 1, 'car', 7), ('2022-02-10 10:23:59', 2, 'car', 7), ('2022-02-10 10:24:00', 3, 'van', 7),
			('2022-02-10 10:23:00', 4, 'a,b: 2022-02-1', 7), ('1000-01-01 00:00:00', 5, 'Zug €', -7), ('9999-12-31 23:59:59', NULL, NULL, 7),
			('1890-01-01 00:53:27', 1, 'x', 3),
			('1890-01-01 00:53:28', 1, 'x', 3), ('1890-01-01 00:53:29', 1, 'x', 3), ('2022-03-27 02:30:00', 1, 'x', 3), ('2022-03-27 01:59:00', 1, 'x', 3), (NULL, 6, '2022-02-10 10:2', 7), (NULL, NULL, '2022-02-10 10:2', 7), (NULL, NULL, NULL, 7), (NULL, NULL, NULL, NULL), ('2022-02-10 10:23:02', 8, '', NULL),
			('2022-02-10 10:23:02', -2147483648, 'x', -32768), ('2022-02-10 10:23:02', 2147483647, 'x', 32767), ('1969-12-31 23:59:59', 9, 'x', 0)`)
		type key struct {
			plaza  int
			minute toll.Minute
			timed  bool
		}
		read := func(read func(each func(Group) error) error) (map[key]int64, map[int]rowCount) {
			groups, counts := map[key]int64{}, map[int]rowCount{}
			last := nullPlaza
			err := read(func(g Group) error {
				if g.Plaza < last {
					t.Errorf("plaza %d comes after %d", g.Plaza, last)
				}
				last = g.Plaza
				groups[key{g.Plaza, g.Minute, g.Timed}] += g.rows
				c := counts[g.Plaza]
				counts[g.Plaza] = rowCount{c.rows + g.rows, c.checksum + g.checksum, g.exact}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return groups, counts
		}
		ctx, zone := context.Background(), toll.NewZone(berlin)
		wantGroups, wantCounts := read(func(each func(Group) error) error {
			return ReadGroups(ctx, s.db, zone, math.MinInt16, math.MaxInt16+1, each)
		})
		conn, err := s.db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		groups, counts := read(func(each func(Group) error) error {
			return TallyRows(ctx, conn, zone, each)
		})
		if !maps.Equal(groups, wantGroups) || len(groups) != 13 {
			t.Errorf("got  %v\nwant %v", groups, wantGroups)
		}
		if !maps.Equal(counts, wantCounts) {
			t.Errorf("got  %v\nwant %v", counts, wantCounts)
		}
		defer func(n int64) { maxTallied = n }(maxTallied)
		maxTallied = 3
		if err := TallyRows(ctx, conn, zone,
			func(Group) error { t.Error("called"); return nil }); !errors.Is(err, errManyGroups) {
			t.Error(err)
		}
	})
}
