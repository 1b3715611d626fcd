package verify_test

import (
	"context"
	"sync"
	"testing"

	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// What the writer stores has the checksum that SQL computes, whatever is in a type.
func TestWrittenRowsVerify(t *testing.T) {
	types := []string{"car", "CAR", "a,b", `a\b`, "it's", `"q"`, "a\nb", "a\tb", "Lkw-Größe €", "汽车",
		"🚗", "a b", "%_?", "\\N", "-- x", "a\x01b", "NULL", "x'y\\"}
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		l := &dbtest.Live{T: t, S: s, W: s.Writer(dbtest.Identity.TopicID),
			States: map[int16]*toll.State{}}
		l.Partition(3, 2, func(int) (events []toll.Event) {
			for i, typ := range types {
				for _, at := range []toll.WallTime{toll.MinWallTime, -1, 0, 1644488582, toll.MaxWallTime} {
					e := toll.Event{Time: at, Vehicle: int32(i), Type: typ, Plaza: int16(i - 5)}
					if err := e.Validate(); err != nil {
						t.Fatal(err)
					}
					events = append(events, e)
				}
			}
			return append(events, toll.Event{Vehicle: toll.MaxVehicle, Type: "car", Plaza: toll.MinPlaza},
				toll.Event{Type: "car", Plaza: toll.MaxPlaza})
		})
		r := dbtest.Verify(t, s, verify.Input{States: l.States, Deep: true})
		if r.Status != verify.Exact || r.Rows != int64(2*(5*len(types)+2)) || r.Rejected != 2 ||
			r.Skipped != 2 {
			t.Errorf("got %+v", r)
		}
	})
}

// Verification and views never take a running process for a mismatch.
func TestVerifyWhileRunning(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		l := &dbtest.Live{T: t, S: s, W: s.Writer(dbtest.Identity.TopicID),
			States: map[int16]*toll.State{}}
		var wg sync.WaitGroup
		for p := range int32(2) {
			wg.Go(func() {
				l.Partition(p, 60, func(batch int) (events []toll.Event) {
					for i := range 200 {
						events = append(events, toll.Event{Time: toll.WallTime(1644488582 + i), Vehicle: int32(i),
							Type: "car", Plaza: int16(i % (1 + batch%5))})
					}
					return events
				})
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		checker := s.PlazaChecker()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			states := l.Snapshot()
			for _, deep := range []bool{true, false} {
				if r := dbtest.Verify(t, s,
					verify.Input{States: states, Deep: deep}); r.Status == verify.Mismatch ||
					r.Rows != r.Events {
					t.Fatalf("deep %v: %d rows, %d events, %+v", deep, r.Rows, r.Events, r.Problems)
				}
			}
			states = l.Snapshot()
			c, err := checker.Plaza(ctx, 0, states[0], dbtest.FullCount)
			if err != nil || c.Status == verify.Mismatch || c.TableCount+c.InFlight != *c.StoredRows {
				t.Fatalf("got %+v, %v", c, err)
			}
		}
		if r := dbtest.Verify(t, s,
			verify.Input{States: l.Snapshot(), Deep: true}); r.Status != verify.Exact ||
			r.Events != 2*60*200 {
			t.Errorf("got %+v", r)
		}
	})
}
