package serve

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections bounds how many connections of clients are open, and keeps room for probes.
//
// Up to max connections are served in full. One more replaces the connection that has been idle for
// longest, kept alive or silent from the start. If all are busy, it is one of a few that only
// probes may use, and is closed after one request; so clients can't keep /healthz and /readyz from
// answering. If those are busy too, it waits.
type connections struct {
	max int
	now func() time.Time

	mu     sync.Mutex
	change sync.Cond // with mu: a connection was closed or became idle
	open   map[*connection]bool
	closed bool // no more are accepted
}

// probeConnections is how many connections there are for probes beyond those of clients: some for
// each prober, with room for ones that are slow to close.
const probeConnections = 16

func newConnections(limit int, now func() time.Time) *connections {
	c := &connections{max: limit, now: now, open: map[*connection]bool{}}
	c.change.L = &c.mu
	return c
}

// connection is one of a client.
type connection struct {
	net.Conn
	owner      *connections
	probesOnly bool

	// Guarded by the owner's mu.
	silent bool      // no request yet
	idle   time.Time // since when there is no request; zero while one is answered
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.open, c)
	c.owner.mu.Unlock()
	c.owner.change.Broadcast()
	return c.Conn.Close()
}

// await waits until there is room for another connection. It returns false once the server stops.
func (l *connections) await() bool {
	for {
		l.mu.Lock()
		var shed *connection
		for !l.closed && len(l.open) >= l.max+probeConnections {
			if shed = l.longestIdleLocked(); shed != nil {
				break
			}
			l.change.Wait()
		}
		closed := l.closed
		l.mu.Unlock()
		if closed || shed == nil {
			return !closed
		}
		_ = shed.Close()
	}
}

// add takes a connection that was accepted.
func (l *connections) add(accepted net.Conn) net.Conn {
	l.mu.Lock()
	var shed *connection
	if len(l.open) >= l.max {
		shed = l.longestIdleLocked()
	}
	c := &connection{Conn: accepted, owner: l, silent: true, idle: l.now()}
	c.probesOnly = len(l.open) >= l.max && shed == nil
	l.open[c] = true
	closed := l.closed
	l.mu.Unlock()
	if shed != nil {
		_ = shed.Close()
	}
	if closed {
		_ = c.Close()
	}
	return c
}

func (l *connections) longestIdleLocked() (longest *connection) {
	for c := range l.open {
		if !c.idle.IsZero() && (longest == nil || c.idle.Before(longest.idle)) {
			longest = c
		}
	}
	return longest
}

// note is http.Server's ConnState.
func (l *connections) note(c net.Conn, state http.ConnState) {
	conn := connectionOf(c)
	if conn == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateActive:
		conn.silent, conn.idle = false, time.Time{}
	case http.StateIdle:
		conn.silent, conn.idle = false, l.now()
		l.change.Broadcast()
	}
}

// end closes silent connections, and new ones. Browsers open some ahead of time, and http.Server
// would wait for them when it stops.
func (l *connections) end() {
	l.mu.Lock()
	l.closed = true
	var silent []*connection
	for c := range l.open {
		if c.silent {
			silent = append(silent, c)
		}
	}
	l.mu.Unlock()
	l.change.Broadcast()
	for _, c := range silent {
		_ = c.Close()
	}
}

// connectionOf returns the connection below TLS.
func connectionOf(c net.Conn) *connection {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	conn, _ := c.(*connection)
	return conn
}

// listener accepts connections as far as there is room.
type listener struct {
	net.Listener
	connections *connections
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	if !l.connections.await() {
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.connections.add(c), nil
}

// connectionKey is of the connection in a request's context.
type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, connectionOf(c))
}

// keepForProbes refuses other requests on connections that are for probes.
func keepForProbes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, _ := r.Context().Value(connectionKey{}).(*connection); c != nil && c.probesOnly {
			w.Header().Set("Connection", "close")
			if !open(r.URL.Path) && r.URL.Path != "/metrics" {
				Fail(w, r, http.StatusServiceUnavailable, "too many connections are open")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
