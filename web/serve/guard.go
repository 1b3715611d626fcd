package serve

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; form-action 'none'"

// guard checks each request before its handler runs. The order matters: nothing of a request is
// parsed before it is known to be small and harmless, and nothing is disclosed before
// authentication.
type guard struct {
	next      http.Handler
	posts     *http.ServeMux // the routes that take POST
	token     []byte         // nil for none
	cookie    string         // name of the session cookie
	secure    bool           // the cookie is sent over HTTPS only
	checkHost bool
	hosts     []string
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	switch {
	case g.token != nil && r.Method == http.MethodPost && r.URL.Path == loginPath &&
		(!g.checkHost || g.knowsHost(r.Host)):
		g.logInByForm(w, r)
	case r.Method == http.MethodPost && g.takesPost(r):
		g.post(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		Fail(w, r, http.StatusMethodNotAllowed, "only GET and HEAD are allowed")
	case r.ContentLength != 0:
		h.Set("Connection", "close") // whatever it is, it is not read
		Fail(w, r, http.StatusRequestEntityTooLarge, "requests must have no body")
	case g.checkHost && !g.knowsHost(r.Host):
		failHost(w, r)
	case g.token == nil || open(r.URL.Path):
		g.next.ServeHTTP(w, r)
	case r.URL.Query().Has("token"):
		g.logIn(w, r)
	case g.allows(r):
		g.next.ServeHTTP(w, r)
	default:
		g.refuse(w, r, false)
	}
}

// maxBody is how large the body of a request may be: a note of 1,000 characters, escaped.
const maxBody = 16 << 10

// takesPost reports whether a route takes POST.
func (g *guard) takesPost(r *http.Request) bool {
	_, pattern := g.posts.Handler(r)
	return pattern != ""
}

// post lets a request that changes something through, unless another web site makes a browser send
// it. The route authenticates it.
func (g *guard) post(w http.ResponseWriter, r *http.Request) {
	if g.checkHost && !g.knowsHost(r.Host) {
		w.Header().Set("Connection", "close")
		failHost(w, r)
		return
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		w.Header().Set("Connection", "close")
		Fail(w, r, http.StatusForbidden, "the request must not come from another web site")
		return
	}
	if r.ContentLength > maxBody {
		w.Header().Set("Connection", "close")
		Fail(w, r, http.StatusRequestEntityTooLarge, "the body must have %d bytes at most", maxBody)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	w.Header().Set("Cache-Control", "no-store")
	g.next.ServeHTTP(w, r)
}

func failHost(w http.ResponseWriter, r *http.Request) {
	Fail(w, r, http.StatusMisdirectedRequest,
		"this host name is not allowed: use localhost or an address, or start the server with the "+
			"name as an allowed host")
}

// open reports whether a path needs no token: orchestrators have none, and get a status only.
func open(path string) bool { return path == "/healthz" || path == "/readyz" }

// knowsHost reports whether a Host header names this machine, an address, or one of the allowed
// names. DNS rebinding needs a name: an address always means itself.
func (g *guard) knowsHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	return slices.ContainsFunc(g.hosts, func(allowed string) bool {
		return strings.EqualFold(allowed, name)
	})
}

// allows reports whether a request presents the token, or the cookie derived from it.
func (g *guard) allows(r *http.Request) bool {
	scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "Bearer") {
		return same(strings.TrimSpace(given), string(g.token))
	}
	c, err := r.Cookie(g.cookie)
	return err == nil && same(c.Value, g.cookieValue())
}

// SameSecret compares secrets in a time that depends neither on where they differ nor on their
// lengths.
func SameSecret(x, y string) bool { return same(x, y) }

// same compares in a time that depends neither on where two texts differ nor on their lengths.
func same(x, y string) bool {
	a, b := sha256.Sum256([]byte(x)), sha256.Sum256([]byte(y))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// cookieValue is derived from the token: it does not reveal it, and is void with another one.
func (g *guard) cookieValue() string {
	mac := hmac.New(sha256.New, g.token)
	mac.Write([]byte("tollstream cookie 1"))
	return hex.EncodeToString(mac.Sum(nil))
}
