package sql

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"tollstream/toll"
)

// BenchmarkVerify verifies a million rows of 100 plazas on MariaDB, beside the bare count that any such check needs.
func BenchmarkVerify(b *testing.B) {
	const rows, plazas, batches = 1_000_000, 100, 10_000
	s := openEmpty(b, "mariadb")
	ctx := context.Background()
	initialize(b, s)
	run(b, s, fmt.Sprintf(`INSERT INTO livetolldata SELECT '2022-02-10 00:00:00' + INTERVAL seq SECOND, seq, 'car', 4000 + seq %% %d FROM seq_1_to_%d`, plazas, rows))
	// Batches of one plaza each; the checksums come from the rows, so the first verification is of the sums alone.
	counts, err := countRows(ctx, s.db, countOptions{checksum: true})
	if err != nil {
		b.Fatal(err)
	}
	states := map[int16]*toll.State{}
	const perBatch = rows / batches
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Rollback()
	for i := range batches {
		first, next := int64(i*perBatch), int64((i+1)*perBatch)
		plaza := int16(4000 + i%plazas)
		d := toll.PlazaDelta{Plaza: plaza, Events: perBatch}
		state := states[plaza]
		if state == nil {
			state = &toll.State{Epoch: 1}
			states[plaza] = state
			d.Checksum = counts[int(plaza)].checksum
		}
		d.Prev = state.MergedIn(0)
		state.Merge(&toll.Delta{Epoch: 1, First: first, Next: next, PlazaDelta: d})
		blob, err := json.Marshal([]toll.PlazaDelta{d})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Exec(`INSERT INTO toll_batch (topic_id, partition_id, first_offset, next_offset, token, events, rejected, skipped, published, deltas, stored_at)
			VALUES (?, 0, ?, ?, ?, ?, 0, 0, 1, ?, NOW(6))`, testIdentity.TopicID, first, next, i+1, perBatch, blob); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := tx.Exec(`INSERT INTO toll_cursor (topic_id, partition_id, start_offset, next_offset, token, epoch, chain, updated_at)
		VALUES (?, 0, 0, ?, ?, 1, '', NOW(6))`, testIdentity.TopicID, rows, batches); err != nil {
		b.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	b.Run("bare-count", func(b *testing.B) {
		for b.Loop() {
			if _, err := countRows(ctx, s.db, countOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, deep := range []bool{false, true} {
		b.Run(fmt.Sprintf("deep=%v", deep), func(b *testing.B) {
			for b.Loop() {
				r, err := s.Verify(ctx, VerifyInput{States: states, Deep: deep})
				if err != nil || r.Status != Exact {
					b.Fatalf("%+v, %v", r, err)
				}
			}
		})
	}
	b.Run("plaza", func(b *testing.B) {
		for b.Loop() {
			if c, err := s.Plaza(ctx, 4042, states[4042], PlazaOptions{}); err != nil || c.Status != Exact || c.StoredRows == nil {
				b.Fatalf("%+v, %v", c, err)
			}
		}
	})
	b.Run("plaza-again-without-rows", func(b *testing.B) {
		checker := s.PlazaChecker()
		for b.Loop() {
			if c, err := checker.Plaza(ctx, 4042, states[4042], PlazaOptions{SkipRows: true}); err != nil || c.Status != Exact {
				b.Fatalf("%+v, %v", c, err)
			}
		}
	})
}
