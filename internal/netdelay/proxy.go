// Package netdelay makes a server on this machine answer as if it were far away: a TCP proxy that
// delays what passes, in both directions.
package netdelay

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy passes connections on to a server. Each byte arrives half a round trip after it was sent,
// in order, whatever the rate: there is no limit of bandwidth. A new connection takes one round
// trip, as TCP's handshake does. Packet loss and TCP's slow start are not imitated.
type Proxy struct {
	listener  net.Listener
	upstream  atomic.Pointer[string]
	roundTrip atomic.Int64 // in nanoseconds

	wg     sync.WaitGroup
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

// Listen opens a proxy on a free port of the loopback interface. Until [Proxy.Forward] it leads
// nowhere, so that a server can be given the proxy's address before it starts.
func Listen(roundTrip time.Duration) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, conns: map[net.Conn]bool{}}
	p.SetRoundTrip(roundTrip)
	p.wg.Go(p.accept)
	return p, nil
}

// Addr returns the host:port that clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Forward lets new connections lead to a server, host:port.
func (p *Proxy) Forward(upstream string) { p.upstream.Store(&upstream) }

// SetRoundTrip changes the round trip of what is sent from now on.
func (p *Proxy) SetRoundTrip(d time.Duration) { p.roundTrip.Store(int64(d)) }

func (p *Proxy) oneWay() time.Duration { return time.Duration(p.roundTrip.Load()) / 2 }

// Close cuts all connections and returns once they have ended.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

// keep lets Close close a connection; it reports whether the proxy is open.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns[c] = true
	}
	return !p.closed
}

func (p *Proxy) drop(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // such as too many open files
			continue
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.drop(client)
	upstream := p.upstream.Load()
	if upstream == nil || !p.keep(client) {
		return
	}
	time.Sleep(2 * p.oneWay())
	server, err := net.DialTimeout("tcp", *upstream, 5*time.Second)
	if err != nil {
		return
	}
	defer p.drop(server)
	if !p.keep(server) {
		return
	}
	var directions sync.WaitGroup
	directions.Go(func() { p.pass(client, server) })
	directions.Go(func() { p.pass(server, client) })
	directions.Wait()
}

const (
	chunkBytes = 64 << 10
	// chunksOnTheWay bounds the memory of one direction, to 16 MiB. TCP's windows are smaller.
	chunksOnTheWay = 256
)

// chunk is what was read at a time; nil bytes are the end of what the sender sends.
type chunk struct {
	bytes []byte
	due   time.Time
}

// pass passes on what from sends until that ends. An error ends both connections.
func (p *Proxy) pass(from, to net.Conn) {
	chunks := make(chan chunk, chunksOnTheWay)
	var writing sync.WaitGroup
	writing.Go(func() {
		for c := range chunks {
			time.Sleep(time.Until(c.due))
			var err error
			if c.bytes == nil {
				err = to.(*net.TCPConn).CloseWrite()
			} else {
				_, err = to.Write(c.bytes)
			}
			if err != nil {
				_, _ = from.Close(), to.Close() // which ends the reading
				for range chunks {
				}
			}
		}
	})
	defer writing.Wait()
	defer close(chunks)
	buf := make([]byte, chunkBytes)
	for {
		n, err := from.Read(buf)
		due := time.Now().Add(p.oneWay())
		if n > 0 {
			chunks <- chunk{append([]byte(nil), buf[:n]...), due}
		}
		switch {
		case errors.Is(err, io.EOF):
			chunks <- chunk{nil, due}
			return
		case err != nil:
			_ = to.Close()
			return
		}
	}
}
