package text

import (
	"testing"
	"time"
)

func TestFigures(t *testing.T) {
	for got, want := range map[string]string{
		Number(1234567):                     "1,234,567",
		Count(1, "event"):                   "1 event",
		Count(2000, "event"):                "2,000 events",
		Seconds(4 * time.Millisecond):       "4 ms",
		Seconds(520 * time.Millisecond):     "0.52 s",
		Seconds(12345 * time.Millisecond):   "12.3 s",
		Seconds(250 * time.Second):          "4m10s",
		Rate(212_640, time.Second):          "213,000",
		Rate(1234, time.Second):             "1,234",
		Rate(101, 10*time.Second):           "10.1",
		Rate(5, 0):                          "0",
		Rate(1_000_000, 2*time.Second) + "": "500,000",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSparkline(t *testing.T) {
	if got := Sparkline([]int64{-1, 0, 1, 2, 4, 8, 7, 800}, 800); got != " ·▁▁▁▁▁█" {
		t.Error(got)
	}
	if got := Sparkline([]int64{1, 2, 3, 4, 5, 6, 7, 8}, 8); got != "▁▂▃▄▅▆▇█" {
		t.Error(got)
	}
}

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		n, total int64
		want     string
	}{{0, 0, "0%"}, {0, 9, "0%"}, {1, 1000, "<1%"}, {1, 3, "33%"}, {3, 3, "100%"}} {
		if got := Percent(c.n, c.total); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.n, c.total, got, c.want)
		}
	}
}

func TestMinutes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 min", 9: "9 min", 60: "1 h", 79: "1 h 19 min", 1439: "23 h 59 min", 1440: "1 day",
		1441: "1 day", 1500: "1 day 1 h", 2880: "2 days", 527_040: "366 days",
	} {
		if got := Minutes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestRounding(t *testing.T) {
	for x, want := range map[float64]string{0: "0 %", 0.998: "99 %", 1: "100 %", 0.29: "29 %",
		1.0999: "109 %", 12.34: "1,234 %"} {
		if got := Full(x); got != want {
			t.Errorf("%v: %s, want %s", x, got, want)
		}
	}
	for x, want := range map[float64]string{0: "0.0", -0.04: "0.0", 0.05: "+0.1", -7.44: "−7.4",
		12: "+12.0"} {
		if got := Signed(x); got != want {
			t.Errorf("%v: %s, want %s", x, got, want)
		}
	}
	for _, c := range []struct {
		events, tooLate int64
		want            string
	}{{0, 0, "100 %"}, {5, 0, "100 %"}, {99_999, 1, "99.9 %"}, {1, 2, "33.3 %"}, {0, 2, "0.0 %"}} {
		if got := Completeness(c.events, c.tooLate); got != c.want {
			t.Errorf("%d, %d: %s, want %s", c.events, c.tooLate, got, c.want)
		}
	}
}
