package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/tollstream/tollstream/web/incidents"
	"github.com/tollstream/tollstream/web/serve"
)

// Server serves the live view. [New] makes one, Run runs it, once.
type Server struct {
	*serve.Server
	cfg    Config
	tuning tuning
	run    string // names this run in event ids

	source     Source
	normalizer *normalizer
	refresher  *refresher
	queries    *serve.Queries
	static     map[string]*serve.Representation
	openAPI    *serve.Representation
	metrics    *serverMetrics

	ctx    context.Context // of queries to the source
	cancel context.CancelFunc
}

// New returns a server of the live view. It starts nothing.
func New(cfg Config, source Source) (*Server, error) {
	return newServer(cfg, source, defaultTuning(cfg.withDefaults().Refresh))
}

func newServer(cfg Config, source Source, t tuning) (*Server, error) {
	if source == nil {
		return nil, errors.New("web: there is no source")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	s := &Server{cfg: cfg, tuning: t, run: hex.EncodeToString(id), source: source,
		normalizer: &normalizer{}, openAPI: serve.NewRepresentation("application/json", openAPI)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.refresher = &refresher{
		source: source.Board, normalizer: s.normalizer, every: cfg.Refresh, idle: t.idle,
		timeout: t.boardTime, slow: t.slowBoard,
		beat: t.heartbeat, now: t.now, ticks: t.ticks, log: cfg.Log,
	}
	s.refresher.init()
	s.queries = serve.NewQueries(s.ctx, t.queryTime, t.queryKeep, t.now)
	files, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return nil, fmt.Errorf("read the files of the page: %w", err)
	}
	if s.static, err = readStatic(files); err != nil {
		return nil, err
	}
	if s.metrics, err = newServerMetrics(cfg.Registerer, s.refresher, s.now); err != nil {
		return nil, err
	}
	s.Server, err = serve.New(cfg.Config, serve.Probes{Ready: s.ready, Notes: s.notes},
		append(s.routes(), serve.Route{Path: "/", Serve: s.notFound})...)
	return s, err
}

func (s *Server) routes() []serve.Route {
	routes := []serve.Route{
		{Path: "/{$}", Serve: s.servePage},
		{Path: "/plazas/{id}", Serve: s.servePlazaPage},
		{Path: "/plaza/{id}", Serve: leadToPlaza},
		{Path: "/static/{path...}", Serve: s.serveFile},
		{Path: "/api/v1/plazas", Serve: s.servePlazas},
		{Path: "/api/v1/plazas.csv", Serve: s.serveCSV},
		{Path: "/api/v1/plazas/{id}", Serve: s.servePlaza},
		{Path: "/api/v1/plazas/{id}/flow", Serve: s.serveFlow},
		{Path: "/api/v1/plazas/{id}/transitions", Serve: s.serveTransitions},
		{Path: "/api/v1/plazas/{id}/windows", Serve: s.serveWindows},
		{Path: "/api/v1/plazas/{id}/windows.csv", Serve: s.serveWindowsCSV},
		{Path: "/incidents", Serve: s.servePage},
		{Path: "/api/v1/verification", Serve: s.serveVerification},
		{Path: "/api/v1/dead-letters", Serve: s.serveDeadLetters},
		{Path: "/api/v1/events", Serve: s.serveEvents, Untraced: true}, // it lasts for hours
		{Path: "/api/v1/openapi.json", Serve: s.serveOpenAPI},
	}
	h := incidents.NewHandler(incidents.Config{Source: s.source, Log: s.cfg.Log,
		Acknowledgers: s.cfg.Acknowledgers, Timeout: s.tuning.queryTime, Ask: s.ask,
		Fail: s.failSource, Zone: s.databaseZone,
		Instant: func(query url.Values, name string, clock *time.Location,
			errs *serve.ParameterErrors) *time.Time {
			p := past{query: query, loc: clock}
			return p.instant(name, errs)
		}})
	return append(routes, h.Routes(s.notFound)...)
}

// databaseZone returns the database's clock. It returns false where it has answered already.
func (s *Server) databaseZone(w http.ResponseWriter, r *http.Request) (*time.Location, bool) {
	if s.refresher.current.Load().snapshot == nil { // which has it
		if _, ok := s.board(w, r); !ok {
			return nil, false
		}
	}
	loc, _ := s.normalizer.zone(s.timezone())
	return loc, true
}

func (s *Server) now() time.Time { return s.tuning.now() }

// ready reports whether there is a board that is not stale.
func (s *Server) ready() error {
	switch m := s.refresher.current.Load(); {
	case m.snapshot == nil:
		return errors.New("the figures have not been read yet")
	case m.outage != "":
		return fmt.Errorf("%s has not answered since %s", m.outage,
			m.staleSince.UTC().Format(time.RFC3339))
	case !m.staleSince.IsZero():
		return fmt.Errorf("the figures have not been read since %s",
			m.staleSince.UTC().Format(time.RFC3339))
	}
	return nil
}

// notes are what to know before the figures are trusted, though the server itself is ready.
func (s *Server) notes() (all []string) {
	if m := s.refresher.current.Load(); m.snapshot != nil {
		for _, n := range m.notices {
			all = append(all, n.Text)
		}
	}
	return all
}

// Run serves until the context ends, which is no error. Within two seconds of that, streams have
// ended and requests in progress were answered or cut off; within four more, what was started has
// stopped, or the error reports that it has not.
func (s *Server) Run(ctx context.Context) error {
	defer s.cancel()
	if err := s.Listen(); err != nil {
		return err
	}
	var started sync.WaitGroup
	started.Go(func() { s.refresher.run(s.ctx) })
	err := s.Server.Run(ctx)
	s.cancel()
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		started.Wait()
		s.queries.Wait()
	}()
	select {
	case <-joined:
	case <-time.After(s.tuning.join):
		err = errors.Join(err, errors.New("the source did not return when the server stopped"))
	}
	return err
}
