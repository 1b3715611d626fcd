package emit

import (
	"context"
	"time"
)

// pacer spreads events over time: evenly, or each at a moment of its own.
type pacer struct {
	rate    float64       // a second; 0 doesn't wait
	catchUp time.Duration // how far it may be behind
	began   time.Time     // when event 0 was due
	now     func() time.Time
	sleep   func(context.Context, time.Duration) bool // false: ctx ended
	timer   *time.Timer
}

// maxCatchUp is how far a pacer falls behind before it stops catching up: after an outage the
// stream continues at its rate and not with a burst.
const maxCatchUp = time.Second

func newPacer(rate float64) *pacer {
	p := &pacer{rate: rate, catchUp: maxCatchUp, now: time.Now}
	p.sleep = p.sleepByTimer
	return p
}

// wait waits until event n is due and reports whether to go on. It calls beforeWait if it takes a
// while.
func (p *pacer) wait(ctx context.Context, n int64, beforeWait func()) bool {
	if p.rate == 0 {
		const checkEvery = 64 // ctx.Err costs a lock
		return n%checkEvery != 0 || ctx.Err() == nil
	}
	return p.waitUntil(ctx, p.offset(n), beforeWait)
}

// waitUntil is wait for an event that is due an offset after the first.
func (p *pacer) waitUntil(ctx context.Context, offset time.Duration, beforeWait func()) bool {
	now := p.now()
	if p.began.IsZero() {
		p.began = now
	}
	wait := p.began.Add(offset).Sub(now)
	if wait <= 0 {
		if -wait > p.catchUp {
			p.began = p.began.Add(-wait)
		}
		return ctx.Err() == nil
	}
	beforeWait()
	return p.sleep(ctx, wait)
}

func (p *pacer) sleepByTimer(ctx context.Context, wait time.Duration) bool {
	if p.timer == nil {
		p.timer = time.NewTimer(wait)
	} else {
		p.timer.Reset(wait)
	}
	select {
	case <-p.timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// offset is how long after event 0 event n is due.
func (p *pacer) offset(n int64) time.Duration {
	return time.Duration(float64(n) / p.rate * float64(time.Second))
}
