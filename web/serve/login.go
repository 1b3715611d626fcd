package serve

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

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
	if !same(query.Get("token"), string(g.token)) {
		g.refuse(w, r, true)
		return
	}
	query.Del("token")
	g.enter(w, &url.URL{Path: r.URL.Path, RawQuery: query.Encode()})
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
	if !same(strings.TrimSpace(r.PostForm.Get("token")), string(g.token)) {
		g.showForm(w, to, true)
		return
	}
	g.enter(w, to)
}

// enter sets the cookie and redirects to an address of this server.
func (g *guard) enter(w http.ResponseWriter, to *url.URL) {
	http.SetCookie(w, &http.Cookie{
		Name: g.cookie, Value: g.cookieValue(), Path: "/", MaxAge: int(cookieTime.Seconds()),
		HttpOnly: true, Secure: g.secure, SameSite: http.SameSiteStrictMode,
	})
	w.Header().Set("Location", local(to))
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
		g.showForm(w, &url.URL{Path: r.URL.Path, RawQuery: query.Encode()}, wrong)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="tollstream"`)
	Fail(w, r, http.StatusUnauthorized, "a bearer token is required: Authorization: Bearer TOKEN")
}

// showForm responds with the login page, which leads to an address.
func (g *guard) showForm(w http.ResponseWriter, to *url.URL, wrong bool) {
	h := w.Header()
	h.Set("WWW-Authenticate", `Bearer realm="tollstream"`)
	h.Set("Content-Security-Policy", loginPolicy)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusUnauthorized)
	_ = loginPage.Execute(w, struct { // the client may have gone
		Action, To string
		Wrong      bool
	}{loginPath, local(to), wrong})
}
