package bench

import (
	"context"
	"time"
)

// warmUp is how long events come before anything is measured.
func (b *Bench) warmUp() time.Duration { return min(b.lasts(15*time.Second), 5*time.Second) }

// live is a world in which `process` runs while events come.
type live struct {
	*world
	process *process
	plazas  int
	rate    int
}

// startLive starts `process` in a new world.
func (r *run) startLive(ctx context.Context, plazas, rate int) (*live, error) {
	w, err := r.newWorld(ctx, "", r.cfg.Partitions)
	if err != nil {
		return nil, err
	}
	p, err := w.running(ctx)
	if err != nil {
		return nil, err
	}
	return &live{w, p, plazas, rate}, nil
}

// whileEventsCome sends events, and after a while does something.
func (l *live) whileEventsCome(ctx context.Context, do func() error) error {
	stop, err := l.b.sendSteadily(ctx, l.topic, l.plazas, l.rate)
	if err != nil {
		return err
	}
	if err := sleep(ctx, l.b.warmUp()); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return stop()
}

// timed measures latencies for a while, with a tail that is there for that time alone: reading the
// changelog costs Kafka something.
func (l *live) timed(ctx context.Context, length time.Duration) (*latencies, error) {
	t, err := l.follow(ctx)
	if err != nil {
		return nil, err
	}
	defer t.close()
	var from time.Time
	err = l.whileEventsCome(ctx, func() error {
		from = time.Now()
		return sleep(ctx, length)
	})
	if err != nil {
		return nil, err
	}
	return l.latencies(ctx, t, from)
}

func (l *live) finish(ctx context.Context) error {
	if err := l.process.stop(); err != nil {
		return err
	}
	return l.world.finish(ctx)
}
