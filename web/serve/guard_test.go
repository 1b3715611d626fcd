package serve

import (
	"net/http"
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
