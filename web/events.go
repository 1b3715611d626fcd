package web

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"

	"github.com/tollstream/tollstream/web/serve"
)

// event is a server-sent event as it goes to all clients that need the same: encoded once,
// compressed once.
type event struct {
	text  []byte
	whole bool // of a board: whether it is all of it
	// the text as deflate blocks that need nothing before them, and end at a byte
	squeezed func() []byte
}

func newEvent(text []byte) *event {
	return &event{text: text, squeezed: sync.OnceValue(func() []byte { return squeeze(text) })}
}

var squeezers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.DefaultCompression)
	if err != nil {
		panic(err) // there is this level
	}
	return w
}}

// squeeze compresses text without ending the stream. What it returns refers to nothing before it,
// so it fits into any client's stream: 50 clients cost one compression.
func squeeze(text []byte) []byte {
	var b bytes.Buffer
	w := squeezers.Get().(*flate.Writer)
	defer squeezers.Put(w)
	w.Reset(&b)
	_, _ = w.Write(text) // a buffer takes everything
	_ = w.Flush()
	return b.Bytes()
}

// streamRetry is after how long a client connects again. Browsers add no jitter, but the server
// refuses clients beyond its limit.
const streamRetry = 2 * time.Second

var (
	helloEvent     = newEvent(fmt.Appendf(nil, "retry: %d\n\n", streamRetry.Milliseconds()))
	heartbeatEvent = newEvent([]byte(": heartbeat\n\n"))
)

// eventCache holds the events that bring clients with older boards to a moment's.
type eventCache struct {
	mu    sync.Mutex
	since map[uint64]*event
}

// boardEvent returns the event that brings a client that has the board of a number, 0 for none, to
// this moment's. run names the run of the server, whose boards are numbered.
func (m *moment) boardEvent(run string, since uint64) *event {
	all := m.needsAll(since)
	if all {
		since = 0
	}
	c := &m.events
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.since[since]; e != nil {
		return e
	}
	text := fmt.Appendf(nil, "id: %s-%d\nevent: board\ndata: {\"full\":%t,", run, m.number, all)
	e := newEvent(append(m.appendBoard(text, since, m.staleSince, nil), "}\n\n"...))
	e.whole = all
	if c.since == nil {
		c.since = map[uint64]*event{}
	}
	c.since[since] = e
	return e
}

// statusEvent returns the event with the age of the board.
func (m *moment) statusEvent(now time.Time) *event {
	status := struct {
		Stale      bool       `json:"stale"`
		StaleSince *time.Time `json:"stale_since"`
		Outage     string     `json:"outage"` // the server that does not answer
		At         *time.Time `json:"at"`
		AgeSeconds *float64   `json:"age_seconds"`
	}{Stale: !m.staleSince.IsZero(), Outage: m.outage}
	loc := time.UTC
	if m.snapshot != nil {
		loc = m.at.Location()
		status.At, status.AgeSeconds = &m.at, new(m.age(now).Seconds())
	}
	if status.Stale {
		status.StaleSince = new(m.staleSince.In(loc).Truncate(time.Millisecond))
	}
	text, err := json.Marshal(status)
	if err != nil {
		panic(fmt.Sprintf("encode a status: %v", err)) // of normalized times and a number
	}
	return newEvent(fmt.Appendf(nil, "event: status\ndata: %s\n\n", text))
}

// age returns how old the board is, in tenths of a second.
func (m *moment) age(now time.Time) time.Duration {
	return max(now.Sub(m.at), 0).Truncate(100 * time.Millisecond)
}

// boardOf returns the number of the board that an event id names, and 0 where it is none of this
// run.
func boardOf(run, id string) uint64 {
	text, ok := strings.CutPrefix(id, run+"-")
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// stream writes server-sent events to one client.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration // of one write; slower clients are dropped
	gzip    bool
	crc     uint32 // of what was sent, as gzip's trailer has it
	size    uint32
}

// The header of a gzip member without a name or a time, and an empty last deflate block.
var (
	gzipHead = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
	gzipEnd  = []byte{3, 0}
)

// begin writes the headers.
func (s *stream) begin(r *http.Request) error {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Encoding")
	h.Set("X-Accel-Buffering", "no") // a proxy must not wait for more
	if s.gzip {
		h.Set("Content-Encoding", "gzip")
	}
	s.w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead || !s.gzip {
		return nil
	}
	return s.write(gzipHead)
}

// send sends an event and returns how many bytes it took.
func (s *stream) send(e *event) (int, error) {
	bytes := e.text
	if s.gzip {
		s.crc = crc32.Update(s.crc, crc32.IEEETable, e.text)
		s.size += uint32(len(e.text))
		bytes = e.squeezed()
	}
	return len(bytes), s.write(bytes)
}

// end ends the stream, so that the client sees an end and no fault.
func (s *stream) end() {
	if s.gzip {
		tail := binary.LittleEndian.AppendUint32(bytes.Clone(gzipEnd), s.crc)
		_ = s.write(binary.LittleEndian.AppendUint32(tail, s.size)) // the client may have gone
	}
}

// write writes and flushes. The deadline is cleared again, for with HTTP/2 it would end the stream
// while nothing is written.
func (s *stream) write(b []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil {
		return err
	}
	return s.control.SetWriteDeadline(time.Time{})
}

// serveEvents streams the board, and then its changes, until the client goes or the server stops.
//
// Each client takes what is current when it is ready for it. There is no queue: a slow client gets
// fewer and larger changes, and one that does not read at all is dropped when a write times out.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	if errs := serve.NoParameters(r); len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	out := &stream{w: w, control: http.NewResponseController(w), timeout: s.tuning.streamWrite,
		gzip: serve.AcceptsGzip(r.Header)}
	if r.Method == http.MethodHead {
		_ = out.begin(r)
		return
	}
	f := s.refresher
	defer f.streams.Add(-1)
	if f.streams.Add(1) > int64(s.cfg.MaxStreams) {
		serve.Fail(w, r, http.StatusServiceUnavailable,
			"%d live streams are open, which is the most that this server allows", s.cfg.MaxStreams)
		return
	}
	f.touch()
	if err := out.begin(r); err != nil {
		return
	}
	if _, err := out.send(helloEvent); err != nil {
		return
	}
	m := f.current.Load()
	has := boardOf(s.run, r.Header.Get("Last-Event-ID"))
	if m.snapshot == nil || has > m.number {
		has = 0
	}
	var stale bool
	beat := m.beat
	for {
		var pause time.Duration
		if m.snapshot != nil && m.number > has {
			e := m.boardEvent(s.run, has)
			n, err := out.send(e)
			if err != nil {
				s.metrics.dropped.Inc()
				return
			}
			s.metrics.streamed.Add(float64(n))
			has = m.number
			if !e.whole {
				pause = time.Duration(n) * time.Second / time.Duration(s.tuning.streamBytes)
			}
		}
		if is := !m.staleSince.IsZero(); is != stale || is && m.beat != beat {
			stale = is
			if _, err := out.send(m.statusEvent(f.now())); err != nil {
				return
			}
		}
		if m.beat != beat {
			beat = m.beat
			if _, err := out.send(heartbeatEvent); err != nil {
				return
			}
		}
		if !s.wait(r, m, pause) {
			out.end()
			return
		}
		m = f.current.Load()
	}
}

// wait waits until there is a newer moment, and for the pause at least. It returns false where the
// stream is to end.
func (s *Server) wait(r *http.Request, m *moment, pause time.Duration) bool {
	var paused <-chan time.Time
	next := (<-chan struct{})(m.next)
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		paused = timer.C
	}
	for next != nil || paused != nil {
		select {
		case <-next:
			next = nil
		case <-paused:
			paused = nil
		case <-r.Context().Done():
			return false
		case <-s.Stopping():
			return false
		}
	}
	return true
}
