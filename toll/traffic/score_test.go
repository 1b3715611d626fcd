package traffic

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// realYear is a year of a highway as events: see testdata/README.md.
type realYear struct {
	zone     *toll.Zone
	start    toll.Minute
	counts   []int64          // by minute
	holidays map[int64]string // by date
	days     map[int64]*DayCounts
	usual    map[int64]*UsualDay
}

// readYear turns hourly volumes into vehicles: share of them, independent of each other, at a rate
// that is linear from the middle of an hour to the middle of the next one that is known.
func readYear(t testing.TB, share float64, seed uint64) *realYear {
	t.Helper()
	file, err := os.Open("testdata/i94-2016-10--2017-09.csv.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	packed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(packed).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	y := &realYear{zone: zoneOf(t, "America/Chicago"), holidays: map[int64]string{},
		days: map[int64]*DayCounts{}, usual: map[int64]*UsualDay{}}
	var middles []toll.Minute
	var perMinute []float64
	for _, row := range rows[1:] {
		hour := y.zone.Minute(wall(t, row[0]+":00"))
		volume, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		middles, perMinute = append(middles, hour+30), append(perMinute, volume/60*share)
		if row[2] != "" {
			y.holidays[DayOf(y.zone, hour)] = row[2]
		}
	}
	y.start = middles[0] - 30
	r := rand.New(rand.NewPCG(seed, 17))
	next := 0
	for m := y.start; m < middles[len(middles)-1]+30; m++ {
		for next < len(middles)-1 && middles[next] <= m {
			next++
		}
		rate := perMinute[next]
		if next > 0 {
			rate = perMinute[next-1] + (rate-perMinute[next-1])*
				min(float64(m-middles[next-1])/float64(middles[next]-middles[next-1]), 1)
		}
		n := poisson(r, rate)
		y.counts = append(y.counts, n)
		day, minute := localMinute(y.zone, m)
		if y.days[day] == nil {
			y.days[day] = new(NewDayCounts(y.zone, day))
		}
		y.days[day].Add(minute/toll.Quarter, n)
	}
	return y
}

func (y *realYear) end() toll.Minute { return y.start + toll.Minute(len(y.counts)) }

// basis knows on each date what the weeks before it show.
func (y *realYear) basis() *Basis {
	return &Basis{Plaza: toll.Plaza{ID: 1}, Zone: y.zone, Usual: func(day int64) *UsualDay {
		if u, known := y.usual[day]; known {
			return u
		}
		weeks := y.counted(Holidays(nil).WeeksBefore(day))
		y.usual[day] = nil
		if len(weeks) > 0 {
			y.usual[day] = new(UsualDayOf(weeks))
		}
		return y.usual[day]
	}}
}

// calendar knows the holidays too.
func (y *realYear) calendar() *Basis {
	holidays := Holidays(func(day int64) string { return y.holidays[day] })
	return &Basis{Plaza: toll.Plaza{ID: 1}, Zone: y.zone, Holidays: holidays,
		Usual: func(day int64) *UsualDay {
			return new(UsualDayOf(y.counted(holidays.WeeksBefore(day))))
		},
		DayOff: func(day int64) *DayOff {
			sundays, earlier := holidays.DaysOffBefore(day)
			return DayOffOf(y.counted(sundays), y.counted(earlier))
		}}
}

// counted returns what passed on those of some dates that are known.
func (y *realYear) counted(days []int64) (counts []DayCounts) {
	for _, day := range days {
		if c := y.days[day]; c != nil {
			counts = append(counts, *c)
		}
	}
	return counts
}

// panes returns those of [from, until), with times as many vehicles from onset on.
func (y *realYear) panes(r *rand.Rand, from, until, onset toll.Minute, times float64) []toll.Pane {
	var panes []toll.Pane
	for m := max(from, y.start); m < until; m++ {
		n := y.counts[m-y.start]
		switch {
		case m < onset:
		case times > 1:
			n += poisson(r, float64(n)*(times-1))
		default:
			for range n {
				if r.Float64() >= times {
					n--
				}
			}
		}
		if n > 0 {
			panes = append(panes, toll.Pane{Start: m, Types: []toll.TypeCount{{Type: "car", Count: n}}})
		}
	}
	return panes
}

// ordinary reports whether a date is neither a holiday nor next to one.
func (y *realYear) ordinary(day int64) bool {
	return y.holidays[day-1] == "" && y.holidays[day] == "" && y.holidays[day+1] == ""
}

// score is how a part of a year went.
type score struct {
	days         int // ordinary ones
	above, below int // alarms on these
	drops, rises found
}

func (s *score) perWeek(alarms int) float64 { return float64(alarms) * 7 / float64(s.days) }

// found counts incidents by how soon they were detected.
type found struct{ in20, in30, all int }

func (f *found) add(after toll.Minute) {
	f.all++
	if after <= 20 {
		f.in20++
	}
	if after <= 30 {
		f.in30++
	}
}

func (f *found) shares() (in20, in30 float64) {
	return 100 * float64(f.in20) / float64(f.all), 100 * float64(f.in30) / float64(f.all)
}

func (s *score) String() string {
	drops20, drops30 := s.drops.shares()
	rises20, rises30 := s.rises.shares()
	return fmt.Sprintf("%.2f above and %.2f below usual a week; −40 %%: %.1f %% in 20 min, "+
		"%.1f %% in 30; +50 %%: %.1f %%, %.1f %%", s.perWeek(s.above), s.perWeek(s.below), drops20,
		drops30, rises20, rises30)
}

const (
	warmUp    = 7 * 7 * oneDay
	never     = toll.Minute(math.MaxInt32)
	incidents = 1000
)

// judgeYear judges the year, then adds incidents to it. It returns the scores of the first nine
// months and of the last three, with the holidays by the time of day that they were below usual.
func judgeYear(t testing.TB, y *realYear) (first, last score, holidays map[string]string) {
	by := y.basis()
	part := func(m toll.Minute) *score {
		if m < y.zone.Minute(wall(t, "2017-07-01 00:00:00")) {
			return &first
		}
		return &last
	}
	var a Assessment
	var hours []Assessment // before each
	var changes []Transition
	for m := y.start; m < y.end(); m += 60 {
		hours = append(hours, a)
		changes = append(changes, a.Run(y.panes(nil, m-60, m+60, never, 1), m, m+60, by)...)
	}
	for m := y.start + warmUp; m < y.end(); m += oneDay {
		if y.ordinary(DayOf(y.zone, m)) {
			part(m).days++
		}
	}
	clock := func(m toll.Minute, format string) string {
		return m.Time().In(y.zone.Location()).Format(format)
	}
	holidays = map[string]string{}
	since := map[State]toll.Minute{}
	for _, c := range changes {
		day := DayOf(y.zone, c.Detected)
		if _, known := holidays[y.holidays[day]]; c.To == BelowUsual && !known {
			holidays[y.holidays[day]] = clock(c.Detected, "15:04")
		}
		if c.To != BelowUsual && c.To != AboveUsual || c.Detected < y.start+warmUp ||
			!y.ordinary(day) || since[c.To] != 0 && c.Detected-since[c.To] < 120 {
			continue
		}
		since[c.To] = c.Detected
		if c.To == AboveUsual {
			part(c.Detected).above++
		} else {
			part(c.Detected).below++
		}
		t.Logf("%s %s: %s", clock(c.Detected, "Mon 2006-01-02 15:04"), c.To, c.Why)
	}

	r := rand.New(rand.NewPCG(5, 9))
	for n := 0; n < incidents; {
		hour := r.IntN(len(hours))
		m := y.start + toll.Minute(60*hour)
		weekday, slot := SlotOf(y.zone, m)
		if m < y.start+warmUp || !y.ordinary(DayOf(y.zone, m)) || weekday == time.Saturday ||
			weekday == time.Sunday || slot < SlotsPerDay*6/24 || slot >= SlotsPerDay*20/24 {
			continue
		}
		n++
		detected := func(times float64, want State) toll.Minute {
			a := hours[hour]
			if a.State == want {
				return 0
			}
			for _, c := range a.Run(y.panes(r, m-60, m+60, m, times), m, m+60, by) {
				if c.To == want {
					return c.Detected - m
				}
			}
			return never
		}
		part(m).drops.add(detected(0.6, BelowUsual))
		part(m).rises.add(detected(1.5, AboveUsual))
	}
	return first, last, holidays
}

// emptyHolidays are those that empty the road.
var emptyHolidays = []string{"Thanksgiving Day", "Christmas Day", "New Years Day", "Memorial Day",
	"Independence Day", "Labor Day"}

// TestScore judges a year of real counts, one plaza without a capacity. With -v it lists the
// alarms. The constants of the detector were chosen by the first nine months.
func TestScore(t *testing.T) {
	t.Parallel()
	y := readYear(t, 0.2, 1)
	first, last, holidays := judgeYear(t, y)
	t.Logf("first nine months: %s", &first)
	t.Logf("last three months: %s", &last)
	t.Logf("holidays below usual since: %v", holidays)
	for _, s := range []score{first, last} {
		if s.perWeek(s.above) > 0.8 || s.perWeek(s.below) > 0.7 {
			t.Errorf("too many alarms: %s", &s)
		}
		drops20, drops30 := s.drops.shares()
		rises20, rises30 := s.rises.shares()
		if drops20 < 93 || drops30 < 97 || rises20 < 85 || rises30 < 95 {
			t.Errorf("too few incidents found in time: %s", &s)
		}
	}
	for _, holiday := range emptyHolidays {
		if at := holidays[holiday]; at == "" || at > "12:00" {
			t.Errorf("%s: below usual at %q, want by noon", holiday, at)
		}
	}
}

// TestHolidayByCalendar judges the holidays of the real year: with a calendar, those that empty the
// road are like a Sunday from the morning on, and fewer of all holidays begin an incident.
func TestHolidayByCalendar(t *testing.T) {
	t.Parallel()
	y := readYear(t, 0.2, 1)
	incidents := map[bool]int{}
	for day, name := range y.holidays {
		midnight := y.zone.Boundary(toll.WallTime(day * 86400))
		if midnight < y.start+warmUp {
			continue
		}
		for calendar, by := range map[bool]*Basis{false: y.basis(), true: y.calendar()} {
			var a Assessment
			atNoon, below := "", false
			for m := midnight - oneDay; m < midnight+oneDay; m += 60 {
				for _, c := range a.Run(y.panes(nil, m-60, m+60, never, 1), m, m+60, by) {
					if c.Detected > midnight && !c.To.Calm() {
						incidents[calendar]++
						below = below || c.To == BelowUsual && c.Detected <= midnight+oneDay/2
						t.Logf("%s, calendar %t: %s %s", name, calendar,
							c.Detected.Time().In(y.zone.Location()).Format("15:04"), c.Why)
					}
				}
				if m == midnight+11*60 {
					atNoon = a.State.String() + ": " + a.Why
				}
			}
			t.Logf("%s, calendar %t: at noon %s", name, calendar, atNoon)
			if calendar && slices.Contains(emptyHolidays, name) && !below &&
				!strings.HasSuffix(atNoon, "like a Sunday") {
				t.Errorf("%s: at noon %s", name, atNoon)
			}
		}
	}
	if t.Logf("incidents on holidays: %v", incidents); incidents[true] >= incidents[false] {
		t.Errorf("the calendar spares no incident: %v", incidents)
	}
}

// TestScoreElsewhere shows what a plaza's size and chance do to the scores.
func TestScoreElsewhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		share         float64
		seed          uint64
		drops, rises  float64 // found in 30 min, in percent at least
		alarmsPerWeek float64 // of both kinds, at most
	}{
		{0.2, 2, 97, 95, 1.2},
		{0.4, 1, 99, 98, 1.4}, // the counts of a quarter stray less by chance, and real events show
		{0.04, 1, 30, 25, 0.8},
	} {
		first, last, _ := judgeYear(quietly{t}, readYear(t, c.share, c.seed))
		t.Logf("%v of the vehicles, seed %d: first nine months: %s", c.share, c.seed, &first)
		t.Logf("%v of the vehicles, seed %d: last three months: %s", c.share, c.seed, &last)
		_, drops := first.drops.shares()
		_, rises := first.rises.shares()
		if drops < c.drops || rises < c.rises ||
			first.perWeek(first.above+first.below) > c.alarmsPerWeek {
			t.Errorf("%v of the vehicles, seed %d: %s", c.share, c.seed, &first)
		}
	}
}

// quietly logs nothing.
type quietly struct{ testing.TB }

func (quietly) Logf(string, ...any) {}
