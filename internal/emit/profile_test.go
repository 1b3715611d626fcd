package emit

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

func TestParseSpeed(t *testing.T) {
	for text, want := range map[string]float64{
		"1x": 1, "1": 1, "60x": 60, "60": 60, "0.5x": 0.5, "1e3x": 1000, "0": 0, "0x": 0, "max": 0,
		"": -1, "x": -1, "-1": -1, "60 x": -1, "60xx": -1, "NaN": -1, "Inf": -1, "0.0001": -1,
		"2000000x": -1, "fast": -1,
	} {
		got, err := ParseSpeed(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, want %v (%v)", text, got, want, err)
		}
	}
}

func TestProfileStart(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now, given := time.Date(2026, 3, 2, 10, 23, 2, 5, berlin), time.Date(2022, 1, 1, 0, 0, 0, 0,
		berlin)
	if got := ProfileStart(given, now, false); got != given {
		t.Error(got)
	}
	if got := ProfileStart(time.Time{}, now, true); got != now {
		t.Error(got)
	}
	if got := ProfileStart(time.Time{}, now, false).String(); got != "2026-03-02 00:00:00 +0100 CET" {
		t.Error(got)
	}
}

func TestAddDays(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from string
		days float64
		want string
	}{
		{"2026-03-02 00:00:00", 1, "2026-03-03 00:00:00 +0100"},
		{"2026-03-29 00:00:00", 1, "2026-03-30 00:00:00 +0200"},   // 23 hours
		{"2026-10-25 00:00:00", 1, "2026-10-26 00:00:00 +0100"},   // 25 hours
		{"2026-03-28 00:00:00", 1.5, "2026-03-29 13:00:00 +0200"}, // a day, and 12 hours
		{"2026-03-02 06:30:00", 0.25, "2026-03-02 12:30:00 +0100"},
		{"2026-03-02 00:00:00", 1.0 / 1440, "2026-03-02 00:01:00 +0100"},
	} {
		from, err := ParseTime(c.from, berlin)
		if err != nil {
			t.Fatal(err)
		}
		if got := AddDays(from, c.days).Format("2006-01-02 15:04:05 -0700"); got != c.want {
			t.Errorf("%s and %v days: %s, want %s", c.from, c.days, got, c.want)
		}
	}
}

func TestParseIncident(t *testing.T) {
	start := time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"4007,2026-03-02 07:10,20m,blockage":            "4007,2026-03-02 07:10:00,20m0s,blockage,0.05",
		"4007, 2026-03-02T07:10:30+01:00, 1h, surge, 3": "4007,2026-03-02 06:10:30,1h0m0s,surge,3",
		"-3,+1h30m,90s,surge":                           "-3,2026-03-02 07:30:00,1m30s,surge,2.5",
		"4007,+1d2h,1d,blockage": "4007,2026-03-03 " +
			"08:00:00,24h0m0s,blockage,0.05",
		"4007,+0s,20m,blockage,0":                        "4007,2026-03-02 06:00:00,20m0s,blockage,0",
		"4007,+1h,20m":                                   "3 fields, it has 4 or 5",
		"4007,+1h,20m,blockage,0.1,x":                    "6 fields, it has 4 or 5",
		"x,+1h,20m,blockage":                             `"x" is no plaza from -32768 to 32767`,
		"40000,+1h,20m,blockage":                         `"40000" is no plaza from -32768 to 32767`,
		"4007,+soon,20m,blockage":                        `"+soon" is not a time after the start such as +1h30m`,
		"4007,+-1h,20m,blockage":                         `"+-1h" is not a time after the start such as +1h30m`,
		"4007,7:10,20m,blockage":                         `"7:10" is not a time such as 2022-02-10 10:23:02 or 2022-02-10T10:23:02+01:00`,
		"4007,+1h,20,blockage":                           `"20" is not a length such as 20m or 1h30m`,
		"4007,+1h,-20m,blockage":                         `"-20m" is not a length such as 20m or 1h30m`,
		"4007,+1h,20m,flood":                             `"flood" is neither blockage nor surge`,
		"4007,+1h,20m,surge,big":                         `the size "big" is not a number`,
		"4007,2026-03-02 07:10,20m,blockage,0.1,0.2,0.3": "7 fields, it has 4 or 5",
	} {
		i, err := ParseIncident(text, start)
		got := i.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestProfilePlazas(t *testing.T) {
	plazas, err := ProfilePlazas("", nil, []int16{5000, 4001, 4001})
	if err != nil || len(plazas) != 2 || plazas[0].Name != "Devon" ||
		plazas[1] != simulate.DefaultPlaza(5000) {
		t.Errorf("%+v %v", plazas, err)
	}
	file := []toll.Plaza{{ID: 7, Name: "a"}, {ID: 9, Name: "b"}, {ID: 8, Name: "c"}}
	if plazas, err := ProfilePlazas("some.csv", file, nil); err != nil || len(plazas) != 3 ||
		plazas[2].ID != 8 {
		t.Errorf("%+v %v", plazas, err)
	}
	if plazas, err := ProfilePlazas("some.csv", file, []int16{9, 7}); err != nil ||
		len(plazas) != 2 || plazas[0].Name != "a" {
		t.Errorf("%+v %v", plazas, err)
	}
	if _, err := ProfilePlazas("some.csv", file, []int16{4000}); err == nil ||
		err.Error() != "4000 is not in some.csv" {
		t.Error(err)
	}
}

// testProfile returns a profile's feed on a clock that moves only by sleeping. slept holds each
// sleep.
func testProfile(t *testing.T, p *Profile, count int64) (f *profileFeed, now *time.Time,
	slept *[]time.Duration) {
	t.Helper()
	p.Day.Location = time.UTC
	if p.Day.Plazas == nil {
		p.Day.Plazas = []toll.Plaza{simulate.DefaultPlaza(1)}
	}
	f, err := openProfile(&Config{Location: time.UTC, Profile: p, Count: count})
	if err != nil {
		t.Fatal(err)
	}
	now, slept = new(time.Time), new([]time.Duration)
	*now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	f.pace.now = func() time.Time { return *now }
	f.pace.sleep = func(ctx context.Context, wait time.Duration) bool {
		*now = now.Add(wait)
		*slept = append(*slept, wait)
		return ctx.Err() == nil
	}
	return f, now, slept
}

func TestSpeed(t *testing.T) {
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	for speed, want := range map[float64]time.Duration{1: time.Hour, 60: time.Minute,
		0.5: 2 * time.Hour, 1e6: 3600 * time.Microsecond} {
		p := &Profile{Speed: speed,
			Day: simulate.ProfileConfig{Start: start, End: start.Add(time.Hour)}}
		f, now, slept := testProfile(t, p, 0)
		began, flushed := *now, 0
		var due time.Duration
		for {
			_, err := f.next(t.Context(), func() { flushed++ })
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			due = time.Duration(float64(f.at.Sub(start)) / speed)
			if off := now.Sub(began) - due; off < -time.Microsecond || off > time.Microsecond {
				t.Fatalf("at %vx the event of %v is emitted %v off", speed, f.at, off)
			}
		}
		if took := now.Sub(began); took > want || took < want*99/100 {
			t.Errorf("at %vx an hour takes %v, want %v", speed, took, want)
		}
		if at, length := f.done(); length != 3600 || at < 3550 || at > 3600 {
			t.Errorf("done %d of %d", at, length)
		}
		if len(*slept) == 0 || flushed != len(*slept) {
			t.Errorf("%d sleeps, %d flushes before", len(*slept), flushed)
		}
	}
	f, _, slept := testProfile(t, &Profile{Day: simulate.ProfileConfig{Start: start}}, 100)
	for range 100 {
		if _, err := f.next(t.Context(), func() {}); err != nil {
			t.Fatal(err)
		}
	}
	if at, length := f.done(); len(*slept) != 0 || at != 100 || length != 100 {
		t.Errorf("without a speed slept %d times, done %d of %d", len(*slept), at, length)
	}
}

// TestSpeedAfterAnOutage: simulated time pauses during an outage; live events catch up with the
// clock.
func TestSpeedAfterAnOutage(t *testing.T) {
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	for _, live := range []bool{false, true} {
		f, now, slept := testProfile(t,
			&Profile{Speed: 1, Live: live, Day: simulate.ProfileConfig{Start: start}}, 0)
		*now = start
		next := func() {
			t.Helper()
			if _, err := f.next(t.Context(), func() {}); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			next()
		}
		before := f.at
		*now = now.Add(time.Hour)
		next()
		*slept = nil
		for range 10 {
			next()
		}
		switch {
		case live && len(*slept) > 0:
			t.Error("does not catch up with the clock")
		case !live && len(*slept) < 9:
			t.Errorf("after an outage a burst from %v to %v", before, f.at)
		}
		for live && len(*slept) == 0 {
			next()
		}
		if late := now.Sub(f.at); live && late != 0 {
			t.Errorf("caught up, and %v late", late)
		}
	}
}

func TestSpeedInterrupted(t *testing.T) {
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	p := &Profile{Speed: minSpeed,
		Day: simulate.ProfileConfig{Location: time.UTC, Start: start,
			Plazas: []toll.Plaza{{ID: 1, VehiclesPerDay: 1}}}}
	ctx, cancel := context.WithCancel(t.Context())
	f, err := openProfile(&Config{Location: time.UTC, Profile: p})
	if err != nil {
		t.Fatal(err)
	}
	// the real wait would take years
	if _, err := f.next(ctx, cancel); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestDueAfter(t *testing.T) {
	start := time.Date(1000, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := dueAfter(start, start.AddDate(8000, 0, 0), 1e6); got < 2*24*time.Hour ||
		got > 3*24*time.Hour {
		t.Errorf("8000 years at 1,000,000x: %v", got)
	}
	if got := dueAfter(start, start.AddDate(8000, 0, 0), minSpeed); got < 100*365*24*time.Hour {
		t.Errorf("8000 years at 0.001x: %v", got)
	}
}

func TestProfileFileErrors(t *testing.T) {
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	p := &Profile{Labels: filepath.Join(t.TempDir(), "no", "labels"),
		Day: simulate.ProfileConfig{Location: time.UTC, Start: start, Plazas: SamplePlazas()}}
	_, err := openProfile(&Config{Location: time.UTC, Profile: p})
	if err == nil || !strings.HasPrefix(err.Error(), "write --labels: ") {
		t.Error(err)
	}
}
