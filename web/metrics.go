package web

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// MetricsHandler returns a handler that shows what a gatherer gathers, in Prometheus' text format
// or as OpenMetrics, compressed where that is accepted. A collector that fails does not hide the
// others. Few run at once.
func MetricsHandler(g prometheus.Gatherer, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             9 * time.Second, // Prometheus gives up after 10 s
		EnableOpenMetrics:   true,
	})
}

// serverMetrics are what the server tells of itself.
type serverMetrics struct {
	requests *prometheus.CounterVec // by path pattern and status
	streamed prometheus.Counter
	dropped  prometheus.Counter
}

func newServerMetrics(f *refresher, now func() time.Time) (*serverMetrics, []prometheus.Collector) {
	const namespace, subsystem = "tollstream", "web"
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	m := &serverMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts(opts("requests_total",
			"Requests that were answered, by the pattern of their path and by status.")), []string{"path",
			"status"}),
		streamed: prometheus.NewCounter(prometheus.CounterOpts(opts("stream_bytes_total",
			"Bytes of boards sent to live streams."))),
		dropped: prometheus.NewCounter(prometheus.CounterOpts(opts("streams_dropped_total",
			"Live streams that ended while they were written to: clients that went, or took nothing."))),
	}
	all := []prometheus.Collector{m.requests}
	if f == nil {
		return m, all
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), value)
	}
	counter := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts(opts(name, help)), value)
	}
	return m, append(all, m.streamed, m.dropped,
		gauge("streams", "Live streams that are open.", func() float64 {
			return float64(f.streams.Load())
		}),
		counter("boards_total", "Boards that were read, or that failed to be.", func() float64 {
			return float64(f.reads.Load())
		}),
		counter("board_failures_total", "Boards that failed to be read.", func() float64 {
			return float64(f.failures.Load())
		}),
		gauge("board_age_seconds", "Age of the board that is shown; -1 where there is none.",
			func() float64 {
				m := f.current.Load()
				if m.snapshot == nil {
					return -1
				}
				return m.age(now()).Seconds()
			}),
	)
}

// count counts what is answered, and has it traced. The label is the pattern of the path, of which
// there are few, not the path.
func (m *serverMetrics) count(mux *http.ServeMux,
	trace func(*http.Request) (context.Context, func(string, int))) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answered := func(string, int) {}
		if trace != nil && !untraced[r.URL.Path] {
			ctx, end := trace(r)
			r, answered = r.WithContext(ctx), end
		}
		c := &countedWriter{ResponseWriter: w, status: http.StatusOK}
		mux.ServeHTTP(c, r)
		_, path, ok := strings.Cut(r.Pattern, " ")
		if !ok {
			path = "other"
		}
		m.requests.WithLabelValues(path, strconv.Itoa(c.status)).Inc()
		answered(path, c.status)
	})
}

// untraced are the paths that are not traced, see [Config.Trace].
var untraced = map[string]bool{"/api/v1/events": true, "/metrics": true, "/healthz": true,
	"/readyz": true}

// Probes returns the probes of a server, for another one that is to answer in the same way.
func (s *Server) Probes() Probes { return s.probes }

// countedWriter remembers the status.
type countedWriter struct {
	http.ResponseWriter
	status int
}

func (w *countedWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
