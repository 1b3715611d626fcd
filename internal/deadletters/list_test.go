package deadletters

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

// largestWrite keeps what is written and the size of the largest write.
type largestWrite struct {
	bytes.Buffer
	most int
}

func (w *largestWrite) Write(p []byte) (int, error) {
	w.most = max(w.most, len(p))
	return w.Buffer.Write(p)
}

// TestWriteLetters checks that the list is written dead letter by dead letter, and is the JSON that
// it was as a whole.
func TestWriteLetters(t *testing.T) {
	for _, n := range []int{0, 1, 50} {
		var want []letterJSON
		var w largestWrite
		err := writeLetters(&w, int64(n), func(do func(*sql.DeadLetter) error) error {
			for i := range n {
				d := sql.DeadLetter{Offset: int64(i), Kind: toll.RejectFormat, Reason: "event: \u202e",
					Payload: bytes.Repeat([]byte{'x'}, 100_000)}
				want = append(want, letterReport(&d))
				if err := do(&d); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if w.most > 110_000 {
			t.Errorf("%d bytes are written at once", w.most)
		}
		var whole bytes.Buffer
		if err := text.WriteJSON(&whole, struct {
			Total       int64        `json:"total"`
			DeadLetters []letterJSON `json:"dead_letters"`
		}{int64(n), append([]letterJSON{}, want...)}); err != nil {
			t.Fatal(err)
		}
		if w.String() != whole.String() {
			t.Errorf("%d dead letters are not written as a whole would be:\n%s", n, clipped(w.String()))
		}
		if !json.Valid(w.Bytes()) || strings.Contains(w.String(), "\u202e") {
			t.Error("not JSON that is safe for a terminal")
		}
	}
}

func clipped(s string) string { return s[:min(len(s), 300)] }
