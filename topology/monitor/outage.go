package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tollstream/tollstream/topology/kafka"
)

// Outage logs that a server is unavailable: once, however many partitions notice and however often,
// and once more when all of them have found that it recovered. A nil Outage logs nothing.
type Outage struct {
	log           *slog.Logger
	failed, works string // the log lines

	mu    sync.Mutex
	down  map[int32]bool // the partitions for which it lasts
	since time.Time
}

// NewOutage returns an outage that has not begun, with the log lines for its begin and its end.
func NewOutage(log *slog.Logger, failed, works string) *Outage {
	return &Outage{log: log, failed: failed, works: works}
}

// AllPartitions stands for what is no matter of one partition.
const AllPartitions = -1

// Down notes that a call for a partition failed. A call that was cancelled says nothing of its
// server: whoever cancelled it knows why.
func (t *Outage) Down(partition int32, cause error) {
	if t == nil || errors.Is(cause, context.Canceled) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.down) == 0 {
		t.down, t.since = map[int32]bool{}, time.Now()
		t.log.Warn(t.failed, "error", kafka.Brief(cause))
	}
	t.down[partition] = true
}

// Up notes that a call for a partition succeeded.
func (t *Outage) Up(partition int32) {
	if since, last := t.forget(partition); last {
		t.log.Info(t.works, "after", time.Since(since).Round(100*time.Millisecond))
	}
}

// Lasts reports whether the server is unavailable for some partition.
func (t *Outage) Lasts() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.down) > 0
}

// slowAnswer is how many seconds a server may let a partition wait until that is logged.
const slowAnswer = 10

// Await takes a server that lets a partition wait for slowAnswer for unavailable. The returned
// function is called once it answered, before Down or Up is called for the answer.
//
// The seconds are counted one by one, so that a process which was stopped itself blames nobody.
func (t *Outage) Await(partition int32) (answered func()) {
	if t == nil {
		return func() {}
	}
	var mu sync.Mutex
	seconds, over := 0, false
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(time.Second, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		if seconds++; seconds < slowAnswer {
			timer.Reset(time.Second)
			return
		}
		t.Down(partition, fmt.Errorf("no answer for %v", slowAnswer*time.Second))
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

// Leave forgets a partition that is not ours any more.
func (t *Outage) Leave(partition int32) { t.forget(partition) }

// forget forgets the outage of a partition, and reports whether it was the last one, and since
// when there was any.
func (t *Outage) forget(partition int32) (since time.Time, last bool) {
	if t == nil {
		return time.Time{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.down[partition] {
		return time.Time{}, false
	}
	delete(t.down, partition)
	return t.since, len(t.down) == 0
}
