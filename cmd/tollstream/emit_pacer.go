package main

import (
	"context"
	"time"
)

// pacer spreads events evenly over time.
type pacer struct {
	rate  float64   // a second; 0 doesn't wait
	began time.Time // when event 0 was due
	now   func() time.Time
	timer *time.Timer
}

// maxCatchUp is how far a pacer falls behind before it gives up making up for it: after an outage the stream goes on at
// its rate and not with a burst.
const maxCatchUp = time.Second

func newPacer(rate float64) *pacer { return &pacer{rate: rate, now: time.Now} }

// wait waits until event n is due and reports whether to go on. It calls beforeSleep if it takes a while.
func (p *pacer) wait(ctx context.Context, n int64, beforeSleep func()) bool {
	if p.rate == 0 {
		const checkEvery = 64 // a look at ctx costs a lock
		return n%checkEvery != 0 || ctx.Err() == nil
	}
	now := p.now()
	if p.began.IsZero() {
		p.began = now
	}
	wait := p.due(n).Sub(now)
	if wait <= 0 {
		if wait < -maxCatchUp {
			p.began = p.began.Add(-wait)
		}
		return ctx.Err() == nil
	}
	beforeSleep()
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

func (p *pacer) due(n int64) time.Time {
	return p.began.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
}
