package results_test

import (
	"fmt"
	"testing"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// BenchmarkStoreResults stores the windows of 100 plazas on MariaDB, an hour at a time as when a
// backlog is worked off and a minute at a time as in real time, and marks them published with the
// next call.
func BenchmarkStoreResults(b *testing.B) {
	for _, minutes := range []toll.Minute{60, 1} {
		b.Run(fmt.Sprintf("minutes=%d", minutes), func(b *testing.B) {
			const plazas = 100
			x := dbtest.NewWindowed(b, dbtest.OpenEmpty(b, "mariadb"), toll.DefaultWindows)
			r := x.Results()
			until := dbtest.MinuteOf(b, "2022-02-10 10:00")
			types := []toll.TypeCount{{Type: "bus", Count: 3}, {Type: "car", Count: 80},
				{Type: "truck", Count: 17}}
			var refs []traffic.NoticeRef
			windows := 0
			for b.Loop() {
				var closings []toll.Closing
				from := until
				until += minutes
				for plaza := range int16(plazas) {
					c := toll.Closing{Plaza: plaza, Epoch: 1, From: from, Until: until}
					for m := from - toll.MeasureSpan; m < until; m++ {
						c.Panes = append(c.Panes, toll.Pane{Start: m, Types: types})
					}
					for i := range x.Cfg.Windows {
						k := &x.Cfg.Windows[i]
						for m := from; m < until; m++ {
							for _, w := range k.Covering(x.Zone, m, nil) {
								end := k.StepEnd(x.Zone, w, until)
								if end <= w.Start || end <= from || k.Day && end <= k.StepEnd(x.Zone, w, from) {
									continue
								}
								n := toll.WindowCount{WindowID: toll.WindowID{Plaza: plaza, Kind: k.Name, Start: w.Start},
									End: end, Whole: end == w.End, Reason: toll.ClosedByWatermark}
								for _, t := range types {
									n.Types = append(n.Types,
										toll.TypeCount{Type: t.Type, Count: t.Count * int64(end-w.Start)})
								}
								if len(c.Windows) == 0 || c.Windows[len(c.Windows)-1].WindowID != n.WindowID {
									c.Windows = append(c.Windows, n)
								}
							}
						}
					}
					closings = append(closings, c)
				}
				for {
					notices, stored, err := r.Store(b.Context(), closings, refs)
					if err != nil {
						b.Fatal(err)
					}
					refs = refs[:0]
					for _, n := range notices {
						refs = append(refs, n.Ref)
					}
					windows += len(notices)
					if stored {
						break
					}
				}
			}
			b.ReportMetric(float64(windows)/b.Elapsed().Seconds(), "windows/s")
		})
	}
}
