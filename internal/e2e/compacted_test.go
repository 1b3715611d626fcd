package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// totals returns what was sent per plaza.
func (tr *truth) totals() map[string]int64 {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	totals := map[string]int64{}
	for row, n := range tr.rows {
		totals[row[strings.LastIndexByte(row, ',')+1:]] += int64(n)
	}
	return totals
}

// from returns what was sent with a time from one on.
func (tr *truth) from(at string) *truth {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	rest := newTruth()
	rest.rejects = tr.rejects
	for row, n := range tr.rows {
		if row >= at {
			rest.rows[row] = n
		}
	}
	return rest
}

// countsEqual checks the group table's count of each plaza against what was sent.
func (w *world) countsEqual(truth *truth) {
	w.t.Helper()
	var v struct {
		Plazas []struct {
			Plaza json.Number
			Total int64
		}
	}
	if err := json.Unmarshal([]byte(w.must("view", "--json")), &v); err != nil {
		w.t.Fatal(err)
	}
	got := map[string]int64{}
	for _, p := range v.Plazas {
		got[p.Plaza.String()] = p.Total
	}
	if want := truth.totals(); !maps.Equal(got, want) {
		w.t.Fatalf("the group table counts %v, sent were %v", got, want)
	}
}

// compacted lets a running process join old batches and roll them up, while more events come.
func (w *world) compacted(s *sender) {
	w.t.Helper()
	age := func() error {
		_, err := w.sql.Exec(`UPDATE toll_batch SET stored_at = stored_at - INTERVAL 3 HOUR`)
		return err
	}
	if err := age(); err != nil {
		w.t.Fatal(err)
	}
	before := w.count(`SELECT COUNT(*) FROM toll_batch`)
	p := w.start("process", "--batch-rows", "50", "--keep-batches", "10m", "--reconcile", "1s",
		"--log-level", "debug")
	const horizon = `SELECT COALESCE(MAX(folded_minute), -2147483648) FROM toll_batch`
	was := w.count(horizon)
	// A row is as old as the one behind it was when it was stored, so what was joined is aged once
	// more.
	aged := false
	for deadline := time.Now().Add(5 * time.Minute); w.count(horizon) == was; time.Sleep(
		200 * time.Millisecond) {
		if !p.running() || time.Now().After(deadline) {
			w.t.Fatalf("no minutes were rolled up; %d rows became %d\n%s", before,
				w.count(`SELECT COUNT(*) FROM toll_batch`), p.log)
		}
		if !aged &&
			w.count(`SELECT COUNT(*) FROM toll_batch WHERE batches > 1 AND folded_minute IS NULL`) > 0 {
			aged = age() == nil // else it was in the way of the compaction, and is tried again
		}
		s.disorder(5)
	}
	if _, code := p.interrupt(); code != 0 {
		w.t.Fatalf("exit status %d:\n%s", code, p.log)
	}
	left := w.count(`SELECT COUNT(*) FROM toll_batch WHERE stored_at < NOW() - INTERVAL 1 HOUR`)
	if left > before/4 {
		w.t.Fatalf("of %d old rows of toll_batch %d are left", before, left)
	}
	w.t.Logf("%d rows of toll_batch became %d", before, left)
}

// TestRebuildCompacted adds the batches of a week up by a running process, and rebuilds from what
// is left of them; then once more after the rows of some days were pruned. Each time the group
// table counts what was sent, and every window is as it was.
func TestRebuildCompacted(t *testing.T) {
	inParallel(t)
	campaign(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	sent := newTruth()
	s := w.sender(sent)
	for range 8 {
		s.disorder(400)
		s.clock = s.clock.Add(24 * time.Hour)
	}
	w.untilEnd("--batch-rows", "30")
	w.recovered(sent)

	rebuilt := func(what string, rows *truth, args ...string) {
		t.Helper()
		before := w.windows()
		epoch := w.count(`SELECT MAX(epoch) FROM toll_cursor`)
		w.must("rebuild", "--yes")
		if v := w.verify("--deep"); v.Status != "in_flight" || v.InFlight != int64(sent.total()) ||
			v.Merged != 0 {
			t.Fatalf("%s: right after rebuild: %+v", what, v)
		}
		w.deleteTopic(w.group + "-table")
		if err := os.RemoveAll(w.state); err != nil {
			t.Fatal(err)
		}
		w.untilEnd(args...)
		if now := w.count(`SELECT MIN(epoch) FROM toll_cursor`); now <= epoch {
			t.Fatalf("%s: epoch %d became %d", what, epoch, now)
		}
		if v := w.verify("--deep"); v.Status != "exact" || v.Events != int64(sent.total()) ||
			v.Merged != v.Events || v.Rows != int64(rows.total()) {
			t.Fatalf("%s: after a rebuild: %+v", what, v)
		}
		w.countsEqual(sent)
		rows.check(w)
		after := w.windows()
		if len(after) != len(before) {
			t.Fatalf("%s: %d windows, and %d after a rebuild", what, len(before), len(after))
		}
		for key, v := range before {
			if after[key] != v {
				t.Fatalf("%s: window %s was %+v, and is %+v after a rebuild", what, key, v, after[key])
			}
		}
	}

	w.compacted(s)
	w.untilEnd()
	w.recovered(sent)
	rebuilt("compacted", sent)
	w.windowsEqualSQL()

	// More of the same, of other days, so that rows of different horizons are joined.
	for range 4 {
		s.clock = s.clock.Add(24 * time.Hour)
		s.disorder(300)
	}
	w.untilEnd("--batch-rows", "40")
	w.compacted(s)
	w.untilEnd()
	w.recovered(sent)
	rebuilt("compacted again", sent)
	w.windowsEqualSQL()

	const before = "2022-02-14 00:00:00"
	kept := sent.from(before)
	if kept.total() == sent.total() || kept.total() == 0 {
		t.Fatalf("%d of %d rows are from before %s", sent.total()-kept.total(), sent.total(), before)
	}
	w.must("prune", "--before", before, "--batch-rows", "500", "--yes")
	if v := w.verify("--deep"); v.Status != "exact" || v.Rows != int64(kept.total()) ||
		v.Events != int64(sent.total()) {
		t.Fatalf("pruned: %+v", v)
	}
	kept.check(w)
	rebuilt("compacted and pruned", kept, "--batch-rows", "70")
}
