package simulate

import "math"

// Hourly shares of a day's traffic, in per cent, hours 0 to 23, as measured: they were computed
// from the public 10-minute entry counts of New York's congestion zone of 2025. Each table sums to
// 100 within rounding.
var (
	weekdayShares = [24]float64{
		2.06, 1.35, .96, .96, 1.84, 2.96, 5.08, 5.92, 6.27, 6.02, 5.43, 5.08,
		4.91, 4.89, 5.09, 5.23, 5.20, 5.13, 5.16, 4.79, 4.18, 4.30, 4.00, 3.18,
	}
	weekendShares = [24]float64{
		3.48, 2.81, 2.11, 1.69, 1.64, 1.97, 2.98, 3.42, 4.14, 4.39, 4.93, 5.27,
		5.41, 5.51, 5.61, 5.63, 5.62, 5.56, 5.48, 5.13, 4.63, 4.62, 4.35, 3.60,
	}
)

// DefaultPeak sharpens the measured shares. They are the sum of many gantries, whose peaks differ
// by minutes and hours; one plaza's day is less flat than that. The figure is an assumption: it
// makes the weekday's busiest hour 6.9 % of the day.
const DefaultPeak = 1.3

// minutesPerDay is of a day on the wall clock, however long it really is.
const minutesPerDay = 24 * 60

// shape is how a day's vehicles spread over its hours: for weekdays and for weekends 24 shares that
// sum to 1.
type shape struct {
	weekday, weekend [24]float64
	holidays         bool // those of a workday without work have the weekend's shares
}

// newShape returns the measured shares, each raised to the power of peak and then scaled to sum to
// 1: 1 is as measured, more is sharper, less is flatter.
func newShape(peak float64, holidays bool) *shape {
	return &shape{sharpen(weekdayShares, peak), sharpen(weekendShares, peak), holidays}
}

func sharpen(shares [24]float64, peak float64) [24]float64 {
	sum := 0.0
	for h, s := range shares {
		shares[h] = math.Pow(s, peak)
		sum += shares[h]
	}
	for h := range shares {
		shares[h] /= sum
	}
	return shares
}

// of returns the shares of a day, counted from 1970-01-01, which was a Thursday.
func (s *shape) of(day int64) *[24]float64 {
	if isWeekend(day) {
		return &s.weekend
	}
	if h, ok := holidayOn(day); s.holidays && ok && h.weekend {
		return &s.weekend
	}
	return &s.weekday
}

func isWeekend(day int64) bool {
	d := ((day+4)%7 + 7) % 7
	return d == 0 || d == 6
}

// minute returns the share of a day that falls into one of its minutes, 0 to 1439.
//
// Within an hour with share s the density is the parabola whose integral is s and which has the
// values l and r at the hour's ends, each the harmonic mean of the two shares that meet there:
//
//	f(x) = l(1−x) + rx + 6x(1−x)(s − (l+r)/2), 0 ≤ x < 1
//
// So it is continuous, over midnight between weekday and weekend too, every hour keeps its share
// and every day its sum. As a harmonic mean is at most twice the smaller value, l and r are at most
// 2s, and then f is nowhere negative.
func (s *shape) minute(day int64, minute int) float64 {
	hour := minute / 60
	shares := s.of(day)
	share := shares[hour]
	var before, after float64
	if hour == 0 {
		before = s.of(day - 1)[23]
	} else {
		before = shares[hour-1]
	}
	if hour == 23 {
		after = s.of(day + 1)[0]
	} else {
		after = shares[hour+1]
	}
	l, r := harmonicMean(before, share), harmonicMean(share, after)
	until := func(x float64) float64 { // the integral of f from 0 to x
		return l*(x-x*x/2) + r*x*x/2 + 6*(share-(l+r)/2)*(x*x/2-x*x*x/3)
	}
	from := minute % 60
	return max(0, until(float64(from+1)/60)-until(float64(from)/60))
}

func harmonicMean(a, b float64) float64 { return 2 * a * b / (a + b) }
