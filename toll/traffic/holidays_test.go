package traffic

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

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
