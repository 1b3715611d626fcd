package demo

import (
	"testing"
	"time"
)

func TestMondayBefore(t *testing.T) {
	for _, c := range []struct{ at, want string }{
		{"2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z"}, // a Monday
		{"2026-03-02T00:00:01Z", "2026-03-02T00:00:00Z"},
		{"2026-03-02T23:59:59Z", "2026-03-02T00:00:00Z"},
		{"2026-03-03T00:00:00Z", "2026-03-02T00:00:00Z"},
		{"2026-03-08T12:00:00Z", "2026-03-02T00:00:00Z"}, // a Sunday
		{"2026-03-02T00:30:00+01:00", "2026-02-23T00:00:00Z"},
		{"2026-03-01T23:30:00-01:00", "2026-03-02T00:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := mondayBefore(at).Format(time.RFC3339); got != c.want {
			t.Errorf("%s: got %s, want %s", c.at, got, c.want)
		}
	}
}
