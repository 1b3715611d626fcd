package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
)

func TestStreamSendsChanges(t *testing.T) {
	for _, encoding := range []string{"", "gzip"} {
		t.Run(encoding, func(t *testing.T) {
			n := newNetwork(20)
			source := n.source()
			changing := 20
			source.next = func() (*board.Board, error) { return n.step(changing), nil }
			r := start(t, source, nil)
			r.awaitBoard()
			e := r.stream("Accept-Encoding", encoding)
			if got := e.response.Header.Get("Content-Encoding"); got != encoding {
				t.Errorf("content encoding %q, want %q", got, encoding)
			}
			if got := e.response.Header.Get("Content-Type"); got != "text/event-stream" {
				t.Errorf("content type %q", got)
			}
			if m := e.any(); m.retry != "2000" {
				t.Errorf("the first message is %+v, want a retry", m)
			}
			var p page
			first := e.next("board")
			if !p.apply(t, first.data) || first.id == "" {
				t.Errorf("the first event is not whole, or has no id: %.100s", first.data)
			}
			p.check(t, "first", r.Get("/api/v1/plazas").Body)
			for i := range 5 {
				source.set(func(*fakeSource) { changing = i })
				r.nextBoard()
				m := e.next("board")
				if p.apply(t, m.data) || m.id == first.id {
					t.Errorf("event %d is whole, or has the first one's id", i)
				}
				p.check(t, fmt.Sprint("event ", i), r.Get("/api/v1/plazas").Body)
				if i == 0 && (len(m.data) > 1000 || strings.Contains(string(m.data), `"state"`)) {
					t.Errorf("nothing has changed, and yet there are %d bytes: %s", len(m.data), m.data)
				}
			}
			if err := r.Stop(); err != nil {
				t.Error(err)
			}
			if err := e.ended(); err != nil { // of gzip: with its checksum
				t.Errorf("the stream ended with %v", err)
			}
		})
	}
}

func TestReconnectGoesOn(t *testing.T) {
	r := start(t, newNetwork(5).source(), nil)
	r.awaitBoard()
	e := r.stream()
	var p page
	m := e.next("board")
	p.apply(t, m.data)
	e.close()
	for range 3 {
		r.nextBoard()
	}
	e = r.stream("Last-Event-ID", m.id)
	m = e.next("board")
	if p.apply(t, m.data) {
		t.Error("the event after a reconnect is whole")
	}
	p.check(t, "after the reconnect", r.Get("/api/v1/plazas").Body)
	e.close()

	// The board that the client has is the current one: there is nothing to say.
	e = r.stream("Last-Event-ID", m.id)
	if m := e.any(); m.retry == "" {
		t.Errorf("first %+v", m)
	}
	r.nextBoard()
	if m := e.next("board"); p.apply(t, m.data) {
		t.Error("the event after a reconnect is whole")
	}
	p.check(t, "after the second reconnect", r.Get("/api/v1/plazas").Body)
	e.close()

	for _, id := range []string{"x", "other-1", r.Server.run + "-999", r.Server.run + "-",
		r.Server.run + "--1", r.Server.run + "-0", strings.Repeat("9", 5000)} {
		e := r.stream("Last-Event-ID", id)
		if m := e.next("board"); !p.apply(t, m.data) {
			t.Errorf("with id %.40q the first event is not whole", id)
		}
		e.close()
	}
}

// A plaza that has gone is in no list of changes.
func TestPlazaGoes(t *testing.T) {
	n := newNetwork(3)
	source := n.source()
	r := start(t, source, nil)
	r.awaitBoard()
	e := r.stream()
	var p page
	p.apply(t, e.next("board").data)
	source.set(func(*fakeSource) { n.board.Plazas = n.board.Plazas[1:] })
	r.nextBoard()
	if !p.apply(t, e.next("board").data) || len(p.plazas) != 2 {
		t.Errorf("%d plazas", len(p.plazas))
	}
	r.nextBoard()
	if p.apply(t, e.next("board").data) {
		t.Error("the next one is whole again")
	}
}

func TestStaleBoard(t *testing.T) {
	source := newNetwork(3).source()
	r := start(t, source, nil)
	r.awaitBoard()
	e := r.stream()
	var p page
	p.apply(t, e.next("board").data)
	source.set(func(f *fakeSource) { f.err = errors.New("lost connection to db.internal:3306") })
	r.clock.advance(time.Second)
	status := string(e.next("status").data)
	if !strings.Contains(status,
		`{"stale":true,"stale_since":"2026-03-02T07:15:01+01:00","outage":"","at":"2026-03-02T07:15:0`) {
		t.Errorf("status %s", status)
	}
	a := r.Want(200, r.Get("/api/v1/plazas"))
	if body := string(a.Body); !strings.Contains(body,
		`"stale":true,"stale_since":"2026-03-02T07:15:01+01:00"`) ||
		strings.Contains(body, "db.internal") {
		t.Errorf("board %.300s", body)
	}
	late := r.stream() // who comes now learns it at once
	if m := late.next("board"); !strings.Contains(string(m.data), `"stale":true`) {
		t.Errorf("first event %.200s", m.data)
	}
	if m := late.next("status"); !strings.Contains(string(m.data), `"stale":true`) {
		t.Errorf("status %s", m.data)
	}
	for range 20 {
		r.clock.advance(time.Second)
	}
	var again struct {
		AgeSeconds float64 `json:"age_seconds"`
	}
	// with the heartbeat after 15 s
	if err := json.Unmarshal(e.next("status").data, &again); err != nil || again.AgeSeconds < 14 {
		t.Errorf("status %+v, %v", again, err)
	}
	a = r.Get("/api/v1/plazas")
	if got := a.Header.Get("Age"); got != "20" {
		t.Errorf("Age %q, want 20", got)
	}
	if got := strings.Count(r.logged.String(), "lost connection"); got != 1 {
		t.Errorf("the error is logged %d times, want once:\n%s", got, r.logged)
	}
	source.set(func(f *fakeSource) { f.err = nil })
	r.clock.advance(time.Second)
	r.await("fresh", func(m *moment) bool { return m.staleSince.IsZero() })
	if p.apply(t, e.next("board").data); p.head["stale"] != false {
		t.Errorf("after all is well: %v", p.head)
	}
	if m := e.next("status"); !strings.Contains(string(m.data), `"stale":false`) {
		t.Errorf("status %s", m.data)
	}
	if !strings.Contains(r.logged.String(), "reading the figures recovered") {
		t.Errorf("logged %s", r.logged)
	}
}

// TestHangingSource lets a board take long: what is shown is called stale before the read has
// failed.
func TestHangingSource(t *testing.T) {
	source := newNetwork(3).source()
	r := start(t, source, nil)
	r.awaitBoard()
	e := r.stream()
	e.next("board")
	release := make(chan struct{})
	source.set(func(f *fakeSource) { f.hold = release })
	for range 8 {
		r.clock.advance(time.Second)
	}
	if m := e.next("status"); !strings.Contains(string(m.data), `"stale":true`) {
		t.Errorf("status %s", m.data)
	}
	if n := source.boards.Load(); n > 3 {
		t.Errorf("%d boards were asked for while one was under way", n)
	}
	source.set(func(f *fakeSource) { f.hold = nil })
	close(release)
	if m := e.next("board"); !strings.Contains(string(m.data), `"stale":false`) {
		t.Errorf("board %.200s", m.data)
	}
}

func TestHeartbeat(t *testing.T) {
	source := newNetwork(1).source()
	r := start(t, source, nil)
	r.awaitBoard()
	e := r.stream()
	e.next("board")
	beats := 0
	for range 31 {
		r.nextBoard()
		m := e.any()
		for ; m.event != "board"; m = e.any() {
			if m.comment == "heartbeat" {
				beats++
			}
		}
	}
	if beats != 2 { // every 15 s
		t.Errorf("%d heartbeats in 31 s", beats)
	}
}

// TestHeartbeatWithoutNews distinguishes a client for which nothing changes from one that lost its
// connection.
func TestHeartbeatWithoutNews(t *testing.T) {
	source := newNetwork(1).source()
	r := start(t, source, nil)
	r.awaitBoard()
	e := r.stream()
	e.next("board")
	release := make(chan struct{})
	defer close(release)
	source.set(func(f *fakeSource) { f.hold = release })
	for range 16 {
		r.clock.advance(time.Second)
	}
	for e.any().comment != "heartbeat" {
	}
}

// TestSlowClientIsDropped has one client that reads nothing. The other is not held up by it.
func TestSlowClientIsDropped(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(1000)
	r := start(t, n.source(), func(_ *Config, tune *tuning) {
		// too short for who reads nothing, and not for who reads on a busy machine
		tune.streamWrite = 2 * time.Second
		tune.streamBytes = 1 << 30
	})
	r.awaitBoard()
	slow, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if err := slow.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(slow,
		"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two streams", func() bool { return r.refresher.streams.Load() == 1 })
	e := r.stream("Accept-Encoding", "gzip")
	e.next("board")
	dropped := false
	for range 200 {
		r.nextBoard()
		e.next("board")
		if r.refresher.streams.Load() == 1 {
			dropped = true
			break
		}
	}
	if !dropped {
		eventually(t, "the slow client is dropped", func() bool {
			return r.refresher.streams.Load() == 1
		})
	}
}

// TestLaggingClientCatchesUp has one that reads, but not all the time: it gets fewer events, and
// the same board.
func TestLaggingClientCatchesUp(t *testing.T) {
	t.Parallel() // it waits most of the time
	// Some 30 kB a change, so the pause after the first one is long enough for all other boards to
	// come.
	r := start(t, newNetwork(100).source(), func(_ *Config, tune *tuning) { tune.streamBytes = 5_000 })
	r.awaitBoard()
	e := r.stream()
	var p page
	p.apply(t, e.next("board").data)
	for range 6 {
		r.nextBoard()
	}
	events := 0
	for number := r.refresher.current.Load().number; ; {
		m := e.next("board")
		events++
		if p.apply(t, m.data) {
			t.Fatal("it is whole")
		}
		if strings.HasSuffix(m.id, fmt.Sprint("-", number)) {
			break
		}
	}
	if events > 3 {
		t.Errorf("%d events for 6 boards, which come faster than they may be sent", events)
	}
	p.check(t, "at the end", r.Get("/api/v1/plazas").Body)
}

func TestStreamsAreLimited(t *testing.T) {
	r := start(t, newNetwork(1).source(), func(c *Config, _ *tuning) { c.MaxStreams = 2 })
	r.awaitBoard()
	first := r.stream()
	r.stream()
	e := r.tryStream()
	if e.response.StatusCode != http.StatusServiceUnavailable ||
		e.response.Header.Get("Retry-After") == "" ||
		e.response.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("status %d, headers %v", e.response.StatusCode, e.response.Header)
	}
	first.close()
	eventually(t, "a place is free", func() bool { return r.refresher.streams.Load() == 1 })
	r.stream().next("board")
}

// TestStreamBeforeTheFirstBoard has a client come before there is anything.
func TestStreamBeforeTheFirstBoard(t *testing.T) {
	source := newNetwork(1).source()
	source.err = errors.New("not yet")
	r := start(t, source, nil)
	r.await("a failure", func(m *moment) bool { return !m.staleSince.IsZero() })
	e := r.stream()
	if m := e.next("status"); string(
		m.data) != `{"stale":true,"stale_since":"2026-03-02T06:15:00Z","outage":"","at":null,"age_seconds":null}` {
		t.Errorf("status %s", m.data)
	}
	r.Want(503, r.Get("/api/v1/plazas"))
	r.Want(503, r.Get("/readyz"))
	r.Want(200, r.Get("/healthz"))
	source.set(func(f *fakeSource) { f.err = nil })
	r.clock.advance(time.Second)
	if m := e.next("board"); !strings.Contains(string(m.data), `"full":true`) {
		t.Errorf("board %.100s", m.data)
	}
	r.Want(200, r.Get("/readyz"))
}

// TestStreamBytes is the promise that a live client costs at most 100 kB a second at 1,000 plazas,
// where every one of them changes in every second, with all that changes at once in truth once a
// minute.
func TestStreamBytes(t *testing.T) {
	const seconds = 8
	for _, encoding := range []string{"gzip", ""} {
		t.Run("encoding="+encoding, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			r := start(t, newNetwork(1000).source(), nil)
			r.awaitBoard()
			e := r.stream("Accept-Encoding", encoding)
			e.next("board")
			e.quiet()
			first := e.bytes.Load()
			if encoding == "gzip" {
				for range seconds {
					r.nextBoard()
					e.next("board")
				}
				perSecond := (e.bytes.Load() - first) / seconds
				t.Logf("1,000 plazas that all change: the first board is %d bytes, each second's changes %d",
					first, perSecond)
				if perSecond > 100_000 {
					t.Errorf("%d bytes a second, want 100,000 at most", perSecond)
				}
				return
			}
			// Without compression a change is larger than that, and comes the less often. Boards come faster
			// here than they do in truth, which must make no difference. What is measured begins before the
			// first change is sent and ends when another one has come, with the pauses after all but that
			// one: so it holds on a slow machine too.
			began := time.Now()
			size, last := 0, 0
			for changes := 0; changes < 3; {
				r.nextBoard()
				select {
				case m, ok := <-e.messages:
					if !ok {
						t.Fatalf("the stream ended: %v", e.err)
					}
					if m.event == "board" {
						changes++
						size, last = size+last, len(m.data)
					}
				case <-time.After(10 * time.Millisecond):
					if time.Since(began) > patience {
						t.Fatalf("%d changes in %v", changes, patience)
					}
				}
			}
			perSecond := float64(size) / time.Since(began).Seconds()
			t.Logf("without compression: %.0f bytes a second", perSecond)
			if perSecond > 100_000 {
				t.Errorf("%.0f bytes a second, want 100,000 at most", perSecond)
			}
		})
	}
}

// quiet lets what is under way arrive.
func (e *eventStream) quiet() {
	for {
		before := e.bytes.Load()
		time.Sleep(50 * time.Millisecond)
		if e.bytes.Load() == before {
			return
		}
	}
}
