package closing

import (
	"context"
	"slices"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/monitor"
)

// How often the watermark is read, and plazas are visited that wait for it.
const (
	horizonEvery = 250 * time.Millisecond
	horizonIdle  = time.Second // the same while nothing is stored
	visitEvery   = time.Second
	costlyVisit  = 200 * time.Millisecond
)

// Session is what closing windows needs of the session that it runs in.
type Session struct {
	Store      Store
	Kafka      Kafka
	Partitions int             // of the topic of events
	Database   *monitor.Outage // with the store; nil for nobody to report outages to
	// Progress returns what the session has stored so far, and Check whether that goes with what the
	// store was read to have afterwards: its epoch, and the next offset of each partition.
	Progress func() []toll.Cursor
	Check    func(progress []toll.Cursor, epoch uint64, next []int64) error
	// Visit calls [Windows.Step] for each plaza that the session owns and [Windows.Wants].
	Visit func(ctx context.Context) error
}

// Watch reads the watermark, and has all plazas visited where it moved on, until the session ends.
func (w *Windows) Watch(ctx context.Context, s Session) {
	defer s.Database.Leave(monitor.AllPartitions)
	watcher := &watcher{cfg: w.cfg, session: s, ends: NewEnds(w.cfg.Topic)}
	var readAt, visitedAt time.Time
	var took time.Duration // by the last visit
	var visited *Horizon
	logged, more := false, false
	var before *Horizon
	pause := horizonEvery
	for {
		// What is to be visited again at once is closed by the watermark that is known.
		if now := time.Now(); now.Sub(readAt) >= pause {
			readAt = now
			progress := s.Progress()
			ending := w.isEnding()
			h, err := watcher.read(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if toll.IsPermanent(err) {
					w.fail(err)
					return
				}
				if !logged { // an outage, which the watcher logs, or the watch over the topic
					logged = true
					w.cfg.Log.Debug("read the watermark", "error", err)
				}
			default:
				logged = false
				h.ending = ending
				w.horizons.add(h)
				if err := s.Check(progress, h.Epoch, h.Next); err != nil {
					w.fail(err)
					return
				}
				w.cfg.Stats.Marked(h.Mark)
				if before != nil && h.Epoch == before.Epoch && slices.Equal(h.Next, before.Next) && !ending {
					pause = min(2*pause, horizonIdle)
				} else {
					pause = horizonEvery
				}
				before = h
			}
		}
		newest := w.horizons.newest()
		moved := newest != nil &&
			(visited == nil || newest.until != visited.until || newest.Epoch != visited.Epoch)
		if more || (moved || w.wantsVisit()) && time.Since(visitedAt) >= max(visitEvery, 4*took) {
			began := time.Now()
			w.beginVisit()
			err := s.Visit(ctx)
			w.endVisit(err == nil)
			if err != nil && ctx.Err() == nil {
				w.cfg.Log.Debug("visit the plazas", "error", err)
			} else {
				visited = newest
			}
			visitedAt = time.Now()
			took = visitedAt.Sub(began)
			w.setCostly(took > costlyVisit)
		}
		more = false
		select {
		case <-time.After(pause):
		case <-w.more:
			more = true
		case <-ctx.Done():
			return
		}
	}
}
