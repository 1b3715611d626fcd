package live

import (
	"context"
	"sync"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

const (
	// boundAge is how long a bound is shown before weeks of windows are read again for it.
	boundAge = 10 * time.Minute
	// boundsKept bounds how many plazas' are kept.
	boundsKept = 1000
)

// capacityBounds remembers what plazas' capacities are at least. Its zero value knows none.
type capacityBounds struct {
	mu    sync.Mutex
	known map[int16]capacityBound
}

type capacityBound struct {
	at    time.Time
	bound *traffic.CapacityBound
}

// of returns the bound of a plaza by its windows of a quarter of an hour in the weeks before now;
// nil where they show none.
func (c *capacityBounds) of(ctx context.Context, store *sql.Store,
	h *history) (*traffic.CapacityBound,
	error) {
	if h.quarter == "" {
		return nil, nil
	}
	plaza := int16(h.p.ID)
	c.mu.Lock()
	last, ok := c.known[plaza]
	c.mu.Unlock()
	if ok && time.Since(last.at) < boundAge {
		return last.bound, nil
	}
	now := toll.QuarterOf(h.now)
	windows, err := store.WindowsBetween(ctx, plaza, h.quarter,
		toll.Window{Start: now - traffic.HistoryWeeks*7*24*60, End: now})
	if err != nil {
		return nil, err
	}
	eq := traffic.DefaultEquivalents()
	quarters := make([]traffic.QuarterFlow, 0, len(windows))
	for i := range windows {
		if w := &windows[i]; w.End-w.Start == toll.Quarter {
			quarters = append(quarters, traffic.QuarterFlow{Start: w.Start, Cars: eq.Cars(w.Types)})
		}
	}
	next := capacityBound{at: time.Now()}
	if b, ok := traffic.LearnCapacity(h.zone, quarters); ok {
		next.bound = &b
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= boundsKept {
		c.known = map[int16]capacityBound{}
	}
	c.known[plaza] = next
	return next.bound, nil
}
