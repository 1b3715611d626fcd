package serve

import (
	"cmp"
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
