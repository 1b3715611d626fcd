package results_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// TestWindowPage walks through a plaza's windows page by page, and finds each once and in order.
func TestWindowPage(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "5m,15m,1h,day")
		for minute := range 120 {
			x.Store(0, dbtest.Pass(1, fmt.Sprintf("2022-02-10 %02d:%02d", 10+minute/60, minute%60), "car",
				1+minute%3, toll.OnTime),
				dbtest.Pass(2, "2022-02-10 10:03", "car", 1, toll.OnTime))
		}
		x.Store(1, dbtest.Pass(1, "2022-02-10 09:03", "car", 4, toll.TooLate))
		x.StoreResults(x.Results(), x.Closing(1, "2022-02-10 11:50"), x.Closing(2, "2022-02-10 11:50"))

		var want []string
		all, err := tables.ReadWindows(t.Context(), s.DB,
			"WHERE toll_plaza_id = 1 ORDER BY start_minute DESC, kind")
		if err != nil {
			t.Fatal(err)
		}
		name := func(kind string, start toll.Minute) string { return kind + " " + x.Clock(start) }
		for _, w := range all {
			want = append(want, name(w.Kind, w.Start))
		}
		if len(want) < 30 {
			t.Fatalf("%d windows: %v", len(want), want)
		}
		always := toll.Window{Start: math.MinInt32, End: math.MaxInt32}
		for _, kinds := range [][]string{{"5m", "15m", "1h", "day"}, {"15m"}, {"1h", "5m"}, {"2h"}, nil} {
			wanted := []string{}
			for i := range all {
				if slices.Contains(kinds, all[i].Kind) {
					wanted = append(wanted, want[i])
				}
			}
			for _, limit := range []int{1, 2, 7, len(want) - 1, len(want), len(want) + 1} {
				got := []string{}
				var before *results.WindowPosition
				for {
					page, err := s.WindowPage(t.Context(), 1, kinds, always, before, limit)
					if err != nil {
						t.Fatal(err)
					}
					if len(page) > limit {
						t.Fatalf("%d windows at once, want %d", len(page), limit)
					}
					for _, w := range page {
						if w.Plaza != 1 {
							t.Fatalf("a window of plaza %d", w.Plaza)
						}
						got = append(got, name(w.Kind, w.Start))
					}
					if len(page) < limit {
						break
					}
					before = &results.WindowPosition{page[len(page)-1].Start, page[len(page)-1].Kind}
				}
				if !slices.Equal(got, wanted) {
					t.Errorf("%v by %d:\ngot  %v\nwant %v", kinds, limit, got, wanted)
				}
			}
		}

		within := toll.Window{Start: dbtest.MinuteOf(t, "2022-02-10 10:00"),
			End: dbtest.MinuteOf(t, "2022-02-10 10:45")}
		for _, c := range []struct {
			before *results.WindowPosition
			want   []string
		}{
			{nil, []string{"15m 10:30", "15m 10:15", "15m 10:00", "1h 10:00"}},
			{&results.WindowPosition{Start: within.Start, Kind: "15m"}, []string{"1h 10:00"}},
			{&results.WindowPosition{Start: within.Start, Kind: "1h"}, nil},
			{&results.WindowPosition{Start: within.End + 15, Kind: "5m"},
				[]string{"15m 10:30", "15m 10:15", "15m 10:00", "1h 10:00"}},
		} {
			page, err := s.WindowPage(t.Context(), 1, []string{"15m", "1h"}, within, c.before, 10)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range page {
				got = append(got, name(w.Kind, w.Start))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("before %v: got %v, want %v", c.before, got, c.want)
			}
		}

		between, err := s.WindowsBetween(t.Context(), 1, "15m",
			toll.Window{Start: dbtest.MinuteOf(t, "2022-02-10 10:15"),
				End: dbtest.MinuteOf(t, "2022-02-10 11:00")})
		var got []string
		for _, w := range between {
			got = append(got, fmt.Sprint(name(w.Kind, w.Start), " ", w.Events()))
		}
		if want := []string{"15m 10:15 30", "15m 10:30 30", "15m 10:45 30"}; err != nil ||
			!slices.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	})
}

// TestUsualDay compares with what the assessment of congestion goes by.
func TestUsualDay(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "15m")
		for week, day := range []string{"01-20", "01-27", "02-03"} {
			x.Store(0, dbtest.Pass(1, "2022-"+day+" 08:00", "car", 1, toll.OnTime),
				dbtest.Pass(1, "2022-"+day+" 10:03", "car", 10+week, toll.OnTime))
		}
		x.StoreResults(x.Results(), x.Closing(1, "2022-02-10 00:00"))
		day := traffic.DayOf(x.Zone, dbtest.MinuteOf(t, "2022-02-10 12:00"))
		usual, _, err := s.UsualDay(t.Context(), 1, "15m", toll.NewZone(dbtest.Berlin), day, nil)
		if err != nil || usual == nil {
			t.Fatal(usual, err)
		}
		if got := usual.At(40); got.Median != 11 || got.N != 3 {
			t.Errorf("got %+v", got)
		}
		if got := usual.At(41); got.Median != 0 || got.N != 3 {
			t.Errorf("got %+v", got)
		}
		if none, _, err := s.UsualDay(t.Context(), 2, "15m", toll.NewZone(dbtest.Berlin), day,
			nil); none != nil || err != nil {
			t.Error(none, err)
		}
		// A holiday teaches its weekday nothing, and is compared with Sundays once there are three.
		named := traffic.Holidays(func(d int64) string {
			return map[int64]string{day - 7: "A holiday", day: "A holiday"}[d]
		})
		usual, off, err := s.UsualDay(t.Context(), 1, "15m", toll.NewZone(dbtest.Berlin), day, named)
		if err != nil || usual.At(40).N != 2 || off != nil {
			t.Errorf("%+v, %v, %v", usual.At(40), off, err)
		}
	})
}
