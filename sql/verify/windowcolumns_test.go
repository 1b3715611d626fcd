package verify_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/rowscan"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// TestWindowColumnsAroundChanges: where clocks are set, a window's own range of time finds its rows
// too, whatever the database's zone and the plaza's are.
func TestWindowColumnsAroundChanges(t *testing.T) {
	for _, c := range []struct{ zone, from string }{
		{"Europe/Berlin", "2026-03-29 01:00"},
		{"Europe/Berlin", "2026-10-25 01:00"},
		{"America/New_York", "2026-03-08 01:00"},
		{"Australia/Lord_Howe", "2026-10-04 01:00"}, // by half an hour
		{"America/Sao_Paulo", "2018-11-03 23:00"},   // at midnight
		{"Pacific/Apia", "2011-12-29 23:00"},        // a whole day
		{"Europe/Berlin", "1893-03-31 23:00"},       // by 6 minutes and 32 seconds
		{"Africa/Monrovia", "1972-01-06 23:00"},     // the last offset with seconds
	} {
		t.Run(strings.ReplaceAll(c.zone, "/", " ")+" "+c.from, func(t *testing.T) {
			dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
				zone := func(name string) *toll.Zone {
					loc, err := time.LoadLocation(name)
					if err != nil {
						t.Fatal(err)
					}
					return toll.NewZone(loc)
				}
				loc := zone(c.zone).Location()
				x := dbtest.NewWindowedIn(t, s, loc, "1m,5m/1m,15m,1h,day")
				x.Cfg.PlazaZones = map[int16]*toll.Zone{2: zone("Asia/Kathmandu"), 3: zone("America/New_York")}
				random := rand.New(rand.NewPCG(7, 8))
				span := 4 * 60
				if c.zone == "Pacific/Apia" {
					span = 27 * 60
				}
				x.Store(0, x.Random(random, 300, c.from, span, 1, 2, 3)...)
				until := x.Zone.Since(x.Zone.Minute(dbtest.WallTime(t, c.from)) + 10*1440)
				var closings []toll.Closing
				for plaza := int16(1); plaza <= 3; plaza++ {
					closing := toll.Closing{Plaza: plaza, Epoch: x.Epoch(), From: x.Zone.Minute(until),
						Until:  x.Zone.Minute(until),
						Reason: toll.ClosedByWatermark}
					for _, n := range x.Counts(plaza, closing.Until) {
						closing.Windows = append(closing.Windows, n)
					}
					closings = append(closings, closing)
				}
				x.StoreResults(x.Results(), closings...)
				n := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window`)
				same := dbtest.Int(t, s, `SELECT COUNT(*) FROM toll_window w
					WHERE events + too_late = (SELECT COUNT(*) FROM livetolldata l
					WHERE l.toll_plaza_id = w.toll_plaza_id AND l.timestamp >= w.window_start
					AND l.timestamp < w.window_end)`)
				if n < 100 || n != same {
					t.Errorf("%d windows, %d hold as many rows by their wall clock", n, same)
				}
				states := x.States("2022-01-01 00:00")
				for _, state := range states {
					state.Done = x.Zone.Minute(until)
				}
				defer func(n int64) { rowscan.MaxTallied = n }(rowscan.MaxTallied)
				for _, rowscan.MaxTallied = range []int64{10, 1_000_000} { // by the server, and by ourselves
					if r := dbtest.Verify(t, s, x.Input(states, true)); r.Status != verify.Exact {
						t.Errorf("%s: %v", r.Status, r.Problems)
					}
				}
			})
		})
	}
}
