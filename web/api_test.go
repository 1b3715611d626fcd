package web

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/web/serve"
)

// TestBoard holds the whole of a small board, as a client sees it.
func TestBoard(t *testing.T) {
	source := newNetwork(0).source()
	source.next = func() (*board.Board, error) {
		at := time.Date(2026, 3, 2, 6, 15, 2, 512_345_678, time.UTC)
		return &board.Board{
			At: at, StreamTime: new(at.Truncate(time.Minute)), Waiting: 3, Timezone: "Europe/Berlin",
			Verification: board.Verification{Status: board.InFlight, Events: new(int64(7)), InFlight: 2,
				CheckedAt: &at},
			Plazas: []board.Plaza{
				{ID: 4856, Name: "Boughton", Road: "I-355", PositionKm: new(20.1), Lanes: 4,
					Timezone: "America/Chicago", State: traffic.Busy, Since: &at, Why: "why",
					Total: 7, FlowPerHour: 512,
					Measures:  board.Measures{VC: new(1.0 / 3), Z: new(math.NaN()), Throughput: new(math.Inf(1))},
					Usual:     &traffic.Usual{Median: 120, MAD: 4.5, N: 8},
					LastEvent: &at, Sparkline: []*int64{nil, new(int64(2))},
					Verification: board.PlazaVerification{Status: board.InFlight,
						TableCount: 5, StoredRows: new(int64(7)), InFlight: 2, ChecksumOK: new(true)}},
				{ID: -3, FlowPerHour: board.UnknownFlow(),
					LastEvent: new(time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)),
					Timezone:  "Mars/Olympus", Verification: board.PlazaVerification{Status: board.Exact}},
			},
		}, nil
	}
	r := start(t, source, nil)
	got := string(r.Want(200, r.Get("/api/v1/plazas")).Body)
	const want = `{"at":"2026-03-02T07:15:02.512+01:00","stale":false,"stale_since":null,"stream_time":"2026-03-02T07:15:00+01:00","watermark":null,"waiting":3,"open_transactions":[],"warnings":[],"recent_rejects":{"records":0,"rejected":0,"high":false},` +
		`"feed":{"arrived_at":null,"age_seconds":null,"silent":false,"probability":null,"usual_per_hour":null},` +
		`"processing":{"state":"","since":null,"instances":[],"catching_up":null},"notices":[],"timezone":"Europe/Berlin",` +
		`"verification":{"status":"in_flight","events":7,"rows":null,"in_flight":2,"checked_at":"2026-03-02T07:15:02.512+01:00","problems":[],"next":[]},` +
		`"summary":{"plazas":2,"flow_per_hour":512,"states":{"free":0,"busy":1,"saturated":0,"below_usual":0,"above_usual":0,"no_data":1,"catching_up":0,"warming_up":0}},"plazas":[` +
		`{"id":-3,"name":"","road":"","position_km":null,"lanes":0,"timezone":"Europe/Berlin","state":"no_data","since":null,"why":"","total":0,"flow_per_hour":null,` +
		`"vc":null,"phf":null,"heavy_share":null,"z":null,"headway_seconds":null,"demand":null,"capacity":null,"capacity_wrong":false,"usual":null,"last_event":null,"observed_minutes":null,"sparkline":[],` +
		`"late":0,"late_quarter":0,"too_late":0,"ahead":0,"lead_seconds":0,"verification":{"status":"exact","table_count":0,"stored_rows":null,"in_flight":0,"checksum_ok":null}},` +
		`{"id":4856,"name":"Boughton","road":"I-355","position_km":20.1,"lanes":4,"timezone":"America/Chicago","state":"busy","since":"2026-03-02T00:15:02.512-06:00","why":"why","total":7,"flow_per_hour":512,` +
		`"vc":0.3333,"phf":null,"heavy_share":null,"z":null,"headway_seconds":null,"demand":null,"capacity":null,"capacity_wrong":false,"usual":{"median":120,"mad":4.5,"weeks":8},"last_event":"2026-03-02T00:15:02.512-06:00","observed_minutes":null,"sparkline":[null,2],` +
		`"late":0,"late_quarter":0,"too_late":0,"ahead":0,"lead_seconds":0,"verification":{"status":"in_flight","table_count":5,"stored_rows":7,"in_flight":2,"checksum_ok":true}}]}`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got = string(r.Want(200, r.Get("/api/v1/verification")).Body)
	const proof = `{"at":"2026-03-02T07:15:02.512+01:00","stale":false,"stale_since":null,"status":"in_flight","events":7,"rows":null,"in_flight":2,"checked_at":"2026-03-02T07:15:02.512+01:00","problems":[],"next":[],"plazas":[` +
		`{"id":-3,"name":"","status":"exact","table_count":0,"stored_rows":null,"in_flight":0,"checksum_ok":null},` +
		`{"id":4856,"name":"Boughton","status":"in_flight","table_count":5,"stored_rows":7,"in_flight":2,"checksum_ok":true}]}`
	if got != proof {
		t.Errorf("got\n%s\nwant\n%s", got, proof)
	}
}

func TestETagAndCompression(t *testing.T) {
	r := start(t, newNetwork(50).source(), nil)
	r.awaitBoard()
	for _, target := range []string{"/api/v1/plazas", "/api/v1/plazas?sort=name", "/api/v1/plazas.csv",
		"/api/v1/plazas/4000", "/api/v1/verification",
		"/api/v1/plazas/4000/windows", "/api/v1/dead-letters", "/api/v1/openapi.json", "/",
		"/static/index.html"} {
		plain := r.Want(200, r.Get(target))
		zipped := r.Want(200, r.Get(target, "Accept-Encoding", "br, gzip;q=0.8"))
		if got := zipped.Header.Get("Content-Encoding"); got != "gzip" {
			t.Errorf("%s: content encoding %q", target, got)
			continue
		}
		z, err := gzip.NewReader(bytes.NewReader(zipped.Body))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(z); err != nil || !bytes.Equal(text, plain.Body) {
			t.Errorf("%s: %d bytes when unzipped, want %d (%v)", target, len(text), len(plain.Body), err)
		}
		tag, zippedTag := plain.Header.Get("ETag"), zipped.Header.Get("ETag")
		if tag == zippedTag || len(tag) < 10 || strings.HasPrefix(tag, "W/") {
			t.Errorf("%s: ETags %s and %s", target, tag, zippedTag)
		}
		for _, header := range []string{tag, zippedTag, "W/" + tag, `"x", ` + tag, "*"} {
			if a := r.Get(target, "If-None-Match", header); a.Status != http.StatusNotModified ||
				len(a.Body) > 0 || a.Header.Get("ETag") != tag {
				t.Errorf("%s: If-None-Match %s: status %d, ETag %s", target, header, a.Status,
					a.Header.Get("ETag"))
			}
		}
		if a := r.Get(target, "If-None-Match", zippedTag, "Accept-Encoding", "gzip"); a.Status !=
			http.StatusNotModified || a.Header.Get("ETag") != zippedTag ||
			a.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: status %d, headers %v", target, a.Status, a.Header)
		}
		for _, header := range []string{`"x"`, "x", strings.Trim(tag, `"`), ""} {
			if a := r.Get(target, "If-None-Match", header); a.Status != 200 {
				t.Errorf("%s: If-None-Match %q: status %d", target, header, a.Status)
			}
		}
		if plain.Header.Get("Vary") != "Accept-Encoding" ||
			plain.Header.Get("Cache-Control") != "private, no-cache" {
			t.Errorf("%s: headers %v", target, plain.Header)
		}
	}
	before := r.Get("/api/v1/plazas").Header.Get("ETag")
	r.nextBoard()
	r.Want(200, r.Get("/api/v1/plazas", "If-None-Match", before))
}

// TestMeasures finds a measure that is neither rounded nor a column of the CSV.
func TestMeasures(t *testing.T) {
	p := board.Plaza{Timezone: "UTC"}
	all := reflect.ValueOf(&p.Measures).Elem()
	for i := range all.NumField() {
		all.Field(i).Set(reflect.ValueOf(new(math.NaN())))
		name := all.Type().Field(i).Tag.Get("json")
		if !slices.ContainsFunc(csvColumns, func(c text.CSVColumn[board.Plaza]) bool {
			return c.Name == name
		}) {
			t.Errorf("the CSV lacks %s", name)
		}
	}
	new(normalizer).plaza(&p, "UTC", time.UTC)
	if p.Measures != (board.Measures{}) {
		t.Errorf("some are not numbers: %+v", p.Measures)
	}
}

func TestSelection(t *testing.T) {
	source := newNetwork(0).source()
	plazas := []board.Plaza{
		{ID: 1, Name: "Élan 10", Road: "A 1", State: traffic.Free, FlowPerHour: 10,
			Measures: board.Measures{VC: new(0.1), Z: new(-5.0)}},
		{ID: 2, Name: "elan 9", Road: "A 2", State: traffic.Saturated, FlowPerHour: 30,
			Measures: board.Measures{VC: new(1.1), Z: new(1.0)}},
		{ID: 3, Road: "A 1", State: traffic.NoData, FlowPerHour: 20},
		{ID: 4, Name: "Zoo", State: traffic.BelowUsual, FlowPerHour: 20,
			Measures:     board.Measures{VC: new(0.5)},
			Verification: board.PlazaVerification{Status: board.Mismatch}, LastEvent: &epoch},
		{ID: 5, Name: "Ähre", Road: "B 1", State: traffic.Busy, FlowPerHour: 20,
			Measures:     board.Measures{VC: new(0.8), Z: new(3.0)},
			Verification: board.PlazaVerification{Status: board.InFlight}},
	}
	for i := range plazas {
		if plazas[i].Verification.Status == "" {
			plazas[i].Verification.Status = board.Exact
		}
	}
	source.next = func() (*board.Board,
		error) {
		return &board.Board{At: epoch, Plazas: slices.Clone(plazas)}, nil
	}
	r := start(t, source, nil)
	for query, want := range map[string]string{
		"":                                "1 2 3 4 5",
		"order=desc":                      "5 4 3 2 1",
		"sort=id&order=asc":               "1 2 3 4 5",
		"sort=name":                       "5 2 1 3 4",
		"sort=name&order=desc":            "4 3 1 2 5",
		"sort=road":                       "1 3 2 5 4",
		"sort=road&order=desc":            "5 2 1 3 4",
		"sort=state&order=desc":           "2 4 5 3 1",
		"sort=flow&order=desc":            "2 5 4 3 1",
		"sort=vc":                         "1 4 5 2 3",
		"sort=vc&order=desc":              "2 5 4 1 3",
		"sort=z&order=desc":               "5 2 1 4 3",
		"sort=deviation&order=desc":       "1 5 2 4 3",
		"sort=verification&order=desc":    "4 5 2 1 3",
		"sort=last":                       "4 2 5 1 3",
		"q=ELAN":                          "2",
		"q=a+1":                           "1 3",
		"q=élan":                          "1",
		"q=3":                             "3",
		"q=nowhere":                       "",
		"road=A+1":                        "1 3",
		"state=busy,saturated":            "2 5",
		"state=busy&q=B&sort=name":        "5",
		"verification=mismatch,in_flight": "4 5",
	} {
		var got []string
		var board struct{ Plazas []struct{ ID int } }
		a := r.Want(200, r.Get("/api/v1/plazas?"+query))
		if err := json.Unmarshal(a.Body, &board); err != nil {
			t.Fatal(err)
		}
		for _, p := range board.Plazas {
			got = append(got, fmt.Sprint(p.ID))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%q: %s, want %s", query, text, want)
		}
		lines := strings.Split(string(r.Want(200, r.Get("/api/v1/plazas.csv?"+query)).Body), "\r\n")
		var csv []string
		for _, line := range lines[1 : len(lines)-1] {
			id, _, _ := strings.Cut(line, ",")
			csv = append(csv, id)
		}
		if !slices.Equal(csv, got) {
			t.Errorf("%q: CSV has %v, JSON %v", query, csv, got)
		}
	}
}

func TestParameterErrors(t *testing.T) {
	r := start(t, newNetwork(2).source(), nil)
	r.awaitBoard()
	otherPlaza := serve.EncodeCursor("windows 7 ", board.WindowPosition{Kind: "15m", Start: epoch})
	otherKind := serve.EncodeCursor("windows 4000 1h",
		board.WindowPosition{Kind: "15m", Start: epoch})
	letters := serve.EncodeCursor(lettersList, toll.Origin{})
	for target, names := range map[string][]string{
		"/api/v1/plazas?sort=colour": {"sort"},
		"/api/v1/plazas?sort=colour&order=up&state=x&q=" + strings.Repeat("x", 101): {"q", "state",
			"sort", "order"},
		"/api/v1/plazas?verification=perfect":                    {"verification"},
		"/api/v1/plazas?state=free&state=busy":                   {"state"},
		"/api/v1/plazas?color=red&limit=3":                       {"color", "limit"},
		"/api/v1/plazas?q=%ff":                                   {"q"},
		"/api/v1/plazas?q=%zz":                                   {""},
		"/api/v1/plazas?a;b":                                     {""},
		"/api/v1/plazas.csv?order=":                              nil,
		"/api/v1/plazas/x":                                       {"id"},
		"/api/v1/plazas/+5":                                      {"id"},
		"/api/v1/plazas/007":                                     {"id"},
		"/api/v1/plazas/-0":                                      {"id"},
		"/api/v1/plazas/32768":                                   {"id"},
		"/api/v1/plazas/4000?x=1":                                {"x"},
		"/api/v1/plazas/4000/windows?kind=7x":                    {"kind"},
		"/api/v1/plazas/4000/windows?kind=15m,1h":                {"kind"},
		"/api/v1/plazas/4000/windows?kind=60m":                   {"kind"},
		"/api/v1/plazas/4000/windows?limit=501":                  {"limit"},
		"/api/v1/plazas/4000/windows?limit=-1&before=!":          {"limit", "before"},
		"/api/v1/plazas/4000/windows?before=" + otherPlaza:       {"before"},
		"/api/v1/plazas/4000/windows?before=" + otherKind:        {"before"},
		"/api/v1/plazas/4000/windows?before=" + letters:          {"before"},
		"/api/v1/dead-letters?after=" + otherPlaza:               {"after"},
		"/api/v1/dead-letters?after=" + strings.Repeat("A", 999): {"after"},
		"/api/v1/dead-letters?limit=1e3":                         {"limit"},
		"/api/v1/events?token=secret-secret-secret":              {"token"},
		"/healthz?x": {"x"},
	} {
		a := r.Get(target)
		if names == nil {
			r.Want(200, a)
			continue
		}
		var p struct {
			Status int
			Errors serve.ParameterErrors
		}
		if err := json.Unmarshal(a.Body, &p); err != nil {
			t.Fatalf("%s: %v in %s", target, err, a.Body)
		}
		var got []string
		for _, e := range p.Errors {
			got = append(got, e.Parameter)
		}
		if a.Status != 400 || p.Status != 400 ||
			a.Header.Get("Content-Type") != "application/problem+json" || !slices.Equal(got, names) {
			t.Errorf("%s: status %d, problem %+v, want errors of %q", target, a.Status, p, names)
		}
		if strings.Contains(string(a.Body), "secret-") {
			t.Errorf("%s: the answer repeats a value: %s", target, a.Body)
		}
	}
	for _, target := range []string{"/api/v1/nothing", "/api/v2/plazas", "/nothing",
		"/static/../openapi.json", "/static/", "/static/none.js", "/plazas/4856/windows",
		"/api/v1/plazas/4001", "/metrics"} {
		a := r.Get(target)
		if target == "/static/../openapi.json" && a.Status/100 == 3 {
			continue // the mux names the clean path
		}
		if a.Status != 404 || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d: %s", target, a.Status, a.Body)
		}
	}
}

func TestPages(t *testing.T) {
	source := newNetwork(1).source()
	r := start(t, source, nil)
	r.awaitBoard()
	walk := func(target, cursor, list string) (pages int, all []string) {
		next := ""
		for {
			a := r.Want(200, r.Get(target+next))
			var page map[string]json.RawMessage
			if err := json.Unmarshal(a.Body, &page); err != nil {
				t.Fatal(err)
			}
			var elements []json.RawMessage
			if err := json.Unmarshal(page[list], &elements); err != nil {
				t.Fatal(err)
			}
			for _, e := range elements {
				all = append(all, string(e))
			}
			pages++
			var token *string
			if err := json.Unmarshal(page["next"], &token); err != nil {
				t.Fatal(err)
			}
			if token == nil {
				return pages, all
			}
			next = "&" + cursor + "=" + *token
		}
	}
	for target, want := range map[string][2]int{
		"/api/v1/plazas/4000/windows?limit=7":           {6, 38},
		"/api/v1/plazas/4000/windows?limit=500":         {1, 38},
		"/api/v1/plazas/4000/windows?limit=10&kind=15m": {3, 30},
		"/api/v1/plazas/4000/windows?limit=8&kind=1h":   {1, 8},
	} {
		pages, all := walk(target, "before", "windows")
		if distinct := len(slices.Compact(slices.Sorted(slices.Values(all)))); pages != want[0] ||
			len(all) != want[1] || distinct != want[1] {
			t.Errorf("%s: %d windows, %d distinct, on %d pages, want %v", target, len(all), distinct, pages,
				want)
		}
	}
	if pages, all := walk("/api/v1/dead-letters?limit=10", "after", "dead_letters"); pages != 3 ||
		len(all) != 25 {
		t.Errorf("%d dead letters on %d pages", len(all), pages)
	}
	source.set(func(f *fakeSource) { f.letters = nil })
	r.clock.advance(2 * time.Second)
	if a := r.Get("/api/v1/dead-letters"); string(
		a.Body) != `{"dead_letters":[],"total":0,"next":null}` {
		t.Errorf("no dead letters: %s", a.Body)
	}
	for _, format := range []string{"windows", "windows.csv"} {
		a := r.Want(400, r.Get("/api/v1/plazas/4000/"+format+"?kind=2h"))
		if !strings.Contains(string(a.Body), "kinds of windows that are counted: 15m, 1h") {
			t.Errorf("a kind that is not counted: %s", a.Body)
		}
	}
	first := string(r.Get("/api/v1/plazas/4000/windows?limit=1").Body)
	const want = `{"windows":[{"kind":"15m","start":"2026-03-02T07:15:00+01:00","end":"2026-03-02T07:30:00+01:00","count":128,"by_type":{"car":117,"truck":11},` +
		`"flow_per_hour":512,"final":true,"revision":1,"reason":"watermark","on_time":126,"late":2,"too_late":0,"completeness":1}],"kinds":["15m","1h"],"next":"`
	if !strings.HasPrefix(first, want) {
		t.Errorf("got\n%s\nwant\n%s…", first, want)
	}
}

func TestDeadLetterPayloads(t *testing.T) {
	// a character of two bytes lies across no cut, so begin with one byte
	cut := strings.Repeat("ä", maxPayload)
	for _, test := range []struct {
		letter                 board.DeadLetter
		payload, base64, state string
		truncated              bool
	}{
		{board.DeadLetter{Payload: []byte("a,b"), PayloadBytes: 3, SQLState: "22001"}, `"a,b"`, "null",
			`"22001"`, false},
		{board.DeadLetter{}, "null", "null", "null", false},
		{board.DeadLetter{Payload: []byte{}}, `""`, "null", "null", false},
		{board.DeadLetter{Payload: []byte{0xff, 0}, PayloadBytes: 2}, "null", `"/wA="`, "null", false},
		{board.DeadLetter{Payload: []byte("abc"), PayloadBytes: 9000}, `"abc"`, "null", "null", true},
		{board.DeadLetter{Payload: []byte("x" + cut), PayloadBytes: int64(1 + len(cut))},
			`"x` + cut[:maxPayload-2] + `"`, "null", "null", true},
		{board.DeadLetter{Payload: []byte("<script>\u202e\x1b[31m")},
			`"\u003cscript\u003e\u202e\u001b[31m"`, "null", "null", false},
	} {
		p, err := serve.JSON(letterOf(&test.letter))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal(p.Body, &got); err != nil {
			t.Fatal(err)
		}
		if string(got["payload"]) != test.payload || string(got["payload_base64"]) != test.base64 ||
			string(got["sql_state"]) != test.state ||
			string(got["payload_truncated"]) != fmt.Sprint(test.truncated) {
			t.Errorf("%.40q: got %.300s", test.letter.Payload, p.Body)
		}
	}
}

// TestHostileText sends text that is markup, control characters and changes of direction through
// all that shows text.
func TestHostileText(t *testing.T) {
	hostile := "<script>alert(1)</script>\x1b[31m\x00\u0085\u200b\u202egnp.\u2066\U000e0041" +
		"&\u2028\xff\"'`"
	want := strings.ToValidUTF8(hostile, "\uFFFD")
	source := newNetwork(1).source()
	source.next = func() (*board.Board, error) {
		return &board.Board{At: epoch,
			Plazas:       []board.Plaza{{ID: 1, Name: hostile, Road: "=cmd|' /C calc'!A0", Why: hostile}},
			Verification: board.Verification{Problems: []string{hostile}}}, nil
	}
	source.plazas[1] = &board.Detail{Plaza: board.Plaza{ID: 1, Name: hostile},
		History:  board.History{Changes: []board.Change{{Why: hostile}}},
		Quarters: []board.Quarter{{ByType: map[string]int64{hostile: 1, "__proto__": 2}}}}
	source.letters = []board.DeadLetter{{Reason: hostile, Payload: []byte(want), Key: []byte(hostile)}}
	r := start(t, source, nil)
	r.awaitBoard()
	check := func(what string, body []byte) {
		t.Helper()
		for i, c := range string(body) {
			if c < ' ' || c == '<' || c == '>' || c == '&' || unicode.In(c, unicode.Cc, unicode.Cf) ||
				c == '\u2028' {
				t.Errorf("%s: %U at %d is not escaped", what, c, i)
			}
		}
		if !strings.Contains(decodedText(t, body), want) {
			t.Errorf("%s: the text is not what it was: %s", what, body)
		}
	}
	for _, target := range []string{"/api/v1/plazas", "/api/v1/plazas/1", "/api/v1/dead-letters",
		"/api/v1/verification"} {
		a := r.Want(200, r.Get(target))
		check(target, a.Body)
		if a.Header.Get("Content-Type") != "application/json" ||
			a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", target, a.Header)
		}
	}
	check("event", r.stream().next("board").data)
	csv := string(r.Get("/api/v1/plazas.csv").Body)
	if !strings.Contains(csv, ",'=cmd|' /C calc'!A0,") ||
		strings.ContainsFunc(strings.ReplaceAll(csv, "\r\n", ""), func(c rune) bool {
			return c < ' ' ||
				unicode.In(c, unicode.Cc, unicode.Cf)
		}) {
		t.Errorf("CSV %q", csv)
	}
	a := r.Get("/api/v1/plazas?%3Cscript%3E%E2%80%AE=1")
	if a.Status != 400 || bytes.ContainsAny(a.Body, "<>\u202e") {
		t.Errorf("status %d: %s", a.Status, a.Body)
	}
	if a := r.Get("/%3Cscript%3E"); bytes.ContainsAny(a.Body, "<>") {
		t.Errorf("%s", a.Body)
	}
}

// decodedText returns all strings of JSON, one after the other.
func decodedText(t *testing.T, body []byte) string {
	t.Helper()
	var b strings.Builder
	d := json.NewDecoder(bytes.NewReader(body))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		if text, ok := token.(string); ok {
			b.WriteString(text + "\n")
		}
	}
}

// TestQueriesAreShared has many ask for the same thing at once, and again within a second.
func TestQueriesAreShared(t *testing.T) {
	source := newNetwork(1).source()
	r := start(t, source, nil)
	r.awaitBoard()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if a := r.Get("/api/v1/plazas/4000"); a.Status != 200 {
				t.Errorf("status %d", a.Status)
			}
		})
	}
	all.Wait()
	if n := source.asked.Load(); n != 1 {
		t.Errorf("the source was asked %d times for 50 requests, want once", n)
	}
	r.clock.advance(1100 * time.Millisecond)
	r.Get("/api/v1/plazas/4000")
	if n := source.asked.Load(); n != 2 {
		t.Errorf("the source was asked %d times, want once more after a second", n-1)
	}
}

func TestSourceFailsAndTellsNothing(t *testing.T) {
	source := newNetwork(1).source()
	r := start(t, source, nil)
	r.awaitBoard()
	source.set(func(f *fakeSource) {
		f.err = errors.New("Error 1045: Access denied for 'toll'@'db.internal'")
	})
	for _, target := range []string{"/api/v1/plazas/4000", "/api/v1/dead-letters"} {
		a := r.Get(target)
		if a.Status != 503 || a.Header.Get("Retry-After") == "" ||
			strings.Contains(string(a.Body), "1045") {
			t.Errorf("%s: status %d: %s", target, a.Status, a.Body)
		}
	}
	if !strings.Contains(r.logged.String(), "1045") {
		t.Errorf("logged %s", r.logged)
	}
}
