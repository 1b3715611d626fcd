package monitor

import (
	"math"
	"slices"
	"sync/atomic"
)

// Histogram counts values by upper bounds, which are part of their bucket. It is safe for
// concurrent use, and counting allocates nothing.
type Histogram struct {
	bounds  []float64       // ascending
	buckets []atomic.Uint64 // of each bound, and one for what is above all of them
	sum     atomic.Uint64   // the bits of a float64
}

func newHistogram(bounds ...float64) *Histogram {
	return &Histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts a value.
func (h *Histogram) Observe(v float64) {
	at, _ := slices.BinarySearch(h.bounds, v)
	h.buckets[at].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// Distribution is a reading of a [Histogram].
type Distribution struct {
	Count   uint64
	Sum     float64
	Buckets map[float64]uint64 // per upper bound the values that are not above it
}

// Read returns what was counted. The sum may be ahead of the count by what is being counted at the
// moment.
func (h *Histogram) Read() Distribution {
	d := Distribution{Buckets: make(map[float64]uint64, len(h.bounds))}
	for i := range h.buckets {
		d.Count += h.buckets[i].Load()
		if i < len(h.bounds) {
			d.Buckets[h.bounds[i]] = d.Count
		}
	}
	d.Sum = math.Float64frombits(h.sum.Load())
	return d
}
