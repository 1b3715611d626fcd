package web

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Server serves the live view, or metrics alone. [New] and [NewMetrics] make one, Run runs it,
// once.
type Server struct {
	cfg    Config
	tuning tuning
	probes Probes
	routes []route
	run    string // names this run in event ids

	source    Source // nil of a server of metrics alone, as all until static
	settler   *settler
	refresher *refresher
	queries   *queries
	static    map[string]*representation
	openAPI   *representation

	metrics  *serverMetrics
	listener net.Listener
	tls      *tls.Config
	stopping chan struct{} // closed when streams are to end
	ctx      context.Context
	cancel   context.CancelFunc // ends what is asked of the source
}

// Probes say how a process is, to those who start and stop it. Both are called for each request,
// from several goroutines at once, and must return at once; nil stands for always. Clients see
// their errors.
type Probes struct {
	Healthy func() error // /healthz: an error means that only a restart helps
	Ready   func() error // /readyz: an error means that it does not do its work at the moment
}

// route is what is served at a path, as http.ServeMux writes paths.
type route struct {
	path  string
	serve http.HandlerFunc
}

// New returns a server of the live view. It starts nothing.
func New(cfg Config, source Source) (*Server, error) {
	return newServer(cfg, source, defaultTuning(cfg.withDefaults().Refresh))
}

func newServer(cfg Config, source Source, t tuning) (*Server, error) {
	if source == nil {
		return nil, errors.New("web: there is no source")
	}
	s, err := newBase(cfg, t)
	if err != nil {
		return nil, err
	}
	s.source, s.settler = source, &settler{}
	s.refresher = &refresher{
		source: source.Board, settler: s.settler, every: s.cfg.Refresh, idle: t.idle,
		timeout: t.boardTime, slow: t.slowBoard,
		beat: t.heartbeat, now: t.now, ticks: t.ticks, log: s.cfg.Log,
	}
	s.refresher.init()
	s.queries = newQueries(s.ctx, t.queryTime, t.queryKeep, t.now)
	s.openAPI = newRepresentation("application/json", openAPI)
	files, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return nil, fmt.Errorf("read the files of the page: %w", err)
	}
	if s.static, err = readStatic(files); err != nil {
		return nil, err
	}
	s.probes = Probes{Ready: s.ready}
	s.routes = append(s.routes,
		route{"/{$}", s.servePage},
		route{"/plazas/{id}", s.servePage},
		route{"/static/{path...}", s.serveFile},
		route{"/api/v1/plazas", s.servePlazas},
		route{"/api/v1/plazas.csv", s.serveCSV},
		route{"/api/v1/plazas/{id}", s.servePlaza},
		route{"/api/v1/plazas/{id}/windows", s.serveWindows},
		route{"/api/v1/verification", s.serveVerification},
		route{"/api/v1/dead-letters", s.serveDeadLetters},
		route{"/api/v1/events", s.serveEvents},
		route{"/api/v1/openapi.json", s.serveOpenAPI},
	)
	return s, s.observe()
}

// NewMetrics returns a server of /metrics, /healthz and /readyz alone. It starts nothing.
// cfg.Gatherer must be set.
func NewMetrics(cfg Config, probes Probes) (*Server, error) {
	if cfg.Gatherer == nil {
		return nil, errors.New("web: there is no gatherer of metrics")
	}
	s, err := newBase(cfg, defaultTuning(cfg.withDefaults().Refresh))
	if err != nil {
		return nil, err
	}
	s.probes = probes
	return s, s.observe()
}

// newBase returns a server of what all have.
func newBase(cfg Config, t tuning) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg.withDefaults(), tuning: t, run: hex.EncodeToString(randomBytes(4)),
		stopping: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.routes = []route{{"/healthz", s.serveHealth}, {"/readyz", s.serveReady}}
	if cfg.Gatherer != nil {
		s.routes = append(s.routes, route{"/metrics", MetricsHandler(cfg.Gatherer, s.cfg.Log).ServeHTTP})
	}
	return s, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// observe registers the server's own metrics.
func (s *Server) observe() error {
	metrics, collectors := newServerMetrics(s.refresher, s.now)
	s.metrics = metrics
	if s.cfg.Registerer == nil {
		return nil
	}
	for _, c := range collectors {
		if err := s.cfg.Registerer.Register(c); err != nil {
			return fmt.Errorf("register the server's metrics: %w", err)
		}
	}
	return nil
}

func (s *Server) now() time.Time { return s.tuning.now() }

// ready reports whether there is a board that is not stale.
func (s *Server) ready() error {
	switch m := s.refresher.current.Load(); {
	case m.snapshot == nil:
		return errors.New("the figures have not been read yet")
	case !m.staleSince.IsZero():
		return fmt.Errorf("the figures can't be read since %s", m.staleSince.UTC().Format(time.RFC3339))
	}
	return nil
}

// Listen opens the address, so that one that is taken is an error before anything is started. Run
// does it where it was not done.
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
		return fmt.Errorf("listen at %s: that is %s here, and not this machine alone", s.cfg.Listen,
			l.Addr())
	}
	s.listener = l
	return nil
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

// Run serves until the context ends, which is no error. Within two seconds of that, streams have
// ended and requests under way were answered or cut off; within four more, what was started has
// stopped, or the error says that it has not. A server runs once.
func (s *Server) Run(ctx context.Context) error {
	defer s.cancel()
	if err := s.Listen(); err != nil {
		return err
	}
	if !loopback(s.Addr()) && s.cfg.Token != "" && s.tls == nil {
		s.cfg.Log.Warn(
			"the token goes over the network in clear text: give the server a TLS certificate, or put a proxy with one before it")
	}
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: s.tuning.readHeader,
		ReadTimeout:       s.tuning.read,
		WriteTimeout:      s.tuning.write,
		IdleTimeout:       s.tuning.idleConn,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSConfig:         s.tls,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxH2Streams},
		// who hangs up, who speaks no TLS
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	clients := newConnections(s.cfg.MaxConnections, time.Now)
	server.ConnState, server.ConnContext = clients.note, withConnection
	limited := listener{s.listener, clients}
	var started sync.WaitGroup
	if s.refresher != nil {
		started.Go(func() { s.refresher.run(s.ctx) })
	}
	failed := make(chan error, 1)
	started.Go(func() {
		if s.tls != nil {
			failed <- server.ServeTLS(limited, "", "")
		} else {
			failed <- server.Serve(limited)
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	}
	close(s.stopping)
	clients.end()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.tuning.stop)
	defer cancel()
	if server.Shutdown(stopping) != nil {
		_ = server.Close() // cuts off what is under way; there is nothing to be lost
	}
	s.cancel()
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		started.Wait()
		if s.queries != nil {
			s.queries.wait()
		}
	}()
	select {
	case <-joined:
	case <-time.After(s.tuning.join):
		err = errors.Join(err, errors.New("the source did not return when the server stopped"))
	}
	return err
}

// handler returns all that is served, behind the guard.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routes {
		mux.HandleFunc("GET "+r.path, r.serve) // HEAD too
	}
	mux.HandleFunc("/", notFound)
	g := &guard{next: s.metrics.count(mux, s.cfg.Trace), cookie: "tollstream", secure: s.tls != nil,
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
