package report

import (
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

func location(t *testing.T, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// window is a closed window of a plaza that begins at a time in UTC.
func window(t *testing.T, start string, minutes int, types ...toll.TypeCount) results.StoredWindow {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04", start)
	if err != nil {
		t.Fatal(err)
	}
	var w results.StoredWindow
	w.Start = toll.MinuteAt(at.Unix())
	w.End = w.Start + toll.Minute(minutes)
	w.Types = types
	return w
}

func count(name string, n int64) toll.TypeCount { return toll.TypeCount{Type: name, Count: n} }

// sample is a report of a plaza for some days, from windows of an hour.
func sample(t *testing.T, period Period, zone string, closed toll.Minute,
	windows ...results.StoredWindow) *Report {
	t.Helper()
	l := location(t, zone)
	p := Plaza{Plaza: toll.Plaza{ID: 4856, Name: "<Boughton>", Road: "I-355"}, Location: l}
	k := known{closedUntil: &closed}
	if len(windows) > 0 {
		k.first = &windows[0].Start
	}
	p.ByHour = hours(period, toll.NewZone(l), windows, k)
	p.sum()
	return &Report{Period: period, Location: l, Made: time.Unix(0, 0), ClosedUntil: &closed,
		Plazas: []Plaza{p}}
}

func TestPeriods(t *testing.T) {
	now := toll.WallTimeOf(time.Date(2022, 3, 1, 10, 0, 0, 0, time.UTC)) // a Tuesday
	for _, test := range []struct {
		of             func(string, toll.WallTime) (Period, error)
		text, from, to string
	}{
		{OfDay, "2022-02-10", "2022-02-10", "2022-02-11"},
		{OfDay, "yesterday", "2022-02-28", "2022-03-01"},
		{OfWeek, "2022-02-13", "2022-02-07", "2022-02-14"}, // a Sunday
		{OfWeek, "2022-02-14", "2022-02-14", "2022-02-21"}, // a Monday
		{OfWeek, "last", "2022-02-21", "2022-02-28"},
		{OfMonth, "2024-02", "2024-02-01", "2024-03-01"},
		{OfMonth, "last", "2022-02-01", "2022-03-01"},
		{OfMonth, "2022-12", "2022-12-01", "2023-01-01"},
	} {
		p, err := test.of(test.text, now)
		if from, to := p.From.Format(time.DateOnly), p.To.Format(time.DateOnly); err != nil ||
			from != test.from || to != test.to {
			t.Errorf("%s: [%s, %s), %v; want [%s, %s)", test.text, from, to, err, test.from, test.to)
		}
	}
	for _, bad := range []string{"", "2022-02-30", "10.2.2022", "last", "0001-01-01"} {
		if _, err := OfDay(bad, now); err == nil {
			t.Errorf("%q is a day", bad)
		}
	}
}

// TestClockChanges has days of 23 and of 25 hours: an hour that never occurs is none, and the hour
// that repeats is one.
func TestClockChanges(t *testing.T) {
	closed := toll.MinuteAt(time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	for day, want := range map[string]struct{ hours, vehicles int }{
		"2022-03-27": {23, 3}, "2022-10-30": {24, 4}, "2022-06-01": {24, 0},
	} {
		period, err := OfDay(day, 0)
		if err != nil {
			t.Fatal(err)
		}
		r := sample(t, period, "Europe/Berlin", closed,
			window(t, "2022-03-26 23:00", 60, count("car", 1)), // 00:00 on the 27th
			window(t, "2022-03-27 21:00", 60, count("car", 2)), // 23:00, now two hours ahead
			window(t, "2022-03-27 22:00", 60, count("car", 8)), // the 28th
			window(t, "2022-10-30 00:00", 120, count("car", 4)))
		p := &r.Plazas[0]
		if len(p.ByHour) != want.hours || p.Vehicles != int64(want.vehicles) || p.Complete() != 1 {
			t.Errorf("%s: %d hours, %d vehicles, complete %v; want %d, %d", day, len(p.ByHour),
				p.Vehicles, p.Complete(), want.hours, want.vehicles)
		}
	}
}

func TestCoverage(t *testing.T) {
	period, _ := OfDay("2022-02-10", 0)
	minute := func(hour int) toll.Minute {
		return toll.MinuteAt(time.Date(2022, 2, 10, hour, 0, 0, 0, time.UTC).Unix())
	}
	k := known{first: new(minute(5)), retiredBefore: minute(3), closedUntil: new(minute(8))}
	got := map[Coverage]int{}
	for _, h := range hours(period, toll.NewZone(time.UTC), nil, k) {
		got[h.Coverage]++
	}
	want := map[Coverage]int{Deleted: 3, Before: 2, Counted: 3, NotClosed: 16}
	for c, n := range want {
		if got[c] != n {
			t.Errorf("%d hours are %s, want %d", got[c], c, n)
		}
	}
}

func TestWrite(t *testing.T) {
	period, _ := OfDay("2022-02-10", 0)
	closed := toll.MinuteAt(time.Date(2022, 2, 10, 10, 0, 0, 0, time.UTC).Unix())
	r := sample(t, period, "UTC", closed, window(t, "2022-02-10 07:00", 60, count("car", 90),
		count("truck", 30)), window(t, "2022-02-10 08:00", 60, count("=cmd", 1)))
	p := &r.Plazas[0]
	p.PHF = new(0.75)
	p.Incidents = []incidents.Incident{{Incident: traffic.Incident{Began: closed - 90,
		Ended: new(closed - 30), Worst: traffic.Saturated, Why: "<b>throughput</b>"}}}
	station := codecs.Station{State: "17", FSystem: "1U", ID: "4856", Direction: "5",
		Classes: "truck=9"}
	form := Form{Stations: map[int16]codecs.Station{4856: station}, Classes: DefaultClasses()}
	for format, want := range map[string][]string{
		"html": {"<h1>Thursday, 10 February 2022</h1>", "&lt;Boughton&gt;", "&lt;b&gt;throughput",
			"07:00", "car 74%", "0.75", "<td>1 h</td>", "the period has not closed", "12.5%"},
		"csv": {"4856,<Boughton>,I-355,2022-02-10,2022-02-10,121,968,car=90 truck=30 =cmd=1," +
			"2022-02-10T07:00:00Z,120,0.750,1,60,24,3,1,0,0\r\n"},
		"csv-hours": {",before_first,,,,\r\n", ",2022-02-10T08:00:00Z,2022-02-10T09:00:00Z,counted,1," +
			"'=cmd=1,0,0\r\n", ",counted,0,,0,0\r\n", ",not_closed,,,,\r\n"},
		"tmg-volume": {"3|17|1U|004856|5|0|2022|02|10|5|0|60||||||||120|1|0||||||||||||||\n"},
		"tmg-class": {"C|17|004856|5|0|2022|02|10|07|60|120|0|0|90|0|0|0|0|0|0|30|0|0|0|0\n",
			"C|17|004856|5|0|2022|02|10|08|60|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"},
	} {
		form.Format = format
		var b strings.Builder
		warnings, err := Write(&b, r, form)
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s lacks %q:\n%s", format, w, b.String())
			}
		}
		all := strings.Join(warnings, "\n")
		if strings.Contains(all, "no class for =cmd") != (format == "tmg-class") ||
			!strings.Contains(all, "not closed") {
			t.Errorf("%s: warnings %q", format, warnings)
		}
	}
	form.Format = "tmg-volume"
	station.Direction = ""
	form.Stations[4856] = station
	if _, err := Write(new(strings.Builder), r, form); err == nil ||
		!strings.Contains(err.Error(), "plaza 4856 has no direction") {
		t.Errorf("without a direction: %v", err)
	}
}

func TestPHF(t *testing.T) {
	h := &Hour{Vehicles: 100}
	quarters := []results.StoredWindow{window(t, "2022-02-10 07:00", 15, count("car", 20)),
		window(t, "2022-02-10 07:15", 15, count("car", 40)),
		window(t, "2022-02-10 07:45", 15, count("car", 40))}
	if got := phf(h, quarters); got == nil || *got != 100.0/160 {
		t.Errorf("%v, want 0.625", got)
	}
	if got := phf(h, quarters[:2]); got != nil {
		t.Errorf("%v though a quarter is not stored", *got)
	}
}
