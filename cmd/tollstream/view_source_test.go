package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

// boardOf returns a board of plazas that passed one vehicle in each of the last minutes up to now.
func boardOf(t *testing.T, location *time.Location, now time.Time, minutes,
	plazas int) *sourceBoard {
	t.Helper()
	b := &viewBoard{location: location, started: true, now: toll.MinuteAt(now.Unix()),
		watermark: now.Add(-time.Minute), rowsAt: now}
	zone := toll.NewZone(location)
	for id := range plazas {
		state := toll.NewState(1)
		for i := range minutes {
			d := toll.Delta{Epoch: 1, Next: int64(i + 1)}
			d.Prev, d.Events = int64(i), 1
			d.Earliest = zone.Wall(now.Add(-time.Duration(i) * time.Minute))
			d.Latest = d.Earliest
			d.Panes = []toll.Pane{{Start: b.now - toll.Minute(i),
				Types: []toll.TypeCount{{Type: "car", Count: 1}}}}
			if outcome := state.Merge(&d); outcome != toll.Applied {
				t.Fatal(outcome)
			}
		}
		rows := int64(minutes)
		check := sql.PlazaCheck{Plaza: id, Status: sql.Exact, TableCount: rows, StoredRows: &rows}
		b.events += rows
		b.plazas = append(b.plazas, plazaBoard{plaza: id, state: state, check: check, rows: &check,
			location: location})
	}
	return &sourceBoard{viewBoard: b, at: now}
}

// TestQuartersOfChange looks at the day on which clocks are set back, which has 100 quarters of an
// hour.
func TestQuartersOfChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	now := time.Date(2022, 10, 30, 2, 7, 0, 0, time.UTC) // 03:07, after the hour that came twice
	b := boardOf(t, berlin, now, 200, 1)
	h := newPlazaHistory(b, &b.plazas[0])
	points, err := h.quarters(t.Context(), h.today)
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
	row := b.web(&b.plazas[0], toll.NewZone(berlin))
	if n := len(row.Sparkline); n != board.SparklineQuarters || row.Sparkline[n-1] != 8 ||
		row.Sparkline[n-2] != 15 || row.Sparkline[0] != 0 {
		t.Errorf("sparkline %v", row.Sparkline)
	}

	// What the group table has given up, and the window of which is longer, is not known; a quarter
	// without a window has no vehicles once it has closed.
	h.quarter, h.p.state.Quarters.From = "15m", b.now
	start := toll.MinuteAt(time.Date(2022, 10, 30, 0, 45, 0, 0, time.UTC).Unix())
	long := sql.StoredWindow{}
	long.Start, long.End, long.Types = start, start+75, []toll.TypeCount{{Type: "car", Count: 75}}
	for _, c := range []struct {
		start   toll.Minute
		windows []sql.StoredWindow
		known   bool
	}{{start, []sql.StoredWindow{long}, false}, {start + 60, []sql.StoredWindow{long},
		false}, {start - 15, []sql.StoredWindow{long}, true}, {start + 75, nil, false}} {
		if types, known := h.count(toll.Window{Start: c.start, End: c.start + toll.Quarter},
			c.windows); known != c.known || len(types) != 0 {
			t.Errorf("%v: %v, %v", c.start.Time(), types, known)
		}
	}
}

// TestVerificationOfOneMoment shows rows beside the events of the same check, while events go on.
func TestVerificationOfOneMoment(t *testing.T) {
	b := boardOf(t, time.UTC, time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC), 10, 2)
	// rows were not counted this time
	b.plazas[0].check = sql.PlazaCheck{Plaza: 0, Status: sql.InFlight, TableCount: 15, InFlight: 2}
	v := b.verification()
	if v.Status != board.InFlight || *v.Events != 20 || *v.Rows != 20 || v.InFlight != 2 ||
		v.CheckedAt == nil {
		t.Errorf("%+v: %d events, %d rows", v, *v.Events, *v.Rows)
	}
	for i := range b.plazas { // it takes too long
		b.plazas[i].check.StoredRows, b.plazas[i].rows = nil, nil
	}
	if v := b.verification(); v.Rows != nil || v.CheckedAt != nil || *v.Events != 25 {
		t.Errorf("%+v", v)
	}
}

// TestViewMetricsBound has more plazas than metrics of their own.
func TestViewMetricsBound(t *testing.T) {
	const most = 7
	s := newViewSource(nil)
	s.plazaSeries = most
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s); err != nil {
		t.Fatal(err)
	}
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("before the first board: %v, %v", families, err)
	}
	b := boardOf(t, time.UTC, time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC), 1, most+1)
	b.plazas[most].state.Events++ // the busiest, with the highest number
	s.last.Store(b)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	shown := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				shown[l.GetName()+" "+l.GetValue()] = true
			}
		}
		got[f.GetName()] = len(f.GetMetric())
	}
	if got["tollstream_view_plaza_flow_vehicles_per_hour"] != most ||
		!shown[fmt.Sprintf("plaza %d", b.plazas[most].plaza)] ||
		shown[fmt.Sprintf("plaza %d", b.plazas[most-1].plaza)] || got["tollstream_view_plazas"] != 5 ||
		got["tollstream_view_verification"] != 3 {
		t.Error(fmt.Sprint(got))
	}
}

// TestSourceWaits asks a source that has nothing to read yet.
func TestSourceWaits(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if b, err := newViewSource(nil).Board(ctx); b != nil || err == nil {
		t.Error(b, err)
	}
}
