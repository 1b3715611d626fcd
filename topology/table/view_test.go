package table

import (
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/kafka"
)

// TestTableLeavesNothing reads the group table again and again, as a process does to roll up old
// batches: nothing of it stays.
func TestTableLeavesNothing(t *testing.T) {
	_, cluster := simtest.Broker(t, kfake.SeedTopics(4, kafka.TableTopic("group")))
	read := func() {
		t.Helper()
		states, err := Read(t.Context(), cluster, "group")
		if err != nil || len(states) != 0 {
			t.Fatalf("%d states, %v", len(states), err)
		}
	}
	read() // what is made once
	const times = 10
	before := runtime.NumGoroutine()
	for range times {
		read()
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() >= before+
		times; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before,
				stacks[:runtime.Stack(stacks, true)])
		}
	}
}
