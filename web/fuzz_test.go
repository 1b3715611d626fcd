package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/web/serve"
)

// FuzzCursor: a cursor of whatever text is refused, or is one that we write.
func FuzzCursor(f *testing.F) {
	corpus.Add(f)
	f.Add(serve.EncodeCursor("w", "4001", "1m", "1644488580", "1m"))
	f.Add(serve.EncodeCursor("d", "3", "1234"))
	f.Add("====")
	f.Add(serve.EncodeCursor("d", "-1", "99999999999999999999"))
	f.Fuzz(func(t *testing.T, cursor string) {
		if p, err := letterPosition(cursor); err == nil {
			if again,
				err := letterPosition(letterCursor(&board.DeadLetter{Partition: p.Partition,
				Offset: p.Offset})); err != nil || *again != *p {
				t.Fatalf("%q became %+v became %+v, %v", cursor, p, again, err)
			}
		}
		if p, err := windowPosition(cursor, 4001, "1m"); err == nil {
			again, err := windowPosition(windowCursor(4001, "1m",
				&board.Window{Start: p.Start, Kind: p.Kind}), 4001, "1m")
			if err != nil || !again.Start.Equal(p.Start) || again.Kind != p.Kind {
				t.Fatalf("%q became %+v became %+v, %v", cursor, p, again, err)
			}
		}
	})
}

// FuzzParameters: no query and no path crashes what reads it, and what is refused is refused with
// an answer of bounded size.
func FuzzParameters(f *testing.F) {
	corpus.Add(f)
	f.Add("4001", "sort=vc&order=desc&q=tunnel%20m1&state=busy,saturated&road=M1&verification=exact")
	f.Add("-32768", "limit=500&cursor=x&kind=1m")
	f.Add("+1", "q=%ff&limit=1e9&limit=2&%00=")
	f.Add("١", "state=,,,&sort=&order=%1b[2J")
	f.Fuzz(func(t *testing.T, id, raw string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = &url.URL{Path: "/", RawQuery: raw}
		r.SetPathValue("id", id)
		if plaza, errs := plazaID(r); len(errs) == 0 &&
			(int(plaza) < toll.MinPlaza || int(plaza) > toll.MaxPlaza) {
			t.Fatalf("plaza %d of %q", plaza, id)
		}
		query, errs := serve.Parameters(r)
		selection, more := selectionFrom(query)
		errs = append(errs, more...)
		if n := serve.Limit(query, &errs); len(errs) == 0 && (n < 1 || n > serve.MaxLimit) {
			t.Fatalf("a limit of %d of %q", n, raw)
		}
		_ = selection
		size := 0
		for _, e := range errs {
			size += len(e.Parameter) + len(e.Detail)
		}
		if size > 4000+10*len(raw) {
			t.Fatalf("%d bytes say what is wrong with %d", size, len(raw))
		}
	})
}
