// Package serve is an HTTP server for the live view and for metrics: one guard of tokens, host
// names and methods, bounded connections and timeouts, health probes, and /metrics; and what its
// routes share: parameters, problems, responses with an ETag, queries that run once for many.
//
// [New] starts nothing; Listen opens the address, and Run serves until its context ends. What is
// served in addition to /healthz, /readyz and /metrics is given as routes.
package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server serves routes, probes and metrics behind its guard. A server runs once.
type Server struct {
	cfg      Config
	probes   Probes
	routes   []Route
	requests *prometheus.CounterVec // by path pattern and status
	listener net.Listener
	clients  *connections
	tls      *tls.Config
	stopping chan struct{}
}

// Probes report the state of a process to orchestrators. Both are called for each request, from
// several goroutines, and must return at once; nil means always. Clients see their errors.
type Probes struct {
	Healthy func() error // /healthz: an error means that only a restart helps
	Ready   func() error // /readyz: an error means that it does not do its work at the moment
	// Notes are sentences that /readyz adds where it is ready: of what is not its own health.
	Notes func() []string
}

// Route is what is served at a path.
type Route struct {
	Path  string           // as http.ServeMux has it, without a method; "/" for all that is unknown
	Serve http.HandlerFunc // of GET and HEAD without a body
	// Post takes requests of POST with a body of maxBody bytes at most, which no other web site may
	// send; nil for none. It authenticates them itself.
	Post     http.HandlerFunc
	Untraced bool // see [Config.Trace]
}

// New returns a server of the routes, of /healthz and /readyz, and of /metrics if the config has a
// gatherer. It starts nothing.
func New(cfg Config, probes Probes, routes ...Route) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg.withDefaults(), probes: probes, stopping: make(chan struct{}),
		requests: newRequestCounter()}
	s.clients = newConnections(s.cfg.MaxConnections, time.Now)
	s.routes = append(slices.Clone(routes),
		Route{Path: "/healthz", Serve: s.serveProbe(probes.Healthy, nil), Untraced: true},
		Route{Path: "/readyz", Serve: s.serveProbe(probes.Ready, probes.Notes), Untraced: true})
	if cfg.Gatherer != nil {
		s.routes = append(s.routes, Route{Path: "/metrics", Untraced: true,
			Serve: metricsHandler(cfg.Gatherer, s.cfg.Log).ServeHTTP})
	}
	if !slices.ContainsFunc(routes, func(r Route) bool { return r.Path == "/" }) {
		s.routes = append(s.routes, Route{Path: "/", Serve: notFound})
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(s.requests); err != nil {
			return nil, fmt.Errorf("register the server's metrics: %w", err)
		}
	}
	return s, nil
}

// Probes returns the server's probes, for another server that is to answer in the same way.
func (s *Server) Probes() Probes { return s.probes }

// Stopping is closed when the server stops; responses without an end must end then.
func (s *Server) Stopping() <-chan struct{} { return s.stopping }

// Listen opens the address, so that a port in use is an error before anything is started. Run does
// it if it was not done.
func (s *Server) Listen() error {
	if s.listener != nil {
		return nil
	}
	if s.cfg.TLSCert != "" {
		certificate, err := tls.LoadX509KeyPair(s.cfg.TLSCert, s.cfg.TLSKey)
		if err != nil {
			return fmt.Errorf("load the TLS certificate: %w", err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12,
			NextProtos: []string{"h2", "http/1.1"}}
	}
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	host, _, _ := net.SplitHostPort(s.cfg.Listen)
	if loopbackName(host) && !loopback(l.Addr()) {
		_ = l.Close()
		return fmt.Errorf("listen at %s: it resolves to %s, which is not a loopback address",
			s.cfg.Listen, l.Addr())
	}
	s.listener = l
	return nil
}

// Close closes what Listen opened, of a server that is not to run.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// Addr returns the address after Listen, and nil before.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// URL returns the address to open on this machine, without a token, after Listen.
func (s *Server) URL() string {
	scheme := "http"
	if s.tls != nil {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(s.listener.Addr().String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	base, _ := basePath(s.cfg.BasePath)
	return scheme + "://" + net.JoinHostPort(host, port) + base + "/"
}

// Limits of a request. A header holds a cookie, a token and an event id.
const (
	maxHeaderBytes = 16 << 10
	maxH2Streams   = 64 // of one connection: a browser needs some ten
)

// Run serves until the context ends, which is no error. Requests in progress then have
// [Timeouts.Shutdown] to end before they are cut off.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	if !loopback(s.Addr()) && s.cfg.Token != "" && s.tls == nil && len(s.cfg.TrustedProxies) == 0 {
		s.cfg.Log.Warn("the token is sent in clear text: give the server a TLS certificate, " +
			"or put a proxy with one in front of it")
	}
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: s.cfg.Timeouts.ReadHeader,
		ReadTimeout:       s.cfg.Timeouts.Read,
		WriteTimeout:      s.cfg.Timeouts.Write,
		IdleTimeout:       s.cfg.Timeouts.Idle,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSConfig:         s.tls,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxH2Streams},
		// clients that hang up, or speak no TLS
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	server.ConnState, server.ConnContext = s.clients.note, withConnection
	limited := listener{s.listener, s.clients}
	served := make(chan error, 1)
	go func() {
		if s.tls != nil {
			served <- server.ServeTLS(limited, "", "")
		} else {
			served <- server.Serve(limited)
		}
	}()
	var failed error
	select {
	case <-ctx.Done():
	case failed = <-served:
		failed = fmt.Errorf("serve: %w", failed)
	}
	close(s.stopping)
	s.clients.end()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeouts.Shutdown)
	defer cancel()
	if server.Shutdown(stopping) != nil {
		_ = server.Close() // cuts off what is in progress; there is nothing to be lost
	}
	if failed == nil {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("serve: %w", err)
		}
	}
	return failed
}

// handler returns all that is served, behind the guard.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	untraced := map[string]bool{}
	posts := http.NewServeMux()
	for _, r := range s.routes {
		serve := r.Serve
		if r.Post != nil {
			posts.HandleFunc(r.Path, r.Post)
			serve = func(w http.ResponseWriter, q *http.Request) {
				if q.Method == http.MethodPost {
					r.Post(w, q)
				} else {
					r.Serve(w, q)
				}
			}
		}
		mux.HandleFunc(r.Path, serve)
		untraced[r.Path] = r.Untraced
	}
	g := &guard{next: s.count(mux, untraced), posts: posts, cookie: "tollstream", secure: s.tls != nil,
		hosts: s.cfg.Hosts}
	if s.cfg.Token != "" {
		g.token = []byte(s.cfg.Token)
	}
	g.checkHost = len(s.cfg.Hosts) > 0
	if a := s.Addr(); a != nil {
		g.checkHost = g.checkHost || loopback(a)
		if tcp, ok := a.(*net.TCPAddr); ok { // cookies know no ports
			g.cookie += "-" + strconv.Itoa(tcp.Port)
		}
	}
	p := &proxied{next: keepForProbes(g)}
	p.base, _ = basePath(s.cfg.BasePath) // Validate has read both
	p.trusted, _ = trustedProxies(s.cfg.TrustedProxies)
	if p.base == "" && len(p.trusted) == 0 {
		return withPolicies(p.next)
	}
	return withPolicies(p)
}

// serveProbe answers what a probe reports.
func (s *Server) serveProbe(probe func() error, notes func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if errs := NoParameters(r); len(errs) > 0 {
			FailParameters(w, r, errs)
			return
		}
		if probe != nil {
			if err := probe(); err != nil {
				Fail(w, r, http.StatusServiceUnavailable, "%v", err)
				return
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "application/json")
		answer := struct {
			Status string   `json:"status"`
			Notes  []string `json:"notes,omitempty"`
		}{Status: "ok"}
		if notes != nil {
			answer.Notes = notes()
		}
		body, _ := json.Marshal(&answer) // of strings
		_, _ = w.Write(body)
	}
}

func notFound(w http.ResponseWriter, r *http.Request) {
	Fail(w, r, http.StatusNotFound, "there is nothing at this address")
}

// Config configures a server. Fill in what has no default, and pass it to [New], which validates
// it.
type Config struct {
	// Listen is the address, HOST:PORT. Port 0 takes a free one, see [Server.Addr]. Any address but a
	// loopback one requires Token or NoAuth.
	Listen string
	// Token is the bearer token that clients present, MinToken characters or more; empty for none. It
	// is never logged.
	Token string
	// NoAuth serves everyone who reaches the address. It contradicts Token.
	NoAuth bool
	// TLSCert and TLSKey are PEM files, for HTTPS; both empty for plain HTTP.
	TLSCert, TLSKey string
	// Hosts are the names that browsers may call the server by, besides localhost and addresses: those
	// of a proxy in front of it. At a loopback address other names are refused, or any web site whose
	// own name resolves there could read it through a visitor's browser (DNS rebinding). At other
	// addresses names are checked only if Hosts is not empty.
	Hosts []string
	// BasePath is what a proxy has before the paths of the server, as /toll/. The proxy passes it on;
	// one that takes it off says so in X-Forwarded-Prefix. Probes and metrics are served without it
	// too.
	BasePath string
	// TrustedProxies are the addresses and networks (CIDR) whose X-Forwarded-Prefix, -Proto, -Host and
	// -For are believed. None is by default, not even this machine.
	TrustedProxies []string
	// MaxConnections bounds the open connections of clients. A new one replaces the connection that
	// has been idle for longest; if none is idle, it may request probes and metrics only. Default 512.
	MaxConnections int
	// Timeouts bound requests and connections; fields that are zero have their default.
	Timeouts Timeouts

	// Gatherer provides what /metrics shows; nil for no /metrics.
	Gatherer prometheus.Gatherer
	// Registerer takes the server's own metrics; nil for none.
	Registerer prometheus.Registerer
	// Trace is called with each request before it is answered. It returns the context to answer it in,
	// and a func to call with the pattern of its path and the status at the end. Routes that are
	// untraced, /metrics, /healthz and /readyz are left out. Nil for none.
	Trace func(r *http.Request) (ctx context.Context, answered func(path string, status int))
	// Log reports failures, and never what is requested. Default: nothing is logged.
	Log *slog.Logger
}

// Timeouts bound what a client or the end of a server may take.
type Timeouts struct {
	ReadHeader  time.Duration // a header fits a few packets; a slower client only holds a connection
	Read, Write time.Duration // of a whole request and its response; streams set their own
	Idle        time.Duration // a browser's connection between requests
	Shutdown    time.Duration // that requests in progress have to end
}

var defaultTimeouts = Timeouts{
	ReadHeader: 5 * time.Second,
	Read:       10 * time.Second,
	Write:      30 * time.Second,
	Idle:       90 * time.Second,
	Shutdown:   1500 * time.Millisecond,
}

// Defaults and bounds of a Config.
const (
	DefaultListen         = "127.0.0.1:8080"
	DefaultMaxConnections = 512

	// MinToken is the fewest characters of a token: 16 random ones are beyond guessing over a network.
	MinToken = 16
	maxToken = 512
)

// Validate reports every violation, with the value it saw, except for the token's. It does not
// look up files or names.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	host, port, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		bad("listen address %q, want HOST:PORT, as in %s", c.Listen, DefaultListen)
	default:
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			bad("port %q of listen address %q, want 0 to 65535", port, c.Listen)
		}
		if !loopbackName(host) && c.Token == "" && !c.NoAuth {
			bad("listen address %q is not a loopback address: it needs a token, "+
				"or no authentication explicitly", c.Listen)
		}
	}
	if c.Token != "" {
		if n := len(c.Token); n < MinToken || n > maxToken {
			bad("token has %d characters, want %d to %d", n, MinToken, maxToken)
		}
		if strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			bad("token has blanks or characters that are not ASCII")
		}
		if c.NoAuth {
			bad("no authentication is set together with a token")
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("TLS certificate %q and key %q: want both or none", c.TLSCert, c.TLSKey)
	}
	for _, name := range c.Hosts {
		if name == "" || strings.ContainsAny(name, ":/ *") {
			bad("host %q, want a name without scheme and port", name)
		}
	}
	if _, err := basePath(c.BasePath); err != nil {
		errs = append(errs, err)
	}
	if _, err := trustedProxies(c.TrustedProxies); err != nil {
		errs = append(errs, err)
	}
	if c.MaxConnections < 0 || c.MaxConnections > 100_000 {
		bad("connections %d, want 1 to 100000, or 0 for %d", c.MaxConnections, DefaultMaxConnections)
	}
	return errors.Join(errs...)
}

// withDefaults returns the config with defaults for what is zero.
func (c Config) withDefaults() Config {
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultMaxConnections)
	t, d := &c.Timeouts, &defaultTimeouts
	t.ReadHeader, t.Read = cmp.Or(t.ReadHeader, d.ReadHeader), cmp.Or(t.Read, d.Read)
	t.Write, t.Idle = cmp.Or(t.Write, d.Write), cmp.Or(t.Idle, d.Idle)
	t.Shutdown = cmp.Or(t.Shutdown, d.Shutdown)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// String leaves out the token, so that it gets into no message.
func (c Config) String() string { return "server at " + c.Listen }

// GoString is like String.
func (c Config) GoString() string { return c.String() }

// loopbackName reports whether a host of a listen address is a loopback address.
func loopbackName(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

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
		c := &countedWriter{ResponseWriter: w, status: http.StatusOK, base: Base(r)}
		mux.ServeHTTP(c, r)
		path := r.Pattern
		if path == "" || path == "/" {
			path = "other"
		}
		s.requests.WithLabelValues(path, strconv.Itoa(c.status)).Inc()
		answered(path, c.status)
	})
}

// countedWriter remembers the status, and leads redirects below the base path.
type countedWriter struct {
	http.ResponseWriter
	status int
	base   string
}

func (w *countedWriter) WriteHeader(status int) {
	w.status = status
	if to := w.Header().Get("Location"); strings.HasPrefix(to, "/") {
		w.Header().Set("Location", w.base+to)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
