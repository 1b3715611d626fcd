package toll

import (
	"testing"
	"time"
)

func TestWallTimeFromDate(t *testing.T) {
	for _, c := range []struct {
		date [6]int
		want string // a time or an error
	}{
		{[6]int{2022, 2, 10, 10, 23, 2}, "2022-02-10 10:23:02"},
		{[6]int{1970, 1, 1, 0, 0, 0}, "1970-01-01 00:00:00"},
		{[6]int{1969, 12, 31, 23, 59, 59}, "1969-12-31 23:59:59"},
		{[6]int{1000, 1, 1, 0, 0, 0}, "1000-01-01 00:00:00"},
		{[6]int{9999, 12, 31, 23, 59, 59}, "9999-12-31 23:59:59"},
		{[6]int{2024, 2, 29, 0, 0, 0}, "2024-02-29 00:00:00"},
		{[6]int{2000, 2, 29, 0, 0, 0}, "2000-02-29 00:00:00"},
		{[6]int{1900, 2, 29, 0, 0, 0}, "day 29 does not exist in 1900-02"},
		{[6]int{2022, 2, 29, 0, 0, 0}, "day 29 does not exist in 2022-02"},
		{[6]int{2022, 2, 31, 0, 0, 0}, "day 31 does not exist in 2022-02"},
		{[6]int{2022, 4, 31, 0, 0, 0}, "day 31 does not exist in 2022-04"},
		{[6]int{2022, 1, 32, 0, 0, 0}, "day 32 does not exist in 2022-01"},
		{[6]int{2022, 1, 0, 0, 0, 0}, "day 0 does not exist in 2022-01"},
		{[6]int{2022, 0, 1, 0, 0, 0}, "month 0 is not within 1 to 12"},
		{[6]int{2022, 13, 1, 0, 0, 0}, "month 13 is not within 1 to 12"},
		{[6]int{999, 12, 31, 0, 0, 0}, "year 999 is not within 1000 to 9999"},
		{[6]int{10000, 1, 1, 0, 0, 0}, "year 10000 is not within 1000 to 9999"},
		{[6]int{2022, 1, 1, 24, 0, 0}, "24:00:00 is not a time of day"},
		{[6]int{2022, 1, 1, 0, 60, 0}, "00:60:00 is not a time of day"},
		{[6]int{2022, 1, 1, 23, 59, 60}, "23:59:60 is not a time of day"},
		{[6]int{2022, 1, 1, -1, 0, 0}, "-1:00:00 is not a time of day"},
	} {
		w, err := WallTimeFromDate(c.date[0], c.date[1], c.date[2], c.date[3], c.date[4], c.date[5])
		got := errText(err)
		if err == nil {
			got = w.String()
		}
		if got != c.want {
			t.Errorf("%v: got %q, want %q", c.date, got, c.want)
		}
	}
}

func TestWallTimeLimits(t *testing.T) {
	if got := MinWallTime.String(); got != "1000-01-01 00:00:00" {
		t.Errorf("the first is %s", got)
	}
	if got := MaxWallTime.String(); got != "9999-12-31 23:59:59" {
		t.Errorf("the last is %s", got)
	}
}

// Every day from 1000 to 9999, against package time.
func TestDaysFromCivil(t *testing.T) {
	day := time.Date(1000, 1, 1, 0, 0, 0, 0, time.UTC)
	for day.Year() < 10000 {
		y, m, d := day.Date()
		w, err := WallTimeFromDate(y, int(m), d, 0, 0, 0)
		if err != nil || int64(w) != day.Unix() {
			t.Fatalf("%s: got %d, %v; want %d", day.Format(time.DateOnly), w, err, day.Unix())
		}
		if n, second := w.Day(); n*86400 != int64(w) || second != 0 {
			t.Fatalf("%s: Day() = %d, %d", w, n, second)
		}
		if n, second := (w - 1).Day(); n*86400+86400 != int64(w) || second != 86399 {
			t.Fatalf("%s: Day() = %d, %d", w-1, n, second)
		}
		day = day.AddDate(0, 0, 1)
	}
}

func TestWallTimeOfCutsFractions(t *testing.T) {
	east := time.FixedZone("", 5*3600+1800)
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{time.Date(2022, 2, 10, 10, 23, 2, 999_999_999, time.UTC), "2022-02-10 10:23:02"},
		{time.Date(1969, 12, 31, 23, 59, 59, 999_999_999, time.UTC), "1969-12-31 23:59:59"},
		{time.Date(2022, 2, 10, 10, 23, 2, 0, east), "2022-02-10 10:23:02"},
	} {
		if got := WallTimeOf(c.t).String(); got != c.want {
			t.Errorf("%v: got %s, want %s", c.t, got, c.want)
		}
	}
}
