package serve

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; form-action 'none'"

// withPolicies sends with each response what a browser may do with it.
func withPolicies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

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
	switch {
	case g.token != nil && r.Method == http.MethodPost && r.URL.Path == loginPath &&
		(!g.checkHost || g.knowsHost(r.Host)):
		g.logInByForm(w, r)
	case r.Method == http.MethodPost && g.takesPost(r):
		g.post(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		Fail(w, r, http.StatusMethodNotAllowed, "only GET and HEAD are allowed")
	case r.ContentLength != 0:
		w.Header().Set("Connection", "close") // whatever it is, it is not read
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

// post passes on a request that changes something, unless another web site made a browser send it.
// The route authenticates it.
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
	if given, ok := BearerToken(r); ok {
		return SameSecret(given, string(g.token))
	}
	c, err := r.Cookie(g.cookie)
	return err == nil && SameSecret(c.Value, g.cookieValue())
}

// BearerToken returns the bearer token that a request presents.
func BearerToken(r *http.Request) (token string, ok bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// SameSecret compares secrets in a time that depends neither on where they differ nor on their
// lengths.
func SameSecret(x, y string) bool {
	a, b := sha256.Sum256([]byte(x)), sha256.Sum256([]byte(y))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// cookieValue is derived from the token: it does not reveal it, and is void with another one.
func (g *guard) cookieValue() string {
	mac := hmac.New(sha256.New, g.token)
	mac.Write([]byte("tollstream cookie 1"))
	return hex.EncodeToString(mac.Sum(nil))
}

// cookieTime is how long a browser stays logged in: wall displays rarely have a keyboard.
const cookieTime = 30 * 24 * time.Hour

// loginPath is where the form of the login page is sent to. It takes the only requests with a body.
const loginPath = "/login"

// maxForm is how large the form may be: a token and an address.
const maxForm = 8 << 10

//go:embed login.html
var loginText string

var loginPage = template.Must(template.New("login").Parse(loginText))

// loginPolicy is the content policy of the login page: its own style, and its own form.
var loginPolicy = func() string {
	_, style, _ := strings.Cut(loginText, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	hash := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
		"'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
}()

// logIn checks the token in a URL, sets the cookie, and redirects to the URL without the token, so
// that it stays in no history and no screenshot.
func (g *guard) logIn(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if !SameSecret(query.Get("token"), string(g.token)) {
		g.refuse(w, r, true)
		return
	}
	query.Del("token")
	g.enter(w, r, &url.URL{Path: r.URL.Path, RawQuery: query.Encode()})
}

// logInByForm does the same for a token that was typed. Where a browser reveals that another site
// sent the form, it is refused.
func (g *guard) logInByForm(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		Fail(w, r, http.StatusForbidden, "the form must come from this server")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		w.Header().Set("Connection", "close")
		Fail(w, r, http.StatusRequestEntityTooLarge, "the form can't be read")
		return
	}
	to, err := url.Parse(r.PostForm.Get("to"))
	if err != nil {
		to = &url.URL{}
	}
	if !SameSecret(strings.TrimSpace(r.PostForm.Get("token")), string(g.token)) {
		g.showForm(w, r, to, true)
		return
	}
	g.enter(w, r, to)
}

// enter sets the cookie and redirects to an address of this server.
func (g *guard) enter(w http.ResponseWriter, r *http.Request, to *url.URL) {
	f := fromOf(r)
	http.SetCookie(w, &http.Cookie{
		Name: g.cookie, Value: g.cookieValue(), Path: f.base + "/", MaxAge: int(cookieTime.Seconds()),
		HttpOnly: true, Secure: g.secure || f.https, SameSite: http.SameSiteStrictMode,
	})
	w.Header().Set("Location", f.base+local(to))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

// local returns the path and the query of an address. It has one leading slash: with two it would
// name another server.
func local(to *url.URL) string {
	u := url.URL{Path: path.Clean("/" + strings.TrimLeft(to.Path, `/\`)), RawQuery: to.RawQuery}
	return u.String()
}

// refuse answers a request without the token: a browser gets the login page, and others a problem.
// Following the link of the page is a same-site request, to which browsers add the cookie; after a
// link from another site they do not. wrong is whether a token was given.
func (g *guard) refuse(w http.ResponseWriter, r *http.Request, wrong bool) {
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		query := r.URL.Query()
		query.Del("token")
		g.showForm(w, r, &url.URL{Path: r.URL.Path, RawQuery: query.Encode()}, wrong)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="tollstream"`)
	Fail(w, r, http.StatusUnauthorized, "a bearer token is required: Authorization: Bearer TOKEN")
}

// showForm responds with the login page, which leads to an address.
func (g *guard) showForm(w http.ResponseWriter, r *http.Request, to *url.URL, wrong bool) {
	h := w.Header()
	h.Set("WWW-Authenticate", `Bearer realm="tollstream"`)
	h.Set("Content-Security-Policy", loginPolicy)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusUnauthorized)
	_ = loginPage.Execute(w, struct { // the client may have gone
		Base, Action, To string
		Wrong            bool
	}{Base(r), loginPath, local(to), wrong})
}
