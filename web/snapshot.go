package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
)

// snapshot is a board in the pieces in which it is sent. It never changes. Each piece knows with
// which board it changed last, so what is new to a client follows from the number of the board that
// it has, however long ago it got that.
type snapshot struct {
	number    uint64 // 1 for the first board, then one more for each
	at        time.Time
	timezone  string
	newest    time.Time // event time, or when the board was read
	summary   board.Summary
	verdict   board.Verification
	notices   []board.Notice
	head      []member // of the board, but for its plazas
	rows      []*row   // ascending by id
	fullSince uint64   // a client with an older board needs all of this one: plazas have gone since
}

// member is one member of a JSON object.
type member struct {
	text    []byte // "name":value
	changed uint64 // the number of the board that it changed with last
}

// row is a plaza of a snapshot.
type row struct {
	board.Plaza
	text    []byte   // as JSON
	members []member // of text, in its order, the id first
	changed uint64   // the highest of the members
	// earlier is when anything of the sparkline changed but its last quarter, which does with each
	// vehicle.
	earlier uint64
}

// nextSnapshot returns the snapshot of a normalized board after another, nil for the first. It
// shares what has not changed.
func nextSnapshot(old *snapshot, b *board.Board) (*snapshot, error) {
	s := &snapshot{number: 1, at: b.At, timezone: b.Timezone, summary: b.Summary,
		verdict: b.Verification, notices: b.Notices, fullSince: 1,
		rows: make([]*row, 0, len(b.Plazas))}
	if s.newest = b.At; b.StreamTime != nil {
		s.newest = *b.StreamTime
	}
	var head []member
	var rows []*row
	if old != nil {
		s.number, s.fullSince = old.number+1, old.fullSince
		head, rows = old.head, old.rows
	}
	whole := *b
	whole.Plazas = nil
	document, err := json.Marshal(&whole)
	if err != nil {
		return nil, fmt.Errorf("encode the board: %w", err)
	}
	// the first and the last member, at and plazas, are sent by themselves
	members := changedMembers(append([]member{{}}, head...), text.EscapeJSON(document), s.number)
	s.head = members[1 : len(members)-1]
	for i := range b.Plazas {
		p := &b.Plazas[i]
		for len(rows) > 0 && rows[0].ID < p.ID {
			s.fullSince = s.number
			rows = rows[1:]
		}
		var before *row
		if len(rows) > 0 && rows[0].ID == p.ID {
			before, rows = rows[0], rows[1:]
		}
		r, err := nextRow(before, p, s.number)
		if err != nil {
			return nil, err
		}
		s.rows = append(s.rows, r)
	}
	if len(rows) > 0 {
		s.fullSince = s.number
	}
	return s, nil
}

func nextRow(old *row, p *board.Plaza, number uint64) (*row, error) {
	object, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode plaza %d: %w", p.ID, err)
	}
	object = text.EscapeJSON(object)
	if old == nil {
		old = &row{}
	} else if bytes.Equal(object, old.text) {
		return old, nil
	}
	r := &row{Plaza: *p, text: object, changed: number, earlier: old.earlier}
	r.members = changedMembers(old.members, object, number)
	if !sameButLast(sparkline(old.members), sparkline(r.members)) {
		r.earlier = number
	}
	return r, nil
}

const sparklineName = `"sparkline":`

// sparkline returns the member that is called so, or nil.
func sparkline(members []member) []byte {
	for i := range members {
		if bytes.HasPrefix(members[i].text, []byte(sparklineName)) {
			return members[i].text
		}
	}
	return nil
}

// sameButLast reports whether two lists of two elements or more are the same but for the last.
func sameButLast(x, y []byte) bool {
	i, j := bytes.LastIndexByte(x, ','), bytes.LastIndexByte(y, ',')
	return i >= 0 && j >= 0 && bytes.Equal(x[:i], y[:j])
}

// changedMembers cuts a JSON object into its members, each with the number of the board that it
// changed with last. old are the members before, the same ones in the same order, or none.
func changedMembers(old []member, object []byte, number uint64) []member {
	members := make([]member, 0, max(len(old), 8))
	for text := range splitMembers(object) {
		m := member{text: text, changed: number}
		if i := len(members); i < len(old) && bytes.Equal(old[i].text, text) {
			m.changed = old[i].changed
		}
		members = append(members, m)
	}
	return members
}

// splitMembers yields the members of an object as encoding/json writes it, without blanks.
func splitMembers(object []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		depth, start, quoted := 0, 1, false
		for i := 0; i < len(object); i++ {
			switch c := object[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case quoted:
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				depth--
				if depth == 0 && i > start && !yield(object[start:i]) {
					return
				}
			case c == ',' && depth == 1:
				if !yield(object[start:i]) {
					return
				}
				start = i + 1
			}
		}
	}
}

// needsAll reports whether a client that has the board of that number needs all of this one.
func (s *snapshot) needsAll(since uint64) bool { return since < s.fullSince }

// appendBoard appends the board as JSON, without the braces: all of it, or what a client lacks that
// has the board of that number. rows are those to show; nil for all.
func (s *snapshot) appendBoard(b []byte, since uint64, staleSince time.Time, rows []*row) []byte {
	all := s.needsAll(since)
	if all {
		since = 0
	}
	if rows == nil {
		rows = s.rows
	}
	if all {
		size := 1000
		for _, r := range rows {
			size += len(r.text) + 1
		}
		b = slices.Grow(b, size)
	}
	b = append(b, `"at":`...)
	b = appendTime(b, s.at)
	b = append(b, `,"stale":`...)
	b = fmt.Append(b, !staleSince.IsZero())
	b = append(b, `,"stale_since":`...)
	b = appendTime(b, staleSince.In(s.at.Location()))
	for i := range s.head {
		if s.head[i].changed > since {
			b = append(append(b, ','), s.head[i].text...)
		}
	}
	b = append(b, `,"plazas":[`...)
	first := true
	for _, r := range rows {
		if r.changed <= since {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		if all {
			b = append(b, r.text...)
		} else {
			b = r.appendChanges(b, since)
		}
	}
	return append(b, ']')
}

// appendChanges appends what has changed of a row since a board, with its id.
func (r *row) appendChanges(b []byte, since uint64) []byte {
	b = append(append(b, '{'), r.members[0].text...)
	for _, m := range r.members[1:] {
		if m.changed <= since {
			continue
		}
		b = append(b, ',')
		if r.earlier <= since && bytes.HasPrefix(m.text, []byte(sparklineName)) {
			last := m.text[bytes.LastIndexAny(m.text, ",[")+1 : len(m.text)-1]
			b = append(append(b, `"sparkline_last":`...), last...)
			continue
		}
		b = append(b, m.text...)
	}
	return append(b, '}')
}

// appendTime appends a time as JSON; of the zero time null.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	return append(t.Truncate(time.Millisecond).AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// serverMetrics are the counters of live streams.
type serverMetrics struct {
	streamed prometheus.Counter
	dropped  prometheus.Counter
}

// newServerMetrics registers the metrics of streams and boards, unless the registerer is nil.
func newServerMetrics(r prometheus.Registerer, f *refresher, now func() time.Time) (*serverMetrics,
	error) {
	const namespace, subsystem = "tollstream", "web"
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	m := &serverMetrics{
		streamed: prometheus.NewCounter(prometheus.CounterOpts(opts("stream_bytes_total",
			"Bytes of boards sent to live streams."))),
		dropped: prometheus.NewCounter(prometheus.CounterOpts(opts("streams_dropped_total",
			"Live streams that ended during a write: the client disconnected, or did not read."))),
	}
	if r == nil {
		return m, nil
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), value)
	}
	counter := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts(opts(name, help)), value)
	}
	all := []prometheus.Collector{m.streamed, m.dropped,
		gauge("streams", "Live streams that are open.", func() float64 {
			return float64(f.streams.Load())
		}),
		counter("boards_total", "Reads of the board, failed ones included.", func() float64 {
			return float64(f.reads.Load())
		}),
		counter("board_failures_total", "Reads of the board that failed.", func() float64 {
			return float64(f.failures.Load())
		}),
		gauge("board_age_seconds", "Age of the current board; -1 if there is none.",
			func() float64 {
				m := f.current.Load()
				if m.snapshot == nil {
					return -1
				}
				return m.age(now()).Seconds()
			}),
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the server's metrics: %w", err)
		}
	}
	return m, nil
}
