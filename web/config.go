package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how a server works. Fill in what has no default, and pass it to [New] or
// [NewMetrics], which validate it.
type Config struct {
	// Listen is the address, HOST:PORT. Port 0 takes a free one, see [Server.Addr]. At another address
	// than a loopback one, everyone who reaches the machine reaches the server, so Token or
	// AllowAnyone must be set.
	Listen string
	// Token is what clients must know, MinToken characters or more; empty for none. It is never
	// logged.
	Token string
	// AllowAnyone lets everyone who reaches the server see what it shows. It contradicts Token.
	AllowAnyone bool
	// TLSCert and TLSKey are PEM files, for HTTPS; both empty for plain HTTP.
	TLSCert, TLSKey string
	// Hosts are the names that browsers may call the server by, besides localhost and addresses: those
	// of a proxy in front of it. At a loopback address other names are refused, lest any web site that
	// lets its own name point there reads it through the browser of who visits it (DNS rebinding).
	// Elsewhere they are only where Hosts is not empty.
	Hosts []string

	// Refresh is how often the board is read while there are clients. Default 1 s.
	Refresh time.Duration
	// MaxStreams is how many clients are told of changes at once; more are refused. Default 200.
	MaxStreams int
	// MaxConnections is how many connections of clients are open at once. Another one takes the place
	// of the one that is idle for longest; where none is, it may ask for probes and metrics alone.
	// Default 512.
	MaxConnections int

	// Gatherer gives what /metrics shows; nil for no /metrics.
	Gatherer prometheus.Gatherer
	// Registerer takes the server's own metrics; nil for none.
	Registerer prometheus.Registerer
	// Trace is told of each request before it is answered, and returns the context to answer it in and
	// a func that is told the pattern of its path and the status in the end. It is not told of live
	// streams, which last for hours, nor of /metrics, /healthz and /readyz, which machines ask for all
	// the time. Nil for none.
	Trace func(r *http.Request) (ctx context.Context, answered func(path string, status int))
	// Log is told of what fails, and never of what is asked for. Default: nothing is logged.
	Log *slog.Logger
}

// Defaults and bounds of a Config.
const (
	DefaultListen         = "127.0.0.1:8080"
	DefaultRefresh        = time.Second
	DefaultMaxStreams     = 200
	DefaultMaxConnections = 512

	// MinToken is the fewest characters of a token: 16 random ones are beyond guessing over a network.
	MinToken = 16
	maxToken = 512
)

// Validate reports every violation, with the value it saw, but for the token's. It does not look
// for files or names.
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
		if !loopbackName(host) && c.Token == "" && !c.AllowAnyone {
			bad(
				"listen address %q is not this machine alone: that needs a token, or to allow anyone explicitly", c.Listen)
		}
	}
	if c.Token != "" {
		if n := len(c.Token); n < MinToken || n > maxToken {
			bad("token has %d characters, want %d to %d", n, MinToken, maxToken)
		}
		if strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			bad("token has blanks or characters that are not ASCII")
		}
		if c.AllowAnyone {
			bad("anyone is allowed, and yet there is a token")
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
	if c.Refresh != 0 && (c.Refresh < 100*time.Millisecond || c.Refresh > time.Minute) {
		bad("refresh %v, want 100ms to 1m", c.Refresh)
	}
	if c.MaxStreams < 0 || c.MaxStreams > 100_000 {
		bad("streams %d, want 1 to 100000, or 0 for %d", c.MaxStreams, DefaultMaxStreams)
	}
	if c.MaxConnections < 0 || c.MaxConnections > 100_000 {
		bad("connections %d, want 1 to 100000, or 0 for %d", c.MaxConnections, DefaultMaxConnections)
	}
	return errors.Join(errs...)
}

// withDefaults returns the config with defaults for what is zero.
func (c Config) withDefaults() Config {
	if c.Refresh == 0 {
		c.Refresh = DefaultRefresh
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = DefaultMaxStreams
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// String leaves out the token, so that it gets into no message.
func (c Config) String() string { return "server at " + c.Listen }

// GoString is like String.
func (c Config) GoString() string { return c.String() }

// loopbackName reports whether a host of a listen address is this machine alone.
func loopbackName(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// tuning is what tests set otherwise. Each bound says why it is where it is.
type tuning struct {
	now   func() time.Time
	ticks func() (<-chan time.Time, func())

	// between boards without clients: one who comes sees figures of the last seconds at once
	idle time.Duration
	// of reading a board: a database that needs longer can't serve a live view
	boardTime time.Duration
	// a board that takes longer is called stale: some times what it takes at 1,000 plazas
	slowBoard time.Duration
	// that a request waits for the first board: as long as a person waits for a page
	firstBoard time.Duration
	// of any other question to the source: less than the client waits, see write
	queryTime time.Duration
	queryKeep time.Duration // an answer is as good as new: what changes, changes once a second
	// between comments on a stream: proxies cut what is silent for 30 s or 60 s
	heartbeat   time.Duration
	streamWrite time.Duration // of one write to a stream: who takes nothing for so long has gone
	streamBytes int           // per second, at most, of changes to one client
	// a header fits a few packets; who sends one byte a second holds a connection
	readHeader  time.Duration
	read, write time.Duration // of a whole request and its answer; streams set their own
	idleConn    time.Duration // a browser's connection between requests
	stop        time.Duration // that requests under way have to end
	// that the source then has to return: on a busy machine even one that gives up at once needs a
	// while
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
		readHeader:  5 * time.Second,
		read:        10 * time.Second,
		write:       30 * time.Second,
		idleConn:    90 * time.Second,
		stop:        1500 * time.Millisecond,
		join:        4 * time.Second,
	}
}
