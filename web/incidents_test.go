package web

import (
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/web/incidents"
)

var ada = incidents.Acknowledger{Name: "Ada", Token: "token-of-ada-0123456789"}

// incident returns an open one that began at a time.
func incident(plaza int, began time.Time) board.Incident {
	id := traffic.IncidentID{Plaza: int16(plaza), Detected: toll.MinuteAt(began.Unix()) + 2}
	return board.Incident{ID: id.String(), Plaza: plaza, Name: `=Höhe <b>"&`, Road: "A 1",
		Timezone: "Europe/Berlin",
		State:    traffic.Saturated, States: []traffic.State{traffic.Busy, traffic.Saturated},
		Severity: "critical", Why: "demand 664 pc/h is 110 % of the capacity", Began: began,
		Detected: id.Detected.Time(), PeakFlow: 700, PeakAt: began.Add(15 * time.Minute),
		Notes: []board.IncidentNote{{At: epoch, Author: "Bob", Note: "seen & heard"}}}
}

func TestIncidentPages(t *testing.T) {
	source := newNetwork(3).source()
	r := start(t, source, nil)
	r.awaitBoard()
	type answer struct {
		Incidents      []board.Incident
		CanAcknowledge bool `json:"can_acknowledge"`
		Next           *string
	}
	var ids []string
	for target, pages := "/api/v1/incidents?limit=5", 1; ; pages++ {
		var a answer
		if err := json.Unmarshal(r.Want(200, r.Get(target)).Body, &a); err != nil {
			t.Fatal(err)
		}
		for _, i := range a.Incidents {
			ids = append(ids, i.ID)
		}
		if a.CanAcknowledge {
			t.Error("notes are taken though nobody has a token")
		}
		if a.Next == nil {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		target = "/api/v1/incidents?limit=5&before=" + *a.Next
	}
	if len(ids) != 12 || len(slices.Compact(ids)) != 12 {
		t.Errorf("got %q", ids)
	}
	rows, err := csv.NewReader(strings.NewReader(string(r.Want(200,
		r.Get("/api/v1/incidents.csv?open=true")).Body))).ReadAll()
	if err != nil || len(rows) != 2 || rows[1][0] != ids[0] || rows[1][2] != `'=Höhe <b>"&` {
		t.Errorf("got %q, %v", rows, err)
	}
	for _, query := range []string{"plaza=x", "plaza=40000", "state=free", "state=jam", "open=perhaps",
		"from=x", "before=x", "limit=0", "colour=red"} {
		r.Want(400, r.Get("/api/v1/incidents?"+query))
	}
}

func TestAtom(t *testing.T) {
	source := newNetwork(3).source()
	r := start(t, source, nil)
	r.awaitBoard()
	a := r.Want(200, r.Get("/incidents.atom"))
	var f struct {
		ID      string `xml:"id"`
		Updated string `xml:"updated"`
		Entries []struct {
			Title   string `xml:"title"`
			ID      string `xml:"id"`
			Updated string `xml:"updated"`
			Content string `xml:"content"`
		} `xml:"entry"`
	}
	if err := xml.Unmarshal(a.Body, &f); err != nil || len(f.Entries) != 12 || f.ID == "" ||
		f.Updated != f.Entries[0].Updated {
		t.Fatalf("%v in %s", err, a.Body)
	}
	e := f.Entries[0]
	if e.Title != `=Höhe <b>"& (plaza 4000): saturated` || !strings.Contains(e.Content,
		"Highest flow 700 vehicles/h") || !strings.Contains(e.Content, "by Bob. seen & heard") ||
		!strings.HasPrefix(e.ID, "urn:uuid:") || e.ID == f.Entries[1].ID {
		t.Errorf("got %+v", e)
	}
	if again := r.Get("/incidents.atom"); string(again.Body) != string(a.Body) {
		t.Error("the feed of the same incidents differs")
	}
	if got := a.Header.Get("Content-Type"); got != "application/atom+xml; charset=utf-8" {
		t.Errorf("the type is %s", got)
	}
}

// TestNotes: only who has a token of those who may acknowledge changes something, and no other web
// site makes a browser do it.
func TestNotes(t *testing.T) {
	source := newNetwork(3).source()
	target := "/api/v1/incidents/" + source.incidents[0].ID + "/notes"
	const body = `{"acknowledged":true,"note":"a patrol, “soon”"}`
	closed := start(t, source, nil)
	closed.Want(405, closed.Do(http.MethodPost, target, strings.NewReader(body), "Authorization",
		"Bearer "+ada.Token, "Content-Type", "application/json"))

	const viewToken = "token-of-the-view-01234567"
	r := start(t, source, func(c *Config, _ *tuning) {
		c.Acknowledgers = []incidents.Acknowledger{
			{Name: "Bob", Token: "token-of-bob-0123456789"}, ada}
		c.Token = viewToken
	})
	post := func(status int, target, body string, headers ...string) {
		t.Helper()
		all := append([]string{"Authorization", "Bearer " + ada.Token, "Content-Type",
			"application/json"}, headers...)
		r.Want(status, r.Do(http.MethodPost, target, strings.NewReader(body), all...))
	}
	for _, token := range []string{"", "Bearer", "Bearer " + viewToken, "Bearer " + ada.Token + "x",
		"Basic " + ada.Token} {
		post(401, target, body, "Authorization", token)
	}
	post(403, target, body, "Sec-Fetch-Site", "cross-site")
	post(403, target, body, "Sec-Fetch-Site", "same-site")
	post(403, target, body, "Origin", "https://evil.example")
	post(415, target, body, "Content-Type", "text/plain")
	post(421, target, body, "Host", "evil.example")
	post(400, target, `{"acknowledged":false}`)
	post(400, target, `{"acknowledged":true,"author":"Bob"}`)
	post(400, target, `{"acknowledged":true}{}`)
	post(400, target, `{"note":"`+strings.Repeat("ü", board.MaxNote+1)+`"}`)
	post(413, target, `{"note":"`+strings.Repeat("x", 20_000)+`"}`)
	post(400, target+"?x=1", body)
	post(400, "/api/v1/incidents/7/notes", body)
	post(404, "/api/v1/incidents/20220210T0813Z-7/notes", body)
	post(405, "/api/v1/incidents", body)
	if len(source.notes) != 0 {
		t.Fatalf("noted %+v", source.notes)
	}
	post(204, target, body, "Sec-Fetch-Site", "same-origin")
	post(204, target, `{"note":"`+strings.Repeat("ü", board.MaxNote)+`"}`)
	id, _ := traffic.ParseIncidentID(source.incidents[0].ID)
	want := board.NewNote{Incident: id, Author: "Ada", Source: "127.0.0.1", Acknowledged: true,
		Note: "a patrol, “soon”"}
	if len(source.notes) != 2 || source.notes[0] != want || source.notes[1].Acknowledged {
		t.Errorf("noted %+v", source.notes)
	}
	// it is no key to look
	r.Want(401, r.Get("/api/v1/incidents", "Authorization", "Bearer "+ada.Token))
}

func TestAcknowledgersAreChecked(t *testing.T) {
	for _, all := range [][]incidents.Acknowledger{
		{{Name: "", Token: ada.Token}}, {{Name: " Ada", Token: ada.Token}},
		{{Name: "Ada", Token: "short"}}, {ada, {Name: "Bob", Token: ada.Token}},
		{{Name: "Ada", Token: "token with blanks in it"}},
	} {
		c := Config{Acknowledgers: all}
		c.Listen = "127.0.0.1:0"
		if err := c.Validate(); err == nil || strings.Contains(err.Error(), ada.Token) {
			t.Errorf("%v: %v", all, err)
		}
	}
}
