package serve

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsHandler shows what a gatherer gathers, in Prometheus' text format or as OpenMetrics,
// compressed if that is accepted. A collector that fails does not hide the others. Few run at once.
func metricsHandler(g prometheus.Gatherer, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             9 * time.Second, // Prometheus gives up after 10 s
		EnableOpenMetrics:   true,
	})
}

func newRequestCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "tollstream", Subsystem: "web", Name: "requests_total",
		Help: "Requests that were answered, by the pattern of their path and by status.",
	}, []string{"path", "status"})
}

// count counts what is answered, and has it traced. The label is the pattern of the path, of which
// there are few, not the path.
func (s *Server) count(mux *http.ServeMux, untraced map[string]bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answered := func(string, int) {}
		if s.cfg.Trace != nil && !untraced[r.URL.Path] {
			ctx, end := s.cfg.Trace(r)
			r, answered = r.WithContext(ctx), end
		}
		c := &countedWriter{ResponseWriter: w, status: http.StatusOK}
		mux.ServeHTTP(c, r)
		path := r.Pattern
		if path == "" || path == "/" {
			path = "other"
		}
		s.requests.WithLabelValues(path, strconv.Itoa(c.status)).Inc()
		answered(path, c.status)
	})
}

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
