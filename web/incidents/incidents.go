// Package incidents serves the incidents of all plazas, as JSON, CSV and an Atom feed, and takes
// notes on them from those who may acknowledge.
package incidents

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/web/serve"
)

// Source has the incidents.
type Source interface {
	// Incidents returns incidents, the newest first, each in the time of its plaza.
	Incidents(ctx context.Context, q board.IncidentQuery) (board.IncidentPage, error)
	// AddNote adds a note to an incident, or returns [board.ErrNoIncident]. It is called only where
	// there are acknowledgers.
	AddNote(ctx context.Context, n board.NewNote) error
}

// Config is what a [Handler] works with.
type Config struct {
	Source        Source
	Acknowledgers []Acknowledger
	Log           *slog.Logger
	Timeout       time.Duration // of adding a note
	// Ask responds with what the source returns for a question, Fail that it failed.
	Ask func(w http.ResponseWriter, r *http.Request, question string,
		ask func(context.Context) (*serve.Representation, error))
	Fail func(w http.ResponseWriter, r *http.Request, err error)
	// Zone returns the database's clock. It returns false where it has answered already.
	Zone func(w http.ResponseWriter, r *http.Request) (*time.Location, bool)
	// Instant reads a parameter that is a time.
	Instant func(query url.Values, name string, clock *time.Location,
		errs *serve.ParameterErrors) *time.Time
}

// Handler serves incidents.
type Handler struct{ cfg Config }

// NewHandler returns a handler.
func NewHandler(cfg Config) *Handler { return &Handler{cfg} }

// Routes returns what is served. Without acknowledgers nothing can be changed.
func (h *Handler) Routes(missing http.HandlerFunc) []serve.Route {
	routes := []serve.Route{
		{Path: "/incidents.atom", Serve: h.Atom},
		{Path: "/api/v1/incidents", Serve: h.JSON},
		{Path: "/api/v1/incidents.csv", Serve: h.CSV},
	}
	if len(h.cfg.Acknowledgers) > 0 {
		routes = append(routes, serve.Route{Path: "/api/v1/incidents/{id}/notes", Serve: missing,
			Post: h.Note})
	}
	return routes
}

// query reads which incidents are asked for. It returns false where it has answered
// already.
func (h *Handler) query(w http.ResponseWriter, r *http.Request, names ...string) (
	q board.IncidentQuery, query url.Values, ok bool) {
	query, errs := serve.Parameters(r)
	errs = append(errs, serve.OnlyParameters(query, append(names, "plaza", "road", "state", "open",
		"from", "to")...)...)
	loc, ok := h.cfg.Zone(w, r)
	if !ok {
		return q, query, false
	}
	q = board.IncidentQuery{Road: query.Get("road"), Limit: serve.Limit(query, &errs)}
	q.From, q.Until = h.cfg.Instant(query, "from", loc, &errs), h.cfg.Instant(query, "to", loc, &errs)
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
	q.Before = serve.Cursor[board.IncidentPosition](query, "before", incidentsList, &errs)
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return q, query, false
	}
	return q, query, true
}

// JSON responds with a page of the incidents of all plazas.
func (h *Handler) JSON(w http.ResponseWriter, r *http.Request) {
	q, query, ok := h.query(w, r, "limit", "before")
	if !ok {
		return
	}
	h.cfg.Ask(w, r, "incidents "+query.Encode(),
		func(ctx context.Context) (*serve.Representation, error) {
			page, err := h.cfg.Source.Incidents(ctx, q)
			if err != nil {
				return nil, err
			}
			answer := struct {
				Incidents      []board.Incident `json:"incidents"`
				CanAcknowledge bool             `json:"can_acknowledge"`
				Next           *string          `json:"next"`
			}{append([]board.Incident{}, page.Incidents...), len(h.cfg.Acknowledgers) > 0, nil}
			if n := len(page.Incidents); n > 0 && page.More {
				answer.Next = new(serve.EncodeCursor(incidentsList, positionOf(&page.Incidents[n-1])))
			}
			return serve.JSON(answer)
		})
}

// mostCSV bounds the incidents of a CSV; the newest are in it.
const mostCSV = 20_000

// CSV responds with the incidents as CSV (RFC 4180) in UTF-8.
func (h *Handler) CSV(w http.ResponseWriter, r *http.Request) {
	q, query, ok := h.query(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Disposition", `attachment; filename="incidents.csv"`)
	h.cfg.Ask(w, r, "incidents.csv "+query.Encode(),
		func(ctx context.Context) (*serve.Representation, error) {
			var b bytes.Buffer
			q.Limit = serve.MaxLimit
			for read := 0; ; {
				page, err := h.cfg.Source.Incidents(ctx, q)
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

// incidentsList names the list of incidents in cursors.
const incidentsList = "incidents"

// Acknowledger is somebody who may acknowledge incidents.
type Acknowledger struct {
	Name  string
	Token string // what they present as a bearer token; it is never logged
}

// Validate reports every violation of the names and tokens, without the tokens.
func Validate(all []Acknowledger) error {
	var errs []error
	seen := map[string]bool{}
	for _, a := range all {
		switch name, token := strings.TrimSpace(a.Name), a.Token; {
		case name == "" || name != a.Name || utf8.RuneCountInString(name) > 100:
			errs = append(errs, fmt.Errorf("acknowledger %q, want a name of 1 to 100 characters", a.Name))
		case len(token) < serve.MinToken || strings.ContainsFunc(token,
			func(r rune) bool { return r <= ' ' || r > '~' }):
			errs = append(errs, fmt.Errorf("the token of acknowledger %s has %d characters, want %d or "+
				"more of ASCII without blanks", name, len(token), serve.MinToken))
		case seen[token]:
			errs = append(errs, fmt.Errorf("acknowledger %s has the token of another one", name))
		default:
			seen[token] = true
		}
	}
	return errors.Join(errs...)
}

// author returns the name of the acknowledger whose token the request presents, empty for none. It
// always compares all tokens.
func (h *Handler) author(r *http.Request) (name string) {
	token, ok := serve.BearerToken(r)
	for _, a := range h.cfg.Acknowledgers {
		if serve.SameSecret(token, a.Token) && ok {
			name = a.Name
		}
	}
	return name
}

// Note adds a note to an incident: the only thing that can be changed here. It wants a token
// in a header, which no other web site can make a browser add, and no cookie counts.
func (h *Handler) Note(w http.ResponseWriter, r *http.Request) {
	author := h.author(r)
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
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	defer cancel()
	err = h.cfg.Source.AddNote(ctx, board.NewNote{Incident: id, Author: author, Source: from,
		Acknowledged: body.Acknowledged, Note: body.Note})
	switch {
	case errors.Is(err, board.ErrNoIncident):
		serve.Fail(w, r, http.StatusNotFound, "there is no such incident")
	case err != nil:
		h.cfg.Fail(w, r, err)
	default:
		h.cfg.Log.Info("an incident was noted", "incident", id.String(), "author", author, "from", from,
			"acknowledged", body.Acknowledged)
		w.WriteHeader(http.StatusNoContent)
	}
}

// feed is an Atom feed (RFC 4287).
type feed struct {
	XMLName xml.Name   `xml:"http://www.w3.org/2005/Atom feed"`
	Title   string     `xml:"title"`
	ID      string     `xml:"id"`
	Updated string     `xml:"updated"`
	Author  feedAuthor `xml:"author"`
	Links   []feedLink `xml:"link"`
	Entries []entry    `xml:"entry"`
}

type feedAuthor struct {
	Name string `xml:"name"`
}

type feedLink struct {
	Rel  string `xml:"rel,attr"`
	Href string `xml:"href,attr"` // resolved against the address of the feed
}

type entry struct {
	Title    string       `xml:"title"`
	ID       string       `xml:"id"`
	Updated  string       `xml:"updated"`
	Link     feedLink     `xml:"link"`
	Category feedCategory `xml:"category"`
	Content  feedContent  `xml:"content"`
}

type feedCategory struct {
	Term string `xml:"term,attr"`
}

type feedContent struct {
	Type string `xml:"type,attr"`
	Text string `xml:",chardata"`
}

// Atom responds with the newest incidents as an Atom feed.
func (h *Handler) Atom(w http.ResponseWriter, r *http.Request) {
	q, query, ok := h.query(w, r)
	if !ok {
		return
	}
	base := serve.Base(r)
	h.cfg.Ask(w, r, "incidents.atom "+base+" "+query.Encode(),
		func(ctx context.Context) (*serve.Representation, error) {
			page, err := h.cfg.Source.Incidents(ctx, q)
			if err != nil {
				return nil, err
			}
			f := feed{Title: "Incidents at toll plazas",
				ID:      feedID(page.Database + " incidents " + query.Encode()),
				Updated: time.Unix(0, 0).UTC().Format(time.RFC3339), Author: feedAuthor{"tollstream"},
				Links: []feedLink{{"self", base + "/incidents.atom"},
					{"alternate", base + "/incidents"}}}
			var newest time.Time
			for i := range page.Incidents {
				e, updated := entryOf(page.Database, base, &page.Incidents[i])
				f.Entries = append(f.Entries, e)
				if updated.After(newest) {
					newest = updated
					f.Updated = e.Updated
				}
			}
			if len(query) > 0 {
				f.Links[0].Href += "?" + query.Encode()
			}
			body, err := xml.MarshalIndent(f, "", " ")
			return serve.NewRepresentation("application/atom+xml; charset=utf-8",
				append([]byte(xml.Header), body...)), err
		})
}

// entryOf returns an incident of a database as an entry, and when it changed last.
func entryOf(database, base string, i *board.Incident) (entry, time.Time) {
	where := fmt.Sprintf("plaza %d", i.Plaza)
	if i.Name != "" {
		where = fmt.Sprintf("%s (%s)", i.Name, where)
	}
	updated, lasted := i.Detected, "It is open."
	if took, ended := i.Duration(); ended {
		updated, lasted = *i.Ended, "It lasted "+text.Minutes(int64(took/time.Minute))+"."
	}
	lines := []string{i.Why + ".", fmt.Sprintf("Began %s. %s %s%s flow %s vehicles/h.",
		i.Began.Format("2006-01-02 15:04 MST"), lasted, strings.ToUpper(i.PeakWord()[:1]),
		i.PeakWord()[1:], text.Round(i.PeakFlow))}
	for _, n := range i.Notes {
		done := "Noted"
		if n.Acknowledged {
			done = "Acknowledged"
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s by %s. %s", done, n.Author, n.Note)))
		if n.At.After(updated) {
			updated = n.At
		}
	}
	state := i.State.String()
	return entry{
		Title: where + ": " + state, ID: feedID(database + " " + i.ID),
		Updated:  updated.UTC().Format(time.RFC3339),
		Link:     feedLink{"alternate", fmt.Sprintf("%s/plazas/%d", base, i.Plaza)},
		Category: feedCategory{i.Severity},
		Content:  feedContent{"text", strings.Join(lines, "\n")},
	}, updated
}

// feedID returns a name that is always the same for the same text: a UUID of version 5.
func feedID(of string) string {
	// as the namespace the UUID that RFC 9562 has for names of its own kind, X.500
	space := []byte{0x6b, 0xa7, 0xb8, 0x14, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4,
		0x30, 0xc8}
	sum := sha1.Sum(append(space, "tollstream "+of...))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
