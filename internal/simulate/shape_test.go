package simulate

import (
	"math"
	"testing"
)

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
