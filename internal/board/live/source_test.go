package live

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
)

// boardOf returns a board of plazas that passed one vehicle in each of the last minutes up to now.
func boardOf(t *testing.T, location *time.Location, now time.Time, minutes,
	plazas int) *board.Board {
	t.Helper()
	b := &board.Board{At: now, Location: location, StreamTime: new(now.Truncate(time.Minute)),
		Watermark: new(now.Add(-time.Minute)), RowsAt: now}
	zone := toll.NewZone(location)
	for id := range plazas {
		state := toll.NewState(1)
		for i := range minutes {
			d := toll.Delta{Epoch: 1, Next: int64(i + 1)}
			d.Prev, d.Events = int64(i), 1
			d.Earliest = zone.Wall(now.Add(-time.Duration(i) * time.Minute))
			d.Latest = d.Earliest
			d.Panes = []toll.Pane{{Start: b.Now() - toll.Minute(i),
				Types: []toll.TypeCount{{Type: "car", Count: 1}}}}
			if outcome := state.Merge(&d); outcome != toll.Applied {
				t.Fatal(outcome)
			}
		}
		rows := int64(minutes)
		check := board.Check{Status: board.Exact, TableCount: rows, StoredRows: &rows}
		b.Plazas = append(b.Plazas, board.Plaza{ID: id, Counts: state, Check: check, Counted: &check,
			Location: location})
	}
	b.Derive()
	return b
}

// TestQuartersOfChange looks at the day on which clocks are set back, which has 100 quarters of an
// hour.
func TestQuartersOfChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2022, 10, 30, 2, 7, 0, 0, time.UTC) // 03:07, after the hour that came twice
	b := boardOf(t, berlin, now, 200, 1)
	h := newHistory(nil, b, &b.Plazas[0])
	points, err := h.quarters(t.Context(), h.date(h.today))
	if err != nil {
		t.Fatal(err)
	}
	if len(points) != 100 {
		t.Errorf("%d quarters", len(points))
	}
	var counts []int64
	sum := int64(0)
	for _, p := range points {
		if p.Count != nil {
			counts = append(counts, *p.Count)
			sum += *p.Count
		}
	}
	// from 22:45 to 02:00 UTC
	if len(counts) != 14 || counts[0] != 12 || counts[12] != 15 || counts[13] != 8 {
		t.Errorf("counts %v", counts)
	}
	if n, err := h.soFar(t.Context(), points, h.now+1); err != nil || n == nil || *n != sum {
		t.Errorf("so far %v, %v, want %d", n, err, sum)
	}
	if got := h.aWeekBefore().Time(); !got.Equal(time.Date(2022, 10, 23, 1, 7, 0, 0, time.UTC)) {
		t.Errorf("a week before is %v", got)
	}
	row := &b.Plazas[0]
	if n := len(row.Sparkline); n != board.SparklineQuarters || *row.Sparkline[n-1] != 8 ||
		*row.Sparkline[n-2] != 15 || row.Sparkline[0] != nil {
		t.Errorf("sparkline %v", row.Sparkline)
	}

	// What the group table has dropped, and whose window is longer, is not known; a quarter
	// without a window has no vehicles once it has closed.
	h.quarter, h.p.Counts.Quarters.From = "15m", b.Now()
	start := toll.MinuteAt(time.Date(2022, 10, 30, 0, 45, 0, 0, time.UTC).Unix())
	long := results.StoredWindow{}
	long.Start, long.End, long.Types = start, start+75, []toll.TypeCount{{Type: "car", Count: 75}}
	for _, c := range []struct {
		start   toll.Minute
		windows []results.StoredWindow
		known   bool
	}{{start, []results.StoredWindow{long}, false}, {start + 60, []results.StoredWindow{long},
		false}, {start - 15, []results.StoredWindow{long}, true}, {start + 75, nil, false}} {
		if types, known := h.count(toll.Window{Start: c.start, End: c.start + toll.Quarter},
			c.windows); known != c.known || len(types) != 0 {
			t.Errorf("%v: %v, %v", c.start.Time(), types, known)
		}
	}
	// What retention deleted is not known either, though it has closed.
	h.retired = start
	if _, known := h.count(toll.Window{Start: start - toll.Quarter, End: start}, nil); known {
		t.Error("a window that was deleted counts as empty")
	}
	if _, known := h.count(toll.Window{Start: start, End: start + toll.Quarter}, nil); !known {
		t.Error("an empty window after those that were deleted is not known")
	}
}

// TestSourceWaits asks a source that has nothing to read yet.
func TestSourceWaits(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if b, err := NewSource(nil).Board(ctx); b != nil || err == nil {
		t.Error(b, err)
	}
}

// TestUnknownKind asks for windows of a kind that is not counted.
func TestUnknownKind(t *testing.T) {
	b := boardOf(t, time.UTC, time.Now(), 1, 1)
	b.Kinds = []toll.WindowKind{{Name: "15m"}, {Name: "1h"}}
	s := NewSource(nil)
	s.last.Store(b)
	_, err := s.Windows(t.Context(), 0, board.WindowQuery{Kind: "2h", Limit: 1})
	kind, ok := errors.AsType[*board.UnknownKindError](err)
	if !ok || kind.Error() != "want one of the kinds of windows that are counted: 15m, 1h" {
		t.Error(err)
	}
}
