package verify_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/sql/internal/rowscan"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

func TestVerify(t *testing.T) {
	cases := []struct {
		name  string
		harm  func(t *testing.T, st *dbtest.Stream)
		quick string // kinds found, ascending; empty for none
		deep  string
		text  string // of one of the problems
	}{
		{name: "clean", harm: func(*testing.T, *dbtest.Stream) {}},
		{
			name: "rows deleted",
			harm: func(t *testing.T,
				st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `DELETE FROM livetolldata WHERE toll_plaza_id = -7`)
			},
			deep: "minute_rows rows_missing", quick: "rows_missing",
			text: "plaza -7: 0 rows in livetolldata, 1 stored: 1 row was deleted",
		},
		{
			name: "row doubled",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S,
					`INSERT INTO livetolldata SELECT * FROM livetolldata WHERE toll_plaza_id = -7`)
			},
			deep: "minute_rows rows_extra", quick: "rows_extra",
			text: "plaza -7: 2 rows in livetolldata, 1 stored: 1 row was added",
		},
		{
			name: "foreign plaza",
			harm: func(t *testing.T,
				st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `INSERT INTO livetolldata (vehicle_id) VALUES (1)`)
			},
			deep: "rows_extra", quick: "rows_extra", text: "plaza NULL: 1 row in livetolldata, 0 stored",
		},
		{
			name: "row changed",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `UPDATE livetolldata SET vehicle_type = 'CAR' WHERE toll_plaza_id = -7`)
			},
			deep: "checksum",
			text: "plaza -7: 1 row in livetolldata as it should be, but not the ones that were stored",
		},
		{
			name: "plazas swapped",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S,
					`UPDATE livetolldata SET vehicle_id = vehicle_id + 1 WHERE toll_plaza_id = 4000`)
			},
			deep: "checksum",
		},
		{
			name: "delta lost",
			harm: func(t *testing.T, st *dbtest.Stream) { delete(st.States, 4856) },
			deep: "lost_delta", quick: "lost_delta",
			text: "plaza 4856, partition 1: the group table has merged up to offset 0, but deltas up to " +
				"106 were published and consumed",
		},
		{
			name: "delta lost in the middle",
			harm: func(t *testing.T, st *dbtest.Stream) { st.States[4856].Events -= 4 },
			deep: "table_total", quick: "table_total",
			text: "plaza 4856: 11 counted in the group table, 15 in the deltas that it merged: " +
				"4 events were lost",
		},
		{
			name: "delta merged twice",
			harm: func(t *testing.T, st *dbtest.Stream) { st.States[-7].Events++ },
			deep: "table_total", quick: "table_total",
			text: "plaza -7: 2 counted in the group table, 1 in the deltas that it merged: " +
				"1 event was counted twice",
		},
		{
			name: "other events merged",
			harm: func(t *testing.T, st *dbtest.Stream) { st.States[-7].Checksum++ },
			deep: "table_checksum", quick: "table_checksum",
		},
		{
			name: "merged offset in the midst",
			harm: func(t *testing.T, st *dbtest.Stream) { st.States[-7].Merged[0].Next-- },
			deep: "lost_delta table_offset table_total", quick: "lost_delta table_offset table_total",
		},
		{
			name: "merged what is not stored",
			harm: func(t *testing.T, st *dbtest.Stream) { st.States[-7].Merged[0].Next += 1000 },
			deep: "table_ahead", quick: "table_ahead", text: "if the database was restored from a backup",
		},
		{
			name: "plaza without batches",
			harm: func(t *testing.T, st *dbtest.Stream) {
				st.States[1] = &toll.State{Epoch: 7, Events: 1,
					Merged: []toll.Merged{{Partition: 1, Next: 106}}}
			},
			deep: "table_offset table_total", quick: "table_offset table_total",
		},
		{
			name: "state of a later epoch",
			harm: func(t *testing.T, st *dbtest.Stream) { st.States[-7].Epoch++ },
			deep: "epoch", quick: "epoch",
		},
		{
			name: "cursor of another epoch",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `UPDATE toll_cursor SET epoch = 6 WHERE partition_id = 1`)
			},
			deep: "epoch", quick: "epoch",
		},
		{
			name: "batch deleted",
			harm: func(t *testing.T,
				st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `DELETE FROM toll_batch WHERE first_offset = 109`)
			},
			deep:  "batch_gap minute_rows rows_extra table_offset table_total",
			quick: "batch_gap rows_extra table_offset table_total",
			text:  "partition 0: the offsets 109 to 112 are in no batch: 4 offsets were lost",
		},
		{
			name: "last batch deleted",
			harm: func(t *testing.T,
				st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `DELETE FROM toll_batch WHERE first_offset = 113`)
			},
			deep:  "batch_gap dead_letters rows_extra table_offset table_total",
			quick: "batch_gap dead_letters rows_extra table_offset table_total",
			text: "partition 0: the offsets 113 to 121, below its cursor, are in no batch: " +
				"9 offsets were lost",
		},
		{
			name: "overlap",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `UPDATE toll_batch SET first_offset = 108 WHERE first_offset = 109`)
			},
			deep: "batch_overlap batch_sum", quick: "batch_overlap batch_sum",
			text: "partition 0: the offsets 108 to 108 are in two batches",
		},
		{
			name: "batch's sum",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `UPDATE toll_batch SET skipped = 2 WHERE first_offset = 109`)
			},
			deep: "batch_sum", quick: "batch_sum",
		},
		{
			name: "records of several events",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `UPDATE toll_batch SET extra_events = 1 WHERE first_offset = 109`)
			},
			deep: "batch_sum", quick: "batch_sum",
			text: "it has 3 events of 2 records, 0 rejected",
		},
		{
			name: "outbox damaged",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `UPDATE toll_batch SET deltas = 'x' WHERE first_offset = 109`)
			},
			deep:  "batch_outbox minute_rows rows_extra table_offset table_total",
			quick: "batch_outbox rows_extra table_offset table_total",
		},
		{
			name: "cursor's token",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `UPDATE toll_cursor SET token = 1 WHERE partition_id = 1`)
			},
			deep: "cursor_token", quick: "cursor_token",
		},
		{
			name: "cursor deleted",
			harm: func(t *testing.T,
				st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `DELETE FROM toll_cursor WHERE partition_id = 1`)
			},
			deep: "cursor_lost table_ahead", quick: "cursor_lost table_ahead",
		},
		{
			name: "dead letter deleted",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `DELETE FROM toll_dead_letter WHERE record_offset = 107`)
			},
			deep: "dead_letters", quick: "dead_letters",
			text: "partition 0: 2 in toll_dead_letter, 3 rejected: 1 dead letter was deleted",
		},
		{
			name: "other topic",
			harm: func(t *testing.T, st *dbtest.Stream) {
				dbtest.Exec(t, st.S, `UPDATE toll_cursor SET topic_id = 'B' WHERE partition_id = 1`)
			},
			deep: "cursor_lost other_topic table_ahead", quick: "cursor_lost other_topic table_ahead",
		},
	}
	for _, engine := range dbtest.Engines {
		for _, c := range cases {
			t.Run(engine+"/"+c.name, func(t *testing.T) {
				s := dbtest.OpenEmpty(t, engine)
				dbtest.Exec(t, s, dbtest.EventTable)
				dbtest.Exec(t, s,
					`INSERT INTO livetolldata VALUES ('2022-02-10 10:23:02', 1, 'car', 4856), (NULL, 2, NULL, 5)`)
				dbtest.Initialize(t, s)
				st := dbtest.NewStream(t, s)
				st.Fill()
				published, err := s.Published(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				c.harm(t, st)
				for _, deep := range []bool{false, true} {
					want := c.quick
					if deep {
						want = c.deep
					}
					r := dbtest.Verify(t, s, verify.Input{States: st.States, Deep: deep, Consumed: published})
					kinds := map[string]bool{}
					texts := ""
					for _, p := range r.Problems {
						kinds[p.Kind] = true
						texts += p.Text + "; " + p.Next + "\n"
					}
					got := dbtest.JoinSorted(kinds)
					// A state that is behind leaves events in flight next to its problem.
					if got != want || (r.Status == verify.Mismatch) != (want != "") {
						t.Errorf("deep %v: status %s, problems %q, want %q\n%s", deep, r.Status, got, want, texts)
					}
					if want != "" && !strings.Contains(texts, c.text) {
						t.Errorf("deep %v: no problem says %q:\n%s", deep, c.text, texts)
					}
					if want == "" && c.name == "clean" {
						if r.Status != verify.Exact || r.Events != 21 || r.Rows != 23 || r.Baseline != 2 ||
							r.Rejected != 3 || r.Merged != 21 || r.Batches != 4 || r.Skipped != 4 {
							t.Errorf("got %+v", r)
						}
						if deep && (r.Plazas[3].ChecksumOK == nil || !*r.Plazas[3].ChecksumOK) {
							t.Errorf("got %+v", r.Plazas)
						}
					}
				}
			})
		}
	}
}

func TestVerifyInFlight(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		if r := dbtest.Verify(t, s, verify.Input{Deep: true}); r.Status != verify.Exact || r.Rows != 0 {
			t.Errorf("empty: %+v", r)
		}
		st := dbtest.NewStream(t, s)
		st.Fill()
		st.Store(0, 0, map[int16]int{4856: 3, 1: 2})
		dbtest.Exec(t, s, `UPDATE toll_batch SET published = 0 WHERE first_offset = 122`)
		published, err := s.Published(context.Background())
		if err != nil || !maps.Equal(published.Next, map[int32]int64{0: 122, 1: 106}) {
			t.Fatalf("published: %v, %v", published, err)
		}
		r := dbtest.Verify(t, s, verify.Input{States: st.States, Consumed: published})
		if r.Status != verify.InFlight || r.InFlight != 5 || r.Merged != 21 || r.Events != 26 ||
			r.Unpublished != 1 || len(r.Problems) != 0 {
			t.Errorf("got %+v", r)
		}
		// After a rebuild all states count as empty until the deltas come again.
		dbtest.Exec(t, s, `UPDATE toll_cursor SET epoch = 8`)
		r = dbtest.Verify(t, s, verify.Input{States: st.States, Consumed: published})
		if r.Status != verify.InFlight || r.InFlight != 26 || r.Merged != 0 {
			t.Errorf("rebuilt: %+v", r)
		}
	})
}

// TestVerifyDeepCountsAllRows counts rows of no plaza, of no time and of the ends of time, in one
// pass or in several.
func TestVerifyDeepCountsAllRows(t *testing.T) {
	defer func(n int, m int64) {
		*verify.MaxVerifyPanes, rowscan.MaxBlocks = n,
			m
	}(*verify.MaxVerifyPanes, rowscan.MaxBlocks)
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		st.Fill()
		dbtest.Exec(t, s, `INSERT INTO livetolldata VALUES ('2022-02-10 10:23:02', 1, 'car', NULL), (NULL,
			2, 'car', NULL), (NULL, 3, 'car', 4856),
			('1000-01-01 00:00:00', 4, 'car', -7), ('9999-12-31 23:59:59', 5, 'car', 4000)`)
		for _, most := range []int{1, 1_000_000} {
			*verify.MaxVerifyPanes, rowscan.MaxBlocks = most, int64(most)
			r := dbtest.Verify(t, s, verify.Input{States: st.States, Deep: true})
			rows, problems := map[string]int64{}, map[string]int{}
			for _, p := range r.Problems {
				problems[p.Kind]++
				if p.Kind == verify.KindRowsExtra {
					rows[tables.PlazaName(*p.Plaza)] = p.Got
				}
			}
			if want := (map[string]int64{"NULL": 2, "4856": 16, "-7": 2, "4000": 6}); !maps.Equal(rows,
				want) || r.Rows != 26 {
				t.Errorf("%d panes: %d rows, of plazas with too many %v, want %v", most, r.Rows, rows, want)
			}
			if want := (map[string]int{verify.KindRowsExtra: 4,
				verify.KindMinuteRows: 2}); !maps.Equal(problems, want) {
				t.Errorf("%d panes: problems %v, want %v: %v", most, problems, want, r.Problems)
			}
		}
	})
}

func TestMain(m *testing.M) { dbtest.Main(m) }

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
