package toll

import (
	"testing"
	"time"
)

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
