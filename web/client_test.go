package web

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// message is a server-sent event as a client has parsed it; of a comment only the comment.
type message struct {
	id, event, comment, retry string
	data                      []byte
}

// eventStream is a client of a stream.
type eventStream struct {
	t        testing.TB
	response *http.Response
	messages chan message // closed at the end of the stream
	bytes    atomic.Int64 // of the body, as they came over the network
	err      error        // of the end; to be read after messages is closed
}

// stream opens a stream, with headers as name, value, name, value.
func (r *running) stream(headers ...string) *eventStream {
	r.t.Helper()
	e := r.tryStream(headers...)
	if e.response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(e.response.Body)
		r.t.Fatalf("status %d: %s", e.response.StatusCode, body)
	}
	go e.read()
	return e
}

func (r *running) tryStream(headers ...string) *eventStream {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, r.Base+"/api/v1/events", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := r.HTTP.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	e := &eventStream{t: r.t, response: resp, messages: make(chan message, 1000)}
	r.t.Cleanup(e.close)
	return e
}

func (e *eventStream) close() { _ = e.response.Body.Close() }

func (e *eventStream) Read(p []byte) (int, error) {
	n, err := e.response.Body.Read(p)
	e.bytes.Add(int64(n))
	return n, err
}

// read parses the stream as the HTML standard has it.
func (e *eventStream) read() {
	defer close(e.messages)
	body := io.Reader(e)
	if e.response.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(e)
		if err != nil {
			e.err = err
			return
		}
		body = z
	}
	lines := bufio.NewReaderSize(body, 1<<20)
	var m message
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if err != io.EOF {
				e.err = err
			}
			return
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			e.messages <- m
			m = message{}
		case name == "":
			m.comment = value
		case name == "id":
			m.id = value
		case name == "event":
			m.event = value
		case name == "retry":
			m.retry = value
		case name == "data":
			m.data = append(m.data, value...)
		default:
			e.err = io.ErrUnexpectedEOF
			return
		}
	}
}

// any returns the next message.
func (e *eventStream) any() message {
	e.t.Helper()
	select {
	case m, ok := <-e.messages:
		if !ok {
			e.t.Fatalf("the stream ended: %v", e.err)
		}
		return m
	case <-time.After(patience):
		e.t.Fatal("no message")
	}
	panic("unreachable")
}

// next returns the next event of a name; those of others are passed over.
func (e *eventStream) next(event string) message {
	e.t.Helper()
	for {
		if m := e.any(); m.event == event {
			return m
		}
	}
}

// ended waits for the end of the stream.
func (e *eventStream) ended() error {
	e.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case _, ok := <-e.messages:
			if !ok {
				return e.err
			}
		case <-timeout:
			e.t.Fatal("the stream does not end")
		}
	}
}

// page keeps the board as the page does, by what events say.
type page struct {
	head   map[string]any
	plazas map[float64]map[string]any
}

// apply merges the data of an event.
func (p *page) apply(t testing.TB, data []byte) (full bool) {
	t.Helper()
	var head map[string]any
	if err := json.Unmarshal(data, &head); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	full = head["full"].(bool)
	plazas := head["plazas"].([]any)
	delete(head, "full")
	delete(head, "plazas")
	if full || p.head == nil {
		if !full {
			t.Fatal("the first event is not the whole board")
		}
		p.head, p.plazas = map[string]any{}, map[float64]map[string]any{}
	}
	maps.Copy(p.head, head)
	for _, change := range plazas {
		c := change.(map[string]any)
		id := c["id"].(float64)
		had := p.plazas[id]
		if had == nil {
			had = map[string]any{}
			p.plazas[id] = had
		}
		if last, ok := c["sparkline_last"]; ok {
			delete(c, "sparkline_last")
			old := had["sparkline"].([]any)
			c["sparkline"] = append(append([]any{}, old[:len(old)-1]...), last)
		}
		maps.Copy(had, c)
	}
	return full
}

// check compares what is kept with a whole board.
func (p *page) check(t testing.TB, what string, board []byte) {
	t.Helper()
	want := page{}
	want.apply(t, append([]byte(`{"full":true,`), board[1:]...))
	if !reflect.DeepEqual(p.head, want.head) {
		t.Errorf("%s: head\n%v, want\n%v", what, p.head, want.head)
	}
	if len(p.plazas) != len(want.plazas) {
		t.Errorf("%s: %d plazas, want %d", what, len(p.plazas), len(want.plazas))
	}
	for id, w := range want.plazas {
		if !reflect.DeepEqual(p.plazas[id], w) {
			t.Errorf("%s: plaza %v\n%v, want\n%v", what, id, p.plazas[id], w)
			return
		}
	}
}

// TestMain fails where goroutines are left over that a server, or a test's client, started.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	deadline := time.Now().Add(patience)
	for code == 0 {
		left := leftOver()
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "%d goroutines are left over:\n\n%s\n", len(left),
				strings.Join(left, "\n\n"))
			code = 1
		}
		time.Sleep(10 * time.Millisecond)
	}
	os.Exit(code)
}

func leftOver() []string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var left []string
	for i, stack := range strings.Split(string(stacks), "\n\n") {
		if i > 0 && (strings.Contains(stack, "github.com/tollstream/tollstream/web") ||
			strings.Contains(stack, "net/http.")) {
			left = append(left, stack)
		}
	}
	return left
}
