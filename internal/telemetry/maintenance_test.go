package telemetry

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/sql/retention"
)

func TestMaintenanceMetrics(t *testing.T) {
	stats := maintenance.NewStats()
	at := time.Now()
	stats.Ran(maintenance.Join, maintenance.Done, at)
	stats.Ran(maintenance.Rollup, maintenance.Blocked, at)
	stats.Ran(maintenance.Expire, maintenance.Failed, at)
	stats.Compacted(retention.Compacted{Before: 20, After: 3})
	stats.Retired(retention.Retired{Windows: 5, Transitions: 6, DeadLetters: 7})
	ch := make(chan prometheus.Metric, 100)
	collectMaintenance(metrics{ch, "tollstream"}, stats.Read())
	close(ch)
	if n := len(ch); n != 3*3+3+4+3 {
		t.Errorf("%d series", n)
	}
	got := map[string]float64{}
	for m := range ch {
		var d dto.Metric
		if err := m.Write(&d); err != nil {
			t.Fatal(err)
		}
		var labels []string
		for _, l := range d.GetLabel() {
			labels = append(labels, l.GetValue())
		}
		if v := d.GetCounter().GetValue() + d.GetGauge().GetValue(); v != 0 {
			got[strings.Join(labels, " ")] = v
		}
	}
	if want := map[string]float64{"pack": unixSeconds(at), "success pack": 1, "blocked add_up": 1,
		"failure retire": 1, "toll_batch": 17, "toll_window": 5, "toll_transition": 6,
		"toll_dead_letter": 7}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
