package journeys_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	journeysdb "github.com/tollstream/tollstream/sql/journeys"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/journeys"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// insert writes events as rows.
func insert(t testing.TB, s *dbtest.Store, events []toll.Event) {
	t.Helper()
	for block := range slices.Chunk(events, 1000) {
		var args []any
		for _, e := range block {
			args = append(args, e.Time.String(), e.Vehicle, e.Type, e.Plaza)
		}
		dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES (?, ?, ?, ?)`+
			strings.Repeat(`, (?, ?, ?, ?)`, len(block)-1), args...)
	}
}

// events draws events in which nothing is regular: few vehicles and plazas in little time, so that
// seconds tie, rows repeat, vehicles return, and gaps are around the longest that counts.
func events(draw *rand.Rand, from toll.WallTime, hours, n int) []toll.Event {
	var all []toll.Event
	for range n {
		e := toll.Event{Time: from + toll.WallTime(draw.IntN(hours*3600)),
			Vehicle: draw.Int32N(int32(n/8) + 1),
			Type:    "car", Plaza: int16(draw.IntN(4))}
		switch draw.IntN(4) {
		case 0: // on the minute: ties
			e.Time -= e.Time % 600
		case 1: // a double
			all = append(all, e)
		case 2: // the next plaza, some time after that, or exactly the longest that counts
			gap := draw.Int32N(1200)
			if draw.IntN(4) == 0 {
				gap = journeys.MaxGap + draw.Int32N(3) - 1
			}
			all = append(all, e)
			e.Time, e.Plaza = e.Time+toll.WallTime(gap), (e.Plaza+1)%4
		}
		all = append(all, e)
	}
	draw.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// TestSQLIsTheDomain: what the database counts is what the domain counts of the same events,
// whatever their order, at clock changes too.
func TestSQLIsTheDomain(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		filled := 0
		for seed, start := range []string{"2022-03-26 22:00", "2022-10-29 23:00", "2022-02-10 10:00",
			"2022-10-30 00:00", "2022-03-27 00:30", "2022-06-01 00:00"} {
			draw := rand.New(rand.NewPCG(uint64(seed), 19))
			from := dbtest.WallTime(t, start)
			var all []toll.Event
			for _, weeks := range []toll.WallTime{0, 1, 2, 4} {
				all = append(all, events(draw, from-weeks*7*86400, 6, 500/int(weeks+1))...)
			}
			w := journeys.Window{Start: from + toll.WallTime(7200+draw.IntN(3600))}
			w.End = w.Start + toll.WallTime(15+draw.IntN(120))*60
			all = append(all, events(draw, w.OffPeakWindow().Start-3600, 4, 200)...)
			dbtest.Exec(t, s, `DELETE FROM livetolldata`)
			insert(t, s, all)
			dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES (NULL, 1, 'car', 1), (?, NULL, 'car', 1),
				(?, 1, 'car', NULL)`, w.Start.String(), w.Start.String())
			if compare(t, s, all, w) {
				filled++
			}
			if t.Failed() {
				t.Fatalf("seed %d: %s, %v", seed, start, w)
			}
		}
		if filled < 3 {
			t.Errorf("there was something to compare in %d windows", filled)
		}
	})
}

// compare compares all that is counted, and reports whether there was some of each.
func compare(t *testing.T, s *dbtest.Store, all []toll.Event, w journeys.Window) (filled bool) {
	t.Helper()
	survey, zone := s.Journeys(), dbtest.Berlin
	passages := journeys.Passages(slices.Values(all))
	changes := journeys.Changes(zone, w.Start-40*86400, w.End+86400)
	equal := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %v\nwant %v", what, got, want)
		}
	}
	counts, departures, err := survey.Sections(t.Context(), w, zone, nil)
	equal("sections", counts, journeys.Count(passages, changes, w), err)
	equal("departures", departures, journeys.CountDepartures(passages, w.End), err)
	for _, through := range []*int16{nil, new(int16(2))} {
		trips, err := survey.Trips(t.Context(), w, through, zone)
		equal("trips", trips, journeys.CountTrips(passages, changes, w, through), err)
	}
	past, err := survey.Past(t.Context(), w, journeysdb.All, zone)
	if err != nil {
		t.Fatal(err)
	}
	quiet := journeys.Count(passages, changes, w.OffPeakWindow())
	equal("off-peak", past.OffPeak, quiet.Sections, nil)
	weeks := map[journeys.Pair]journeys.Times{}
	for _, week := range w.Earlier() {
		for p, times := range journeys.Count(passages, changes, week).Sections {
			weeks[p] = journeys.Sum(weeks[p], times)
		}
	}
	equal("weeks", past.Weeks, weeks, nil)
	lastWeek, err := survey.Past(t.Context(), w, journeysdb.PastScopes[0], zone)
	equal("last week", lastWeek, &journeysdb.Past{Scope: journeysdb.PastScope{Weeks: 1},
		Weeks:   journeys.Count(passages, changes, w.Earlier()[0]).Sections,
		OffPeak: map[journeys.Pair]journeys.Times{}}, err)
	if !s.DB.Embedded(t.Context()) { // it rounds averages otherwise, and so what is far off
		script(t, s, passages, changes, w)
	}
	return len(counts.Sections) > 0 && len(counts.Before) > 0 && len(quiet.Sections) > 0 &&
		len(weeks) > 0
}

// script compares what a query for people gives with the domain: the same figures, and the same
// cells.
func script(t *testing.T, s *dbtest.Store, passages []journeys.Passage, changes []journeys.Change,
	w journeys.Window) {
	t.Helper()
	args := []string{"until=" + w.End.String(), fmt.Sprint("minutes=", int64(w.End-w.Start)/60)}
	scan := w.TripScan()
	if changes := journeys.Changes(dbtest.Berlin, scan.Start, scan.End); len(changes) > 0 {
		args = append(args, "changed="+changes[0].Start.String())
	}
	var want [][]string
	counts := journeys.Count(passages, changes, w)
	for _, p := range slices.SortedFunc(maps.Keys(counts.Sections), journeys.Pair.Compare) {
		times := counts.Sections[p]
		if m, ok := journeys.Measure(times, journeys.Reference{}, 0); ok {
			want = append(want, []string{fmt.Sprint(p.From), fmt.Sprint(p.To), fmt.Sprint(m.Vehicles),
				fmt.Sprint(m.Stopped), fmt.Sprint(m.Median), fmt.Sprint(m.P85), fmt.Sprint(m.P95),
				fmt.Sprintf("%.2f", times.Randomness())})
		}
	}
	_, rows, err := s.Run(t.Context(), "journeys", args)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(fmt.Sprint(rows), ".0 ", " "); got != fmt.Sprint(want) {
		t.Errorf("journeys.sql %q:\ngot  %v\nwant %v", args, rows, want)
	}
	for _, through := range []*int16{nil, new(int16(2))} {
		var want [][]string
		trips := journeys.CountTrips(passages, changes, w, through)
		for _, c := range journeys.Shares(trips.Cells, journeys.Pair.Compare) {
			from, to := fmt.Sprint(c.Of.From), fmt.Sprint(c.Of.To)
			if c.Other {
				from, to = "other", "other"
			}
			want = append(want, []string{from, to, fmt.Sprint(c.Vehicles)})
		}
		args := args
		if through != nil {
			args = append(slices.Clip(args), fmt.Sprint("through=", *through))
		}
		_, rows, err := s.Run(t.Context(), "origins", args)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(rows) != fmt.Sprint(want) {
			t.Errorf("origins.sql %q:\ngot  %v\nwant %v", args, rows, want)
		}
	}
}

// TestScanEnds: a scan that nobody wants any more ends on the server as well, and one whose times
// are too many says so. What it would cost is known before.
func TestScanEnds(t *testing.T) {
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		end := dbtest.WallTime(t, "2022-06-01 08:00")
		w := journeys.Window{Start: end - 900, End: end}
		survey := s.Journeys()
		if _, ok, err := survey.Latest(t.Context(), dbtest.Berlin); ok || err != nil {
			t.Errorf("the newest of no rows: %v, %v", ok, err)
		}
		rows := events(rand.New(rand.NewPCG(1, 1)), w.Start-3600, 1, 2000)
		insert(t, s, rows)
		last := slices.MaxFunc(rows, func(a, b toll.Event) int { return cmp.Compare(a.Time, b.Time) })
		newest, ok, err := survey.Latest(t.Context(), dbtest.Berlin)
		if err != nil || !ok || newest != last.Time+1 {
			t.Errorf("newest row: %v, %v, %v", newest, ok, err)
		}
		counted := !strings.HasSuffix(t.Name(), "/tidb") // which counts rows some minutes later
		for _, indexed := range []bool{false, true} {
			if indexed {
				if _, _, err := s.Run(t.Context(), "indexes", nil); err != nil {
					t.Fatal(err)
				}
			}
			cost, err := survey.Cost(t.Context(), w.Scan())
			if err != nil || cost.Indexed != indexed || cost.Rows < 200 && counted {
				t.Errorf("cost %+v, %v; an index %v", cost, err, indexed)
			}
		}
		if cost, err := survey.Cost(t.Context(), w.Earlier()[0].Scan()); err != nil ||
			cost.Rows > 100 && counted {
			t.Errorf("a week without rows costs %+v, %v", cost, err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- survey.Ask(ctx, `SELECT SLEEP(600)`) }()
		running := func() int64 {
			return dbtest.Int(t, s, `SELECT COUNT(*) FROM information_schema.processlist
				WHERE info LIKE 'SELECT SLEEP(600)%'`)
		}
		await(t, func() bool { return running() == 1 })
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		await(t, func() bool { return running() == 0 })

		defer journeysdb.SetMaxCells(10)()
		w.Start -= 3600
		if _, _, err := survey.Sections(t.Context(), w, dbtest.Berlin, nil); !errors.Is(err,
			journeysdb.ErrTooMany) {
			t.Errorf("too many: %v", err)
		}
	})
}

// TestTrackCutOff: a list that the server cuts off, between two numbers or within one, is refused
// and not counted.
func TestTrackCutOff(t *testing.T) {
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		end := dbtest.WallTime(t, "2022-06-01 08:00")
		var rows []toll.Event
		for i := range 3 {
			rows = append(rows, toll.Event{Time: end - toll.WallTime(300*i) - 1, Vehicle: 1, Type: "car",
				Plaza: int16(i)})
		}
		insert(t, s, rows)
		w := journeys.Window{Start: end - 900, End: end}
		for size := 4; size < 40; size++ {
			restore := journeysdb.SetMaxTrack(size)
			counts, _, err := s.Journeys().Sections(t.Context(), w, dbtest.Berlin, nil)
			restore()
			if err == nil && (size < 30 || len(counts.Sections) != 2) ||
				err != nil && (size > 30 || !strings.Contains(err.Error(), "one vehicle has 3 rows")) {
				t.Errorf("%d bytes: %v, %v", size, counts.Sections, err)
			}
		}
	})
}

// await waits until a condition holds.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not hold")
		}
	}
}

// BenchmarkQuarter counts the last quarter of an hour, of which the vehicles' ways begin up to two
// hours earlier: of 12 plazas with 20 events a second, and of a national network of 1,000 plazas
// with 300, which takes minutes and is left out with -short. Trips are of five plazas, ten minutes
// apart.
func BenchmarkQuarter(b *testing.B) {
	for _, network := range []struct {
		name                string
		plazas, rate, hours int
	}{{"road", 12, 20, 6}, {"nation", 1000, 300, 3}} {
		if testing.Short() && network.plazas > 12 {
			continue
		}
		for _, engine := range []string{"mariadb", "mysql"} {
			b.Run(network.name+"/"+engine, func(b *testing.B) {
				s := fill(b, engine, network.plazas, network.rate, network.hours)
				end := dbtest.WallTime(b, "2022-06-01 00:00") + toll.WallTime(network.hours*3600)
				w := journeys.Window{Start: end - 900, End: end}
				quarter(b, s, w, "table")
				if _, _, err := s.Run(b.Context(), "indexes", nil); err != nil {
					b.Fatal(err)
				}
				quarter(b, s, w, "index")
			})
		}
	}
}

func quarter(b *testing.B, s *dbtest.Store, w journeys.Window, how string) {
	b.Helper()
	survey := s.Journeys()
	for _, count := range []struct {
		what string
		do   func() error
	}{
		{"sections", func() error {
			c, _, err := survey.Sections(b.Context(), w, dbtest.Berlin, nil)
			if err == nil && c.Verdict() != journeys.HasJourneys {
				err = fmt.Errorf("%v", c.Verdict())
			}
			return err
		}},
		{"trips", func() error {
			_, err := survey.Trips(b.Context(), w, nil, dbtest.Berlin)
			return err
		}},
		{"through", func() error {
			plaza := int16(7)
			_, err := survey.Trips(b.Context(), w, &plaza, dbtest.Berlin)
			return err
		}},
	} {
		b.Run(how+"/"+count.what, func(b *testing.B) {
			for b.Loop() {
				if err := count.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill stores rows at a rate per second, nearly in the order of their times, as a process does. Row
// n is of leg n mod 5 of trip n div 5.
func fill(b *testing.B, engine string, plazas, rate, hours int) *dbtest.Store {
	b.Helper()
	s := dbtest.OpenEmpty(b, engine)
	dbtest.Initialize(b, s)
	dbtest.Exec(b, s, `CREATE TABLE numbers WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL
		SELECT i + 1 FROM n WHERE i < 999) SELECT i FROM n`)
	for minute := range hours * 60 {
		dbtest.Exec(b, s, fmt.Sprintf(`INSERT INTO livetolldata
			SELECT '2022-06-01' + INTERVAL CAST(n DIV %[2]d + n %% 5 * 600 + CRC32(n) %% 60 AS SIGNED) SECOND,
				n DIV 5, 'car', (n DIV 5 * 7 + n %% 5) %% %[3]d
			FROM (SELECT (%[1]d * 60 + s.i) * %[2]d + r.i AS n FROM numbers s, numbers r
				WHERE s.i < 60 AND r.i < %[2]d) records ORDER BY 1`, minute, rate, plazas))
	}
	return s
}
