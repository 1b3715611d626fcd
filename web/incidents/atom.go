package incidents

import (
	"context"
	"crypto/sha1"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/web/serve"
)

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
	h.cfg.Ask(w, r, "incidents.atom "+query.Encode(),
		func(ctx context.Context) (*serve.Representation, error) {
			page, err := h.cfg.Source.Incidents(ctx, q)
			if err != nil {
				return nil, err
			}
			f := feed{Title: "Incidents at toll plazas", ID: feedID("incidents " + query.Encode()),
				Updated: time.Unix(0, 0).UTC().Format(time.RFC3339), Author: feedAuthor{"tollstream"},
				Links: []feedLink{{"self", "/incidents.atom"}, {"alternate", "/incidents"}}}
			var newest time.Time
			for i := range page.Incidents {
				e, updated := entryOf(&page.Incidents[i])
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

// entryOf returns an incident as an entry, and when it changed last.
func entryOf(i *board.Incident) (entry, time.Time) {
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
		Title: where + ": " + state, ID: feedID(i.ID), Updated: updated.UTC().Format(time.RFC3339),
		Link:     feedLink{"alternate", fmt.Sprintf("/plazas/%d", i.Plaza)},
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
