package traffic

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

func TestUsualZ(t *testing.T) {
	for _, c := range []struct {
		usual Usual
		x     float64
		want  string
	}{
		{Usual{Median: 100, MAD: 20, N: 2}, 100, "none"}, // too few weeks
		{Usual{Median: 100, MAD: 20, N: 3}, 100, "0"},
		{Usual{Median: 100, MAD: 20, N: 3}, 40, "-2.556"}, // 3·(∛(43/103) − 1)·100/29.652
		{Usual{Median: 100, MAD: 20, N: 8}, 160, "1.673"},
		{Usual{Median: 100, MAD: 0, N: 8}, 70, "-3.253"}, // √100, where nothing ever varied
		{Usual{Median: 100, MAD: 6, N: 8}, 70, "-3.253"}, // 1.4826·6 is less than √100
		{Usual{Median: 0, MAD: 0, N: 8}, 2, "0.5569"},    // one vehicle at least
		{Usual{Median: 0.5, MAD: 0.5, N: 8}, 2, "0.3787"},
		{Usual{Median: 10, MAD: 0, N: 8}, 0, "-3.668"}, // the fewest of which none at all is below usual
		{Usual{Median: 9, MAD: 0, N: 8}, 0, "-3.33"},
		{Usual{Median: 0, MAD: 0, N: 8}, math.MaxInt64, "4.362e+06"},
	} {
		got := "none"
		if z, ok := c.usual.Z(c.x); ok {
			got = fmt.Sprintf("%.4g", z)
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
	for slot, want := range map[int]float64{4: 0, 5: 10, 6: 0} {
		if got := day.At(slot); got.Median != want || got.N != 3 {
			t.Errorf("slot %d: got %+v, want %v", slot, got, want)
		}
	}
	if none := UsualDayOf(nil); none.At(3) != (Usual{}) {
		t.Errorf("of no week: %+v", none.At(3))
	}
	if got := (*UsualDay)(nil).At(3); got != (Usual{}) {
		t.Errorf("of no day: %+v", got)
	}
}

// flat returns days on which counts go up and down by turns, at some levels.
func flat(t *testing.T, levels ...float64) []DayCounts {
	days := make([]DayCounts, len(levels))
	for i, level := range levels {
		days[i] = NewDayCounts(zoneOf(t, "UTC"), 0)
		for slot := range days[i] {
			n := 100.0
			if (slot/2+i)%2 == 0 {
				n = 120
			}
			days[i].Add(slot, int64(n*level))
		}
	}
	return days
}

func TestUsualSpread(t *testing.T) {
	ordinary := UsualDayOf(flat(t, 1, 1, 1, 1, 1, 1))
	for slot := range ordinary {
		u := ordinary.At(slot)
		if u.Median != 110 || u.Scale() < 12 || u.Scale() > 21 || u.N != 6 {
			t.Errorf("slot %d: %+v, scale %v", slot, u, u.Scale())
		}
	}
	// Two holidays do not count, and a level that lasts all day adds little to the spread.
	if got := UsualDayOf(flat(t, 1, 0.5, 1, 1, 0.6, 1, 1, 1)); got != ordinary {
		t.Errorf("with holidays: %+v, want %+v", got.At(40), ordinary.At(40))
	}
	season := UsualDayOf(flat(t, 0.9, 0.95, 1, 1, 1.05, 1.1))
	if u := season.At(40); u.Scale() > 1.3*ordinary[40].Scale() {
		t.Errorf("in another season: %+v, want as of %+v", u, ordinary[40])
	}
	// Of three weeks none is left out.
	if got := UsualDayOf(flat(t, 1, 0.5, 1)); got.At(40).N != 3 {
		t.Errorf("of three weeks: %+v", got.At(40))
	}
}

func TestQuantileOf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for range 500 {
		var lists [][]float64
		var all []float64
		for range 1 + r.IntN(3) {
			var list []float64
			for range r.IntN(6) {
				list = append(list, float64(r.IntN(9)))
			}
			slices.Sort(list)
			lists, all = append(lists, list), append(all, list...)
		}
		slices.Sort(all)
		want := 0.0
		if len(all) > 0 {
			want = all[int(float64(len(all)-1)*spreadQuantile)]
		}
		if got := quantileOf(lists, spreadQuantile); got != want {
			t.Fatalf("%v: %v, want %v", lists, got, want)
		}
	}
}

func TestBand(t *testing.T) {
	for _, u := range []Usual{{Median: 100, N: 8}, {Median: 100, MAD: 10, N: 8},
		{Median: 10, N: 8}, {Median: 1, MAD: 1, N: 8}, {Median: 2000, MAD: 20, N: 8, Peak: 5000}} {
		low, high := u.Band()
		for n := range int64(3000) {
			m := Measure{End: 100, Count15: n, Count60: 4 * n}
			m.Against(u)
			a := Assessment{State: Free, First: 1}
			got := a.asks(&m)
			if x := float64(n); n > 0 && got == BelowUsual && x > low || got == AboveUsual && x < high ||
				got == Free && (x < low-1e-9 && u.Median >= fewVehicles || x > high+1e-9 && n >= fewVehicles) {
				t.Errorf("%+v: %d is %s, band %v to %v", u, n, got, low, high)
			}
		}
	}
}

func TestLevel(t *testing.T) {
	var l Level
	if got := l.Ratio(0); got != 1 {
		t.Errorf("of nothing: %v", got)
	}
	for range 20 {
		l.Follow(80, 100)
	}
	if got := l.Ratio(100); got < 0.8 || got > 0.84 {
		t.Errorf("of 80 where 100 are usual: %v", got)
	}
	// A few vehicles at night say little of the rush hour.
	if got := l.Ratio(2000); got < 0.93 {
		t.Errorf("before the rush hour: %v", got)
	}
	// Reports that are missing are no level.
	before := l.Ratio(100)
	for range 20 {
		l.Follow(0, 100)
	}
	if got := l.Ratio(100); math.Abs(got-before) > 0.01 {
		t.Errorf("after silence: %v, before %v", got, before)
	}
	// An incident is compared with what was before it.
	l.Follow(20, 100)
	if got := l.Ratio(100); math.Abs(got-before) > 0.01 {
		t.Errorf("as it begins: %v, before %v", got, before)
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
			u[slot] = Usual{Median: n, MAD: n / 10, N: 4}
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
		// [11:00, 11:15) is slot 44
		{"2022-02-10 10:15", Usual{Median: 44, MAD: 4.4, N: 4}},
		// a minute of slot 45
		{"2022-02-10 10:16", Usual{Median: 44 + 1./15, MAD: (44 + 1./15) / 10, N: 4}},
		{"2022-02-10 10:25", Usual{Median: 44 + 10./15, MAD: (44 + 10./15) / 10, N: 4}}, // ten
		{"2022-02-10 10:30", Usual{Median: 45, MAD: 4.5, N: 4}},
		// Saturday to Sunday
		{"2022-02-12 23:05", Usual{Median: (10*95. + 5*1000.) / 15, MAD: (10*95. + 5*1000.) / 150, N: 4}},
		// the last of Sunday
		{"2022-02-13 23:00", Usual{Median: 1095, MAD: 109.5, N: 4}},
		// into what is not known
		{"2022-02-13 23:01", Usual{Median: 14 * 1095. / 15, MAD: 14 * 109.5 / 15, N: 0}},
		// from 01:50 to 03:05, as clocks go forward
		{"2022-03-27 01:05", Usual{Median: 1000 + (10*7+5*12.)/15, MAD: 100 + (10*7+5*12.)/150, N: 4}},
	} {
		got, _ := UsualAt(berlin, minuteAt(t, c.end), days)
		if math.Abs(got.Median-c.want.Median) > 1e-9 || math.Abs(got.MAD-c.want.MAD) > 1e-9 ||
			got.N != c.want.N {
			t.Errorf("%s: got %+v, want %+v", c.end, got, c.want)
		}
	}
}

func BenchmarkUsualDayOf(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	z := zoneOf(b, "Europe/Berlin")
	rate := weekdayRate(40, 370)
	weeks := make([]DayCounts, HistoryWeeks)
	for i := range weeks {
		weeks[i] = NewDayCounts(z, 0)
		for _, p := range traffic(r, 0, oneDay, rate) {
			_, slot := SlotOf(z, p.Start)
			weeks[i].Add(slot, p.Count())
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		UsualDayOf(weeks)
	}
}

func dateOf(t *testing.T, date string) int64 {
	t.Helper()
	at, err := time.Parse(time.DateOnly, date)
	if err != nil {
		t.Fatal(err)
	}
	return at.Unix() / 86400
}

func TestFederalHolidays(t *testing.T) {
	want := map[string]string{
		"2026-01-01": "New Year's Day", "2026-01-19": "Martin Luther King Day",
		"2026-02-16": "Presidents' Day", "2026-05-25": "Memorial Day", "2026-06-19": "Juneteenth",
		"2026-07-03": "Independence Day", "2026-07-04": "Independence Day", // a Saturday
		"2026-09-07": "Labor Day", "2026-10-12": "Columbus Day", "2026-11-11": "Veterans Day",
		"2026-11-26": "Thanksgiving", "2026-12-25": "Christmas Day",
	}
	for day := dateOf(t, "2026-01-01"); day < dateOf(t, "2027-01-01"); day++ {
		date := time.Unix(day*86400, 0).UTC().Format(time.DateOnly)
		if got := FederalHolidays(day); got != want[date] {
			t.Errorf("%s: %q, want %q", date, got, want[date])
		}
	}
	if got := FederalHolidays(dateOf(t, "2023-01-02")); got != "New Year's Day" { // of a Sunday
		t.Errorf("observed on Monday: %q", got)
	}
}

func TestParseHolidays(t *testing.T) {
	holidays, err := ParseHolidays("date,name\n# Bavaria\n\n2026-08-15, Mariä Himmelfahrt \n" +
		"2026-12-26,St. Stephen, the day after\n")
	if err != nil {
		t.Fatal(err)
	}
	for date, want := range map[string]string{"2026-08-15": "Mariä Himmelfahrt",
		"2026-12-26": "St. Stephen, the day after", "2026-12-25": ""} {
		if got := holidays(dateOf(t, date)); got != want {
			t.Errorf("%s: %q, want %q", date, got, want)
		}
	}
	_, err = ParseHolidays("2026-02-30,Leap\n2026-12-25\n")
	if err == nil || !strings.Contains(err.Error(), `line 1 is "2026-02-30,Leap"`) ||
		!strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}

// Half of the usual all day is below usual, and by noon like a holiday; a road that is closed is
// not.
func TestKindOfDay(t *testing.T) {
	utc := zoneOf(t, "UTC")
	rate := weekdayRate(60, 200)
	for _, c := range []struct {
		share    float64
		holidays Holidays
		want     string // of the reason at noon, from its second sentence on
	}{
		{0.5, nil, "for 6 h, like a holiday"},
		{0.5, func(int64) string { return "Memorial Day" }, "Memorial Day"},
		{0.05, nil, ""},
	} {
		r := rand.New(rand.NewPCG(1, 12))
		by := &Basis{Zone: utc, Usual: learned(r, utc, rate), Holidays: c.holidays}
		panes := traffic(r, 0, oneDay, func(m toll.Minute) float64 {
			if m < 5*60 {
				return rate(m)
			}
			return c.share * rate(m)
		})
		var a Assessment
		changes := a.Run(panes, 0, oneDay/2, by)
		if _, kind, _ := strings.Cut(a.Why, "; "); a.State != BelowUsual || kind != c.want {
			t.Errorf("%v of the usual: %s, %q, want %q", c.share, a.State, a.Why, c.want)
		}
		last := changes[len(changes)-1]
		if c.holidays != nil && !strings.HasSuffix(last.Why, "; Memorial Day") {
			t.Errorf("the change says %q", last.Why)
		}
	}
}
