package serve

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/tollstream/tollstream/internal/text"
)

// Representation is the body of a response, for any number of requests.
type Representation struct {
	ContentType string
	Body        []byte
	etag        string        // strong, without quotes: of the content
	Zipped      func() []byte // the body compressed, once; nil where that does not pay
}

// Below this size a body is not compressed: it fits a packet anyway.
const zipFrom = 1400

// NewRepresentation returns a body of a content type, which must not change any more.
func NewRepresentation(contentType string, body []byte) *Representation {
	sum := sha256.Sum256(body)
	p := &Representation{ContentType: contentType, Body: body,
		etag: base64.RawURLEncoding.EncodeToString(sum[:16])}
	p.Zipped = sync.OnceValue(func() []byte {
		if len(body) < zipFrom || !compressible(contentType) {
			return nil
		}
		if zipped := zip(body); len(zipped) < len(body) {
			return zipped
		}
		return nil
	})
	return p
}

// JSON encodes a value of our own types, all of which can be encoded once they are
// normalized.
func JSON(v any) (*Representation, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return NewRepresentation("application/json", text.EscapeJSON(body)), nil
}

// Serve responds with the body, or with 304 if the client has it. Clients may cache it but must
// revalidate it.
func (p *Representation) Serve(w http.ResponseWriter, r *http.Request) {
	p.ServeAs(w, r, http.StatusOK)
}

// ServeAs does the same with a status.
func (p *Representation) ServeAs(w http.ResponseWriter, r *http.Request, status int) {
	h := w.Header()
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "private, no-cache")
	body, etag := p.Body, `"`+p.etag+`"`
	if AcceptsGzip(r.Header) {
		if zipped := p.Zipped(); zipped != nil {
			// Other bytes, so another strong ETag.
			body, etag = zipped, `"`+p.etag+`-gzip"`
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("ETag", etag)
	if p.matches(r.Header.Values("If-None-Match")) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", p.ContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
}

// matches reports whether If-None-Match names the content, in either encoding.
func (p *Representation) matches(ifNoneMatch []string) bool {
	for _, line := range ifNoneMatch {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/") // compared weakly, RFC 9110
			if tag == "*" {
				return true
			}
			name, quoted := strings.CutPrefix(tag, `"`)
			name, closed := strings.CutSuffix(name, `"`)
			if quoted && closed && strings.TrimSuffix(name, "-gzip") == p.etag {
				return true
			}
		}
	}
	return false
}

// compressible reports whether bytes of a content type get smaller.
func compressible(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "json") ||
		strings.HasSuffix(t, "+xml") || t == "image/x-icon"
}

var zippers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

func zip(body []byte) []byte {
	var b bytes.Buffer
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(&b)
	_, _ = z.Write(body) // a buffer takes everything
	_ = z.Close()
	return b.Bytes()
}

// AcceptsGzip reports whether a client wants gzip rather than the plain body: it names it, or all
// codings, and does not give it the weight 0.
func AcceptsGzip(h http.Header) bool {
	accepts := false
	for _, line := range h.Values("Accept-Encoding") {
		for item := range strings.SplitSeq(line, ",") {
			coding, params, _ := strings.Cut(item, ";")
			named := strings.EqualFold(strings.TrimSpace(coding), "gzip")
			if !named && strings.TrimSpace(coding) != "*" {
				continue
			}
			q := 1.0
			if name, value, ok := strings.Cut(params, "="); ok &&
				strings.EqualFold(strings.TrimSpace(name), "q") {
				var err error
				if q, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
					q = 0
				}
			}
			accepts = q > 0
			if named {
				return accepts
			}
		}
	}
	return accepts
}
