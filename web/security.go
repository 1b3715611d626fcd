package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; form-action 'none'"

// guard stands before all that the server serves. The order matters: nothing is looked at before it
// is known to be small and harmless, and nobody learns anything before they have shown the token.
type guard struct {
	next      http.Handler
	token     []byte // nil for none
	cookie    string // name of the cookie that stands for it
	secure    bool   // the cookie is for HTTPS alone
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
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		fail(w, r, http.StatusMethodNotAllowed, "nothing here can be changed")
	case r.ContentLength != 0:
		h.Set("Connection", "close") // whatever it is, it is not read
		fail(w, r, http.StatusRequestEntityTooLarge, "a request has no body here")
	case g.checkHost && !g.knowsHost(r.Host):
		fail(w, r, http.StatusMisdirectedRequest, "this server is not known by that name: call it localhost or by its address, or start it with that name as one of its hosts")
	case g.token == nil || open(r.URL.Path):
		g.next.ServeHTTP(w, r)
	case r.URL.Query().Has("token"):
		g.logIn(w, r)
	case g.allows(r):
		g.next.ServeHTTP(w, r)
	default:
		g.refuse(w, r)
	}
}

// open reports whether a path needs no token: orchestrators have none, and learn one word.
func open(path string) bool { return path == "/healthz" || path == "/readyz" }

// knowsHost reports whether a Host header names this machine, an address, or one of the names that
// are allowed. An address can't be made to point elsewhere.
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
	return slices.ContainsFunc(g.hosts, func(allowed string) bool { return strings.EqualFold(allowed, name) })
}

// allows reports whether a request shows the token, or the cookie that stands for it.
func (g *guard) allows(r *http.Request) bool {
	if scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return same(strings.TrimSpace(given), string(g.token))
	}
	c, err := r.Cookie(g.cookie)
	return err == nil && same(c.Value, g.cookieValue())
}

// same compares in a time that tells nothing of where two texts differ, nor of their lengths.
func same(x, y string) bool {
	a, b := sha256.Sum256([]byte(x)), sha256.Sum256([]byte(y))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// cookieValue stands for the token: it can't be turned back into it, and ends with it.
func (g *guard) cookieValue() string {
	mac := hmac.New(sha256.New, g.token)
	mac.Write([]byte("tollstream cookie 1"))
	return hex.EncodeToString(mac.Sum(nil))
}

// cookieTime is for how long a browser remembers: wall displays are rarely typed at.
const cookieTime = 30 * 24 * time.Hour

// logIn takes the token of an address, leaves the cookie for it, and sends the browser to the
// address without it, so that it stays in no history and no screenshot.
func (g *guard) logIn(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if !same(query.Get("token"), string(g.token)) {
		g.refuse(w, r)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: g.cookie, Value: g.cookieValue(), Path: "/", MaxAge: int(cookieTime.Seconds()),
		HttpOnly: true, Secure: g.secure, SameSite: http.SameSiteStrictMode,
	})
	query.Del("token")
	// One leading slash: two would be another server's name.
	to := url.URL{Path: path.Clean("/" + strings.TrimLeft(r.URL.Path, `/\`)), RawQuery: query.Encode()}
	w.Header().Set("Location", to.String())
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

// refusal is what a person sees without a token. Following the link counts as the person's own
// request, which a link from another site does not: browsers keep the cookie back there.
const refusal = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>tollstream</title>
<h1>This page needs a token</h1>
<p>Open its address with <code>?token=</code> and the token behind it, once. Your browser remembers it.</p>
<p>If it should already, <a href="">try again</a>.</p>
`

func (g *guard) refuse(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="tollstream"`)
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		fail(w, r, http.StatusUnauthorized, "this server wants its token, as Authorization: Bearer")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(refusal)) // the client may have gone
}
