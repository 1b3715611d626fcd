package toll

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/corpus"
)

func kindOf(t testing.TB, text string) *WindowKind {
	t.Helper()
	kinds, err := ParseWindows(text)
	if err != nil || len(kinds) != 1 {
		t.Fatalf("%s: %d kinds, %v", text, len(kinds), err)
	}
	return &kinds[0]
}

// minuteOf reads a minute of UTC.
func minuteOf(t testing.TB, s string) Minute {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		t.Fatal(err)
	}
	return Minute(at.Unix() / 60)
}

// showWindows writes windows as dates and times of UTC and their length, one after the other.
func showWindows(windows []Window) string {
	var all []string
	for _, w := range windows {
		all = append(all, w.Start.Time().Format("2006-01-02 15:04 ")+strings.TrimSuffix(w.Span().String(),
			"0s"))
	}
	return strings.Join(all, ", ")
}

func TestParseWindows(t *testing.T) {
	for _, c := range []struct{ text, canonical string }{
		{DefaultWindows, DefaultWindows},
		{"1m", "1m"},
		{"60m", "1h"},
		{"90m", "1h30m"},
		{"1h30m", "1h30m"},
		{"24h", "24h"},
		{"1440m", "24h"},
		{"120s", "2m"},
		{"5m/5m", "5m"},
		{"60m/15m", "1h/15m"},
		{"7m/1m", "7m/1m"},
		{"7h/2h", "7h/2h"},
		{"24h/24m", "24h/24m"},
		{"1h/1m", "1h/1m"},
		{"23h59m/2h24m", "23h59m/2h24m"},
		{"day", "day"},
		{"day/15m", "day"},
		{"day/5m", "day/5m"},
		{"day/1h", "day/1h"},
		{"day/24h", "day/24h"},
		{"day/1m", "day/1m"},
		{" 1h , 1m", "1h,1m"},
		{"day,24h", "day,24h"},
		{"1m,2m,3m,4m,5m,6m,8m,9m,10m,12m,15m,16m", "1m,2m,3m,4m,5m,6m,8m,9m,10m,12m,15m,16m"},
	} {
		kinds, err := ParseWindows(c.text)
		if got := FormatWindows(kinds); err != nil || got != c.canonical {
			t.Errorf("%q: %q, %v; want %q", c.text, got, err, c.canonical)
		}
	}
	kinds, err := ParseWindows(DefaultWindows)
	want := []WindowKind{{"1m", 1, 1, false}, {"5m/1m", 5, 1, false}, {"15m", 15, 15, false},
		{"1h", 60, 60, false}, {"day", 1440, 15, true}}
	if err != nil || !slices.Equal(kinds, want) {
		t.Errorf("by default: %+v, %v", kinds, err)
	}
}

func TestParseWindowsRefuses(t *testing.T) {
	const noMidnight = ", which does not divide a day, so windows would not begin at midnight"
	for _, c := range []struct{ text, want string }{
		{"", `window "": want a size such as 15m, a size and a hop such as 5m/1m, or day`},
		{"1m,,1h", `window "": want a size such as 15m, a size and a hop such as 5m/1m, or day`},
		{"hour", `window "hour": size "hour" is no duration such as 15m or 1h30m`},
		{"Day", `window "Day": size "Day" is no duration such as 15m or 1h30m`},
		{"15", `window "15": size "15" is no duration such as 15m or 1h30m`},
		{"5m/", `window "5m/": hop "" is no duration such as 15m or 1h30m`},
		{"/5m", `window "/5m": size "" is no duration such as 15m or 1h30m`},
		{"5m/1m/1m", `window "5m/1m/1m": hop "1m/1m" is no duration such as 15m or 1h30m`},
		{"day/", `window "day/": step "" is no duration such as 15m or 1h30m`},
		{"0", `window "0": size is 0, want 1m to 24h`},
		{"-5m", `window "-5m": size is -5m, want 1m to 24h`},
		{"30s", `window "30s": size is 30s, want 1m to 24h`},
		{"90s", `window "90s": size is 90s, want whole minutes`},
		{"1441m", `window "1441m": size is 1441m, want 1m to 24h`},
		{"99999999h", `window "99999999h": size "99999999h" is no duration such as 15m or 1h30m`},
		{"5m/0m", `window "5m/0m": hop is 0m, want 1m to 24h`},
		{"day/48h", `window "day/48h": step is 48h, want 1m to 24h`},
		{"day/7m", `window "day/7m": step is 7m` + noMidnight},
		{"7h", `window "7h": size is 7h` + noMidnight + "; add a hop that does, such as 1m or 1h"},
		{"7h/7h", `window "7h/7h": hop is 7h` + noMidnight},
		{"1h/7m", `window "1h/7m": hop is 7m` + noMidnight},
		{"5m/10m", `window "5m/10m": hop is 10m, want at most the size, 5m`},
		{"61m/1m", `window "61m/1m": 61 windows would hold each minute, want at most 60`},
		{"24h/15m", `window "24h/15m": 96 windows would hold each minute, want at most 60`},
		{"121m/2m", `window "121m/2m": 61 windows would hold each minute, want at most 60`},
		{"60m,1m,1h", `window "1h": 1h is there already`},
		{"day,day/15m", `window "day/15m": day is there already`},
		{"1m,2m,3m,4m,5m,6m,8m,9m,10m,12m,15m,16m,18m", "windows are of 13 kinds, want at most 12"},
		// All at once.
		{"25h/7m, x/y ,5m,5m", strings.Join([]string{
			`window "25h/7m": size is 25h, want 1m to 24h`,
			`window "25h/7m": hop is 7m` + noMidnight,
			`window "x/y": size "x" is no duration such as 15m or 1h30m`,
			`window "x/y": hop "y" is no duration such as 15m or 1h30m`,
			`window "5m": 5m is there already`,
		}, "\n")},
		{"5m/7m", "window \"5m/7m\": hop is 7m" + noMidnight + "\n" +
			`window "5m/7m": hop is 7m, want at most the size, 5m`},
	} {
		kinds, err := ParseWindows(c.text)
		if got := errText(err); got != c.want || kinds != nil {
			t.Errorf("%q: %v and\n%s\nwant\n%s", c.text, kinds, got, c.want)
		}
	}
}

func TestOfQuarters(t *testing.T) {
	for text, want := range map[string]bool{
		"1m": false, "15m": true, "1h": true, "30m/15m": true, "1h/5m": false, "20m": false,
		"25m/15m": false,
		"day":     true, "day/5m": false, "day/1h": true,
	} {
		if got := kindOf(t, text).OfQuarters(); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestCovering(t *testing.T) {
	for _, c := range []struct{ zone, kind, minute, want string }{
		{"UTC", "1m", "2022-02-10 10:23", "2022-02-10 10:23 1m"},
		{"UTC", "15m", "2022-02-10 10:14", "2022-02-10 10:00 15m"},
		{"UTC", "15m", "2022-02-10 10:15", "2022-02-10 10:15 15m"},
		{"UTC", "15m", "2022-02-10 10:29", "2022-02-10 10:15 15m"},
		{"UTC", "15m", "2022-02-10 10:30", "2022-02-10 10:30 15m"},
		{"UTC", "1h", "1969-12-31 23:59", "1969-12-31 23:00 1h0m"},
		{"UTC", "1h", "1970-01-01 00:00", "1970-01-01 00:00 1h0m"},
		{"UTC", "3m/1m", "2022-02-10 10:23",
			"2022-02-10 10:21 3m, 2022-02-10 10:22 3m, 2022-02-10 10:23 3m"},
		// A size that is no multiple of the hop: three windows at some minutes, two at the others.
		{"UTC", "25m/10m", "2022-02-10 10:24",
			"2022-02-10 10:00 25m, 2022-02-10 10:10 25m, 2022-02-10 10:20 25m"},
		{"UTC", "25m/10m", "2022-02-10 10:25", "2022-02-10 10:10 25m, 2022-02-10 10:20 25m"},
		// Across midnight.
		{"UTC", "6h/3h", "2022-02-10 01:00", "2022-02-09 21:00 6h0m, 2022-02-10 00:00 6h0m"},
		{"UTC", "day", "2022-02-10 00:00", "2022-02-10 00:00 24h0m"},
		{"UTC", "day/1h", "2022-02-10 23:59", "2022-02-10 00:00 24h0m"},

		// Half and quarter hours from UTC.
		{"Asia/Kolkata", "1h", "2022-02-10 10:29", "2022-02-10 09:30 1h0m"},
		{"Asia/Kolkata", "1h", "2022-02-10 10:30", "2022-02-10 10:30 1h0m"},
		{"Asia/Kolkata", "day", "2022-02-10 18:29", "2022-02-09 18:30 24h0m"},
		{"Asia/Kolkata", "day", "2022-02-10 18:30", "2022-02-10 18:30 24h0m"},
		{"Asia/Kathmandu", "1h", "2022-02-10 10:14", "2022-02-10 09:15 1h0m"},
		{"Asia/Kathmandu", "1h", "2022-02-10 10:15", "2022-02-10 10:15 1h0m"},
		{"Asia/Kathmandu", "30m/15m", "2022-02-10 10:14", "2022-02-10 09:45 30m, 2022-02-10 10:00 30m"},
		{"America/New_York", "day", "2022-02-10 04:59", "2022-02-09 05:00 24h0m"},
		{"America/New_York", "day", "2022-02-10 05:00", "2022-02-10 05:00 24h0m"},

		// Berlin's clocks go from 02:00 to 03:00 at 01:00 UTC: there is no window of 02:00.
		{"Europe/Berlin", "1h", "2022-03-27 00:59", "2022-03-27 00:00 1h0m"},
		{"Europe/Berlin", "1h", "2022-03-27 01:00", "2022-03-27 01:00 1h0m"},
		{"Europe/Berlin", "6h", "2022-03-27 01:00", "2022-03-26 23:00 5h0m"},
		{"Europe/Berlin", "6h", "2022-03-27 04:00", "2022-03-27 04:00 6h0m"},
		{"Europe/Berlin", "day", "2022-03-26 22:59", "2022-03-25 23:00 24h0m"},
		{"Europe/Berlin", "day", "2022-03-26 23:00", "2022-03-26 23:00 23h0m"},
		{"Europe/Berlin", "day", "2022-03-27 21:59", "2022-03-26 23:00 23h0m"},
		{"Europe/Berlin", "day", "2022-03-27 22:00", "2022-03-27 22:00 24h0m"},
		// Of 02:00, 02:30 and 03:00, which all are the change, only the last begins a window.
		{"Europe/Berlin", "2h/30m", "2022-03-27 00:59",
			"2022-03-26 23:00 2h0m, 2022-03-26 23:30 1h30m, 2022-03-27 00:00 1h0m, 2022-03-27 00:30 1h0m"},
		{"Europe/Berlin", "2h/30m", "2022-03-27 01:00", "2022-03-27 00:30 1h0m, 2022-03-27 01:00 2h0m"},
		// The window from 01:00 to 03:30 does end half an hour after the change.
		{"Europe/Berlin", "150m/1h", "2022-03-27 01:29",
			"2022-03-27 00:00 1h30m, 2022-03-27 01:00 2h30m"},
		{"Europe/Berlin", "150m/1h", "2022-03-27 01:30", "2022-03-27 01:00 2h30m"},

		// Berlin's clocks go from 03:00 to 02:00 at 01:00 UTC: 02:00 to 03:00 is one window of two hours.
		{"Europe/Berlin", "1h", "2022-10-29 23:59", "2022-10-29 23:00 1h0m"},
		{"Europe/Berlin", "1h", "2022-10-30 00:00", "2022-10-30 00:00 2h0m"},
		{"Europe/Berlin", "1h", "2022-10-30 01:59", "2022-10-30 00:00 2h0m"},
		{"Europe/Berlin", "1h", "2022-10-30 02:00", "2022-10-30 02:00 1h0m"},
		{"Europe/Berlin", "15m", "2022-10-30 00:44", "2022-10-30 00:30 15m"},
		{"Europe/Berlin", "15m", "2022-10-30 00:45", "2022-10-30 00:45 1h15m"},
		{"Europe/Berlin", "15m", "2022-10-30 01:00", "2022-10-30 00:45 1h15m"},
		{"Europe/Berlin", "15m", "2022-10-30 01:59", "2022-10-30 00:45 1h15m"},
		{"Europe/Berlin", "15m", "2022-10-30 02:00", "2022-10-30 02:00 15m"},
		{"Europe/Berlin", "2m/1m", "2022-10-30 01:30", "2022-10-30 00:58 1h2m, 2022-10-30 00:59 1h2m"},
		{"Europe/Berlin", "day", "2022-10-30 22:59", "2022-10-29 22:00 25h0m"},
		{"Europe/Berlin", "day", "2022-10-30 23:00", "2022-10-30 23:00 24h0m"},

		{"America/New_York", "day", "2022-03-13 12:00", "2022-03-13 05:00 23h0m"},
		{"America/New_York", "day", "2022-11-06 12:00", "2022-11-06 04:00 25h0m"},
		{"America/New_York", "1h", "2022-11-06 06:59", "2022-11-06 05:00 2h0m"},

		// Half an hour: Lord Howe's clocks go from 02:00 to 01:30 in April and from 02:00 to 02:30 in
		// October.
		{"Australia/Lord_Howe", "1h", "2022-04-02 15:29", "2022-04-02 14:00 1h30m"},
		{"Australia/Lord_Howe", "1h", "2022-04-02 15:30", "2022-04-02 15:30 1h0m"},
		{"Australia/Lord_Howe", "day", "2022-04-02 20:00", "2022-04-02 13:00 24h30m"},
		{"Australia/Lord_Howe", "1h", "2022-10-01 15:29", "2022-10-01 14:30 1h0m"},
		{"Australia/Lord_Howe", "1h", "2022-10-01 15:30", "2022-10-01 15:30 30m"},
		{"Australia/Lord_Howe", "1h", "2022-10-01 16:00", "2022-10-01 16:00 1h0m"},
		{"Australia/Lord_Howe", "day", "2022-10-01 20:00", "2022-10-01 13:30 23h30m"},

		// Changes at midnight. From 00:00 to 01:00, the day begins at 01:00; from 01:00 to 00:00 it has
		// 00:00 twice.
		{"America/Havana", "day", "2022-03-13 05:00", "2022-03-13 05:00 23h0m"},
		{"America/Havana", "1h", "2022-03-13 05:00", "2022-03-13 05:00 1h0m"},
		{"America/Havana", "day", "2022-11-06 04:00", "2022-11-06 04:00 25h0m"},
		{"America/Havana", "1h", "2022-11-06 05:30", "2022-11-06 04:00 2h0m"},
		{"Asia/Beirut", "day", "2022-03-27 12:00", "2022-03-26 22:00 23h0m"},
		// From 00:00 to 23:00 of the day before, the day that has 25 hours is the one before.
		{"Asia/Beirut", "day", "2022-10-29 12:00", "2022-10-28 21:00 25h0m"},
		{"Asia/Beirut", "day", "2022-10-30 12:00", "2022-10-29 22:00 24h0m"},
		{"America/Sao_Paulo", "day", "2018-02-18 02:59", "2018-02-17 02:00 25h0m"},
		{"America/Sao_Paulo", "day", "2018-02-18 03:00", "2018-02-18 03:00 24h0m"},
		{"America/Sao_Paulo", "day", "2018-11-04 02:59", "2018-11-03 03:00 24h0m"},
		{"America/Sao_Paulo", "day", "2018-11-04 03:00", "2018-11-04 03:00 23h0m"},
		{"Africa/Cairo", "day", "2023-04-28 12:00", "2023-04-27 22:00 23h0m"},
		{"Africa/Cairo", "day", "2023-10-26 12:00", "2023-10-25 21:00 25h0m"},
		// Newfoundland's clocks went from 00:01 back to 23:01: the new date had begun and stays.
		{"America/St_Johns", "day", "2010-11-07 02:29", "2010-11-06 02:30 24h0m"},
		{"America/St_Johns", "day", "2010-11-07 02:30", "2010-11-07 02:30 25h0m"},
		{"America/St_Johns", "day", "2010-11-07 03:00", "2010-11-07 02:30 25h0m"},
		{"America/St_Johns", "15m", "2010-11-07 02:30", "2010-11-07 02:30 1h15m"},
		// And from 00:01 to 01:01: a window of one minute.
		{"America/St_Johns", "15m", "2010-03-14 03:30", "2010-03-14 03:30 1m"},
		{"America/St_Johns", "15m", "2010-03-14 03:31", "2010-03-14 03:31 14m"},
		{"Asia/Kathmandu", "day", "1985-12-31 20:00", "1985-12-31 18:30 23h45m"},

		// Samoa went from 29 to 31 December 2011.
		{"Pacific/Apia", "day", "2011-12-30 09:59", "2011-12-29 10:00 24h0m"},
		{"Pacific/Apia", "day", "2011-12-30 10:00", "2011-12-30 10:00 24h0m"},
		{"Pacific/Apia", "1h", "2011-12-30 10:00", "2011-12-30 10:00 1h0m"},
		{"Pacific/Apia", "24h/12h", "2011-12-30 10:00", "2011-12-30 10:00 24h0m"},
		{"Pacific/Apia", "24h/12h", "2011-12-30 09:59", "2011-12-29 10:00 24h0m, 2011-12-29 22:00 12h0m"},
		// Alaska's clocks were set back by a day at half past two on 19 October 1867; its offsets had
		// seconds.
		{"America/Anchorage", "day", "1867-10-19 00:31", "1867-10-18 09:59 48h0m"},

		// The day after the 365th of a year whose changes come from a rule.
		{"Europe/Berlin", "day", "2044-12-31 12:00", "2044-12-30 23:00 24h0m"},
		{"America/New_York", "1h", "2044-12-31 12:00", "2044-12-31 12:00 1h0m"},
	} {
		got := showWindows(kindOf(t, c.kind).Covering(zoneOf(t, c.zone), minuteOf(t, c.minute), nil))
		if got != c.want {
			t.Errorf("%s, %s, %s UTC:\n got %s\nwant %s", c.zone, c.kind, c.minute, got, c.want)
		}
	}
}

func TestStepEnd(t *testing.T) {
	for _, c := range []struct{ zone, kind, day, until, want string }{
		{"UTC", "day", "2022-02-10 12:00", "2022-02-09 23:00", "2022-02-10 00:00"},
		{"UTC", "day", "2022-02-10 12:00", "2022-02-10 00:00", "2022-02-10 00:00"},
		{"UTC", "day", "2022-02-10 12:00", "2022-02-10 00:14", "2022-02-10 00:00"},
		{"UTC", "day", "2022-02-10 12:00", "2022-02-10 00:15", "2022-02-10 00:15"},
		{"UTC", "day", "2022-02-10 12:00", "2022-02-10 00:16", "2022-02-10 00:15"},
		{"UTC", "day", "2022-02-10 12:00", "2022-02-10 23:59", "2022-02-10 23:45"},
		{"UTC", "day", "2022-02-10 12:00", "2022-02-11 00:00", "2022-02-11 00:00"},
		{"UTC", "day", "2022-02-10 12:00", "2022-02-12 00:00", "2022-02-11 00:00"},
		{"UTC", "day/24h", "2022-02-10 12:00", "2022-02-10 23:59", "2022-02-10 00:00"},
		{"Asia/Kolkata", "day/1h", "2022-02-10 12:00", "2022-02-10 10:29", "2022-02-10 09:30"},
		{"Asia/Kolkata", "day/1h", "2022-02-10 12:00", "2022-02-10 10:30", "2022-02-10 10:30"},
		// The steps of what is skipped are one, the change.
		{"Europe/Berlin", "day", "2022-03-27 12:00", "2022-03-27 00:59", "2022-03-27 00:45"},
		{"Europe/Berlin", "day", "2022-03-27 12:00", "2022-03-27 01:00", "2022-03-27 01:00"},
		{"Europe/Berlin", "day", "2022-03-27 12:00", "2022-03-27 01:15", "2022-03-27 01:15"},
		{"Australia/Lord_Howe", "day/1h", "2022-10-02 02:00", "2022-10-01 15:45", "2022-10-01 15:30"},
		// What repeats has no steps the second time.
		{"Europe/Berlin", "day", "2022-10-30 12:00", "2022-10-30 00:45", "2022-10-30 00:45"},
		{"Europe/Berlin", "day", "2022-10-30 12:00", "2022-10-30 01:59", "2022-10-30 00:45"},
		{"Europe/Berlin", "day", "2022-10-30 12:00", "2022-10-30 02:00", "2022-10-30 02:00"},
		// A day that begins at 01:00.
		{"America/Havana", "day", "2022-03-13 12:00", "2022-03-13 05:14", "2022-03-13 05:00"},
		{"America/Havana", "day", "2022-03-13 12:00", "2022-03-13 05:15", "2022-03-13 05:15"},
		// Others close as a whole.
		{"UTC", "1h", "2022-02-10 12:00", "2022-02-10 12:59", "2022-02-10 12:00"},
		{"UTC", "1h", "2022-02-10 12:00", "2022-02-10 13:00", "2022-02-10 13:00"},
		{"UTC", "1h", "2022-02-10 12:00", "2022-02-10 11:00", "2022-02-10 12:00"},
	} {
		z, k := zoneOf(t, c.zone), kindOf(t, c.kind)
		w := k.Covering(z, minuteOf(t, c.day), nil)[0]
		if got := k.StepEnd(z, w, minuteOf(t, c.until)); got != minuteOf(t, c.want) {
			t.Errorf("%s, %s, %s until %s: got %s, want %s", c.zone, c.kind, showWindows([]Window{w}),
				c.until, got.Time(), c.want)
		}
	}
}

// A window of before the plaza's timezone was changed begins at no boundary.
func TestStepEndOfOtherWindow(t *testing.T) {
	k, w := kindOf(t, "day"), Window{Start: 1447, End: 2887}
	for until, want := range map[Minute]Minute{1454: 1447, 1455: 1455, 2886: 2880, 2887: 2887} {
		if got := k.StepEnd(zoneOf(t, "UTC"), w, until); got != want {
			t.Errorf("until %d: got %d, want %d", until, got, want)
		}
	}
}

var windowZones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu",
	"Australia/Lord_Howe", "America/Havana",
	"Asia/Beirut", "Africa/Cairo", "America/Sao_Paulo", "Pacific/Apia", "America/St_Johns",
	"Pacific/Chatham",
	"Africa/Casablanca", "Antarctica/Troll", "Antarctica/Casey", "America/Caracas", "Asia/Pyongyang",
	"Asia/Gaza",
	"America/Nuuk", "Pacific/Kiritimati", "Europe/Dublin", "Asia/Tehran",
}

var windowKinds = []string{"1m", "5m/1m", "15m", "1h", "2h30m/30m", "25m/10m", "8h", "6h/1h",
	"24h/1h", "24h", "1h/1m", "day", "day/5m"}

// Around changes of the clock, against a search minute by minute: a boundary is the first minute in
// which the clock shows a time or a later one, and all windows are listed.
func TestWindowsAroundChanges(t *testing.T) {
	for _, c := range []struct{ zone, date string }{
		{"Europe/Berlin", "2022-03-27"}, {"Europe/Berlin", "2022-10-30"}, {"America/New_York",
			"2022-03-13"}, {"America/New_York", "2022-11-06"},
		{"Australia/Lord_Howe", "2022-04-03"}, {"Australia/Lord_Howe", "2022-10-02"}, {"America/Havana",
			"2022-03-13"}, {"America/Havana", "2022-11-06"},
		{"Asia/Beirut", "2022-03-27"}, {"Asia/Beirut", "2022-10-30"}, {"Africa/Cairo",
			"2023-04-28"}, {"Africa/Cairo", "2023-10-27"},
		{"America/Sao_Paulo", "2018-02-18"}, {"America/Sao_Paulo", "2018-11-04"}, {"Pacific/Apia",
			"2011-12-30"}, {"Asia/Kathmandu", "1986-01-01"},
		{"America/St_Johns", "2010-03-14"}, {"America/St_Johns", "2010-11-07"}, {"Antarctica/Casey",
			"2010-03-05"}, {"Antarctica/Troll", "2022-03-27"},
		{"America/Caracas", "2007-12-09"}, {"Asia/Pyongyang", "2018-05-05"}, {"Pacific/Kwajalein",
			"1993-08-21"},
		{"Europe/Berlin", "2044-12-31"}, {"Australia/Lord_Howe", "2045-04-02"},
	} {
		z := zoneOf(t, c.zone)
		noon := minuteOf(t, c.date+" 12:00")
		first, last := noon-5*1440, noon+5*1440 // of the search
		reached := make([]int64, 0, last-first) // by the end of each minute, in wall minutes
		high := int64(math.MinInt64)
		for m := first; m < last; m++ {
			high = max(high, int64(z.Wall(m.Time().Add(59*time.Second)))/60)
			reached = append(reached, high)
		}
		boundary := func(wall int64) Minute {
			i, _ := slices.BinarySearch(reached, wall)
			return first + Minute(i)
		}
		for _, text := range windowKinds {
			k := kindOf(t, text)
			hop := int64(k.Hop)
			if k.Day {
				hop = 1440
			}
			var windows []Window
			for wall := reached[0]/1440*1440 + 1440; wall < reached[len(reached)-1]-1440; wall += hop {
				if start := boundary(wall); start < boundary(wall+hop) {
					windows = append(windows, Window{start, boundary(wall + int64(k.Size))})
				}
			}
			var got, want []Window
			for m := noon - 24*60; m < noon+24*60; m++ {
				for windows[0].End <= m {
					windows = windows[1:]
				}
				want = want[:0]
				for i := 0; windows[i].Start <= m; i++ {
					want = append(want, windows[i])
				}
				if got = k.Covering(z, m, got[:0]); !slices.Equal(got, want) {
					t.Fatalf("%s, %s, %s UTC:\n got %s\nwant %s", c.zone, k.Name, m.Time(), showWindows(got),
						showWindows(want))
				}
				if k.Day {
					step := boundary(reached[m-first] / int64(k.Hop) * int64(k.Hop))
					if end := k.StepEnd(z, got[0], m); end != max(step, got[0].Start) {
						t.Fatalf("%s, %s, %s until %s: got %s, want %s", c.zone, k.Name, showWindows(got), m.Time(),
							end.Time(), step.Time())
					}
				}
			}
		}
	}
}

// What holds at any time in any zone.
func TestWindowsProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var kinds []*WindowKind
	for _, text := range windowKinds {
		kinds = append(kinds, kindOf(t, text))
	}
	from, to := minuteOf(t, "1975-01-01 00:00"), minuteOf(t, "2060-01-01 00:00")
	for _, name := range windowZones {
		z := zoneOf(t, name)
		for range 30 {
			m := from + Minute(random.Int32N(int32(to-from)))
			steady := true // the clock does not change within a week
			for d := Minute(-7); d <= 7; d++ {
				steady = steady && offsetOf(z, m+d*1440) == offsetOf(z, m)
			}
			for _, k := range kinds {
				checkWindows(t, z, k, m, random, steady)
			}
		}
	}
}

// The oldest offsets have seconds, and at both ends of what a Minute holds there is nothing to go
// on to.
func TestWindowsAtExtremes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, name := range append([]string{"Europe/Amsterdam", "Africa/Monrovia", "America/Anchorage",
		"Asia/Manila"}, windowZones...) {
		z := zoneOf(t, name)
		minutes := []Minute{math.MinInt32, math.MinInt32 + 1, -1, 0, math.MaxInt32 - 1}
		for range 4 {
			minutes = append(minutes, math.MinInt32+Minute(random.Int32N(5000)),
				math.MaxInt32-1-Minute(random.Int32N(5000)),
				Minute(-random.Int32N(90*366*1440)))
		}
		for _, text := range windowKinds {
			k := kindOf(t, text)
			for _, m := range minutes {
				checkWindows(t, z, k, m, random, false)
			}
			if got := k.Covering(z, math.MaxInt32, nil); len(got) > 0 {
				t.Errorf("%s, %s: the last minute is in %v", name, text, got)
			}
		}
	}
}

func offsetOf(z *Zone, m Minute) int {
	_, offset := m.Time().In(z.Location()).Zone()
	return offset
}

func checkWindows(t *testing.T, z *Zone, k *WindowKind, m Minute, random *rand.Rand, steady bool) {
	t.Helper()
	windows := k.Covering(z, m, nil)
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s, %s, %s UTC is in %s: %s", z.Location(), k.Name, m.Time(), showWindows(windows),
			fmt.Sprintf(format, args...))
	}
	if len(windows) == 0 {
		fail("no window")
	}
	for i, w := range windows {
		if m < w.Start || m >= w.End {
			fail("window %d does not contain it", i)
		}
		if i > 0 && (windows[i-1].Start >= w.Start || windows[i-1].End > w.End) {
			fail("not ascending")
		}
		if within := w.Start +
			Minute(random.Int64N(int64(w.End)-int64(w.Start))); !slices.Contains(k.Covering(z, within, nil),
			w) {
			fail("%s is not in window %d", within.Time(), i)
		}
		if w.Start > math.MinInt32 &&
			slices.ContainsFunc(k.Covering(z, w.Start-1, nil), func(o Window) bool {
				return o.Start == w.Start
			}) {
			fail("the minute before window %d is in it", i)
		}
		checkStart(t, z, k, w)
	}
	if steady {
		want := int(k.Size / k.Hop)
		if k.Day {
			want = 1
		}
		if more := k.Size%k.Hop != 0; len(windows) != want && !(more && len(windows) == want+1) {
			fail("%d windows, want %d", len(windows), want)
		}
	}
	if k.Day || k.Size == k.Hop {
		w := windows[0]
		if len(windows) > 1 {
			fail("more than one")
		}
		if w.Start > math.MinInt32 {
			if before := k.Covering(z, w.Start-1, nil); len(before) != 1 || before[0].End != w.Start {
				fail("before it is %s", showWindows(before))
			}
		}
		if w.End < math.MaxInt32 {
			if after := k.Covering(z, w.End, nil); len(after) != 1 || after[0].Start != w.End {
				fail("after it is %s", showWindows(after))
			}
		}
	}
	w := windows[0]
	for until, had := int64(w.Start)-3, w.Start; until < int64(w.End)+3; until += 1 +
		random.Int64N(90) {
		at := Minute(min(max(until, math.MinInt32), math.MaxInt32))
		end := k.StepEnd(z, w, at)
		switch {
		case end < had, end < w.Start, end > w.End, end > max(at, w.Start), at >= w.End &&
			end != w.End, at < w.End && !k.Day && end != w.Start:
			fail("until %s its step ends at %s, after %s", at.Time(), end.Time(), had.Time())
		}
		had = end
	}
	if k.StepEnd(z, w, math.MinInt32) != w.Start || k.StepEnd(z, w, w.End) != w.End ||
		k.StepEnd(z, w, math.MaxInt32) != w.End {
		fail("steps at the ends of time")
	}
}

// checkStart checks that a window begins when the clock shows a multiple of the hop for the first
// time, or is set.
func checkStart(t *testing.T, z *Zone, k *WindowKind, w Window) {
	t.Helper()
	if offsetOf(z, w.Start)%60 != 0 || w.Start == math.MinInt32 {
		return
	}
	wall := z.Wall(w.Start.Time())
	if set := offsetOf(z, w.Start-1) != offsetOf(z, w.Start); set {
		return
	}
	hop := int64(k.Hop)
	if k.Day {
		hop = 1440
	}
	if _, second := wall.Day(); int64(second)%(hop*60) != 0 || z.Unix(wall) != int64(w.Start)*60 {
		t.Fatalf("%s, %s: a window begins at %s, which is %s there", z.Location(), k.Name, w.Start.Time(),
			wall)
	}
}

func TestCoveringAllocatesNothing(t *testing.T) {
	z, m := zoneOf(t, "Europe/Berlin"), minuteOf(t, "2022-10-30 01:10")
	into := make([]Window, 0, 64)
	for _, text := range windowKinds {
		k := kindOf(t, text)
		if n := testing.AllocsPerRun(10, func() { into = k.Covering(z, m, into[:0]) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

func FuzzParseWindows(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{DefaultWindows, "", "60m,1h", "day/5m,day", "7h", "7h/1h", "24h/15m",
		"5m/1m/1m", "-1m", "1e9h", "1m,,2m", "23h59m/2h24m"} {
		f.Add(text)
	}
	berlin := zoneOf(f, "Europe/Berlin")
	f.Fuzz(func(t *testing.T, text string) {
		kinds, err := ParseWindows(text)
		if err != nil {
			if kinds != nil || err.Error() == "" {
				t.Fatalf("%v with error %q", kinds, err)
			}
			return
		}
		again, err := ParseWindows(FormatWindows(kinds))
		if err != nil || !slices.Equal(again, kinds) {
			t.Fatalf("%+v became %+v, %v", kinds, again, err)
		}
		if len(kinds) < 1 || len(kinds) > 12 {
			t.Fatalf("%d kinds", len(kinds))
		}
		names := map[string]bool{}
		for _, k := range kinds {
			if k.Hop < 1 || k.Hop > k.Size || k.Size > 1440 || 1440%k.Hop != 0 || len(k.Name) > 16 ||
				names[k.Name] {
				t.Fatalf("%+v", k)
			}
			names[k.Name] = true
			if n := len(k.Covering(berlin, 27_000_000, nil)); n < 1 || n > 60 {
				t.Fatalf("%+v: %d windows", k, n)
			}
		}
	})
}

func BenchmarkCovering(b *testing.B) {
	for _, at := range []string{"2022-02-10 10:23", "2022-10-30 10:23"} {
		m := minuteOf(b, at)
		for _, text := range []string{"1m", "5m/1m", "1h/1m", "day"} {
			z, k := zoneOf(b, "Europe/Berlin"), kindOf(b, text)
			b.Run(at[:10]+"/"+strings.ReplaceAll(text, "/", "by"), func(b *testing.B) {
				into := make([]Window, 0, 64)
				for b.Loop() {
					into = k.Covering(z, m, into[:0])
				}
			})
		}
	}
}

func TestLastMinutes(t *testing.T) {
	if w := LastMinutes(100, 15); w != (Window{86, 101}) || w.Span() != 15*time.Minute {
		t.Errorf("%v of %v", w, w.Span())
	}
	if w := LastMinutes(math.MaxInt32, 60); w.End != math.MaxInt32 || w.Span() != time.Hour {
		t.Errorf("at the end of time: %v", w)
	}
	if w := LastMinutes(math.MinInt32, 60); w.Start != math.MinInt32 || w.Span() != time.Minute {
		t.Errorf("at the beginning of time: %v", w)
	}
}
