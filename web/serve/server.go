package serve

import (
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
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Server serves routes, probes and metrics behind its guard. A server runs once.
type Server struct {
	cfg      Config
	probes   Probes
	routes   []Route
	requests *prometheus.CounterVec // by path pattern and status
	listener net.Listener
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
	return scheme + "://" + net.JoinHostPort(host, port) + "/"
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
	if !loopback(s.Addr()) && s.cfg.Token != "" && s.tls == nil {
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
	clients := newConnections(s.cfg.MaxConnections, time.Now)
	server.ConnState, server.ConnContext = clients.note, withConnection
	limited := listener{s.listener, clients}
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
	clients.end()
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
	return keepForProbes(g)
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
