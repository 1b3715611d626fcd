package ingest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
)

// TestTogetherFrom: what batches of the most and longest types have of a plaza fits Kafka's default
// limit of a message, however it is put together, and small deltas of a plaza all share one.
func TestTogetherFrom(t *testing.T) {
	hostile := func(next int64) *toll.Delta {
		d := deltaOf(7, 0, next-1, next)
		for m := range toll.Minute(10_000 / toll.MaxTypes) {
			p := toll.Pane{Start: m}
			for i := range toll.MaxTypes {
				p.Types = append(p.Types,
					toll.TypeCount{Type: fmt.Sprintf("%s%05d", strings.Repeat("😀", 10), int(m)*toll.MaxTypes+i),
						Count: 1})
				d.Events++
			}
			d.Panes = append(d.Panes, p)
		}
		return d
	}
	large := []*toll.Delta{hostile(1), hostile(2), hostile(3)}
	for first := range large {
		n := togetherFrom(large[first:])
		var message [][]byte
		for _, d := range large[first : first+n] {
			message = append(message, wire.AppendDelta(nil, d))
		}
		if size := len(wire.AppendDeltas(nil, message...)); size > 1_000_000 {
			t.Errorf("%d deltas take %d bytes", n, size)
		}
	}
	small := []*toll.Delta{deltaOf(7, 0, 0, 1), deltaOf(7, 0, 1, 2), deltaOf(7, 0, 2, 3),
		deltaOf(8, 0, 0, 3)}
	if n := togetherFrom(small); n != 3 {
		t.Errorf("%d small deltas of a plaza go together, want 3", n)
	}
}
