package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/web/serve"
)

// incidentQuery reads which incidents are asked for. It returns false where it has answered
// already.
func (s *Server) incidentQuery(w http.ResponseWriter, r *http.Request, names ...string) (
	q board.IncidentQuery, query url.Values, ok bool) {
	query, errs := serve.Parameters(r)
	errs = append(errs, serve.OnlyParameters(query, append(names, "plaza", "road", "state", "open",
		"from", "to")...)...)
	if s.refresher.current.Load().snapshot == nil { // which has the database's clock
		if _, ok := s.board(w, r); !ok {
			return q, query, false
		}
	}
	loc, _ := s.normalizer.zone(s.timezone())
	p := past{query: query, loc: loc}
	q = board.IncidentQuery{Road: query.Get("road"), Limit: limitOf(query, &errs)}
	q.From, q.Until = p.instant("from", &errs), p.instant("to", &errs)
	if text := query.Get("plaza"); text != "" {
		n, err := strconv.ParseInt(text, 10, 16)
		if err != nil {
			errs.Add("plaza", "want a number from %d to %d", toll.MinPlaza, toll.MaxPlaza)
		}
		q.Plaza = new(int16(n))
	}
	if text := query.Get("state"); text != "" {
		q.State = new(traffic.State)
		if err := q.State.UnmarshalText([]byte(text)); err != nil || q.State.Calm() {
			errs.Add("state", "want a state that is an incident, as saturated or below_usual")
		}
	}
	if text := query.Get("open"); text != "" {
		var err error
		if q.Open, err = strconv.ParseBool(text); err != nil {
			errs.Add("open", "want true or false")
		}
	}
	if text := query.Get("before"); text != "" {
		var err error
		if q.Before, err = incidentPosition(text); err != nil {
			errs.Add("before", "%v", err)
		}
	}
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return q, query, false
	}
	return q, query, true
}

// serveIncidents responds with a page of the incidents of all plazas.
func (s *Server) serveIncidents(w http.ResponseWriter, r *http.Request) {
	q, query, ok := s.incidentQuery(w, r, "limit", "before")
	if !ok {
		return
	}
	s.ask(w, r, "incidents "+query.Encode(), func(ctx context.Context) (*serve.Representation, error) {
		page, err := s.source.Incidents(ctx, q)
		if err != nil {
			return nil, err
		}
		answer := struct {
			Incidents      []board.Incident `json:"incidents"`
			CanAcknowledge bool             `json:"can_acknowledge"`
			Next           *string          `json:"next"`
		}{list(page.Incidents), len(s.cfg.Acknowledgers) > 0, nil}
		if n := len(page.Incidents); n > 0 && page.More {
			answer.Next = new(incidentCursor(&page.Incidents[n-1]))
		}
		return serve.JSON(answer)
	})
}

// mostCSV bounds the incidents of a CSV; the newest are in it.
const mostCSV = 20_000

// serveIncidentsCSV responds with the incidents as CSV (RFC 4180) in UTF-8.
func (s *Server) serveIncidentsCSV(w http.ResponseWriter, r *http.Request) {
	q, query, ok := s.incidentQuery(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Disposition", `attachment; filename="incidents.csv"`)
	s.ask(w, r, "incidents.csv "+query.Encode(),
		func(ctx context.Context) (*serve.Representation, error) {
			var b bytes.Buffer
			q.Limit = maxLimit
			for read := 0; ; {
				page, err := s.source.Incidents(ctx, q)
				if err != nil {
					return nil, err
				}
				if err := board.WriteIncidents(&b, page.Incidents, read == 0); err != nil {
					return nil, err
				}
				n := len(page.Incidents)
				if read += n; !page.More || n == 0 || read >= mostCSV {
					return serve.NewRepresentation("text/csv; charset=utf-8; header=present", b.Bytes()), nil
				}
				q.Before = positionOf(&page.Incidents[n-1])
			}
		})
}

func positionOf(i *board.Incident) *board.IncidentPosition {
	return &board.IncidentPosition{Began: i.Began, Plaza: int16(i.Plaza)}
}

// incidentCursor returns the cursor behind an incident.
func incidentCursor(i *board.Incident) string {
	return encodeCursor("i", strconv.FormatInt(i.Began.Unix(), 10), strconv.Itoa(i.Plaza))
}

func incidentPosition(cursor string) (*board.IncidentPosition, error) {
	of, err := decodeCursor(cursor, 3)
	if err != nil {
		return nil, err
	}
	began, errBegan := strconv.ParseInt(of[1], 10, 64)
	plaza, errPlaza := strconv.ParseInt(of[2], 10, 16)
	if of[0] != "i" || errBegan != nil || errPlaza != nil {
		return nil, errOtherList
	}
	return &board.IncidentPosition{Began: time.Unix(began, 0).UTC(), Plaza: int16(plaza)}, nil
}

// Acknowledger is somebody who may acknowledge incidents.
type Acknowledger struct {
	Name  string
	Token string // what they present as a bearer token; it is never logged
}

// author returns who presents a token of those who may acknowledge, empty for nobody. All tokens
// are compared, whichever it is.
func (s *Server) author(r *http.Request) (name string) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	for _, a := range s.cfg.Acknowledgers {
		if serve.SameSecret(strings.TrimSpace(token), a.Token) {
			name = a.Name
		}
	}
	return name
}

// serveNote adds a note to an incident: the only thing that can be changed here. It wants a token
// in a header, which no other web site can make a browser add, and no cookie counts.
func (s *Server) serveNote(w http.ResponseWriter, r *http.Request) {
	author := s.author(r)
	if author == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="tollstream incidents"`)
		serve.Fail(w, r, http.StatusUnauthorized,
			"the token of somebody who may acknowledge is required: Authorization: Bearer TOKEN")
		return
	}
	errs := serve.NoParameters(r)
	id, err := traffic.ParseIncidentID(r.PathValue("id"))
	if err != nil {
		errs.Add("id", "%v", err)
	}
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil ||
		kind != "application/json" {
		serve.Fail(w, r, http.StatusUnsupportedMediaType, "want a body of application/json")
		return
	}
	var body struct {
		Acknowledged bool   `json:"acknowledged"`
		Note         string `json:"note"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil || d.More() {
		serve.Fail(w, r, http.StatusBadRequest, "want an object with acknowledged and note")
		return
	}
	body.Note = strings.TrimSpace(body.Note)
	if n := utf8.RuneCountInString(body.Note); n > board.MaxNote || n == 0 && !body.Acknowledged {
		serve.Fail(w, r, http.StatusBadRequest, "want acknowledged, or a note of 1 to %d characters",
			board.MaxNote)
		return
	}
	from, _, _ := net.SplitHostPort(r.RemoteAddr)
	ctx, cancel := context.WithTimeout(r.Context(), s.tuning.queryTime)
	defer cancel()
	err = s.source.AddNote(ctx, board.NewNote{Incident: id, Author: author, Source: from,
		Acknowledged: body.Acknowledged, Note: body.Note})
	switch {
	case errors.Is(err, board.ErrNoIncident):
		serve.Fail(w, r, http.StatusNotFound, "there is no such incident")
	case err != nil:
		s.failSource(w, r, err)
	default:
		s.cfg.Log.Info("an incident was noted", "incident", id.String(), "author", author, "from", from,
			"acknowledged", body.Acknowledged)
		w.WriteHeader(http.StatusNoContent)
	}
}
