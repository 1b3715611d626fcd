package results_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// TestRecount counts random windows from the outbox and event by event, in as many minutes at a
// time as fit.
func TestRecount(t *testing.T) {
	defer func(n int) { *results.MaxRecountPanes = n }(*results.MaxRecountPanes)
	kolkata, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1m,7m/3m,15m,1h,24h/8h,day,day/5m")
		x.Cfg.PlazaZones = map[int16]*toll.Zone{2: toll.NewZone(kolkata)}
		random := rand.New(rand.NewPCG(3, 4))
		// Four days in which clocks are set forward, with an hour of many events and one clock that is
		// fifty years behind.
		events := x.Random(random, 300, "2022-03-25 00:00", 4*1440, 1, 2, 3)
		events = append(events, x.Random(random, 100, "2022-03-26 23:30", 60, 1, 2)...)
		for i, chunk := range slices.Collect(slices.Chunk(events, 20)) {
			if i == 5 {
				chunk = append(slices.Clone(chunk), dbtest.Pass(3, "1972-01-01 00:00", "car", 1, toll.TooLate),
					dbtest.Pass(3, "1972-01-01 00:01", "car", 1, toll.OnTime))
			}
			x.Store(int32(i%3), chunk...)
		}
		closing := func(plaza int16, until string, ranges ...string) toll.Closing {
			end := dbtest.MinuteOf(t, until)
			c := toll.Closing{Plaza: plaza, Epoch: x.Epoch(), From: end, Until: end,
				Reason: toll.ClosedByWatermark}
			for i := 0; i < len(ranges); i += 2 {
				c.Recount = append(c.Recount,
					toll.Window{Start: dbtest.MinuteOf(t, ranges[i]), End: dbtest.MinuteOf(t, ranges[i+1])})
			}
			return c
		}
		whole := func(plaza int16) toll.Closing {
			c := closing(plaza, "2022-04-02 00:00")
			c.Recount = []toll.Window{{Start: math.MinInt32, End: math.MaxInt32}}
			return c
		}
		empty := func() {
			dbtest.Exec(t, s, `DELETE FROM toll_window WHERE too_late = 0`)
			dbtest.Exec(t, s,
				`UPDATE toll_window SET revision = 0, events = 0, late = 0, by_type = '{}', published = 1`)
		}
		for _, most := range []int{100_000, 60, 1} {
			if most == 1 && s.DB.Embedded(t.Context()) {
				continue // as many statements as minutes
			}
			*results.MaxRecountPanes = most
			empty()
			x.StoreResults(x.Results(), whole(1), whole(2), whole(3))
			x.Check("2022-04-02 00:00", 1, 2, 3)
		}

		// What is submitted as well is stored once, the higher of the two counts.
		*results.MaxRecountPanes = 60
		empty()
		both := x.Closing(1, "2022-04-02 00:00")
		for i := range both.Windows {
			if i%2 == 0 {
				both.Windows[i].Types = []toll.TypeCount{{Type: "car", Count: 0}}
			}
		}
		both.Recount = whole(1).Recount
		x.StoreResults(x.Results(), both)
		x.Check("2022-04-02 00:00", 1)
		if n := dbtest.Int(t, s, `SELECT MAX(revision) FROM toll_window`); n != 1 {
			t.Errorf("revision %d", n)
		}

		// Some ranges, up to a time: whole windows that lie in part in one of them, and have ended.
		empty()
		x.StoreResults(x.Results(), closing(1, "2022-03-27 13:20", "2022-03-26 23:50", "2022-03-27 00:10",
			"2022-03-27 12:59", "2022-03-28 00:00"))
		rows, err := tables.ReadWindows(t.Context(), s.DB, "WHERE revision > 0")
		if err != nil {
			t.Fatal(err)
		}
		want := x.Counts(1, dbtest.MinuteOf(t, "2022-03-27 13:20"))
		ranges := []toll.Window{{Start: dbtest.MinuteOf(t, "2022-03-26 23:50"),
			End: dbtest.MinuteOf(t, "2022-03-27 00:10")},
			{Start: dbtest.MinuteOf(t, "2022-03-27 12:59"), End: dbtest.MinuteOf(t, "2022-03-28 00:00")}}
		for id, w := range want {
			i := slices.IndexFunc(x.Cfg.Windows, func(k toll.WindowKind) bool { return k.Name == id.Kind })
			if cover := x.Cfg.Windows[i].Covering(x.ZoneOf(1), w.Start, nil); !toll.InRanges(ranges,
				cover[len(cover)-1]) {
				delete(want, id)
			}
		}
		for _, row := range rows {
			w, ok := want[row.WindowID]
			if !ok || w.Events() != row.Events || w.End != row.End || w.Whole != row.Whole {
				t.Errorf("got %+v, want %+v", row, w)
			}
			delete(want, row.WindowID)
		}
		if len(rows) < 20 || len(want) > 0 {
			t.Errorf("%d rows, %d missing: %+v", len(rows), len(want), want)
		}
	})
}

// TestRecountSparse counts so many windows far apart that a step which is doubled for each of them,
// and never begins small again, overflows. It must end, and soon.
func TestRecountSparse(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := dbtest.NewWindowed(t, s, "1m,15m")
		const spans = 80
		closing := toll.Closing{Plaza: 1, Reason: toll.ClosedByWatermark,
			Until: dbtest.MinuteOf(t, "2030-01-01 00:00")}
		closing.From = closing.Until
		var passages []dbtest.Passage
		for i := range spans {
			at := dbtest.MinuteOf(t, "2022-03-01 10:07") + toll.Minute(i*3*1440)
			wall := toll.NewZone(dbtest.Berlin).Wall(at.Time()).Format("2006-01-02 15:04")
			passages = append(passages, dbtest.Pass(1, wall, "car", 1+i%3, toll.OnTime))
			closing.Recount = append(closing.Recount, toll.Window{Start: at, End: at + 1})
		}
		x.Store(0, passages...)
		closing.Epoch = x.Epoch()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, _, err := x.Results().Store(ctx, []toll.Closing{closing}, nil)
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			t.Fatal("the recount did not end within 30 s")
		}
		x.Check("2030-01-01 00:00", 1)
		if n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window`); n != 2*spans {
			t.Errorf("%d windows, want %d", n, 2*spans)
		}
	})
}

func TestMain(m *testing.M) {
	dbtest.UnpublishedOf = func(ctx context.Context, r *results.Writer,
		plazas []int16) ([]traffic.Notice,
		error) {
		return r.Unpublished(ctx, plazas)
	}
	dbtest.Main(m)
}

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
