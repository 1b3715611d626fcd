package retention_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// BenchmarkCompact stores a million events of eight days in 4 partitions and 5,000 batches, and
// compacts them: joins them first, then rolls them up with the minutes of four days kept, then a
// prune of the first four days' rows. It reports what each step took and left, and what a
// verification took before and after.
func BenchmarkCompact(b *testing.B) {
	const perBatch, partitions, plazas, days = 200, 4, 100, 8
	events := 1_000_000
	if testing.Short() {
		events = 50_000
	}
	s := dbtest.OpenConfig(b,
		sql.Config{DSN: dbtest.OpenEmpty(b, "mariadb").DSN, Decode: wire.DecodePlazaDeltas,
			Encode:     func(deltas []toll.PlazaDelta) []byte { return wire.AppendPlazaDeltas(nil, deltas) },
			DecodeSums: wire.DecodePlazaSums})
	dbtest.Initialize(b, s)
	ctx := b.Context()
	w := s.Writer(dbtest.Identity.TopicID)
	states := map[int16]*toll.State{}
	zone := toll.NewZone(dbtest.Berlin)
	start := toll.WallTimeOf(time.Date(2022, 2, 1, 0, 0, 0, 0, time.UTC))
	random := rand.New(rand.NewPCG(1, 2))
	types := []string{"bus", "car", "truck", "van"}
	for part := range int32(partitions) {
		c, _, err := w.Load(ctx, part, 0)
		if err != nil {
			b.Fatal(err)
		}
		chain := map[int16]int64{}
		for i := range events / partitions / perBatch {
			batch := toll.Batch{Partition: part, First: c.Next, Next: c.Next + perBatch, Epoch: c.Epoch,
				Expect: c.Token, Token: sql.NewToken(), Rows: w.NewRows()}
			deltas := map[int16]*toll.PlazaDelta{}
			at := start + toll.WallTime(i*days*86400/(events/partitions/perBatch))
			m := zone.Minute(at)
			for j := range perBatch {
				e := toll.Event{Time: at, Vehicle: int32(j), Type: types[random.IntN(4)],
					Plaza: int16(4000 + random.IntN(plazas))}
				d := deltas[e.Plaza]
				if d == nil {
					d = &toll.PlazaDelta{Plaza: e.Plaza, Prev: chain[e.Plaza], Earliest: at, Latest: at,
						Panes: []toll.Pane{{Start: m}}}
					deltas[e.Plaza] = d
				}
				d.Events++
				d.Checksum += uint64(batch.Rows.Append(&e))
				d.Panes[0].Types = toll.AddTypes(d.Panes[0].Types, []toll.TypeCount{{Type: e.Type, Count: 1}})
			}
			var all []toll.PlazaDelta
			for _, plaza := range slices.Sorted(maps.Keys(deltas)) {
				d := deltas[plaza]
				all = append(all, *d)
				chain[plaza] = batch.Next
				if states[plaza] == nil {
					states[plaza] = toll.NewState(c.Epoch)
				}
				states[plaza].Merge(d.Of(c.Epoch, part, batch.First, batch.Next))
			}
			batch.Deltas, batch.Chain, batch.Minutes = wire.AppendPlazaDeltas(nil,
				all), wire.AppendChain(nil, chain), toll.Window{Start: m, End: m + 1}
			if err := w.Commit(ctx, &batch, nil); err != nil {
				b.Fatal(err)
			}
			c.Next, c.Token = batch.Next, batch.Token
		}
	}
	until := zone.Minute(start + days*86400)
	for _, state := range states {
		state.MarkStored(until, nil)
	}
	dbtest.Exec(b, s, `UPDATE toll_batch SET published = 1, stored_at = stored_at - INTERVAL 1 DAY`)
	size := func(when string) {
		var rows, bytes int64
		if err := s.DB.QueryRow(`SELECT COUNT(*), SUM(LENGTH(deltas)) FROM toll_batch`).Scan(&rows,
			&bytes); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		r, err := s.Verify(ctx, verify.Input{States: states})
		if err != nil || r.Status != verify.Exact {
			b.Fatalf("%+v, %v", r, err)
		}
		b.ReportMetric(float64(rows), when+"-rows")
		b.ReportMetric(float64(bytes)/1e6, when+"-MB")
		b.ReportMetric(time.Since(began).Seconds(), when+"-verify-s")
	}
	compact := func(what string, o retention.CompactOptions) {
		o.Now = time.Now()
		began := time.Now()
		for part := range int32(partitions) {
			if done, err := s.Compactor(dbtest.Identity.TopicID).Compact(ctx, part, o); err != nil ||
				done.Blocked != "" {
				b.Fatalf("%+v, %v", done, err)
			}
		}
		b.ReportMetric(time.Since(began).Seconds(), what+"-s")
		size(what)
	}
	b.ResetTimer()
	for range 1 {
		size("before")
		compact("joined", retention.CompactOptions{Keep: 365 * 24 * time.Hour})
		compact("rolled-up",
			retention.CompactOptions{States: states,
				Before: toll.FoldHorizon(states, until, toll.MinKeptMinutes),
				Keep:   time.Hour, KeepBytes: 1 << 30})
		compact("all-folded", retention.CompactOptions{States: states, Before: until, Keep: time.Hour,
			KeepBytes: 1 << 30})
		began := time.Now()
		n, err := s.Prune(context.Background(), retention.PruneOptions{Before: start + 4*86400})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "pruned-rows/s")
	}
}
