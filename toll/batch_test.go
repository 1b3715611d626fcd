package toll

import "testing"

// fakeRows counts only.
type fakeRows int

func (r fakeRows) Append(*Event) uint32 { return 0 }
func (r fakeRows) Len() int             { return int(r) }
func (r fakeRows) Size() int            { return 0 }
func (r fakeRows) Reset()               {}

func TestBatchCounts(t *testing.T) {
	b := Batch{First: 100, Next: 120, Rows: fakeRows(12), Rejects: make([]Reject, 3)}
	if b.Events() != 12 || b.Skipped() != 5 {
		t.Errorf("%d events, %d skipped", b.Events(), b.Skipped())
	}
}
