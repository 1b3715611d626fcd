package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
)

func TestPruneBefore(t *testing.T) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2022, 2, 10, 23, 30, 0, 0, time.UTC) // 8:30 of the next day there
	resolve := func(text string, clocks toll.Clocks) (toll.WallTime, error) {
		b, err := ParseBefore(text)
		if err != nil {
			return 0, err
		}
		return b.resolve(tokyo, clocks)
	}
	agree := toll.Clocks{Event: now, Record: now, Server: now, Own: now}
	for text, want := range map[string]string{
		"2022-02-10": "2022-02-10 00:00:00", "2022-02-10 10:00": "2022-02-10 10:00:00",
		"2022-02-11T08:30":    "2022-02-11 08:30:00",
		"2022-02-10 10:00:05": "2022-02-10 10:00:05", " 1d ": "2022-02-10 08:30:00",
		"36h": "2022-02-09 20:30:00",
	} {
		if got, err := resolve(text, agree); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"": "missing", "0": "is no time",
		"yesterday": "is no time", "2022-02-30": "is no time", "2022-02-11 08:31": "is in the future"} {
		if got, err := resolve(text, agree); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}

	// One wrong clock, whichever it is, makes nothing older.
	ahead, behind := now.AddDate(1, 0, 0), now.AddDate(-1, 0, 0)
	for name, c := range map[string]struct {
		clocks toll.Clocks
		want   string
	}{
		"this machine ahead": {toll.Clocks{Event: now, Record: now, Server: now, Own: ahead},
			"2022-02-10 08:30:00"},
		"MySQL ahead": {toll.Clocks{Event: now, Record: now, Server: ahead, Own: now},
			"2022-02-10 08:30:00"},
		"event time ahead": {toll.Clocks{Event: ahead, Record: now, Server: now, Own: now},
			"2022-02-10 08:30:00"},
		"a replay": {toll.Clocks{Event: behind, Record: now, Server: now, Own: now},
			"2021-02-10 08:30:00"},
		"no events yet": {toll.Clocks{Server: ahead, Own: now}, "2022-02-10 08:30:00"},
	} {
		if got, err := resolve("1d", c.clocks); err != nil || got.String() != c.want {
			t.Errorf("%s: %v, %v, want %s", name, got, err, c.want)
		}
	}
	for name, clocks := range map[string]toll.Clocks{
		"this machine ahead": {Event: now, Record: now, Server: now,
			Own: ahead}, "MySQL ahead": {Server: ahead, Own: now},
	} {
		if got, err := resolve("2022-02-12", clocks); err == nil ||
			!strings.Contains(err.Error(), "is in the future") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
