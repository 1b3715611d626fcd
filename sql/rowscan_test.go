package sql

import (
	"context"
	"errors"
	"maps"
	"math"
	"testing"

	"github.com/tollstream/tollstream/toll"
)

// TestManyGroups: how many groups there may be is told from the states, and never too low.
func TestManyGroups(t *testing.T) {
	day := toll.WallTime(1644451200)
	of := func(events int64, minutes int) *toll.State {
		return &toll.State{Events: events, Earliest: day, Latest: day + toll.WallTime(60*minutes)}
	}
	for _, c := range []struct {
		name     string
		states   map[int16]*toll.State
		baseline map[int]rowCount
		want     bool
	}{
		{name: "nothing"},
		{name: "few minutes", states: map[int16]*toll.State{1: of(1e9, 60), 2: nil, 3: {}}},
		{name: "few events", states: map[int16]*toll.State{1: of(1000, 1e8)}},
		{name: "both many", states: map[int16]*toll.State{1: of(2e6, 2e6)}, want: true},
		{name: "together", states: map[int16]*toll.State{1: of(1e6, 600_000), 2: of(1e6, 600_000)},
			want: true},
		{name: "from before", baseline: map[int]rowCount{5: {rows: maxTallied + 1}}, want: true},
	} {
		if got := manyGroups(c.states, c.baseline); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// TestSnapshots: a server has a second snapshot of the same moment, the embedded one makes do with
// one.
func TestSnapshots(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
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

func testRowScanIsStopped(t *testing.T, s *Store) {
	initialize(t, s)
	// Each row is a group, and there are more than may wait.
	run(t, s, `INSERT INTO livetolldata WITH digits AS (
		SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7
		UNION SELECT 8 UNION SELECT 9)
		SELECT FROM_DAYS(719528) + INTERVAL a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d MINUTE, 1, 'car', 1
		FROM digits a, digits b, digits c, digits e, digits f WHERE f.d < 2`)
	err := snapshots(context.Background(), s.db, func(q, rows reader) error {
		scan := &rowScan{zone: toll.NewZone(berlin), deep: true, many: true}
		stop := scan.start(context.Background(), rows)
		<-scan.groups
		stop()
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
	onEngines(t, func(t *testing.T, s *Store) {
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
		read := func(read func(each func(*rowGroup) error) error) (map[key]int64, map[int]rowCount) {
			groups, counts := map[key]int64{}, map[int]rowCount{}
			last := nullPlaza
			err := read(func(g *rowGroup) error {
				if g.plaza < last {
					t.Errorf("plaza %d comes after %d", g.plaza, last)
				}
				last = g.plaza
				groups[key{g.plaza, g.minute, g.timed}] += g.rows
				c := counts[g.plaza]
				counts[g.plaza] = rowCount{c.rows + g.rows, c.checksum + g.checksum, g.exact}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return groups, counts
		}
		ctx, zone := context.Background(), toll.NewZone(berlin)
		wantGroups, wantCounts := read(func(each func(*rowGroup) error) error {
			return readGroups(ctx, s.db, zone, math.MinInt16, math.MaxInt16+1, each)
		})
		conn, err := s.db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		groups, counts := read(func(each func(*rowGroup) error) error {
			return tallyRows(ctx, conn, zone, each)
		})
		if !maps.Equal(groups, wantGroups) || len(groups) != 13 {
			t.Errorf("got  %v\nwant %v", groups, wantGroups)
		}
		if !maps.Equal(counts, wantCounts) {
			t.Errorf("got  %v\nwant %v", counts, wantCounts)
		}
		defer func(n int64) { maxTallied = n }(maxTallied)
		maxTallied = 3
		if err := tallyRows(ctx, conn, zone,
			func(*rowGroup) error { t.Error("called"); return nil }); !errors.Is(err, errManyGroups) {
			t.Error(err)
		}
	})
}

func TestTimeReader(t *testing.T) {
	var r timeReader
	for _, c := range []struct {
		text string
		wall string
		ok   bool
	}{
		{"1970-01-01 00:00:59,1,car,5", "1970-01-01 00:00:59", true},
		{"1969-12-31 23:59:00", "1969-12-31 23:59:00", true},
		{"2022-02-10 10:23:02,3728373,car,4856", "2022-02-10 10:23:02", true},
		{"2022-02-10 10:24:02,3728373,car,4856", "2022-02-10 10:24:02", true},
		{"2022-00-00 10:24:02,1", "", false},
		{"2022-02-10 10:24:02,1", "2022-02-10 10:24:02", true},
		{"1,2022-02-10 10:2,5", "", false},
		{"2022-02-10 10:24:0", "", false},
		{"2022-02-10 10:24:022", "", false},
		{"", "", false},
	} {
		if wall, ok := r.read([]byte(c.text)); ok != c.ok || ok && wall.String() != c.wall {
			t.Errorf("%q: got %s, %v, want %s, %v", c.text, wall, ok, c.wall, c.ok)
		}
	}
}
