package results_test

import (
	"encoding/json"
	"testing"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll/traffic"
)

// FuzzAssessment: what toll_congestion and toll_transition hold as JSON is refused, or read and
// written as what it was, in memory by its size.
func FuzzAssessment(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{`{}`, `null`, `[]`,
		`{"state":"busy","since":5,"why":"x","first":1,"until":9,"last":{}}`, `{"state":"none"}`,
		`{"state":7}`, `{"last":{"vc":1e999}}`} {
		f.Add([]byte(text))
	}
	seed, err := json.Marshal(traffic.Assessment{State: traffic.Saturated, Since: -5, Why: "\u202e",
		First: -1 << 31, Until: 1<<31 - 1, Candidate: traffic.Busy, Streak: 3, Asked: 7, Quiet: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, text []byte) {
		var a traffic.Assessment
		var err error
		if n, most := dbtest.Allocated(func() { err = json.Unmarshal(text, &a) }),
			uint64(200*len(text)+64<<10); n > most {
			t.Fatalf("%d bytes allocated for %d", n, len(text))
		}
		if err != nil {
			return
		}
		written, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("%s became %+v: %v", text, a, err)
		}
		var again traffic.Assessment
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatalf("%s became %s: %v", text, written, err)
		}
		if rewritten, err := json.Marshal(again); err != nil || string(rewritten) != string(written) {
			t.Fatalf("%s became %s became %s, %v", text, written, rewritten, err)
		}
	})
}
