package traffic

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

func TestUsualOf(t *testing.T) {
	for _, c := range []struct {
		counts []int64
		want   Usual
	}{
		{nil, Usual{}},
		{[]int64{7}, Usual{7, 0, 1}},
		{[]int64{10, 20}, Usual{15, 5, 2}},
		{[]int64{61, 50, 70}, Usual{61, 9, 3}}, // deviations 0, 11, 9
		// deviations 1, 1, 839, 3: one odd week moves little
		{[]int64{60, 62, 900, 58}, Usual{61, 2, 4}},
		{[]int64{0, 0, 0, 5}, Usual{0, 0, 4}},                             // a quiet slot
		{[]int64{NoCount, 10, NoCount, 30, 20}, Usual{20, 10, 3}},         // weeks without a count
		{[]int64{1, 1, 1, 1, 1, 1, 1, 1, 99, 99, 99, 99}, Usual{1, 0, 8}}, // more than eight weeks back
		// so with a week that has none
		{[]int64{NoCount, 2, 2, 2, 2, 2, 2, 2, 99, 99, 99}, Usual{2, 0, 7}},
	} {
		if got := UsualOf(c.counts); got != c.want {
			t.Errorf("%v: got %+v, want %+v", c.counts, got, c.want)
		}
	}
	counts := []int64{3, 1, 2}
	if UsualOf(counts); counts[0] != 3 {
		t.Error("the counts were sorted")
	}
}

func TestUsualZ(t *testing.T) {
	for _, c := range []struct {
		usual Usual
		x     float64
		want  string
	}{
		{Usual{100, 20, 2}, 100, "none"}, // too few weeks
		{Usual{100, 20, 3}, 100, "0"},
		{Usual{100, 20, 3}, 40, "-2.0235"}, // −60/29.652
		{Usual{100, 20, 8}, 159.304, "2"},  // 59.304/29.652
		{Usual{100, 0, 8}, 70, "-3"},       // √100, where nothing ever varied
		{Usual{100, 6, 8}, 70, "-3"},       // 1.4826·6 is less than √100
		{Usual{0, 0, 8}, 2, "2"},           // one vehicle at least
		{Usual{0.5, 0.5, 8}, 2, "1.5"},     // 1.4826·0.5 too
		{Usual{9, 0, 8}, 0, "-3"},          // the fewest of which none at all is z −3
		{Usual{8, 0, 8}, 0, "-2.8284"},     // −√8
		{Usual{0, 0, 8}, math.MaxInt64, "9.2234e+18"},
	} {
		got := "none"
		if z, ok := c.usual.Z(c.x); ok {
			got = fmt.Sprintf("%.5g", z)
		}
		if got != c.want {
			t.Errorf("%+v, %v: z %s, want %s", c.usual, c.x, got, c.want)
		}
	}
}

// minuteAt returns the minute of an instant that is written in UTC.
func minuteAt(t testing.TB, utc string) toll.Minute {
	t.Helper()
	return zoneOf(t, "UTC").Minute(wall(t, utc+":00"))
}

func TestSlotOf(t *testing.T) {
	for _, c := range []struct {
		zone, utc string
		weekday   time.Weekday
		slot      int
	}{
		{"UTC", "1970-01-01 00:00", time.Thursday, 0},
		{"UTC", "1969-12-31 23:59", time.Wednesday, 95},
		{"UTC", "1969-12-28 12:14", time.Sunday, 48},
		{"UTC", "2022-02-10 10:29", time.Thursday, 41},
		{"Europe/Berlin", "2022-02-10 10:30", time.Thursday, 46},
		{"Europe/Berlin", "2022-02-10 23:00", time.Friday, 0},
		{"Asia/Kathmandu", "2022-02-12 18:15", time.Sunday, 0}, // +05:45
		{"America/Chicago", "2022-02-13 05:59", time.Saturday, 95},
		// Clocks go back from 03:00 to 02:00 in Berlin: both 02:10 are in one slot.
		{"Europe/Berlin", "2022-10-30 00:10", time.Sunday, 8},
		{"Europe/Berlin", "2022-10-30 01:10", time.Sunday, 8},
		{"Europe/Berlin", "2022-10-30 02:10", time.Sunday, 12},
		// Forward from 02:00 to 03:00.
		{"Europe/Berlin", "2022-03-27 00:59", time.Sunday, 7},
		{"Europe/Berlin", "2022-03-27 01:00", time.Sunday, 12},
	} {
		z, m := zoneOf(t, c.zone), minuteAt(t, c.utc)
		if weekday, slot := SlotOf(z, m); weekday != c.weekday || slot != c.slot {
			t.Errorf("%s, %s: %s, slot %d; want %s, slot %d", c.zone, c.utc, weekday, slot, c.weekday,
				c.slot)
		}
		if got := m.Time().In(z.Location()); DayOf(z, m)*86400 != time.Date(got.Year(), got.Month(),
			got.Day(), 0, 0, 0, 0, time.UTC).Unix() {
			t.Errorf("%s, %s: day %d", c.zone, c.utc, DayOf(z, m))
		}
	}
}

func TestNewDayCounts(t *testing.T) {
	for _, c := range []struct {
		zone, date string
		without    string // slots without a count
	}{
		{"UTC", "2022-03-27", "[]"},
		{"Europe/Berlin", "2022-03-26", "[]"},
		{"Europe/Berlin", "2022-03-27", "[8 9 10 11]"}, // 02:00 to 03:00 never was
		{"Europe/Berlin", "2022-10-30", "[11]"},        // from the first 02:45 to 03:00 are 75 minutes
		{"Australia/Lord_Howe", "2022-10-02", "[8 9]"}, // half an hour
		{"Australia/Lord_Howe", "2022-04-03", "[7]"},
	} {
		day, _ := wall(t, c.date+" 12:00:00").Day()
		counts := NewDayCounts(zoneOf(t, c.zone), day)
		without := []int{}
		for slot, n := range counts {
			if counts.Add(slot, 5); n == NoCount {
				without = append(without, slot)
			}
			if want := n; (want == NoCount) != (counts[slot] == NoCount) || want == 0 && counts[slot] != 5 {
				t.Errorf("%s, %s: slot %d holds %d", c.zone, c.date, slot, counts[slot])
			}
		}
		if got := fmt.Sprint(without); got != c.without {
			t.Errorf("%s, %s: no count in %s, want %s", c.zone, c.date, got, c.without)
		}
	}
}

func TestUsualDayOf(t *testing.T) {
	week := func(slot int, n int64) DayCounts {
		c := NewDayCounts(zoneOf(t, "UTC"), 0)
		c.Add(slot, n)
		return c
	}
	weeks := []DayCounts{week(5, 10), week(0, 0), week(5, 30), week(6, 1), {}, {}, {}, {},
		week(5, 1000)}
	day := UsualDayOf(weeks)
	// Of eight weeks three were recorded; in the third of them nothing passed in slot 5.
	if got, want := day.At(5), (Usual{10, 10, 3}); got != want {
		t.Errorf("slot 5: got %+v, want %+v", got, want)
	}
	if got, want := day.At(6), (Usual{0, 0, 3}); got != want {
		t.Errorf("slot 6: got %+v, want %+v", got, want)
	}
	if none := UsualDayOf(nil); none.At(3) != (Usual{}) {
		t.Errorf("of no week: %+v", none.At(3))
	}
	if got := (*UsualDay)(nil).At(3); got != (Usual{}) {
		t.Errorf("of no day: %+v", got)
	}
}

func TestUsualAt(t *testing.T) {
	berlin := zoneOf(t, "Europe/Berlin")
	// Every slot's median is its number, and 1000 more on Sundays; its MAD a tenth of it. Mondays are
	// not known.
	days := func(day int64) *UsualDay {
		var u UsualDay
		for slot := range u {
			n := float64(slot)
			if WeekdayOf(day) == time.Sunday {
				n += 1000
			}
			u[slot] = Usual{n, n / 10, 4}
		}
		if WeekdayOf(day) == time.Monday {
			return nil
		}
		return &u
	}
	for _, c := range []struct {
		end  string // in UTC
		want Usual
	}{
		{"2022-02-10 10:15", Usual{44, 4.4, 4}},                         // [11:00, 11:15) is slot 44
		{"2022-02-10 10:16", Usual{44 + 1./15, (44 + 1./15) / 10, 4}},   // a minute of slot 45
		{"2022-02-10 10:25", Usual{44 + 10./15, (44 + 10./15) / 10, 4}}, // ten
		{"2022-02-10 10:30", Usual{45, 4.5, 4}},
		// Saturday to Sunday
		{"2022-02-12 23:05", Usual{(10*95. + 5*1000.) / 15, (10*95. + 5*1000.) / 150, 4}},
		// the last of Sunday
		{"2022-02-13 23:00", Usual{1095, 109.5, 4}},
		// into what is not known
		{"2022-02-13 23:01", Usual{14 * 1095. / 15, 14 * 109.5 / 15, 0}},
		// from 01:50 to 03:05, as clocks go forward
		{"2022-03-27 01:05", Usual{1000 + (10*7+5*12.)/15, 100 + (10*7+5*12.)/150, 4}},
	} {
		got := UsualAt(berlin, minuteAt(t, c.end), days)
		if math.Abs(got.Median-c.want.Median) > 1e-9 || math.Abs(got.MAD-c.want.MAD) > 1e-9 ||
			got.N != c.want.N {
			t.Errorf("%s: got %+v, want %+v", c.end, got, c.want)
		}
	}
}
