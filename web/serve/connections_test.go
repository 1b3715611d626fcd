package serve

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tollstream/tollstream/web/serve/servetest"
)

// ask sends a request on a connection and returns the status of the answer.
func ask(t *testing.T, c net.Conn, path string) int {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(servetest.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return 0
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// untilIdle waits until no request is in progress. The server learns that one has ended after the
// client has its answer, so the order of answers is not that of idle connections.
func (r *running) untilIdle(t *testing.T) {
	t.Helper()
	busy := func() bool {
		r.clients.mu.Lock()
		defer r.clients.mu.Unlock()
		for c := range r.clients.open {
			if c.idle.IsZero() {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(servetest.Patience); busy(); time.Sleep(time.Millisecond / 10) {
		if time.Now().After(deadline) {
			t.Fatal("a request is still in progress")
		}
	}
}

// TestProbesWhileClientsTakeAllConnections has clients take all connections that there are for
// them, in each way that there is. Probes are answered at once all the same.
func TestProbesWhileClientsTakeAllConnections(t *testing.T) {
	cert, key := servetest.Certificate(t)
	const limit = 520
	figures := Route{Path: "/api/v1/plazas", Serve: func(http.ResponseWriter, *http.Request) {}}
	for _, secure := range []bool{false, true} {
		dial := func(r *running) net.Conn {
			c, err := net.Dial("tcp", r.Addr().String())
			if err == nil && secure {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		t.Run(fmt.Sprintf("idle, tls=%t", secure), func(t *testing.T) {
			cfg := Config{Timeouts: Timeouts{Idle: time.Hour}}
			if secure {
				cfg.TLSCert, cfg.TLSKey = cert, key
			}
			r := start(t, cfg, figures)
			var all []net.Conn
			for range limit {
				c := dial(r)
				if status := ask(t, c, "/healthz"); status != 200 {
					t.Fatalf("connection %d: status %d", len(all), status)
				}
				all = append(all, c)
				r.untilIdle(t)
			}
			began := time.Now()
			for _, path := range []string{"/healthz", "/readyz", "/api/v1/plazas"} {
				if status := ask(t, dial(r), path); status != 200 {
					t.Errorf("%s: status %d", path, status)
				}
			}
			if took := time.Since(began); took > servetest.Patience/2 {
				t.Errorf("it took %v", took)
			}
			if status := ask(t, all[len(all)-1], "/healthz"); status != 200 {
				t.Errorf("the newest connection was closed: status %d", status)
			}
			if status := ask(t, all[0], "/healthz"); status != 0 {
				t.Errorf("the oldest connection was kept: status %d", status)
			}
		})
	}

	t.Run("silent", func(t *testing.T) {
		r := start(t, Config{Timeouts: Timeouts{ReadHeader: time.Hour}})
		for range limit + 2*probeConnections {
			c, err := net.Dial("tcp", r.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		r.Want(200, r.Get("/healthz"))
		r.Want(200, r.Get("/readyz"))
	})

	t.Run("busy", func(t *testing.T) {
		begun := make(chan struct{})
		var r *running
		r = start(t, Config{MaxConnections: 3}, figures, Route{Path: "/api/v1/events",
			Serve: func(_ http.ResponseWriter, request *http.Request) {
				begun <- struct{}{}
				select {
				case <-request.Context().Done():
				case <-r.Stopping():
				}
			}})
		for range 3 {
			go func() {
				if resp, err := r.HTTP.Get(r.Base + "/api/v1/events"); err == nil {
					_ = resp.Body.Close()
				}
			}()
			<-begun
		}
		dial := func() net.Conn {
			c, err := net.Dial("tcp", r.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		for range 2 * probeConnections { // each is closed after its answer
			for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/api/v1/plazas": 503,
				"/": 503} {
				c := dial()
				if status := ask(t, c, path); status != want {
					t.Fatalf("%s: status %d, want %d", path, status, want)
				}
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Fatalf("%s: the connection is kept: %v", path, err)
				}
			}
		}
		for range probeConnections + 3 { // silent ones take no place for long
			dial()
		}
		if status := ask(t, dial(), "/readyz"); status != 200 {
			t.Errorf("behind silent ones: status %d", status)
		}
	})
}
