package journeys

import (
	"testing"

	survey "github.com/tollstream/tollstream/sql/journeys"
)

// TestAffordable: of the past as much is read as a person waits for, and nothing of it where the
// window alone takes that long.
func TestAffordable(t *testing.T) {
	costOf := func(perHour int64) func(PastScope) (Cost, error) {
		return func(p PastScope) (Cost, error) {
			rows := perHour * 9 / 4 * int64(p.Weeks)
			if p.OffPeak {
				rows += perHour * 5
			}
			return Cost{Rows: rows, Indexed: true}, nil
		}
	}
	for perSecond, want := range map[int64]PastScope{20: survey.All, 75: {Weeks: 3}, 100: {Weeks: 2},
		300: {}} {
		now := Cost{Rows: perSecond * 3600 * 9 / 4, Indexed: true}
		got, cost, err := affordable(now, costOf(perSecond*3600))
		if err != nil || got != want || cost.Rows > max(AffordableRows-now.Rows, 0) {
			t.Errorf("%d/s: %+v, %+v, %v", perSecond, got, cost, err)
		}
	}
	for rows, want := range map[int64]PastScope{5_000_000: survey.All, 5_000_001: {}} {
		if got, _, err := affordable(Cost{Rows: rows}, costOf(1)); err != nil || got != want {
			t.Errorf("%d rows without the index: %+v, %v", rows, got, err)
		}
	}
}
