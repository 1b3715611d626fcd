package logend

import (
	"strings"
	"testing"
)

// usual are bounds within which each mutation shows.
var usual = Bounds{Records: 4, Losses: 1, Elections: 1, Crashes: 1, Trims: 1}

// TestRule: with the whole rule nothing is lost, in all states that there are, and the same log is
// never refused.
func TestRule(t *testing.T) {
	for name, b := range map[string]Bounds{
		"one loss":   usual,
		"two losses": {Records: 5, Losses: 2, Elections: 1, Crashes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Search(Rule{}, b, 20_000_000)
			if r.Violation != "" || !r.Exhaustive {
				t.Fatalf("after %d states, exhaustive %v: %v", r.States, r.Exhaustive, r)
			}
			t.Logf("%d states", r.States)
		})
	}
}

// TestMutations: without a part of the rule the search finds what it is for.
func TestMutations(t *testing.T) {
	for name, c := range map[string]struct {
		rule  Rule
		b     Bounds
		want  uint8
		trace string // that the trace holds
	}{
		"no comparison at a start": {Rule{NoStart: true}, usual, lost, ""},
		"none where the epoch changes": {Rule{NoEpoch: true}, usual, lost,
			"an unclean election"},
		"none after a connection": {Rule{NoConnect: true}, usual, lost,
			"an older volume of the same epoch is restored"},
		"epochs alone, which a restored volume repeats": {Rule{EpochOnly: true},
			Bounds{Records: 3, Losses: 1, Crashes: 1}, lost,
			"an older volume of the same epoch is restored"},
		"the last record stored, not the last taken in": {Rule{StoredOnly: true}, usual, lost, ""},
		"the high watermark for the end": {Rule{Watermark: true}, usual, falseAlarm,
			"knows the high watermark"},
		"connections counted after the comparison": {Rule{ConnectLate: true}, usual, lost, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Search(c.rule, c.b, 20_000_000)
			if r.Violation != violations[c.want] || !strings.Contains(strings.Join(r.Trace, "\n"), c.trace) {
				t.Fatalf("after %d states: %v", r.States, r)
			}
			t.Logf("%d states, %v", r.States, r)
		})
	}
}
