// Package web serves the live view over HTTP: the page, the JSON API, live updates by server-sent
// events, CSV and metrics.
//
// It reads boards from a [Source], reaches neither Kafka nor MySQL, and changes nothing. One
// goroutine reads the board, about once a second, however many clients there are. All of them are
// served from the last board, and a slow client costs no more than a fast one. If the source fails,
// the last board stays and is marked as stale, so figures are never older than the page shows.
package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/board"
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
	page       *rebased
	openAPI    *rebased
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
		normalizer: &normalizer{},
		openAPI:    newRebased(serve.NewRepresentation("application/json", openAPI), openAPIBelow)}
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
	s.page = newRebased(s.static[indexFile], pageBelow)
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
		{Path: "/api/v1/plazas/{id}/journeys", Serve: s.serveThrough},
		{Path: "/api/v1/journeys", Serve: s.serveJourneys},
		{Path: "/api/v1/journeys.csv", Serve: s.serveJourneysCSV},
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

// Config configures the server of the live view. Fill in what has no default, and pass it to
// [New], which validates it.
type Config struct {
	serve.Config

	// Refresh is how often the board is read while there are clients. Default 1 s.
	Refresh time.Duration
	// MaxStreams bounds the live streams that are open at once; more are refused. Default 200.
	MaxStreams int
	// Acknowledgers may acknowledge incidents, with a request and a token of their own. Without any,
	// nothing can be changed.
	Acknowledgers []incidents.Acknowledger
}

// Defaults of a Config.
const (
	DefaultRefresh    = time.Second
	DefaultMaxStreams = 200
)

// Validate reports every violation, with the value it saw, except for the token's. It does not
// look up files or names.
func (c *Config) Validate() error {
	errs := []error{c.Config.Validate()}
	if c.Refresh != 0 && (c.Refresh < 100*time.Millisecond || c.Refresh > time.Minute) {
		errs = append(errs, fmt.Errorf("refresh %v, want 100ms to 1m", c.Refresh))
	}
	if c.MaxStreams < 0 || c.MaxStreams > 100_000 {
		errs = append(errs,
			fmt.Errorf("streams %d, want 1 to 100000, or 0 for %d", c.MaxStreams, DefaultMaxStreams))
	}
	errs = append(errs, incidents.Validate(c.Acknowledgers))
	return errors.Join(errs...)
}

// withDefaults returns the config with defaults for what is zero.
func (c Config) withDefaults() Config {
	c.Refresh = cmp.Or(c.Refresh, DefaultRefresh)
	c.MaxStreams = cmp.Or(c.MaxStreams, DefaultMaxStreams)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// tuning is what tests change. Each bound has the reason for its value.
type tuning struct {
	now   func() time.Time
	ticks func() (<-chan time.Time, func())

	// between boards without clients: a new client sees figures of the last seconds at once
	idle time.Duration
	// of reading a board: a database that needs longer can't serve a live view
	boardTime time.Duration
	// a board that takes longer makes the view stale: several times what 1,000 plazas take
	slowBoard time.Duration
	// how long a request waits for the first board: as long as a person waits for a page
	firstBoard time.Duration
	// of any other query to the source: less than the write timeout of a request
	queryTime time.Duration
	queryKeep time.Duration // how long an answer is reused: figures change about once a second
	// between heartbeats of a stream: proxies close what is silent for 30 s or 60 s
	heartbeat   time.Duration
	streamWrite time.Duration // of one write to a stream: a client that blocks longer has gone
	streamBytes int           // per second, at most, of changes to one client
	// how long the source has to return at the end: a busy machine needs a while even to cancel
	join time.Duration
}

func defaultTuning(refresh time.Duration) tuning {
	return tuning{
		now: time.Now,
		ticks: func() (<-chan time.Time, func()) {
			t := time.NewTicker(refresh / 4)
			return t.C, t.Stop
		},
		idle:        max(5*time.Second, refresh),
		boardTime:   10 * time.Second,
		slowBoard:   max(5*time.Second, 2*refresh),
		firstBoard:  6 * time.Second,
		queryTime:   10 * time.Second,
		queryKeep:   time.Second,
		heartbeat:   15 * time.Second,
		streamWrite: 10 * time.Second,
		streamBytes: 100_000,
		join:        4 * time.Second,
	}
}

// Source gives what the pages show. Its methods are called from several goroutines at once. They
// must return soon after their context ends. What they return belongs to the server, which changes
// it.
type Source interface {
	// Board returns all plazas, as of now. One goroutine calls it, about once a second while there are
	// clients, and never while the call before is still under way.
	Board(ctx context.Context) (*board.Board, error)
	// Plaza returns one plaza with its history, or [board.ErrNotFound].
	Plaza(ctx context.Context, id int16) (*board.Detail, error)
	// Windows returns a plaza's closed windows, the newest first: descending by start, then ascending
	// by kind. It returns [board.ErrNotFound] for a plaza that is not known, and a
	// [board.UnknownKindError] for a kind that is not counted.
	Windows(ctx context.Context, id int16, q board.WindowQuery) (board.WindowPage, error)
	// Series returns what passed a plaza by quarters of an hour. Without one end of the range, it is
	// of the plaza's date of the other, and without both of today; it is [board.LongestSeries] at
	// most. It returns [board.ErrNotFound] for a plaza that is not known, as Changes does.
	Series(ctx context.Context, id int16, r board.Range) (*board.Series, error)
	// Changes returns a plaza's changes of congestion, the one that was detected last first.
	Changes(ctx context.Context, id int16, q board.ChangeQuery) (board.ChangePage, error)
	// DeadLetters returns what was rejected, ascending by partition and offset.
	DeadLetters(ctx context.Context, q board.PageQuery) (board.DeadLetterPage, error)
	// Journeys returns how long vehicles took from plaza to plaza lately, the worst delay first.
	// Where reading that takes too long, it returns why, and no sections.
	Journeys(ctx context.Context) (*board.Journeys, error)
	// Through returns where the vehicles of a plaza came from and went to lately, in the same way, or
	// [board.ErrNotFound].
	Through(ctx context.Context, id int16) (*board.Through, error)
	incidents.Source
}
