package telemetry

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
)

// TestViewMetricsBound has more plazas than metrics of their own.
func TestViewMetricsBound(t *testing.T) {
	const most = 7
	var last *board.Board
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(&View{Last: func() *board.Board { return last },
		Plazas: most}); err != nil {
		t.Fatal(err)
	}
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("before the first board: %v, %v", families, err)
	}
	now := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	b := &board.Board{At: now, Location: time.UTC, StreamTime: &now, Watermark: &now}
	for id := range most + 1 {
		b.Plazas = append(b.Plazas, board.Plaza{ID: id, Location: time.UTC,
			Counts: &toll.State{Events: 1}, Check: board.Check{Status: board.Exact, TableCount: 1}})
	}
	b.Plazas[most].Counts.Events++ // the busiest, with the highest number
	b.Derive()
	last = b
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
		!shown[fmt.Sprintf("plaza %d", b.Plazas[most].ID)] ||
		shown[fmt.Sprintf("plaza %d", b.Plazas[most-1].ID)] ||
		got["tollstream_view_plazas"] != len(board.Severity) ||
		got["tollstream_view_verification"] != 4 {
		t.Error(fmt.Sprint(got))
	}
}
