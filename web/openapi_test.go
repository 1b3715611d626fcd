package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tollstream/tollstream/web/incidents"
	"github.com/tollstream/tollstream/web/serve/servetest"
)

// document is the OpenAPI document, and a validator of what it says of bodies.
type document struct {
	root   map[string]any
	strict *jsonschema.Compiler
}

const documentURL = "tollstream:openapi.json"

// readDocument reads the document. For the tests its objects are closed: a member that is sent and
// not described is a mistake, though clients must bear new ones.
func readDocument(t *testing.T) *document {
	t.Helper()
	read := func() map[string]any {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPI))
		if err != nil {
			t.Fatal(err)
		}
		return v.(map[string]any)
	}
	d := &document{root: read(), strict: jsonschema.NewCompiler()}
	closed := read()
	var closeObjects func(v any)
	closeObjects = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, has := v["properties"].(map[string]any); has && v["unevaluatedProperties"] == nil {
				v["unevaluatedProperties"] = false
			}
			for _, inner := range v {
				closeObjects(inner)
			}
		case []any:
			for _, inner := range v {
				closeObjects(inner)
			}
		}
	}
	schemas := closed["components"].(map[string]any)["schemas"].(map[string]any)
	closeObjects(schemas)
	// A plaza's page adds to a row, and a change has some of its members.
	items := func(schema string) map[string]any {
		properties := schemas[schema].(map[string]any)["properties"].(map[string]any)
		return properties["plazas"].(map[string]any)["items"].(map[string]any)
	}
	delete(schemas["Plaza"].(map[string]any), "unevaluatedProperties")
	items("Board")["unevaluatedProperties"] = false
	delete(items("BoardEvent"), "unevaluatedProperties")
	d.strict.AssertFormat()
	if err := d.strict.AddResource(documentURL, closed); err != nil {
		t.Fatal(err)
	}
	return d
}

// validate holds JSON against a schema, named as in a $ref of the document.
func (d *document) validate(t *testing.T, what, ref string, body []byte) {
	t.Helper()
	schema, err := d.strict.Compile(documentURL + ref)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%s: %v in %s", what, err, body)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// response returns what the document says of a status of a path, its own or the default.
func (d *document) response(t *testing.T, path string, status int) map[string]any {
	t.Helper()
	paths := d.root["paths"].(map[string]any)
	responses := paths[path].(map[string]any)["get"].(map[string]any)["responses"].(map[string]any)
	r, ok := responses[fmt.Sprint(status)].(map[string]any)
	if !ok {
		r = responses["default"].(map[string]any)
	}
	if ref, ok := r["$ref"].(string); ok {
		r = d.root["components"].(map[string]any)["responses"].(map[string]any)[ref[strings.LastIndex(ref,
			"/")+1:]].(map[string]any)
	}
	return r
}

// TestOpenAPIIsOne holds the document against the OpenAPI Initiative's schema of OpenAPI 3.1
// documents (2021-04-15, Apache License 2.0).
func TestOpenAPIIsOne(t *testing.T) {
	file, err := os.Open("testdata/openapi-3.1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	meta, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("tollstream:openapi-3.1", meta); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("tollstream:openapi-3.1")
	if err != nil {
		t.Fatal(err)
	}
	d := readDocument(t)
	if err := schema.Validate(d.root); err != nil {
		t.Error(err)
	}
	for name := range d.root["components"].(map[string]any)["schemas"].(map[string]any) {
		if _, err := d.strict.Compile(documentURL + "#/components/schemas/" + name); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
	}
}

// TestRoutesAreInTheDocument holds the routes against the paths of the document, both ways.
func TestRoutesAreInTheDocument(t *testing.T) {
	served := []string{"/healthz", "/readyz", "/metrics"}
	noting := &Server{cfg: Config{Acknowledgers: []incidents.Acknowledger{ada}}}
	for _, r := range noting.routes() {
		served = append(served, strings.NewReplacer("{$}", "", "...", "").Replace(r.Path))
	}
	slices.Sort(served)
	described := slices.Sorted(maps.Keys(readDocument(t).root["paths"].(map[string]any)))
	if !slices.Equal(served, described) {
		t.Errorf("served    %q\ndescribed %q", served, described)
	}
}

// TestAnswersAreAsDescribed asks for every path that is described, in ways that give each kind of
// answer, and holds status, content type and body against the document.
func TestAnswersAreAsDescribed(t *testing.T) {
	d := readDocument(t)
	source := newNetwork(3).source()
	r := start(t, source, func(c *Config, _ *tuning) {
		registry := prometheus.NewRegistry()
		c.Gatherer, c.Registerer = registry, registry
	})
	r.awaitBoard()
	asked := map[string]bool{}
	for _, test := range []struct {
		path, target string
		status       int
	}{
		{"/api/v1/plazas", "/api/v1/plazas", 200},
		{"/api/v1/plazas",
			"/api/v1/plazas?state=free,busy&sort=vc&order=desc&q=plaza+north&road=A+1&verification=exact",
			200},
		{"/api/v1/plazas", "/api/v1/plazas?state=nothing", 400},
		{"/api/v1/plazas.csv", "/api/v1/plazas.csv?sort=name", 200},
		{"/api/v1/plazas.csv", "/api/v1/plazas.csv?sort=colour", 400},
		{"/api/v1/plazas/{id}", "/api/v1/plazas/4000", 200},
		{"/api/v1/plazas/{id}", "/api/v1/plazas/4001", 404},
		{"/api/v1/plazas/{id}", "/api/v1/plazas/99999", 400},
		{"/api/v1/plazas/{id}/windows", "/api/v1/plazas/4000/windows?kind=15m&limit=3", 200},
		{"/api/v1/plazas/{id}/windows", "/api/v1/plazas/4001/windows", 404},
		{"/api/v1/plazas/{id}/windows", "/api/v1/plazas/4000/windows?limit=0", 400},
		{"/api/v1/plazas/{id}/windows.csv", "/api/v1/plazas/4000/windows.csv?kind=15m", 200},
		{"/api/v1/plazas/{id}/windows.csv", "/api/v1/plazas/4001/windows.csv", 404},
		{"/api/v1/plazas/{id}/windows.csv", "/api/v1/plazas/4000/windows.csv?kind=1m&from=2020-01-01",
			400},
		{"/api/v1/plazas/{id}/flow", "/api/v1/plazas/4000/flow?from=2026-03-02&to=2026-03-03", 200},
		{"/api/v1/plazas/{id}/flow", "/api/v1/plazas/4001/flow", 404},
		{"/api/v1/plazas/{id}/flow", "/api/v1/plazas/4000/flow?from=2026-03-02&to=2026-03-20", 400},
		{"/api/v1/plazas/{id}/transitions", "/api/v1/plazas/4000/transitions?limit=3", 200},
		{"/api/v1/plazas/{id}/transitions", "/api/v1/plazas/4001/transitions", 404},
		{"/api/v1/plazas/{id}/transitions", "/api/v1/plazas/4000/transitions?before=x", 400},
		{"/api/v1/incidents",
			"/api/v1/incidents?plaza=4000&state=saturated&open=true&from=2026-03-01&limit=2", 200},
		{"/api/v1/incidents", "/api/v1/incidents?state=free", 400},
		{"/api/v1/incidents.csv", "/api/v1/incidents.csv?road=A+1", 200},
		{"/incidents.atom", "/incidents.atom", 200},
		{"/incidents", "/incidents", 200},
		{"/api/v1/journeys", "/api/v1/journeys", 200},
		{"/api/v1/journeys", "/api/v1/journeys?at=now", 400},
		{"/api/v1/journeys.csv", "/api/v1/journeys.csv", 200},
		{"/api/v1/plazas/{id}/journeys", "/api/v1/plazas/4000/journeys", 200},
		{"/api/v1/plazas/{id}/journeys", "/api/v1/plazas/4001/journeys", 404},
		{"/api/v1/verification", "/api/v1/verification", 200},
		{"/api/v1/verification", "/api/v1/verification?deep=1", 400},
		{"/api/v1/dead-letters", "/api/v1/dead-letters?limit=7", 200},
		{"/api/v1/dead-letters", "/api/v1/dead-letters?after=x", 400},
		{"/api/v1/openapi.json", "/api/v1/openapi.json", 200},
		{"/api/v1/events", "/api/v1/events?x=1", 400},
		{"/healthz", "/healthz", 200},
		{"/readyz", "/readyz", 200},
		{"/metrics", "/metrics", 200},
		{"/", "/", 200},
		{"/plaza/{id}", "/plaza/4856", 308},
		{"/plazas/{id}", "/plazas/4856", 200},
		{"/static/{path}", "/static/index.html", 200},
		{"/static/{path}", "/static/none.js", 404},
	} {
		asked[test.path] = true
		a := r.Get(test.target)
		if a.Status != test.status {
			t.Errorf("%s: status %d, want %d: %s", test.target, a.Status, test.status, a.Body)
			continue
		}
		d.hold(t, test.path, test.target, a)
		if tag := a.Header.Get("ETag"); tag != "" {
			d.hold(t, test.path, test.target, r.Want(304, r.Get(test.target, "If-None-Match", tag)))
		} else if test.status == 200 && strings.HasPrefix(test.path, "/api/") &&
			!strings.HasSuffix(test.path, "windows.csv") { // which is sent while it is read
			t.Errorf("%s: no ETag", test.target)
		}
		head := r.Do(http.MethodHead, test.target, nil)
		if head.Status != test.status || len(head.Body) > 0 ||
			head.Header.Get("Content-Type") != a.Header.Get("Content-Type") {
			t.Errorf("HEAD %s: status %d, %d bytes of %s", test.target, head.Status, len(head.Body),
				head.Header.Get("Content-Type"))
		}
	}
	// The stream, whose content ends with the client.
	asked["/api/v1/events"] = true
	asked["/api/v1/incidents/{id}/notes"] = true // TestNotes asks for it
	e := r.stream()
	board := e.next("board")
	d.validate(t, "the first event", "#/components/schemas/BoardEvent", board.data)
	r.nextBoard()
	d.validate(t, "the second event", "#/components/schemas/BoardEvent", e.next("board").data)
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(board.data, &whole); err != nil {
		t.Fatal(err)
	}
	delete(whole, "full")
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	d.validate(t, "the first event without full", "#/components/schemas/Board", text)
	source.set(func(f *fakeSource) { f.err = fmt.Errorf("away") })
	r.clock.advance(time.Second)
	d.validate(t, "a status", "#/components/schemas/StatusEvent", e.next("status").data)
	for _, target := range []string{"/api/v1/plazas", "/api/v1/verification", "/readyz",
		"/api/v1/plazas/4000"} {
		if a := r.Get(target); target == "/readyz" && a.Status != 503 {
			t.Errorf("%s of a source that is away: status %d", target, a.Status)
		} else {
			d.hold(t, strings.Replace(target, "4000", "{id}", 1), target, a)
		}
	}
	for path := range d.root["paths"].(map[string]any) {
		if !asked[path] {
			t.Errorf("%s is described and not asked for", path)
		}
	}
}

// hold holds an answer against the document.
func (d *document) hold(t *testing.T, path, target string, a servetest.Response) {
	t.Helper()
	described := d.response(t, path, a.Status)
	content, _ := described["content"].(map[string]any)
	contentType, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	if a.Status == http.StatusNotModified {
		if len(a.Body) > 0 || a.Header.Get("ETag") == "" {
			t.Errorf("%s: 304 with %d bytes and ETag %q", target, len(a.Body), a.Header.Get("ETag"))
		}
		return
	}
	if content[contentType] == nil && content["*/*"] == nil {
		t.Errorf("%s: status %d with content type %q, described are %v", target, a.Status, contentType,
			slices.Collect(maps.Keys(content)))
		return
	}
	for name, h := range mapOf(described["headers"]) {
		if a.Header.Get(name) == "" {
			t.Errorf("%s: status %d without header %s, which is described: %v", target, a.Status, name, h)
		}
	}
	media := mapOf(content[contentType])
	if ref, ok := mapOf(media["schema"])["$ref"].(string); ok {
		d.validate(t, target, ref, a.Body)
	}
}

func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}
