package topology

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTrouble has three partitions meet one outage: it is told of once, and its end once, when the
// last of them is over it. A server that does not answer is told of, too.
func TestTrouble(t *testing.T) {
	var log strings.Builder
	tr := &trouble{log: slog.New(slog.NewTextHandler(&log, nil)), failed: "it failed",
		works: "it works"}
	lines := func(want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSpace(log.String()), "\n")
		for i := range want {
			if i >= len(got) || !strings.Contains(got[i], want[i]) {
				t.Fatalf("got\n%s\nwant %q", &log, want)
			}
		}
		if len(got) > len(want) {
			t.Fatalf("got\n%s\nwant %q", &log, want)
		}
	}
	tr.over(1) // which met none
	for partition := range int32(3) {
		tr.meet(partition, errors.New("gone away"))
		tr.meet(partition, errors.New("gone away"))
	}
	lines("gone away")
	tr.over(0)
	tr.leave(1)
	lines("gone away")
	tr.over(2)
	lines("gone away", "it works")
	tr.over(2)
	tr.meet(2, errors.New("again"))
	tr.leave(2)
	lines("gone away", "it works", "again")
	synctest.Test(t, func(t *testing.T) {
		tr := &trouble{log: tr.log, failed: "it failed", works: "it works"}
		answered := tr.awaits(0)
		time.Sleep(slowAnswer*time.Second - 1)
		answered()
		time.Sleep(slowAnswer * time.Second)
		lines("gone away", "it works", "again")
		answered = tr.awaits(0)
		time.Sleep(slowAnswer*time.Second + 1)
		answered()
		tr.over(0)
		lines("gone away", "it works", "again", "no answer for 10s", "it works")
	})
	var none *trouble
	none.awaits(0)()
	none.meet(0, errors.New("told to nobody"))
	none.over(0)
}
