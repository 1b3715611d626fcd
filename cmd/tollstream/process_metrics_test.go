package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/topology/monitor"
	"github.com/tollstream/tollstream/web/serve"
	"github.com/tollstream/tollstream/web/serve/servetest"
)

// cable is a connection to a server that can be cut, and mended.
type cable struct {
	listener net.Listener
	to       string

	mu   sync.Mutex
	cut  bool
	open map[net.Conn]bool
	wg   sync.WaitGroup
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: l, to: to, open: map[net.Conn]bool{}}
	c.wg.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.carry(from) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.set(true)
		c.wg.Wait()
	})
	return c
}

// set cuts the cable, or mends it.
func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	if cut {
		for conn := range c.open {
			_ = conn.Close()
		}
	}
}

// take notes a connection, and returns false where the cable is cut.
func (c *cable) take(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		_ = conn.Close()
		return false
	}
	c.open[conn] = true
	return true
}

func (c *cable) carry(from net.Conn) {
	defer from.Close()
	if !c.take(from) {
		return
	}
	to, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer to.Close()
	if !c.take(to) {
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].Close()
		})
	}
	both.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, from)
	delete(c.open, to)
}

// TestProcessReadiness asks a process while it starts without a database, has one, loses it, gets
// it back, and ends.
func TestProcessReadiness(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, time.UTC)
	con := p.Connection()
	dsn, err := mysql.ParseDSN(con.DSN)
	if err != nil {
		t.Fatal(err)
	}
	database := newCable(t, dsn.Addr)
	database.set(true)
	dsn.Addr = database.listener.Addr().String()
	s := runServing(t, con.Cluster.Brokers[0], dsn.FormatDSN(), "process", "--instance", "test",
		"--state-dir", p.dir)
	expect := func(what string, status int, parts ...string) {
		t.Helper()
		var body string
		eventually(t, what, func() bool {
			var got int
			got, body = s.get("readyz")
			for _, part := range parts {
				if !strings.Contains(body, part) {
					return false
				}
			}
			return got == status
		})
		for _, secret := range []string{dsn.Addr, dsn.Passwd + "@", "127.0.0.1"} {
			if strings.Contains(body, secret) {
				t.Errorf("/readyz shows everyone %q: %s", secret, body)
			}
		}
		if got, body := s.get("healthz"); got != http.StatusOK {
			t.Errorf("%s: /healthz answers %d: %s", what, got, body)
		}
	}
	expect("start without a database", http.StatusServiceUnavailable, "tables: ",
		"group: no partitions are assigned yet")
	database.set(false)
	expect("readiness", http.StatusOK, `"ok"`)
	database.set(true)
	expect("outage", http.StatusServiceUnavailable, "mysql: the last call failed")
	if n := metricValue(s.families(), "tollstream_ready", "check=mysql"); n != 0 {
		t.Errorf("tollstream_ready is %v", n)
	}
	database.set(false)
	expect("recovery", http.StatusOK, `"ok"`)
	families := s.families()
	if n := metricValue(families, "tollstream_retries_total"); n == 0 {
		t.Error("no retry was counted")
	}
	if n := metricValue(families, "tollstream_ready"); n != 4 {
		t.Errorf("%v checks are passed", n)
	}

	// From the signal on it is not ready, as long as it answers.
	s.stop()
	for {
		answer, err := s.client.Get(s.url + "readyz")
		if err != nil {
			break // it has ended
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusServiceUnavailable ||
			!strings.Contains(string(body), "stopping") {
			t.Fatalf("while it stops: %d: %s", answer.StatusCode, body)
		}
	}
	if code := <-s.ended; code != 0 {
		t.Errorf("exit status %d: %s", code, s.log.Bytes())
	}
	s.ended <- 0 // for the end of the test
}

// TestProbesOf asks a process that was asked to end, and one whose loops stall.
func TestProbesOf(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stats := monitor.NewStats()
	probes := telemetry.Probes(ctx, stats)
	if err := probes.Healthy(); err != nil {
		t.Error(err)
	}
	if err := probes.Ready(); err == nil || !strings.Contains(err.Error(), "tables: not checked yet") {
		t.Error(err)
	}
	stats.Checked(errors.New("secret"))
	if err := probes.Ready(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	stop()
	if err := probes.Ready(); err == nil || err.Error() != "stopping" {
		t.Error(err)
	}
}

// probed serves probes until the end of the test, and returns the address.
func probed(t *testing.T, ready func() error, cert, key string) string {
	t.Helper()
	server, err := serve.New(serve.Config{Listen: "127.0.0.1:0", TLSCert: cert, TLSKey: key,
		Gatherer: prometheus.NewRegistry()}, serve.Probes{Ready: ready})
	if err != nil {
		t.Fatal(err)
	}
	servetest.Run(t, server)
	return server.Addr().String()
}

// TestHealthCommand asks a server that is ready, one that is not, one with a certificate, and none.
func TestHealthCommand(t *testing.T) {
	quietLibraries()
	for _, name := range []string{"TOLLSTREAM_METRICS_LISTEN", "TOLLSTREAM_LISTEN",
		"TOLLSTREAM_TLS_CERT"} {
		t.Setenv(name, "")
	}
	var ready error
	var mu sync.Mutex
	set := func(err error) { mu.Lock(); defer mu.Unlock(); ready = err }
	address := probed(t, func() error { mu.Lock(); defer mu.Unlock(); return ready }, "", "")
	expect := func(code int, want string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		got := run(t.Context(), append([]string{"tollstream", "health"}, args...), strings.NewReader(""),
			&stdout, &stderr)
		if got != code || !strings.Contains(stdout.String()+stderr.String(), want) {
			t.Errorf("%v: exit status %d, want %d: %s%s", args, got, code, stdout.String(), stderr.String())
		}
	}
	expect(0, "ready\n", "http://"+address)
	expect(0, "ready\n", "http://"+address+"/")
	expect(0, "ready\n", "--metrics-listen", address)
	expect(0, "ready\n", "--listen", address)
	expect(0, "ready\n", "http://"+address+"/healthz")
	expect(1, "not ready: ", "http://"+address+"/nowhere")
	_, port, _ := net.SplitHostPort(address)
	t.Setenv("TOLLSTREAM_METRICS_LISTEN", "0.0.0.0:"+port)
	expect(0, "ready\n")
	set(errors.New("mysql: the last call failed"))
	expect(1, "tollstream: not ready: mysql: the last call failed\n")
	set(nil)

	cert, key := servetest.Certificate(t)
	secure := probed(t, nil, cert, key)
	expect(0, "ready\n", "--metrics-listen", secure, "--tls-cert", cert)
	other, _ := servetest.Certificate(t)
	expect(1, "another certificate", "--metrics-listen", secure, "--tls-cert", other)
	expect(1, "ask https://", "https://"+secure)
	expect(2, "holds no certificate", "--metrics-listen", secure, "--tls-cert", key)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().String()
	_ = l.Close()
	expect(1, "tollstream: ask http://"+taken+"/readyz: ", "http://"+taken)
	expect(2, "is no URL", "localhost:9464")
	expect(2, "want HOST:PORT", "--metrics-listen", "127.0.0.1:0")
	expect(2, "unexpected argument", "http://a", "http://b")
	t.Setenv("TOLLSTREAM_METRICS_LISTEN", "")
	expect(2, "it is not known where to ask")
}
