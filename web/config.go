package web

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tollstream/tollstream/web/incidents"
	"github.com/tollstream/tollstream/web/serve"
)

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
