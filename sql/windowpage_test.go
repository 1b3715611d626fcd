package sql

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// TestWindowPage walks through a plaza's windows page by page, and finds each once and in order.
func TestWindowPage(t *testing.T) {
	onEngines(t, func(t *testing.T, s *testStore) {
		x := newWindowed(t, s, "5m,15m,1h,day")
		for minute := range 120 {
			x.store(0, passage{1, fmt.Sprintf("2022-02-10 %02d:%02d", 10+minute/60, minute%60), "car",
				1 + minute%3, toll.OnTime},
				passage{2, "2022-02-10 10:03", "car", 1, toll.OnTime})
		}
		x.store(1, passage{1, "2022-02-10 09:03", "car", 4, toll.TooLate})
		x.settle(x.results(), x.closing(1, "2022-02-10 11:50"), x.closing(2, "2022-02-10 11:50"))

		var want []string
		all, err := readWindows(t.Context(), s.db,
			"WHERE toll_plaza_id = 1 ORDER BY start_minute DESC, kind")
		if err != nil {
			t.Fatal(err)
		}
		name := func(kind string, start toll.Minute) string { return kind + " " + x.clock(start) }
		for _, w := range all {
			want = append(want, name(w.Kind, w.Start))
		}
		if len(want) < 30 {
			t.Fatalf("%d windows: %v", len(want), want)
		}
		for _, kinds := range [][]string{{"5m", "15m", "1h", "day"}, {"15m"}, {"1h", "5m"}, {"2h"}, nil} {
			wanted := []string{}
			for i := range all {
				if slices.Contains(kinds, all[i].Kind) {
					wanted = append(wanted, want[i])
				}
			}
			for _, limit := range []int{1, 2, 7, len(want) - 1, len(want), len(want) + 1} {
				got := []string{}
				var before *WindowPosition
				for {
					page, err := s.WindowPage(t.Context(), 1, kinds, before, limit)
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
					before = &WindowPosition{page[len(page)-1].Start, page[len(page)-1].Kind}
				}
				if !slices.Equal(got, wanted) {
					t.Errorf("%v by %d:\ngot  %v\nwant %v", kinds, limit, got, wanted)
				}
			}
		}

		between, err := s.WindowsBetween(t.Context(), 1, "15m",
			toll.Window{Start: minuteOf(t, "2022-02-10 10:15"), End: minuteOf(t, "2022-02-10 11:00")})
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
	onEngines(t, func(t *testing.T, s *testStore) {
		x := newWindowed(t, s, "15m")
		for week, day := range []string{"01-20", "01-27", "02-03"} {
			x.store(0, passage{1, "2022-" + day + " 08:00", "car", 1, toll.OnTime},
				passage{1, "2022-" + day + " 10:03", "car", 10 + week, toll.OnTime})
		}
		x.settle(x.results(), x.closing(1, "2022-02-10 00:00"))
		day := traffic.DayOf(x.zone, minuteOf(t, "2022-02-10 12:00"))
		usual, err := s.UsualDay(t.Context(), 1, "15m", toll.NewZone(berlin), day)
		if err != nil || usual == nil {
			t.Fatal(usual, err)
		}
		if got, want := usual.At(40), (traffic.Usual{Median: 11, MAD: 1, N: 3}); !reflect.DeepEqual(got,
			want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := usual.At(41); got.Median != 0 || got.N != 3 {
			t.Errorf("got %+v", got)
		}
		if none, err := s.UsualDay(t.Context(), 2, "15m", toll.NewZone(berlin), day); none != nil ||
			err != nil {
			t.Error(none, err)
		}
	})
}
