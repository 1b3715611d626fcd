package web

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// serverMetrics are the counters of live streams.
type serverMetrics struct {
	streamed prometheus.Counter
	dropped  prometheus.Counter
}

// newServerMetrics registers the metrics of streams and boards, unless the registerer is nil.
func newServerMetrics(r prometheus.Registerer, f *refresher, now func() time.Time) (*serverMetrics,
	error) {
	const namespace, subsystem = "tollstream", "web"
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	m := &serverMetrics{
		streamed: prometheus.NewCounter(prometheus.CounterOpts(opts("stream_bytes_total",
			"Bytes of boards sent to live streams."))),
		dropped: prometheus.NewCounter(prometheus.CounterOpts(opts("streams_dropped_total",
			"Live streams that ended during a write: the client disconnected, or did not read."))),
	}
	if r == nil {
		return m, nil
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), value)
	}
	counter := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts(opts(name, help)), value)
	}
	all := []prometheus.Collector{m.streamed, m.dropped,
		gauge("streams", "Live streams that are open.", func() float64 {
			return float64(f.streams.Load())
		}),
		counter("boards_total", "Reads of the board, failed ones included.", func() float64 {
			return float64(f.reads.Load())
		}),
		counter("board_failures_total", "Reads of the board that failed.", func() float64 {
			return float64(f.failures.Load())
		}),
		gauge("board_age_seconds", "Age of the current board; -1 if there is none.",
			func() float64 {
				m := f.current.Load()
				if m.snapshot == nil {
					return -1
				}
				return m.age(now()).Seconds()
			}),
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the server's metrics: %w", err)
		}
	}
	return m, nil
}
