package serve

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// A cookie stands for one token and ends with it.
func TestCookieEndsWithTheToken(t *testing.T) {
	one, other := guard{token: []byte("one"), cookie: "c"}, guard{token: []byte("two"), cookie: "c"}
	request := &http.Request{Header: http.Header{"Cookie": {"c=" + one.cookieValue()}}}
	if !one.allows(request) || other.allows(request) {
		t.Errorf("%t, %t", one.allows(request), other.allows(request))
	}
}

// TestLoginForm logs in as a browser does: with the token typed into the form.
func TestLoginForm(t *testing.T) {
	r := start(t, Config{Token: testToken}, Route{Path: "/", Serve: notFound})
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	post := func(form url.Values, headers ...string) (*http.Response, string) {
		t.Helper()
		request, err := http.NewRequest(http.MethodPost, r.Base+"/login",
			strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(headers); i += 2 {
			request.Header.Set(headers[i], headers[i+1])
		}
		response, err := browser.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, string(body)
	}

	page := r.Get(`/plazas/7?q="><b>`, "Accept", "text/html")
	if page.Status != 401 || !strings.Contains(string(page.Body), `action="/login"`) ||
		!strings.Contains(string(page.Body), `name="to" value="/plazas/7?q=%22%3E%3Cb%3E"`) {
		t.Errorf("status %d: %s", page.Status, page.Body)
	}
	if p := page.Header.Get("Content-Security-Policy"); !strings.Contains(p, "form-action 'self'") {
		t.Errorf("policy %q", p)
	}
	for to, want := range map[string]string{"/plazas/7?kind=15m": "/plazas/7?kind=15m", "": "/",
		"//evil.com/x": "/x", "https://evil.com/x": "/x", `\\evil.com`: "/evil.com",
		"%zz": "/"} {
		response, _ := post(url.Values{"token": {" " + testToken + "\n"}, "to": {to}},
			"Sec-Fetch-Site", "same-origin")
		cookies := response.Cookies()
		if got := response.Header.Get("Location"); response.StatusCode != 303 || got != want ||
			len(cookies) != 1 || !cookies[0].HttpOnly ||
			cookies[0].SameSite != http.SameSiteStrictMode {
			t.Errorf("%s: status %d, Location %q, want %q, cookies %v", to, response.StatusCode, got,
				want, cookies)
		}
		r.Want(404, r.Get("/", "Cookie", cookies[0].Name+"="+cookies[0].Value))
	}
	response, body := post(url.Values{"token": {"wrong"}, "to": {"/plazas/7"}})
	if response.StatusCode != 401 || len(response.Cookies()) != 0 ||
		!strings.Contains(body, "not the token") || !strings.Contains(body, `value="/plazas/7"`) {
		t.Errorf("a wrong token: status %d: %s", response.StatusCode, body)
	}
	if response, _ = post(url.Values{"token": {testToken}}, "Sec-Fetch-Site",
		"cross-site"); response.StatusCode != 403 || len(response.Cookies()) != 0 {
		t.Errorf("from another site: status %d", response.StatusCode)
	}
	if response, _ = post(url.Values{"token": {strings.Repeat("x", maxForm)}}); response.
		StatusCode != 413 {
		t.Errorf("a large form: status %d", response.StatusCode)
	}
	without := start(t, Config{})
	r.Base = without.Base
	if response, _ = post(url.Values{"token": {""}}); response.StatusCode != 405 {
		t.Errorf("without a token there is no login: status %d", response.StatusCode)
	}
}
