package web

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/web/serve"
)

// TestChangesMakeTheBoard changes a board at random, and lets clients that fall behind by any
// number of boards catch up.
func TestChangesMakeTheBoard(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 1))
		n := newNetwork(random.IntN(8))
		n.random = random
		var s *snapshot
		type client struct {
			page
			has uint64
		}
		clients := make([]client, 4)
		var normal normalizer
		for step := range 60 {
			b := n.step(random.IntN(8))
			disturb(random, n, b)
			normal.board(b)
			next, err := nextSnapshot(s, b)
			if err != nil {
				t.Fatal(err)
			}
			s = next
			m := newMoment(s, time.Time{}, "", 0)
			var decoded board.Board
			if err := json.Unmarshal(m.document().Body, &decoded); err != nil {
				t.Fatal(err)
			}
			if len(decoded.Plazas) != len(b.Plazas) {
				t.Fatalf("seed %d step %d: %d plazas, want %d", seed, step, len(decoded.Plazas), len(b.Plazas))
			}
			for i := range clients {
				if random.IntN(i+1) > 0 && step < 59 {
					continue // it is slow
				}
				c := &clients[i]
				c.apply(t, eventData(t, m.boardEvent("r", c.has)))
				c.has = s.number
				c.check(t, fmt.Sprintf("seed %d step %d client %d", seed, step, i), m.document().Body)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// disturb makes what is rare: plazas that come and go, quarters that pass, texts that are hard to
// cut.
func disturb(random *rand.Rand, n *network, b *board.Board) {
	switch random.IntN(10) {
	case 0:
		n.board.Plazas = append(n.board.Plazas,
			board.Plaza{ID: random.IntN(6000), Name: "new",
				Verification: board.PlazaVerification{Status: board.Exact}})
		seen := map[int]bool{}
		n.board.Plazas = slices.DeleteFunc(n.board.Plazas, func(p board.Plaza) bool {
			had := seen[p.ID]
			seen[p.ID] = true
			return had
		})
	case 1:
		if len(n.board.Plazas) > 0 {
			i := random.IntN(len(n.board.Plazas))
			n.board.Plazas = slices.Delete(slices.Clone(n.board.Plazas), i, i+1)
		}
	case 2:
		for i := range b.Plazas {
			p := &b.Plazas[i]
			if len(p.Sparkline) > 1 {
				p.Sparkline = append(slices.Clone(p.Sparkline[1:]), nil)
			}
			n.board.Plazas[i].Sparkline = p.Sparkline
		}
	case 3:
		for i := range b.Plazas {
			b.Plazas[i].Why = []string{`a "quoted" , {text} [with] \`, "\"sparkline\":[1,2]",
				"\x00\u202e<b>&", ""}[random.IntN(4)]
		}
	case 4:
		one := new(int64(1))
		for i := range b.Plazas {
			b.Plazas[i].Usual, b.Plazas[i].Z, b.Plazas[i].State = nil, nil, traffic.NoData
			b.Plazas[i].Sparkline = [][]*int64{nil, {one}, {nil}, {one, new(int64(2))}}[random.IntN(4)]
		}
	case 5:
		b.Verification = board.Verification{Status: board.Mismatch,
			Problems: []string{"a row is missing, or two"}}
	}
}

// eventData returns the data of an event.
func eventData(t testing.TB, e *event) []byte {
	t.Helper()
	const mark = "data: "
	for line := range splitLines(e.text) {
		if len(line) > len(mark) && string(line[:len(mark)]) == mark {
			return line[len(mark):]
		}
	}
	t.Fatalf("no data in %s", e.text)
	return nil
}

func splitLines(text []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		start := 0
		for i, c := range text {
			if c == '\n' {
				if !yield(text[start:i]) {
					return
				}
				start = i + 1
			}
		}
	}
}

// TestUnchangedRowsAreShared keeps memory from growing with boards in which little changes.
func TestUnchangedRowsAreShared(t *testing.T) {
	n := newNetwork(10)
	var normal normalizer
	first := n.step(10)
	normal.board(first)
	s, err := nextSnapshot(nil, first)
	if err != nil {
		t.Fatal(err)
	}
	second := n.step(1)
	normal.board(second)
	next, err := nextSnapshot(s, second)
	if err != nil {
		t.Fatal(err)
	}
	for i := range next.rows {
		if shared := next.rows[i] == s.rows[i]; shared != (i > 0) {
			t.Errorf("row %d: shared %t", i, shared)
		}
	}
	if m := newMoment(next, time.Time{}, "",
		0); len(m.boardEvent("r", s.number).text) > len(m.boardEvent("r", 0).text)/5 {
		t.Errorf("a change of one of ten plazas takes %d bytes of %d",
			len(m.boardEvent("r", s.number).text), len(m.boardEvent("r", 0).text))
	}
}

// FuzzCursor: a cursor of whatever text is refused, or is one that we write.
func FuzzCursor(f *testing.F) {
	corpus.Add(f)
	f.Add(serve.EncodeCursor("windows 4001 1m", board.WindowPosition{Start: epoch, Kind: "1m"}))
	f.Add(serve.EncodeCursor("letters", toll.Origin{Partition: 3, Offset: 1234}))
	f.Add("====")
	f.Fuzz(func(t *testing.T, cursor string) {
		read := func(cursor string) (*toll.Origin, bool) {
			var errs serve.ParameterErrors
			p := serve.Cursor[toll.Origin](url.Values{"after": {cursor}}, "after", "letters", &errs)
			return p, p != nil && len(errs) == 0
		}
		if p, ok := read(cursor); ok {
			if again, ok := read(serve.EncodeCursor("letters", *p)); !ok || *again != *p {
				t.Fatalf("%q became %+v became %+v", cursor, p, again)
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
