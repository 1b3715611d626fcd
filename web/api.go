package web

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/web/serve"
)

// servePlazas responds with the board, or with the plazas of it that are selected.
func (s *Server) servePlazas(w http.ResponseWriter, r *http.Request) {
	m, rows, ok := s.selected(w, r)
	if !ok {
		return
	}
	s.setAge(w, m)
	// the same list: nothing was selected
	if len(rows) == len(m.rows) && (len(rows) == 0 || &rows[0] == &m.rows[0]) {
		m.document().Serve(w, r)
		return
	}
	m.boardDocument(rows).Serve(w, r)
}

// boardDocument returns the board as JSON with some rows of it, nil for all.
func (m *moment) boardDocument(rows []*row) *serve.Representation {
	return serve.NewRepresentation("application/json",
		append(m.appendBoard([]byte{'{'}, 0, m.staleSince, rows), '}'))
}

// selected returns the board and what a request selects of it. It returns false where it has
// answered already.
func (s *Server) selected(w http.ResponseWriter, r *http.Request) (*moment, []*row, bool) {
	query, errs := serve.Parameters(r)
	var sel selection
	if len(errs) == 0 {
		sel, errs = selectionFrom(query)
	}
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return nil, nil, false
	}
	m, ok := s.board(w, r)
	if !ok {
		return nil, nil, false
	}
	return m, sel.of(m.rows), true
}

// board returns what is current, or responds that there is nothing yet.
func (s *Server) board(w http.ResponseWriter, r *http.Request) (*moment, bool) {
	ctx, cancel := context.WithTimeout(r.Context(), s.tuning.firstBoard)
	defer cancel()
	m, ok := s.refresher.board(ctx)
	if !ok {
		serve.Fail(w, r, http.StatusServiceUnavailable, "the figures have not been read yet")
	}
	return m, ok
}

// setAge sets the header Age: how many seconds ago the board was read.
func (s *Server) setAge(w http.ResponseWriter, m *moment) {
	w.Header().Set("Age", strconv.Itoa(int(m.age(s.now()).Seconds())))
}

// serveVerification responds with the verification of the figures.
func (s *Server) serveVerification(w http.ResponseWriter, r *http.Request) {
	if errs := serve.NoParameters(r); len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	m, ok := s.board(w, r)
	if !ok {
		return
	}
	type plaza struct {
		ID   int16  `json:"id"`
		Name string `json:"name"`
		board.PlazaVerification
	}
	report := struct {
		At         time.Time  `json:"at"`
		Stale      bool       `json:"stale"`
		StaleSince *time.Time `json:"stale_since"`
		board.Verification
		Plazas []plaza `json:"plazas"`
	}{At: m.at, Stale: !m.staleSince.IsZero(), Verification: m.verdict, Plazas: make([]plaza, 0,
		len(m.rows))}
	if report.Stale {
		report.StaleSince = new(m.staleSince.In(m.at.Location()).Truncate(time.Millisecond))
	}
	for _, r := range m.rows {
		report.Plazas = append(report.Plazas, plaza{int16(r.ID), r.Name, r.Verification})
	}
	p, err := serve.JSON(report)
	if err != nil {
		s.failSource(w, r, err)
		return
	}
	s.setAge(w, m)
	p.Serve(w, r)
}

// servePlaza responds with one plaza and its history.
func (s *Server) servePlaza(w http.ResponseWriter, r *http.Request) {
	id, errs := plazaID(r)
	askFor(s, w, r, errs, fmt.Sprintf("plaza %d", id),
		func(ctx context.Context) (*board.Detail, error) { return s.source.Plaza(ctx, id) },
		func(d *board.Detail) (*serve.Representation, error) {
			if d == nil {
				return nil, errors.New("the source returned no plaza")
			}
			timezone, now := s.timezone(), s.now()
			s.normalizer.detail(d, timezone, now)
			return serve.JSON(d)
		})
}

// maxPayload is how many bytes of a dead letter's payload are shown.
const maxPayload = 4096

// letterJSON is a dead letter as the API shows it.
type letterJSON struct {
	Partition        int32     `json:"partition"`
	Offset           int64     `json:"offset"`
	Time             time.Time `json:"time"`
	Kind             string    `json:"kind"`
	Reason           string    `json:"reason"`
	SQLState         *string   `json:"sql_state"`
	Number           *uint16   `json:"error_number"`
	Key              *string   `json:"key"`
	Payload          *string   `json:"payload"`        // null of a tombstone, and where it is no text
	PayloadBase64    *string   `json:"payload_base64"` // where it is no text
	PayloadBytes     int64     `json:"payload_bytes"`  // as received
	PayloadTruncated bool      `json:"payload_truncated"`
	RejectedAt       time.Time `json:"rejected_at"`
	Retried          bool      `json:"retried"`
}

func letterOf(d *board.DeadLetter) letterJSON {
	l := letterJSON{
		Partition: d.Partition, Offset: d.Offset, Time: d.Time.UTC(), Kind: string(d.Kind),
		Reason:       d.Reason,
		PayloadBytes: d.PayloadBytes, RejectedAt: d.RejectedAt.UTC(), Retried: d.Retried,
	}
	if d.SQLState != "" {
		l.SQLState = &d.SQLState
	}
	if d.Number != 0 {
		l.Number = &d.Number
	}
	if d.Key != nil {
		l.Key = new(strings.ToValidUTF8(string(d.Key), "\uFFFD"))
	}
	if d.Payload == nil {
		return l
	}
	shown := d.Payload[:min(len(d.Payload), maxPayload)]
	l.PayloadTruncated = int64(len(shown)) < max(d.PayloadBytes, int64(len(d.Payload)))
	// A cut may go through a character.
	for i := 0; l.PayloadTruncated && i < utf8.UTFMax-1 && !utf8.Valid(shown) &&
		utf8.Valid(shown[:len(shown)-i-1]); i++ {
		shown = shown[:len(shown)-i-1]
	}
	if utf8.Valid(shown) {
		l.Payload = new(string(shown))
	} else {
		l.PayloadBase64 = new(base64.StdEncoding.EncodeToString(shown))
	}
	return l
}

// lettersList names the list of dead letters in cursors.
const lettersList = "dead letters"

// serveDeadLetters responds with a page of dead letters.
func (s *Server) serveDeadLetters(w http.ResponseWriter, r *http.Request) {
	query, errs := serve.Parameters(r)
	errs = append(errs, serve.OnlyParameters(query, "limit", "after")...)
	q := board.PageQuery{Limit: serve.Limit(query, &errs),
		After: serve.Cursor[toll.Origin](query, "after", lettersList, &errs)}
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	s.ask(w, r, fmt.Sprintf("letters %d %s", q.Limit, query.Get("after")),
		func(ctx context.Context) (*serve.Representation, error) {
			page, err := s.source.DeadLetters(ctx, q)
			if err != nil {
				return nil, err
			}
			answer := struct {
				DeadLetters []letterJSON `json:"dead_letters"`
				Total       int64        `json:"total"`
				Next        *string      `json:"next"`
			}{DeadLetters: make([]letterJSON, 0, len(page.DeadLetters)), Total: page.Total}
			for i := range page.DeadLetters {
				answer.DeadLetters = append(answer.DeadLetters, letterOf(&page.DeadLetters[i]))
			}
			if n := len(page.DeadLetters); n > 0 && page.More {
				last := &page.DeadLetters[n-1]
				answer.Next = new(serve.EncodeCursor(lettersList, toll.Origin{Partition: last.Partition,
					Offset: last.Offset}))
			}
			return serve.JSON(answer)
		})
}

// ask responds with what the source returns for a question.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, question string,
	ask func(context.Context) (*serve.Representation, error)) {
	p, err := s.queries.Do(r.Context(), question, ask)
	if err != nil {
		s.failQuery(w, r, err)
		return
	}
	p.Serve(w, r)
}

// askFor is ask of a question without parameters, whose answer is read and then written. errs are
// those of its path.
func askFor[T any](s *Server, w http.ResponseWriter, r *http.Request, errs serve.ParameterErrors,
	question string, read func(context.Context) (T, error),
	write func(T) (*serve.Representation, error)) {
	if errs = append(errs, serve.NoParameters(r)...); len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	s.ask(w, r, question, func(ctx context.Context) (*serve.Representation, error) {
		answer, err := read(ctx)
		if err != nil {
			return nil, err
		}
		return write(answer)
	})
}

// failQuery responds that a query failed.
func (s *Server) failQuery(w http.ResponseWriter, r *http.Request, err error) {
	kind, unknownKind := errors.AsType[*board.UnknownKindError](err)
	switch {
	case unknownKind:
		var errs serve.ParameterErrors
		errs.Add("kind", "%v", kind)
		serve.FailParameters(w, r, errs)
	case errors.Is(err, board.ErrNotFound):
		serve.Fail(w, r, http.StatusNotFound, "there is no such plaza")
	case r.Context().Err() != nil: // the client has gone
	default:
		s.failSource(w, r, err)
	}
}

// failSource responds that the source failed. The reason goes to the log: it may name hosts.
func (s *Server) failSource(w http.ResponseWriter, r *http.Request, err error) {
	s.cfg.Log.Warn("a request failed", "path", r.URL.Path, "error", err)
	serve.Fail(w, r, http.StatusServiceUnavailable, "this is unavailable at the moment")
}

// timezone returns the database's, as far as it is known.
func (s *Server) timezone() string {
	if m := s.refresher.current.Load(); m.snapshot != nil {
		return m.timezone
	}
	return ""
}

// zoneOf returns a plaza's timezone, the database's of one that is not on the board, and UTC as
// long as there is no board.
func (s *Server) zoneOf(id int16) *time.Location {
	m := s.refresher.current.Load()
	if m.snapshot == nil {
		return time.UTC
	}
	name := m.timezone
	for _, r := range m.rows {
		if r.ID == int(id) {
			name = r.Timezone
		}
	}
	if loc, ok := s.normalizer.zone(name); ok {
		return loc
	}
	return time.UTC
}

// serveJourneys responds with how long vehicles take from plaza to plaza.
func (s *Server) serveJourneys(w http.ResponseWriter, r *http.Request) {
	askFor(s, w, r, nil, "journeys", s.source.Journeys,
		func(j *board.Journeys) (*serve.Representation, error) {
			j.Sections = list(j.Sections)
			return serve.JSON(j)
		})
}

// serveJourneysCSV responds with the sections as CSV (RFC 4180) in UTF-8.
func (s *Server) serveJourneysCSV(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Disposition", `attachment; filename="journeys.csv"`)
	askFor(s, w, r, nil, "journeys.csv", s.source.Journeys,
		func(j *board.Journeys) (*serve.Representation, error) {
			var b bytes.Buffer
			err := board.WriteSections(&b, j.Sections)
			return serve.NewRepresentation("text/csv; charset=utf-8; header=present", b.Bytes()), err
		})
}

// serveThrough responds with where the vehicles of a plaza come from and go to.
func (s *Server) serveThrough(w http.ResponseWriter, r *http.Request) {
	id, errs := plazaID(r)
	askFor(s, w, r, errs, fmt.Sprintf("through %d", id),
		func(ctx context.Context) (*board.Through, error) { return s.source.Through(ctx, id) },
		func(t *board.Through) (*serve.Representation, error) {
			t.Origins, t.Destinations = list(t.Origins), list(t.Destinations)
			return serve.JSON(t)
		})
}
