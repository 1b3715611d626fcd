package results_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// minutesFrom submits the minutes [from, until) of a plaza with so many cars each, as one that
// was closed before has them, and as many before them as a measure looks back.
func minutesFrom(t *testing.T, plaza int16, from, until string,
	cars func(m toll.Minute) int64) toll.Closing {
	t.Helper()
	c := toll.Closing{Plaza: plaza, From: dbtest.MinuteOf(t, from), Until: dbtest.MinuteOf(t, until)}
	for m := c.From - toll.MeasureSpan; m < c.Until; m++ {
		if n := cars(m); n > 0 {
			c.Panes = append(c.Panes, toll.Pane{Start: m, Types: []toll.TypeCount{{Type: "car", Count: n}}})
		}
	}
	return c
}

func TestCongestion(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "15m")
		x.Cfg.Plazas = map[int16]toll.Plaza{7: {Lanes: 1, CapacityPerLane: 600}}
		// Ten cars a minute are the capacity; from 8:00 to 9:00 there are twelve, before and after five.
		rush := toll.Window{Start: dbtest.MinuteOf(t, "2022-02-10 08:00"),
			End: dbtest.MinuteOf(t, "2022-02-10 09:00")}
		cars := func(m toll.Minute) int64 {
			if m >= rush.Start && m < rush.End {
				return 12
			}
			return 5
		}
		r := x.Results()
		got := x.StoreResults(r, minutesFrom(t, 7, "2022-02-10 07:00", "2022-02-10 08:05", cars))
		// The process ends, the next one submits some minutes again, in pieces and out of order.
		r = x.Results()
		got += x.StoreResults(r, minutesFrom(t, 7, "2022-02-10 08:20", "2022-02-10 09:30", cars),
			minutesFrom(t, 7, "2022-02-10 07:30", "2022-02-10 08:20", cars))
		got += x.StoreResults(r, minutesFrom(t, 7, "2022-02-10 07:00", "2022-02-10 09:10", cars))
		want := `7 no data→free at 07:03 since 07:01: throughput 300 pc/h is 50 % of the capacity of 600 pc/h (1 lane)
7 free→busy at 08:08 since 08:06: throughput 524 pc/h is 87 % of the capacity of 600 pc/h (1 lane)
7 busy→saturated at 08:13 since 08:11: throughput 664 pc/h is 110 % of the capacity of 600 pc/h (1 lane), which looks too low: check lanes and capacity_per_lane in the plazas file; how long the queue is can't be told from crossings
7 saturated→busy at 09:09 since 09:07: throughput 468 pc/h is 78 % of the capacity of 600 pc/h (1 lane)
7 busy→free at 09:14 since 09:12: throughput 328 pc/h is 54 % of the capacity of 600 pc/h (1 lane)
`
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}

		// One assessment in memory says the same.
		var a traffic.Assessment
		all := minutesFrom(t, 7, "2022-02-10 07:00", "2022-02-10 09:30", cars)
		transitions := a.Run(all.Panes, all.From, all.Until,
			&traffic.Basis{Plaza: toll.Plaza{ID: 7, Lanes: 1, CapacityPerLane: 600}, Zone: x.Zone})
		congestion, err := s.Congestion(t.Context())
		if err != nil || !reflect.DeepEqual(congestion, map[int16]traffic.Assessment{7: a}) {
			t.Errorf("got %+v, %v, want %+v", congestion, err, a)
		}
		stored, err := s.Transitions(t.Context(), 7, 10)
		slices.Reverse(stored)
		if err != nil || !reflect.DeepEqual(stored, transitions) {
			t.Errorf("got %+v, %v, want %+v", stored, err, transitions)
		}
		if last, err := s.Transitions(t.Context(), 7, 1); err != nil ||
			!reflect.DeepEqual(last, transitions[len(transitions)-1:]) {
			t.Errorf("got %+v, %v", last, err)
		}
		newest := stored[len(stored)-1].Detected
		for _, c := range []struct {
			from, until toll.Minute
			limit, want int
		}{{newest, newest + 1, 10, 1}, {math.MinInt32, newest, 10, len(stored) - 1},
			{math.MinInt32, math.MaxInt32, 1, 1}, {newest + 1, math.MaxInt32, 10, 0}} {
			page, err := s.TransitionPage(t.Context(), 7, toll.Window{Start: c.from, End: c.until},
				c.limit)
			if err != nil || len(page) != c.want {
				t.Errorf("%+v: %v, %v", c, page, err)
			}
		}
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_congestion WHERE state = 'free'
			AND since = '2022-02-10 09:12' AND assessed = '2022-02-10 09:30'
			AND vehicles_15m = 75 AND flow_per_hour = 300 AND demand = 300 AND capacity = 600 AND vc = 0.5
			AND phf IS NOT NULL AND heavy_share = 0
			AND usual_15m IS NULL AND usual_weeks = 0 AND z IS NULL`); n != 1 {
			t.Error("the columns differ from the assessment")
		}
		if n := dbtest.Int(t, s,
			`SELECT COUNT(*) FROM toll_transition WHERE published = 1 AND detected = '2022-02-10 08:13'
				AND since = '2022-02-10 08:11' AND to_state = 'saturated'`); n != 1 {
			t.Error("the columns differ from the transition")
		}
	})
}

// TestLeftTransitions loses a transition, as a crash before it was published does.
func TestLeftTransitions(t *testing.T) {
	defer func(n int) { *results.MaxNotices = n }(*results.MaxNotices)
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		*results.MaxNotices = 1000
		x := dbtest.NewWindowed(t, s, "15m")
		x.Store(0, dbtest.Pass(7, "2022-02-10 07:01", "car", 1, toll.OnTime),
			dbtest.Pass(8, "2022-02-10 07:01", "car", 1, toll.OnTime))
		closing := minutesFrom(t, 7, "2022-02-10 07:00", "2022-02-10 07:15", func(toll.Minute) int64 {
			return 1
		})
		closing.Windows, closing.Epoch = x.Closing(7, "2022-02-10 07:15").Windows, x.Epoch()
		lost, stored, err := x.Results().Store(t.Context(),
			[]toll.Closing{x.Closing(8, "2022-02-10 07:15"), closing}, nil)
		if err != nil || !stored || len(lost) != 3 || lost[0].Window == nil ||
			lost[1].Transition == nil || lost[2].Ref.Plaza != 8 {
			t.Fatalf("got %+v, %v, %v", lost, stored, err)
		}
		for most, want := range map[int][]traffic.Notice{1: lost[:1], 2: lost[:2], 3: lost} {
			*results.MaxNotices = most
			left, stored, err := x.Results().Store(t.Context(), []toll.Closing{{Plaza: 7}, {Plaza: 8}}, nil)
			if err != nil || stored || !reflect.DeepEqual(left, want) {
				t.Errorf("%d at most: got %+v, %v, %v", most, left, stored, err)
			}
		}
		left, stored, err := x.Results().Store(t.Context(), []toll.Closing{{Plaza: 7}},
			[]traffic.NoticeRef{lost[1].Ref, lost[0].Ref})
		if err != nil || !stored || len(left) != 0 {
			t.Errorf("got %+v, %v, %v", left, stored, err)
		}
	})
}

// TestTransitionEpochs loses a transition by a failover after it was published. The one that is
// found instead, of the same minute, is of a later epoch; one that was not lost keeps its own.
func TestTransitionEpochs(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "15m")
		x.Cfg.Plazas = map[int16]toll.Plaza{7: {Lanes: 1, CapacityPerLane: 600}}
		x.Store(0, dbtest.Pass(7, "2022-02-10 07:01", "car", 1, toll.OnTime))
		epoch := x.Epoch()
		store := func(from, until string, cars int64) {
			t.Helper()
			c := minutesFrom(t, 7, from, until, func(toll.Minute) int64 { return cars })
			c.Epoch = epoch
			x.StoreResults(x.Results(), c)
		}
		changes := func(want ...string) {
			t.Helper()
			stored, err := s.Transitions(t.Context(), 7, 10)
			var got []string
			for _, c := range stored {
				got = append(got, fmt.Sprintf("%s %s %d", x.Clock(c.Detected), c.To, c.Epoch))
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		}
		store("2022-02-10 07:00", "2022-02-10 07:05", 5)
		var assessment string
		if err := s.DB.QueryRow(`SELECT assessment FROM toll_congestion`).Scan(&assessment); err != nil {
			t.Fatal(err)
		}
		store("2022-02-10 07:05", "2022-02-10 07:10", 12)
		free := fmt.Sprint("07:03 free ", epoch)
		changes(fmt.Sprint("07:08 saturated ", epoch), free)

		dbtest.Exec(t, s, `DELETE FROM toll_transition WHERE to_state = 'saturated'`)
		dbtest.Exec(t, s, `UPDATE toll_congestion SET assessment = ?`, assessment)
		rebuilt, err := s.Rebuild(t.Context(), dbtest.Identity, 0, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		epoch = rebuilt.NewEpoch
		store("2022-02-10 07:05", "2022-02-10 07:10", 9)
		changes(fmt.Sprint("07:08 busy ", epoch), free)
	})
}

// TestUsual learns what is usual from the windows of the weeks before.
func TestUsual(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "15m,1h")
		ny, err := time.LoadLocation("America/New_York")
		if err != nil {
			t.Fatal(err)
		}
		x.Cfg.PlazaZones = map[int16]*toll.Zone{2: toll.NewZone(ny)}
		zone := x.ZoneOf(2)
		// The plaza's first window begins on a Thursday at 7:00 of its clock. Then Thursdays at 8:00 have
		// 10, 20, … vehicles, and clocks are set forward in between.
		at := func(day, clock string) toll.WallTime {
			return x.Zone.Wall(zone.Minute(dbtest.WallTime(t, day+" "+clock)).Time())
		}
		x.Store(0, dbtest.Pass(2, at("2022-02-10", "07:00").String(), "car", 5, toll.OnTime))
		for week := range 6 {
			day := time.Date(2022, 2, 10+7*week, 0, 0, 0, 0, time.UTC).Format("2006-01-02")
			x.Store(0, dbtest.Pass(2, at(day, "08:01").String(), "car", 10*(week+1), toll.OnTime),
				dbtest.Pass(2, at(day, "23:59").String(), "car", week+1, toll.OnTime))
		}
		r := x.Results()
		x.StoreResults(r, x.Closing(2, "2022-04-01 00:00"))
		day := traffic.DayOf(zone, zone.Minute(dbtest.WallTime(t, "2022-03-24 12:00")))
		usual := func(r *results.Writer, plaza int16, day int64) *traffic.UsualDay {
			t.Helper()
			u, err := r.Usual(t.Context(), plaza, zone, day)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		u := usual(r, 2, day)
		// A median, and how many weeks it is of.
		for clock, want := range map[string]string{
			"08:00": "35 6",                                  // 10, 20, 30, 40, 50, 60
			"23:45": "3.5 6", "07:00": "0 6", "08:15": "0 6", // 5, 0, 0, 0, 0, 0
			"06:45": "0 5", // before the first window
		} {
			_, slot := traffic.SlotOf(zone, zone.Minute(dbtest.WallTime(t, "2022-03-24 "+clock)))
			if got := fmt.Sprint(u.At(slot).Median, u.At(slot).N); got != want {
				t.Errorf("%s: got %s, want %s", clock, got, want)
			}
		}
		// It is remembered until something failed.
		dbtest.Exec(t, s, `UPDATE toll_window SET events = 0`)
		if again := usual(r, 2, day); !reflect.DeepEqual(again, u) {
			t.Error("read again")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := r.Store(ended, nil, nil); err == nil {
			t.Error("stored after the end")
		} else if again := usual(r, 2, day); reflect.DeepEqual(again, u) {
			t.Error("remembered after an error")
		}
		if u := usual(r, 2,
			traffic.DayOf(zone, zone.Minute(dbtest.WallTime(t, "2022-02-16 12:00")))); u != nil {
			t.Errorf("before any week has passed: %+v", u)
		}
		if u := usual(r, 3, day); u != nil {
			t.Errorf("of an unknown plaza: %+v", u)
		}
		// No more days are remembered than may be; that nothing is known of others counts for nothing.
		defer func(n int) { *results.MaxHistory = n }(*results.MaxHistory)
		*results.MaxHistory = 1
		r = x.Results()
		for i := range int64(6) {
			before := usual(x.Results(), 2, day+i)
			if u := usual(r, 2, day+i); u == nil || !reflect.DeepEqual(u, before) {
				t.Errorf("day %d: %v, and without a memory %v", i, u, before)
			}
			for plaza := range int16(5) {
				usual(r, 10+plaza, day)
			}
			if held, days, plazas := r.Remembered(); held != 1 || days != held || plazas != 6 {
				t.Errorf("%d days are held, of %d plazas, and %d are counted", held, plazas, days)
			}
		}
		x.Cfg.Windows = x.Cfg.Windows[1:]
		if u := usual(x.Results(), 2, day); u != nil {
			t.Errorf("without windows of a quarter: %+v", u)
		}
	})
}

// TestBelowUsual assesses by what Results itself has stored.
func TestBelowUsual(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "15m")
		r := x.Results()
		var got string
		for week := range 5 {
			date := time.Date(2022, 2, 3+7*week, 0, 0, 0, 0, time.UTC).Format("2006-01-02 ")
			for m := range 60 {
				if week < 4 || m < 30 { // a blockage in the last week
					x.Store(0, dbtest.Pass(9, fmt.Sprintf("%s08:%02d", date, m), "car", 2, toll.OnTime))
				}
			}
			closing := x.Closing(9, date+"09:00")
			closing.Windows = slices.DeleteFunc(closing.Windows, func(w toll.WindowCount) bool {
				return w.Start < dbtest.MinuteOf(t, date+"00:00")
			})
			assess := minutesFrom(t, 9, date+"08:00", date+"09:00", func(m toll.Minute) int64 {
				return dbtest.Int(t, s, `SELECT COUNT(*) FROM livetolldata WHERE timestamp = ?`,
					x.Zone.Wall(m.Time()).String())
			})
			closing.From, closing.Until, closing.Panes = assess.From, assess.Until, assess.Panes
			for line := range strings.Lines(x.StoreResults(r, closing)) {
				if strings.Contains(line, "→") {
					got += date[:10] + " " + line
				}
			}
		}
		want := `2022-02-03 9 no data→free at 08:03 since 08:01: 6 vehicles in 3 min; lanes and what is usual are not known
2022-03-03 9 free→below usual at 08:43 since 08:39: 4 vehicles in 15 min, usual are 30 (z −6.6)
`
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		a, err := s.Congestion(t.Context())
		if err != nil || a[9].State != traffic.BelowUsual || a[9].Last.Usual == nil ||
			a[9].Last.Usual.N != 4 || math.IsNaN(*a[9].Last.Z) {
			t.Errorf("got %+v, %v", a, err)
		}
		if n := dbtest.Int(t, s,
			`SELECT COUNT(*) FROM toll_congestion WHERE state = 'below_usual' AND usual_15m = 30
				AND usual_weeks = 4 AND z < -3`); n != 1 {
			t.Error("the columns differ from the assessment")
		}
		for ahead, want := range map[toll.Minute]float64{0: 120, 90: 120, 200: 0, -200: 0} {
			if got, err := s.UsualFlow(t.Context(), a[9].Until+ahead); got != want || err != nil {
				t.Errorf("usual %d minutes later: %v, %v, want %v", ahead, got, err, want)
			}
		}
	})
}

// FuzzAssessment: what toll_congestion and toll_transition hold as JSON is refused, or read and
// written as what it was, in memory by its size.
func FuzzAssessment(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{`{}`, `null`, `[]`,
		`{"state":"busy","since":5,"why":"x","first":1,"until":9,"last":{}}`, `{"state":"none"}`,
		`{"state":7}`, `{"last":{"vc":1e999}}`} {
		f.Add([]byte(text))
	}
	seed, err := json.Marshal(traffic.Assessment{State: traffic.Saturated, Since: -5, Why: "\u202e",
		First: -1 << 31, Until: 1<<31 - 1, Candidate: traffic.Busy, Streak: 3, Asked: 7, Quiet: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, text []byte) {
		var a traffic.Assessment
		var err error
		if n, most := dbtest.Allocated(func() { err = json.Unmarshal(text, &a) }),
			uint64(200*len(text)+64<<10); n > most {
			t.Fatalf("%d bytes allocated for %d", n, len(text))
		}
		if err != nil {
			return
		}
		written, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("%s became %+v: %v", text, a, err)
		}
		var again traffic.Assessment
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatalf("%s became %s: %v", text, written, err)
		}
		if rewritten, err := json.Marshal(again); err != nil || string(rewritten) != string(written) {
			t.Fatalf("%s became %s became %s, %v", text, written, rewritten, err)
		}
	})
}
