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
	hostile := func(next int64) []byte {
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
		return wire.AppendDelta(nil, d)
	}
	large := [][]byte{hostile(1), hostile(2), hostile(3)}
	for first := range large {
		n := togetherFrom(large[first:])
		if size := len(wire.AppendDeltas(nil, large[first:first+n]...)); size > 1_000_000 {
			t.Errorf("%d deltas take %d bytes", n, size)
		}
	}
	var small [][]byte
	for next := range int64(3) {
		small = append(small, wire.AppendDelta(nil, deltaOf(7, 0, next, next+1)))
	}
	if n := togetherFrom(small); n != len(small) {
		t.Errorf("%d small deltas of a plaza go together, want %d", n, len(small))
	}
}
