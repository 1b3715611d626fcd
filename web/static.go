package web

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"

	"github.com/tollstream/tollstream/web/serve"
)

//go:embed static
var staticFiles embed.FS

// The document of the page, and what the API is described by.
const indexFile = "index.html"

//go:embed openapi.json
var openAPI []byte

// contentTypes are those of the files that the page is made of. The machine's own list may say
// otherwise, or nothing.
var contentTypes = map[string]string{
	".html":  "text/html; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".mjs":   "text/javascript; charset=utf-8",
	".json":  "application/json",
	".svg":   "image/svg+xml",
	".png":   "image/png",
	".ico":   "image/x-icon",
	".webp":  "image/webp",
	".txt":   "text/plain; charset=utf-8",
	".woff2": "font/woff2",
}

// readStatic returns the files of the page by name.
func readStatic(files fs.FS) (map[string]*serve.Representation, error) {
	all := map[string]*serve.Representation{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		contentType, ok := contentTypes[path.Ext(name)]
		if !ok {
			return nil // notes, licences, sources of what is built
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		all[name] = serve.NewRepresentation(contentType, body)
		return nil
	})
	if err == nil && all[indexFile] == nil {
		err = fmt.Errorf("there is no %s", indexFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the files of the page: %w", err)
	}
	return all, nil
}

// rebased is a document that names addresses of the server: it differs by the base path that a
// proxy has before them.
type rebased struct {
	plain   *serve.Representation // without a base path
	replace func(base string) *strings.Replacer

	mu    sync.Mutex
	below map[string]*serve.Representation // by base path
}

// maxBases bounds how many of them are kept; there is one, as a rule.
const maxBases = 16

// of returns the document as a request is to have it.
func (d *rebased) of(r *http.Request) *serve.Representation {
	base := serve.Base(r)
	if base == "" {
		return d.plain
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.below[base]
	if p == nil {
		if len(d.below) == maxBases {
			clear(d.below)
		}
		p = serve.NewRepresentation(d.plain.ContentType,
			[]byte(d.replace(base).Replace(string(d.plain.Body))))
		d.below[base] = p
	}
	return p
}

func newRebased(plain *serve.Representation,
	replace func(base string) *strings.Replacer) *rebased {
	return &rebased{plain: plain, replace: replace, below: map[string]*serve.Representation{}}
}

// pageBelow and openAPIBelow put a base path before the addresses of these documents.
func pageBelow(base string) *strings.Replacer {
	return strings.NewReplacer(`href="/`, `href="`+base+`/`, `src="/`, `src="`+base+`/`)
}

func openAPIBelow(base string) *strings.Replacer {
	return strings.NewReplacer(`"servers": [{ "url": "/" }]`, `"servers": [{ "url": "`+base+`" }]`)
}

// serveFile responds with a file of the page.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request) {
	p := s.static[r.PathValue("path")]
	if p == nil {
		s.notFound(w, r)
		return
	}
	p.Serve(w, r)
}

// servePage responds with the page, which shows what its address names.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	s.page.of(r).Serve(w, r)
}

// servePlazaPage does the same. Where the address has no valid number of a plaza, it responds 404.
func (s *Server) servePlazaPage(w http.ResponseWriter, r *http.Request) {
	if _, errs := plazaID(r); len(errs) > 0 {
		s.notFound(w, r)
		return
	}
	s.servePage(w, r)
}

// leadToPlaza leads from /plaza/4856, which people type, to /plazas/4856.
func leadToPlaza(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/plazas/"+url.PathEscape(r.PathValue("id")), http.StatusPermanentRedirect)
}

func (s *Server) serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	if errs := serve.NoParameters(r); len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	s.openAPI.of(r).Serve(w, r)
}

// notFound responds 404. A browser gets the page, which shows that there is nothing.
func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		s.page.of(r).ServeAs(w, r, http.StatusNotFound)
		return
	}
	serve.Fail(w, r, http.StatusNotFound,
		"there is nothing at this address; %s/api/v1/openapi.json lists what there is", serve.Base(r))
}
