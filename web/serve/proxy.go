package serve

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// proxied makes a request that came through a proxy look like one that the client sent here: it
// takes the base path off its path, and takes from the headers of a trusted proxy the host, the
// scheme and the client's address. What comes after it knows addresses without the base path; what
// it writes into a response begins with [Base].
type proxied struct {
	next    http.Handler
	base    string // as /toll, empty for none
	trusted []netip.Prefix
}

// from is what [proxied] found out about a request.
type from struct {
	base  string
	https bool // the client speaks TLS with the proxy
}

type fromKey struct{}

func fromOf(r *http.Request) from {
	f, _ := r.Context().Value(fromKey{}).(from)
	return f
}

// Base returns what the client has before the paths of the routes, as /toll; empty for nothing.
func Base(r *http.Request) string { return fromOf(r).base }

func (p *proxied) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := from{base: p.base}
	given := ""
	q := *r
	if peer, ok := address(r.RemoteAddr); ok && p.trusts(peer) {
		var err error
		if given, err = basePath(r.Header.Get("X-Forwarded-Prefix")); err != nil {
			Fail(w, r, http.StatusBadRequest, "X-Forwarded-Prefix: %v", err)
			return
		}
		if given != "" {
			f.base = given
		}
		f.https = strings.EqualFold(first(r, "X-Forwarded-Proto"), "https")
		if host := first(r, "X-Forwarded-Host"); host != "" {
			q.Host = host
		}
		if client, ok := p.client(r); ok {
			q.RemoteAddr = net.JoinHostPort(client.String(), "0")
		}
	}
	rest, below := strings.CutPrefix(r.URL.Path, f.base)
	switch {
	case below && rest == "" && f.base != "":
		to := url.URL{Path: f.base + "/", RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, to.String(), http.StatusPermanentRedirect)
		return
	case below && strings.HasPrefix(rest, "/"):
		u := *r.URL
		u.Path, u.RawPath = rest, strings.TrimPrefix(u.RawPath, f.base)
		q.URL = &u
	case given != "": // the proxy took it off
	case open(r.URL.Path) || r.URL.Path == "/metrics": // orchestrators know no proxy
	case f.base != "":
		Fail(w, r, http.StatusNotFound, "there is nothing at this address; all is below %s/", f.base)
		return
	}
	p.next.ServeHTTP(w, q.WithContext(context.WithValue(r.Context(), fromKey{}, f)))
}

func (p *proxied) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p.trusted, func(t netip.Prefix) bool { return t.Contains(a) })
}

// client returns the last address of X-Forwarded-For that no trusted proxy has: each proxy adds the
// address that it was asked from, and what is before may be made up.
func (p *proxied) client(r *http.Request) (client netip.Addr, ok bool) {
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, known := address(strings.TrimSpace(hop))
		if !known {
			return client, ok
		}
		if client, ok = a, true; !p.trusts(a) {
			break
		}
	}
	return client, ok
}

// address reads an address with or without a port.
func address(s string) (netip.Addr, bool) {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap().WithZone(""), err == nil
}

// first returns the first value of a header, which the proxy next to the client set: others append.
func first(r *http.Request, header string) string {
	value, _, _ := strings.Cut(r.Header.Get(header), ",")
	return strings.TrimSpace(value)
}

var pathForm = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)

const maxBasePath = 200

// basePath returns a base path without a slash at its end: empty for / and for nothing.
func basePath(s string) (string, error) {
	base := strings.TrimSuffix(s, "/")
	if base != "" && path.Clean(base) != base || !pathForm.MatchString(base) || len(s) > maxBasePath {
		return "", fmt.Errorf("base path %.210q, want one like /toll/, of letters, digits and -._~", s)
	}
	return base, nil
}

// trustedProxies reads addresses and networks.
func trustedProxies(networks []string) (all []netip.Prefix, err error) {
	for _, n := range networks {
		p, err := netip.ParsePrefix(n)
		if a, failed := netip.ParseAddr(n); failed == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("trusted proxy %q, want an address, or a network as in 10.0.0.0/8", n)
		}
		all = append(all, p)
	}
	return all, nil
}
