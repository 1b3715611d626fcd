package simulate

import (
	"math"
	"slices"
	"testing"
	"time"
)

// dayNumber counts a date from 1970-01-01.
func dayNumber(year int, month time.Month, day int) int64 {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

func robustDeviation(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	middle := x[len(x)/2]
	for i := range x {
		x[i] = math.Abs(x[i] - middle)
	}
	slices.Sort(x)
	return 1.4826 * x[len(x)/2]
}

func correlation(pairs [][2]float64) float64 {
	var x, y, xx, yy, xy float64
	for _, p := range pairs {
		x, y = x+p[0], y+p[1]
		xx, yy, xy = xx+p[0]*p[0], yy+p[1]*p[1], xy+p[0]*p[1]
	}
	n := float64(len(pairs))
	return (xy - x*y/n) / math.Sqrt((xx-x*x/n)*(yy-y*y/n))
}

// TestVariationIsAsMeasured computes of ten simulated years what was measured of the real one, in
// the same way: each hour against the median of the same hour of the weekday in the four weeks
// before and after. The bounds are the measured values, in the comment behind each, and what a
// single year may differ from its likes.
func TestVariationIsAsMeasured(t *testing.T) {
	v := newVariation(1, 7, scramble(4007))
	first, last := dayNumber(2016, time.October, 1), dayNumber(2026, time.September, 30)
	shape := newShape(DefaultPeak, true)
	volumes := map[int64]*[24]float64{}
	for day := first - 28; day <= last+28; day++ {
		hours := new([24]float64)
		for minute := 5; minute < minutesPerDay; minute += 10 {
			hours[minute/60] += shape.minute(day, minute) * v.factor(day, minute)
		}
		volumes[day] = hours
	}
	holiday := func(day int64) bool { _, ok := holidayOn(day); return ok }
	usual := func(day int64, hour int) float64 {
		var others []float64
		for week := int64(-4); week <= 4; week++ {
			if d := day + 7*week; week != 0 && !holiday(d) {
				others = append(others, volumes[d][hour])
			}
		}
		slices.Sort(others)
		return (others[(len(others)-1)/2] + others[len(others)/2]) / 2
	}
	days := map[int64]float64{}
	residuals := map[int64]*[24]float64{}
	for day := first; day <= last; day++ {
		total, median := 0.0, 0.0
		of := new([24]float64)
		for h, volume := range volumes[day] {
			u := usual(day, h)
			total, median = total+volume, median+u
			of[h] = math.Log(volume / u)
		}
		days[day] = math.Log(total / median)
		for h := range of {
			of[h] -= days[day]
		}
		residuals[day] = of
	}
	var weekdays, weekends, noons, nights []float64
	var pairs [3][][2]float64
	var lags [4][][2]float64
	bad, good, dips := 0, 0, 0
	for day := first; day <= last; day++ {
		if holiday(day) || holiday(day-1) || holiday(day+1) {
			continue
		}
		if isWeekend(day) {
			weekends = append(weekends, days[day])
		} else {
			weekdays = append(weekdays, days[day])
			noons = append(noons, residuals[day][12])
			nights = append(nights, residuals[day][1])
		}
		if days[day] < math.Log(0.9) {
			bad++
		}
		if days[day] > math.Log(1.1) {
			good++
		}
		dipped := false
		for h := 6; h < 21; h++ {
			dipped = dipped || residuals[day][h]+days[day] < math.Log(0.8)
			for lag := 1; lag < len(lags) && h+lag < 23; lag++ {
				x, y := residuals[day][h], residuals[day][h+lag]
				if math.Abs(x+days[day]) < 0.3 && math.Abs(y+days[day]) < 0.3 {
					lags[lag] = append(lags[lag], [2]float64{x, y})
				}
			}
		}
		if dipped && days[day] > -0.1 {
			dips++
		}
		for lag := 1; lag < len(pairs); lag++ {
			next := day + int64(lag)
			if d, ok := days[next]; ok && !holiday(next) && math.Abs(d) < 0.2 && math.Abs(days[day]) < 0.2 {
				pairs[lag] = append(pairs[lag], [2]float64{days[day], d})
			}
		}
	}
	years := float64(last-first+1) / 365.25
	for _, c := range []struct {
		what           string
		got, low, high float64
	}{
		// 0.029
		{"deviation of weekdays", robustDeviation(weekdays), 0.024, 0.038},
		// 0.058
		{"deviation of weekend days", robustDeviation(weekends), 0.045, 0.075},
		// 0.30
		{"correlation with the day before", correlation(pairs[1]), 0.2, 0.4},
		// 0.09
		{"correlation with two days before", correlation(pairs[2]), -0.05, 0.2},
		// 0.032
		{"deviation of a weekday's noon, apart from the day", robustDeviation(noons), 0.024, 0.04},
		{"deviation of a weekday's 1:00", robustDeviation(nights), 0.09, 0.16},        // 0.130
		{"correlation with the hour before", correlation(lags[1]), 0.4, 0.65},         // 0.51
		{"correlation with two hours before", correlation(lags[2]), 0.15, 0.4},        // 0.26
		{"correlation with three hours before", correlation(lags[3]), -0.05, 0.25},    // 0.12
		{"days below 90 %, a year", float64(bad) / years, 4, 14},                      // 9
		{"days above 110 %, a year", float64(good) / years, 3, 15},                    // 9
		{"other days with an hour below 80 %, a year", float64(dips) / years, 12, 36}, // 24
	} {
		if t.Logf("%-50s %6.3f", c.what, c.got); !(c.got >= c.low && c.got <= c.high) {
			t.Errorf("%s: %.3f, want %v to %v", c.what, c.got, c.low, c.high)
		}
	}
}

func TestHolidays(t *testing.T) {
	var got []string
	for day := dayNumber(2026, time.January, 1); day <= dayNumber(2027, time.January, 4); day++ {
		if h, ok := holidayOn(day); ok {
			name := time.Unix(day*86400, 0).UTC().Format("Mon 2006-01-02")
			if !h.weekend {
				name += " at work"
			}
			got = append(got, name)
		}
	}
	want := []string{"Thu 2026-01-01", "Mon 2026-01-19 at work", "Mon 2026-02-16 at work",
		"Mon 2026-05-25", "Fri 2026-07-03", "Sat 2026-07-04", "Mon 2026-09-07", "Thu 2026-11-26",
		"Fri 2026-11-27", "Fri 2026-12-25", "Fri 2027-01-01"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestVariationDependsOnTimeAlone asks for minutes in another order, and from another begin on.
func TestVariationDependsOnTimeAlone(t *testing.T) {
	first := newVariation(1, 3, 4)
	day := dayNumber(2026, time.January, 14)
	want := map[int]float64{}
	for minute := 0; minute < 3*minutesPerDay; minute += 7 {
		want[minute] = first.factor(day+int64(minute/minutesPerDay), minute%minutesPerDay)
	}
	other := newVariation(1, 3, 4)
	for minute, factor := range want { // in the order of a map
		if got := other.factor(day+int64(minute/minutesPerDay), minute%minutesPerDay); got != factor {
			t.Fatalf("minute %d: %v, and %v from another begin on", minute, factor, got)
		}
	}
	twice := newVariation(2, 3, 4)
	for minute, factor := range want {
		got := twice.factor(day+int64(minute/minutesPerDay), minute%minutesPerDay)
		if math.Abs(got-factor*factor) > 1e-9 {
			t.Fatalf("minute %d: %v at twice the scale, want %v", minute, got, factor*factor)
		}
	}
}

// TestWeatherIsSharedByPlazas, chance is not.
func TestWeatherIsSharedByPlazas(t *testing.T) {
	a, b := newVariation(1, 5, scramble(1)), newVariation(1, 5, scramble(2))
	storms, same := 0, 0
	for day := dayNumber(2024, time.November, 1); day < dayNumber(2025, time.April, 1); day++ {
		a.openDay(day)
		b.openDay(day)
		for _, s := range a.spells {
			if s.log < 0 {
				storms++
				if slices.Contains(b.spells, s) {
					same++
				}
			}
		}
		if a.daily == b.daily {
			t.Fatalf("day %d is the same at both", day)
		}
	}
	if storms == 0 || same != storms {
		t.Errorf("%d of %d days of storms are the same", same, storms)
	}
}

// Days counted from 1970-01-01, a Thursday.
const thursday, friday, saturday, sunday, monday = 0, 1, 2, 3, 4

func TestShapeKeepsHoursAndDays(t *testing.T) {
	for _, peak := range []float64{0.5, 1, DefaultPeak, 3, 10} {
		s := newShape(peak, false)
		for _, day := range []int64{thursday, friday, saturday, sunday, monday, monday - 7,
			sunday - 7_000_000} {
			shares, sum := s.of(day), 0.0
			for h := range 24 {
				hour := 0.0
				for m := range 60 {
					share := s.minute(day, h*60+m)
					if share < 0 || share*60 > 2*shares[h] {
						t.Fatalf("peak %v, day %d, %02d:%02d: %v", peak, day, h, m, share)
					}
					hour += share
				}
				if math.Abs(hour-shares[h]) > 1e-12 {
					t.Errorf("peak %v, day %d, hour %d: %v, want %v", peak, day, h, hour, shares[h])
				}
				sum += hour
			}
			if math.Abs(sum-1) > 1e-12 {
				t.Errorf("peak %v, day %d: the shares sum to %v", peak, day, sum)
			}
		}
	}
}

func TestShapeAsMeasured(t *testing.T) {
	s := newShape(1, false)
	for _, c := range []struct {
		day  int64
		hour int
		want float64 // per cent
	}{
		{thursday, 0, 2.06}, {friday, 8, 6.27}, {monday, 23, 3.18}, {saturday, 15, 5.63}, {sunday, 4,
			1.64}, {monday - 7, 3, .96}, {sunday - 7, 3, 1.69},
	} {
		// The tables sum to 99.99 and 99.98.
		if got := 100 * s.of(c.day)[c.hour]; math.Abs(got-c.want) > c.want*3e-4 {
			t.Errorf("day %d, hour %d: %v %%, want %v", c.day, c.hour, got, c.want)
		}
	}
	if got := 100 * newShape(DefaultPeak, false).weekday[8]; math.Abs(got-6.87) > 0.01 {
		t.Errorf("the busiest hour has %v %% of the day", got)
	}
}

// TestShapeIsSmooth compares each minute with the one before it, over hours, midnights and
// weekends.
func TestShapeIsSmooth(t *testing.T) {
	s := newShape(DefaultPeak, false)
	last := s.minute(thursday, 0)
	for i := 1; i < 7*minutesPerDay; i++ {
		share := s.minute(thursday+int64(i/minutesPerDay), i%minutesPerDay)
		if jump := math.Abs(share/last - 1); jump > 0.04 {
			t.Fatalf("day %d, minute %d: %v after %v", i/minutesPerDay, i%minutesPerDay, share, last)
		}
		last = share
	}
}
