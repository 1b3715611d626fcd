package web

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// ask sends a request on a connection and returns the status of the answer.
func ask(t *testing.T, c net.Conn, path string) int {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
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

// TestProbesBesideClients has clients take all connections that there are for them, in each way
// that there is. Probes are answered at once all the same.
func TestProbesBesideClients(t *testing.T) {
	cert, key := certificate(t)
	const limit = 520
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
			r := start(t, newNetwork(1).source(), func(c *Config, tune *tuning) {
				tune.idleConn = time.Hour
				if secure {
					c.TLSCert, c.TLSKey = cert, key
				}
			})
			r.awaitBoard()
			var all []net.Conn
			for range limit {
				c := dial(r)
				if status := ask(t, c, "/healthz"); status != 200 {
					t.Fatalf("connection %d: status %d", len(all), status)
				}
				all = append(all, c)
			}
			began := time.Now()
			for _, path := range []string{"/healthz", "/readyz", "/api/v1/plazas"} {
				if status := ask(t, dial(r), path); status != 200 {
					t.Errorf("%s: status %d", path, status)
				}
			}
			if took := time.Since(began); took > patience/2 {
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
		r := start(t, newNetwork(1).source(),
			func(_ *Config, tune *tuning) { tune.readHeader = time.Hour })
		r.awaitBoard()
		for range limit + 2*probeConnections {
			c, err := net.Dial("tcp", r.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		r.want(200, r.get("/healthz"))
		r.want(200, r.get("/readyz"))
	})

	t.Run("busy", func(t *testing.T) {
		r := start(t, newNetwork(1).source(),
			func(c *Config, _ *tuning) { c.MaxConnections, c.MaxStreams = 3, 10 })
		r.awaitBoard()
		for range 3 {
			r.stream().next("board")
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
