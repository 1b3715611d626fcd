package verify_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// BenchmarkVerify verifies a million rows of 100 plazas and their windows on MariaDB, compared with
// the bare count that any such check needs. The rows are of three days and a half, so nearly all
// windows are among those that it checks.
func BenchmarkVerify(b *testing.B) {
	const plazas, perBatch = 100, 500
	rows := 1_000_000
	if testing.Short() {
		rows = 50_000
	}
	const base = toll.Minute(27_500_000)
	s := dbtest.OpenConfig(b,
		sql.Config{DSN: dbtest.OpenEmpty(b, "mariadb").DSN, Decode: wire.DecodePlazaDeltas,
			DecodeSums: wire.DecodePlazaSums})
	ctx := context.Background()
	dbtest.Initialize(b, s)
	kinds, err := toll.ParseWindows("1m,15m,1h")
	if err != nil {
		b.Fatal(err)
	}
	// Row i is of plaza i mod 100, and 200 rows share a minute.
	const minute = `(27500000 + seq DIV 200)`
	zone := toll.NewZone(dbtest.Berlin)
	start := zone.Wall(base.Time()).String()
	dbtest.Exec(b, s,
		fmt.Sprintf(
			`INSERT INTO livetolldata SELECT ? + INTERVAL seq DIV 200 MINUTE, seq, 'car', 4000 + seq %% %d
				FROM seq_0_to_%d`, plazas, rows-1), start)
	// What the clock shows at minute 0, as the clocks are set in these days.
	epoch := "TIMESTAMP('" + (zone.Wall(base.Time()) - toll.WallTime(int64(base)*60)).String() + "')"
	for _, k := range kinds {
		dbtest.Exec(b, s, fmt.Sprintf(`INSERT INTO toll_window SELECT 4000 + seq %% %[1]d, ?,
			%[2]s DIV %[3]d * %[3]d, MIN(%[2]s) DIV %[3]d * %[3]d + %[3]d,
			%[5]s + INTERVAL MIN(%[2]s) DIV %[3]d * %[3]d MINUTE,
			%[5]s + INTERVAL MIN(%[2]s) DIV %[3]d * %[3]d + %[3]d MINUTE, 1, 1, 1,
			COUNT(*), 0, 0, 0, CONCAT('{"car":', COUNT(*), '}'), 1, 'watermark', 1, NOW(6)
			FROM seq_0_to_%[4]d GROUP BY 1, 3`, plazas, minute, k.Size, rows-1, epoch), k.Name)
	}
	// The checksums come from the rows, all with a plaza's first batch.
	counts, err := tables.CountRows(ctx, s.DB, tables.CountOptions{Checksum: true})
	if err != nil {
		b.Fatal(err)
	}
	states := map[int16]*toll.State{}
	tx, err := s.DB.BeginTx(ctx, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Rollback()
	for i := range rows / perBatch {
		first, next := int64(i*perBatch), int64((i+1)*perBatch)
		deltas := map[int16]*toll.PlazaDelta{}
		for row := first; row < next; row++ {
			plaza := int16(4000 + row%plazas)
			d := deltas[plaza]
			if d == nil {
				d = &toll.PlazaDelta{Plaza: plaza, Prev: max(first-first%perBatch, 0)}
				if i == 0 {
					d.Checksum = counts[int(plaza)].Checksum
				}
				deltas[plaza] = d
			}
			d.Events++
			m := base + toll.Minute(row/200)
			d.Earliest, d.Latest = zone.Wall(m.Time()), zone.Wall(m.Time())
			dbtest.AddEvent(d, m, "car")
		}
		var all []toll.PlazaDelta
		for plaza, d := range deltas {
			if states[plaza] == nil {
				states[plaza] = toll.NewState(1)
			}
			d.Prev = states[plaza].MergedIn(0)
			d.Earliest = zone.Wall(d.Panes[0].Start.Time())
			states[plaza].Merge(&toll.Delta{Epoch: 1, First: first, Next: next, PlazaDelta: *d})
			all = append(all, *d)
		}
		slices.SortFunc(all, func(a, b toll.PlazaDelta) int { return cmp.Compare(a.Plaza, b.Plaza) })
		firstMinute, lastMinute := tables.MinuteColumns(dbtest.MinutesOf(all))
		if _, err := tx.Exec(`INSERT INTO toll_batch (topic_id, partition_id, first_offset, next_offset,
			token, events, rejected, skipped, published, deltas, stored_at,
			first_minute, last_minute) VALUES (?, 0, ?, ?, ?, ?, 0, 0, 1, ?, NOW(6), ?, ?)`,
			dbtest.Identity.TopicID, first, next, i+1, perBatch, wire.AppendPlazaDeltas(nil,
				all), firstMinute, lastMinute); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := tx.Exec(`INSERT INTO toll_cursor (topic_id, partition_id, start_offset, next_offset,
		token, epoch, chain, updated_at)
		VALUES (?, 0, 0, ?, ?, 1, '', NOW(6))`, dbtest.Identity.TopicID, rows, rows/perBatch); err != nil {
		b.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	for _, state := range states {
		state.Done = base + toll.Minute(rows/200)
	}
	b.Run("bare-count", func(b *testing.B) {
		for b.Loop() {
			if _, err := tables.CountRows(ctx, s.DB, tables.CountOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, c := range []struct {
		name    string
		deep    bool
		windows []toll.WindowKind
	}{{"deep=false/windows=none", false, nil}, {"deep=false", false, kinds}, {"deep=true", true,
		kinds}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r, err := s.Verify(ctx, verify.Input{States: states, Deep: c.deep, Windows: c.windows})
				if err != nil || r.Status != verify.Exact {
					b.Fatalf("%+v, %v", r, err)
				}
				b.ReportMetric(float64(r.Windows), "windows")
			}
		})
	}
	b.Run("plaza", func(b *testing.B) {
		for b.Loop() {
			if c, err := s.PlazaChecker().Plaza(ctx, 4042, states[4042], dbtest.FullCount); err != nil ||
				c.Status != verify.Exact ||
				c.StoredRows == nil {
				b.Fatalf("%+v, %v", c, err)
			}
		}
	})
	b.Run("plaza-again-without-rows", func(b *testing.B) {
		checker := s.PlazaChecker()
		for b.Loop() {
			if c, err := checker.Plaza(ctx, 4042, states[4042],
				verify.PlazaOptions{SkipRows: true}); err != nil ||
				c.Status != verify.NotVerified {
				b.Fatalf("%+v, %v", c, err)
			}
		}
	})
}
