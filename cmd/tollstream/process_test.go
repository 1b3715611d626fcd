package main

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/internal/telemetry"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/topology"
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

// TestMaintenance compacts what a process stored, through Kafka's topics and the codecs: all is
// exact before and after, and a rebuild counts the same from what is left.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, time.UTC)
	process := func() {
		t.Helper()
		p.expect(0, "process", "--until-end", "--batch-rows", "5", "--state-dir",
			filepath.Join(p.dir, "state"), "--instance", "a", "--log-level", "error")
	}
	verified := func() verify.Report {
		t.Helper()
		out, _ := p.expect(0, "verify", "--deep", "--json")
		var r verify.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if r.Status != verify.Exact {
			t.Fatalf("got %+v", r)
		}
		return r
	}
	counts := func() string {
		t.Helper()
		out, _ := p.expect(0, "view", "--json")
		var v struct {
			Plazas []struct {
				Plaza, Total, Late, TooLate int64
				ByType                      map[string]int64 `json:"by_type"`
			}
		}
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%+v", v)
	}
	var lines strings.Builder
	start := time.Date(2022, 2, 1, 8, 0, 0, 0, time.UTC)
	for i := range 900 { // twelve days
		at := start.Add(time.Duration(i) * 20 * time.Minute)
		fmt.Fprintf(&lines, "%s,%d,%s,%d\n", at.Format("2006-01-02 15:04:05"), i,
			[]string{"car", "truck", "bus"}[i%3], 4000+i%4)
	}
	var b strings.Builder
	if code, stderr := p.command(t.Context(), lines.String(), &b, "emit", "--from", "-"); code != 0 {
		t.Fatalf("emit: %d\n%s", code, stderr)
	}
	process()
	before := verified()
	if before.Events != 900 || before.BatchRows < 150 {
		t.Fatalf("got %+v", before)
	}
	counted := counts()
	windows := p.number(`SELECT COUNT(*) FROM toll_window`)

	con := p.Connection()
	var warnings strings.Builder
	log := slog.New(slog.NewTextHandler(&warnings, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := con.OpenStore(log)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	meta, err := store.Meta(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stats := maintenance.NewStats()
	topo := topology.DefaultConfig()
	topo.Cluster, topo.Topic, topo.Group, topo.TopicID = con.Cluster, con.Topic, con.Group,
		meta.TopicID
	topo.Windows, topo.Lateness, topo.Idle = pipeline.DefaultWindows().Kinds, meta.Lateness,
		time.Second
	topo.Log = log
	cfg := maintenance.Config{Topology: topo, Retention: maintenance.DefaultRetention(), Store: store,
		Writer: store.Writer(meta.TopicID), Stats: stats}
	m := maintenance.New(cfg)
	defer m.Close()
	round := func() verify.Report {
		t.Helper()
		if err := m.Round(t.Context(), true, true); err != nil {
			t.Fatal(err)
		}
		return verified()
	}
	if r := round(); r.BatchRows != before.BatchRows {
		t.Errorf("young batches were compacted: %d rows of %d", r.BatchRows, before.BatchRows)
	}
	p.execute(`UPDATE toll_batch SET stored_at = stored_at - INTERVAL 30 MINUTE`)
	joined := round()
	if joined.BatchRows > 20 || joined.WindowsFolded != 0 || joined.Windows != before.Windows {
		t.Errorf("joined: %+v", joined)
	}
	p.execute(`UPDATE toll_batch SET stored_at = stored_at - INTERVAL 3 HOUR`)
	rolled := round()
	if rolled.BatchRows > 4 || rolled.Batches != before.Batches || rolled.WindowsFolded != 0 ||
		rolled.Windows != before.Windows || warnings.Len() > 0 {
		t.Errorf("rolled up: %+v, %s", rolled, &warnings)
	}
	if n := p.number(`SELECT COUNT(*) FROM toll_batch WHERE folded_minute > -2147483648`); n == 0 {
		t.Error("no minutes were rolled up")
	}
	if got := counts(); got != counted {
		t.Errorf("got %s, want %s", got, counted)
	}
	if out, _ := p.expect(0, "verify", "--deep"); !strings.Contains(out,
		"compacted into "+fmt.Sprint(rolled.BatchRows)+" rows") ||
		!strings.Contains(out, "checked, which are all") {
		t.Errorf("verify says:\n%s", out)
	}

	ran := func(step maintenance.Step, outcome maintenance.Outcome, want int64) {
		t.Helper()
		if got := stats.Read().Runs[maintenance.Run{Step: step, Outcome: outcome}]; got != want {
			t.Errorf("%s, %s: %d times, want %d", step, outcome, got, want)
		}
	}
	for _, step := range []maintenance.Step{maintenance.Join, maintenance.Rollup, maintenance.Expire} {
		ran(step, maintenance.Done, 3)
		ran(step, maintenance.Blocked, 0)
	}
	if got, want := stats.Read().Deleted["toll_batch"],
		before.BatchRows-rolled.BatchRows; got != want {
		t.Errorf("%d rows of toll_batch were deleted, want %d", got, want)
	}
	cfg.Topology.Cluster.Brokers = []string{"127.0.0.1:1"}
	nowhere := maintenance.New(cfg)
	defer nowhere.Close()
	if err := nowhere.Round(t.Context(), true, true); err == nil {
		t.Error("a round went well without Kafka")
	}
	ran(maintenance.Join, maintenance.Done, 4) // which needs no watermark
	ran(maintenance.Rollup, maintenance.Failed, 1)
	ran(maintenance.Expire, maintenance.Failed, 1)

	p.expect(0, "rebuild", "--yes")
	process()
	if r := verified(); r.WindowsFolded != rolled.WindowsFolded {
		t.Errorf("after a rebuild: %+v", r)
	}
	if got := counts(); got != counted {
		t.Errorf("after a rebuild: %s, want %s", got, counted)
	}
	if n := p.number(`SELECT COUNT(*) FROM toll_window`); n != windows {
		t.Errorf("%d windows, want %d", n, windows)
	}

	p.expect(2, "prune", "--before", "2022-02-05")
	if out, _ := p.expect(0, "prune", "--before", "2022-02-05", "--dry-run"); !strings.Contains(out,
		"holds 900 rows, 264 from before") {
		t.Errorf("prune says:\n%s", out)
	}
	out, _ := p.expect(0, "prune", "--before", "2022-02-05", "--batch-rows", "100", "--yes")
	if !strings.Contains(out, "deleted 264 rows in ") {
		t.Errorf("prune says:\n%s", out)
	}
	if r := verified(); r.Pruned != 264 || r.Rows != 636 {
		t.Errorf("pruned: %+v", r)
	}
	if out, _ := p.expect(0, "view", "--plaza", "4000"); !strings.Contains(out,
		"rows deleted by tollstream prune") {
		t.Errorf("view says:\n%s", out)
	}
	p.execute(`DELETE FROM livetolldata LIMIT 1`)
	if out, _ := p.expect(1, "verify"); !strings.Contains(out, "1 row was deleted") {
		t.Errorf("verify says:\n%s", out)
	}
}

// number returns what a query counts.
func (p *testbed) number(query string) (n int64) {
	p.t.Helper()
	db, err := dbsql.Open("mysql", p.Connection().DSN)
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}
