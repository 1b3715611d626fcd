package toll

import (
	"testing"
	"time"
)

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
