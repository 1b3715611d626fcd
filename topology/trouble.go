package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tollstream/tollstream/topology/kafka"
)

// trouble tells of a server that does not work: once, however many partitions meet it and however
// often, and once more when all of them have found that it works again. A nil trouble tells
// nothing.
type trouble struct {
	log           *slog.Logger
	failed, works string // what it says

	mu    sync.Mutex
	met   map[int32]bool // the partitions that meet it
	since time.Time
}

// allPartitions stands for what is no matter of one partition.
const allPartitions = -1

// meet notes that a partition meets an error. A call that was cancelled says nothing of its server:
// whoever cancelled it knows why.
func (t *trouble) meet(partition int32, cause error) {
	if t == nil || errors.Is(cause, context.Canceled) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.met) == 0 {
		t.met, t.since = map[int32]bool{}, time.Now()
		t.log.Warn(t.failed, "error", kafka.Brief(cause))
	}
	t.met[partition] = true
}

// over notes that a partition found the server working.
func (t *trouble) over(partition int32) {
	if since, last := t.forget(partition); last {
		t.log.Info(t.works, "after", time.Since(since).Round(100*time.Millisecond))
	}
}

// lasts reports whether some partition meets trouble.
func (t *trouble) lasts() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.met) > 0
}

// slowAnswer is how many seconds a server may let a partition wait until that is told of.
const slowAnswer = 10

// awaits tells of a server that lets a partition wait for slowAnswer. The returned function is
// called once it answered, before the answer is told of.
//
// The seconds are counted one by one, so that a process which stood still itself blames nobody.
func (t *trouble) awaits(partition int32) (answered func()) {
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
		t.meet(partition, fmt.Errorf("no answer for %v", slowAnswer*time.Second))
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

// leave forgets a partition that is not ours any more.
func (t *trouble) leave(partition int32) { t.forget(partition) }

// forget forgets that a partition meets trouble, and reports whether it was the last one, and since
// when there was any.
func (t *trouble) forget(partition int32) (since time.Time, last bool) {
	if t == nil {
		return time.Time{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.met[partition] {
		return time.Time{}, false
	}
	delete(t.met, partition)
	return t.since, len(t.met) == 0
}
