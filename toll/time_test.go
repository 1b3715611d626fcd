package toll

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/testkit"
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

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "-1s": -time.Second,
		"0d": 0, "90d": 90 * day, "1d12h": 36 * time.Hour, "26d8h": 26*day + 8*time.Hour,
		"1d1.5h": 25*time.Hour + 30*time.Minute, "106751d": 106751 * day,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "d", "1", "-1d", "+1d", "1.5d", "1d ", " 1d", "1d2d", "1h2d", "1d-2h", "1d+2h", "1d2",
		"106752d", "106751d24h", "99999999999999999999d",
	} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func zoneOf(t testing.TB, name string) *Zone {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return NewZone(loc)
}

func wall(t testing.TB, s string) WallTime {
	t.Helper()
	at, err := time.Parse(time.DateTime, s)
	if err != nil {
		t.Fatal(err)
	}
	return WallTime(at.Unix())
}

func TestZoneUnix(t *testing.T) {
	for _, c := range []struct{ zone, wall, utc string }{
		{"UTC", "2022-02-10 10:23:02", "2022-02-10 10:23:02"},
		{"Europe/Berlin", "2022-02-10 10:23:02", "2022-02-10 09:23:02"},
		{"Europe/Berlin", "2022-07-10 10:23:02", "2022-07-10 08:23:02"},
		// Clocks go forward from 02:00 to 03:00; what they skip is the last second before.
		{"Europe/Berlin", "2022-03-27 01:59:59", "2022-03-27 00:59:59"},
		{"Europe/Berlin", "2022-03-27 02:00:00", "2022-03-27 00:59:59"},
		{"Europe/Berlin", "2022-03-27 02:59:59", "2022-03-27 00:59:59"},
		{"Europe/Berlin", "2022-03-27 03:00:00", "2022-03-27 01:00:00"},
		// Clocks go back from 03:00 to 02:00; what occurs twice is the first.
		{"Europe/Berlin", "2022-10-30 01:59:59", "2022-10-29 23:59:59"},
		{"Europe/Berlin", "2022-10-30 02:00:00", "2022-10-30 00:00:00"},
		{"Europe/Berlin", "2022-10-30 02:59:59", "2022-10-30 00:59:59"},
		{"Europe/Berlin", "2022-10-30 03:00:00", "2022-10-30 02:00:00"},
		// West of Greenwich.
		{"America/New_York", "2022-03-13 02:30:00", "2022-03-13 06:59:59"},
		{"America/New_York", "2022-11-06 01:30:00", "2022-11-06 05:30:00"},
		{"America/New_York", "2022-11-06 02:00:00", "2022-11-06 07:00:00"},
		// Half and quarter hours.
		{"Asia/Kolkata", "2022-02-10 00:15:00", "2022-02-09 18:45:00"},
		{"Asia/Kathmandu", "2022-02-10 00:15:00", "2022-02-09 18:30:00"},
		{"America/St_Johns", "2022-11-06 01:30:00", "2022-11-06 04:00:00"},
		// Lord Howe's clocks move by half an hour: back from 02:00 to 01:30 in April, forward from 02:00
		// to 02:30 in October.
		{"Australia/Lord_Howe", "2022-04-03 01:29:59", "2022-04-02 14:29:59"},
		{"Australia/Lord_Howe", "2022-04-03 01:30:00", "2022-04-02 14:30:00"},
		{"Australia/Lord_Howe", "2022-04-03 01:59:59", "2022-04-02 14:59:59"},
		{"Australia/Lord_Howe", "2022-04-03 02:00:00", "2022-04-02 15:30:00"},
		{"Australia/Lord_Howe", "2022-10-02 01:59:59", "2022-10-01 15:29:59"},
		{"Australia/Lord_Howe", "2022-10-02 02:15:00", "2022-10-01 15:29:59"},
		{"Australia/Lord_Howe", "2022-10-02 02:30:00", "2022-10-01 15:30:00"},
		// A whole day that never was: Samoa went from 29 to 31 December.
		{"Pacific/Apia", "2011-12-29 23:59:59", "2011-12-30 09:59:59"},
		{"Pacific/Apia", "2011-12-30 12:00:00", "2011-12-30 09:59:59"},
		{"Pacific/Apia", "2011-12-31 00:00:00", "2011-12-30 10:00:00"},
		// Offsets of old, with seconds.
		{"Europe/Berlin", "1850-01-01 00:00:00", "1849-12-31 23:06:32"},
	} {
		z := zoneOf(t, c.zone)
		for round := range 2 { // the second time from what the first remembered
			if got := z.Unix(wall(t, c.wall)); got != int64(wall(t, c.utc)) {
				t.Errorf("%s, %s, round %d: got %s, want %s", c.zone, c.wall, round, WallTime(got), c.utc)
			}
		}
	}
}

// An instant and back again, every ten minutes of a year with both changes, by one zone that
// remembers and by one that doesn't.
func TestZoneRoundTrip(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "America/St_Johns",
		"Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Chatham"} {
		z := zoneOf(t, name)
		from := time.Date(2022, 1, 1, 0, 0, 7, 0, time.UTC)
		for at := from; at.Year() == 2022; at = at.Add(10 * time.Minute) {
			w := z.Wall(at)
			unix := z.Unix(w)
			if fresh := z.Clone().Unix(w); fresh != unix {
				t.Fatalf("%s, %s: %d as remembered, %d afresh", name, w, unix, fresh)
			}
			if unix != at.Unix() && (z.Wall(time.Unix(unix, 0)) != w || unix > at.Unix()) {
				t.Fatalf("%s: %s shows %s, which became %s", name, at, w, time.Unix(unix, 0).UTC())
			}
		}
	}
}

func TestZoneMinute(t *testing.T) {
	for _, c := range []struct{ zone, wall, minute string }{
		{"UTC", "2022-02-10 10:23:00", "2022-02-10 10:23:00"},
		{"UTC", "2022-02-10 10:23:59", "2022-02-10 10:23:00"},
		{"UTC", "1969-12-31 23:59:59", "1969-12-31 23:59:00"},
		{"UTC", "1969-12-31 23:59:00", "1969-12-31 23:59:00"},
		{"Asia/Kolkata", "2022-02-10 10:23:59", "2022-02-10 04:53:00"},
		{"UTC", "1000-01-01 00:00:00", "1000-01-01 00:00:00"},
	} {
		got := zoneOf(t, c.zone).Minute(wall(t, c.wall)).Time()
		if got.Format(time.DateTime) != c.minute {
			t.Errorf("%s, %s: got %s, want %s", c.zone, c.wall, got, c.minute)
		}
	}
}

func BenchmarkZoneMinute(b *testing.B) {
	z := zoneOf(b, "Europe/Berlin")
	w := wall(b, "2022-02-10 10:23:02")
	for b.Loop() {
		z.Minute(w)
	}
}

func TestZoneSet(t *testing.T) {
	own := map[int16]*Zone{2: zoneOf(t, "Asia/Kathmandu"), 3: zoneOf(t, "Asia/Kathmandu")}
	s, other := NewZoneSet(zoneOf(t, "UTC"), own), NewZoneSet(zoneOf(t, "UTC"), own)
	if s.Of(2) != s.Of(3) || s.Of(1) != s.Of(4) {
		t.Error("plazas of the same zone don't share it")
	}
	if s.Of(2) == other.Of(2) || s.Of(1) == other.Of(1) || s.Of(2) == own[2] {
		t.Error("two sets share a zone, which is for one goroutine")
	}
	for plaza, want := range map[int16]string{1: "UTC", 2: "Asia/Kathmandu"} {
		if got := s.Of(plaza).Location().String(); got != want {
			t.Errorf("plaza %d is in %s, want %s", plaza, got, want)
		}
	}
}

// allZones returns the locations of the time zone database, each once. Links to others are left
// out.
func allZones(t *testing.T) []*time.Location {
	t.Helper()
	distinct := map[string]string{} // content, name
	for _, root := range []string{"/usr/share/zoneinfo", "/var/db/timezone/zoneinfo"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "posix" || d.Name() == "right"): // the same ones again
				return fs.SkipDir
			case d.IsDir():
				return nil
			}
			content, err := os.ReadFile(path)
			name, _ := filepath.Rel(root, path)
			if _, loadable := time.LoadLocation(name); err == nil && loadable == nil &&
				bytes.HasPrefix(content, []byte("TZif")) {
				if had := distinct[string(content)]; had == "" || name < had {
					distinct[string(content)] = name
				}
			}
			return nil
		})
		if err == nil {
			break
		}
	}
	testkit.NeedService(t, "the time zone database (tzdata)", len(distinct) >= 250)
	var all []*time.Location
	for _, name := range slices.Sorted(maps.Values(distinct)) {
		all = append(all, zoneOf(t, name).Location())
	}
	return all
}

// transition is a change of a zone's clock.
type transition struct {
	at            int64 // Unix seconds
	before, after int64 // seconds east of UTC
}

func transitions(loc *time.Location, from, to time.Time) []transition {
	var all []transition
	clock := wallClock{loc: loc}
	last := clock.at(from.Unix())
	for last.to < to.Unix() {
		next := clock.at(last.to)
		if next.offset != last.offset {
			all = append(all, transition{next.from, last.offset, next.offset})
		}
		last = next
	}
	return all
}

// In every zone, around every change of its clock, whatever a plaza's own zone is: a window's
// minutes hold a wall time exactly where the window's wall times do. That is what SQL over
// livetolldata asks.
func TestWallTimesOfWindowsInAllZones(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	var kinds []*WindowKind
	for _, text := range windowKinds {
		kinds = append(kinds, kindOf(t, text))
	}
	zones := allZones(t)
	from, to := time.Date(1840, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2101, 1, 1, 0, 0, 0, 0,
		time.UTC)
	skipped, repeated := 0, 0
	var windows []Window
	for _, loc := range zones {
		z := NewZone(loc)
		for _, c := range transitions(loc, from, to) {
			low, high := c.at+min(c.before, c.after), c.at+max(c.before, c.after)
			walls := []WallTime{WallTime(low - 1), WallTime(low), WallTime(high - 1), WallTime(high),
				WallTime(low + random.Int64N(high-low))}
			for range 3 {
				walls = append(walls, WallTime(low-7200+random.Int64N(high-low+14400)))
			}
			slices.Sort(walls)
			plaza := z.Clone()
			if random.IntN(2) == 0 {
				plaza = NewZone(zones[random.IntN(len(zones))])
			}
			last := int64(low) - 3*86400
			for _, w := range walls {
				unix, shown := z.Instant(w)
				if again, _ := NewZone(loc).Instant(w); again != unix {
					t.Fatalf("%s, %s: %d as remembered, %d afresh", loc, w, unix, again)
				}
				at, next := z.Wall(time.Unix(unix, 0)), z.Wall(time.Unix(unix+1, 0))
				if shown != (at == w) || !shown && (at >= w || next <= w) {
					t.Fatalf("%s, %s is %s, shown %v, before %s", loc, w, at, shown, next)
				}
				if unix < last {
					t.Fatalf("%s, %s is before an earlier wall time", loc, w)
				}
				last = unix
				if !shown {
					skipped++
				} else if z.Wall(time.Unix(unix+high-low, 0)) == w {
					repeated++
				}
				m := z.Minute(w)
				if z.Since(m) > w || z.Since(m+1) <= w {
					t.Fatalf("%s, %s: its minute is from %s to %s", loc, w, z.Since(m), z.Since(m+1))
				}
				k := kinds[random.IntN(len(kinds))]
				windows = k.Covering(plaza, m, windows[:0])
				if len(windows) == 0 {
					t.Fatalf("%s, %s, %s is in no window", loc, w, k.Name)
				}
				near := m + Minute(random.Int32N(4*60)) - 2*60
				windows = k.Covering(plaza, near, windows)
				for _, window := range windows {
					start, end := z.Since(window.Start), z.Since(window.End)
					if inside := m >= window.Start && m < window.End; inside != (w >= start && w < end) {
						t.Fatalf("%s, %s, plaza in %s: window %s is %s to %s; is the event in it? %v", loc, w,
							plaza.Location(), showWindows([]Window{window}), start, end, inside)
					}
				}
			}
		}
	}
	t.Logf("%d zones; %d skipped and %d repeated times", len(zones), skipped, repeated)
	if skipped < 1000 || repeated < 1000 {
		t.Errorf("%d skipped and %d repeated times, want many", skipped, repeated)
	}
}

// Since the year 1973 the clocks of all zones are whole minutes from UTC; see rowscan.go of package
// sql.
func TestOffsetsAreWholeMinutes(t *testing.T) {
	for _, loc := range allZones(t) {
		for _, c := range transitions(loc, time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(2101, 1, 1, 0, 0, 0, 0, time.UTC)) {
			if c.after%60 != 0 && c.at > time.Date(1972, 12, 30, 0, 0, 0, 0, time.UTC).Unix() {
				t.Errorf("%s: %d s east of UTC from %s on", loc, c.after, time.Unix(c.at, 0).UTC())
			}
		}
	}
}
