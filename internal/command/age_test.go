package command

import (
	"testing"
	"time"
)

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90d": 90 * day, "48h": 48 * time.Hour, "0d": 0, "1h30m": 90 * time.Minute,
		"400d": 400 * day, "10m": 10 * time.Minute,
	} {
		got, err := ParseAge(text)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if again, err := ParseAge(FormatAge(got)); err != nil || again != got {
			t.Errorf("%s: written as %s, read as %v, %v", text, FormatAge(got), again, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-5h", "1.5d", "90", "9999999d", "99999999h",
		"a week"} {
		if got, err := ParseAge(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
