package serve

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br, gzip": true, "gzip;q=0": false, "gzip; q=0.0": false,
		"gzip;q=0.001": true, "*": true, "*;q=0": false,
		"gzip;q=0, *": false, "*, gzip;q=0": false, "identity": false, "gzip;q=x": false, "x-gzip": false,
		"br;q=1.0, gzip ; q=0.5": true,
	} {
		if got := AcceptsGzip(http.Header{"Accept-Encoding": {header}}); got != want {
			t.Errorf("%q: %t, want %t", header, got, want)
		}
	}
}

// TestKeptAnswersAreBounded asks many questions at once.
func TestKeptAnswersAreBounded(t *testing.T) {
	q := NewQueries(t.Context(), time.Minute, time.Minute, time.Now)
	for i := range 3 * maxKept {
		if _, err := q.Do(t.Context(), fmt.Sprint(i), func(context.Context) (*Representation, error) {
			return NewRepresentation("text/plain", nil), nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(q.kept); n > maxKept {
		t.Errorf("%d answers are kept", n)
	}
}
