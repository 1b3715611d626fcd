package dbtest

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
)

// eager returns limits by which compaction does at once what it does with old and many rows.
func eager() retention.Limits {
	l := retention.DefaultLimits()
	l.JoinAfter, l.MinKeep, l.JoinRows, l.PageRows = 0, 0, 2, 7
	return l
}

// EagerCompactor returns a compactor with these limits.
func EagerCompactor(s *Store) *retention.Compactor {
	c := s.Compactor(Identity.TopicID)
	c.Limits = eager()
	return c
}

// Keeper goes through what a process does with the database, in an order that chance decides, and
// keeps the model to compare it with: the list of all events.
type Keeper struct {
	*Windowed
	Random *rand.Rand
	States map[int16]*toll.State
	res    *results.Writer
	Now    toll.WallTime // of the newest event
	Until  toll.Minute   // windows that end at or before it have closed
	Folded toll.Minute
	Pruned toll.WallTime
	stale  map[int16]*toll.State // the states as they were some time ago
	Ran    map[string]int        // what was done, how often
	Limits retention.Limits      // of compaction
}

func NewKeeper(t *testing.T, s *Store, seed uint64) *Keeper {
	x := NewWindowed(t, s, "1m,10m/5m,15m,1h,day")
	x.stepped = true
	return &Keeper{Windowed: x, Random: rand.New(rand.NewPCG(seed, 6)),
		States: map[int16]*toll.State{}, res: x.Results(),
		Now: WallTime(t, "2022-03-20 08:00"), Ran: map[string]int{}, Limits: eager(), Until: -1 << 31,
		Folded: -1 << 31}
}

var KeeperPlazas = []int16{-7, 4000, 4856}

// Compactor returns a compactor with the keeper's limits.
func (k *Keeper) Compactor() *retention.Compactor {
	c := k.S.Compactor(Identity.TopicID)
	c.Limits = k.Limits
	return c
}

// Batch stores a batch of events on time and late, and some that come too late for minutes or for
// all.
func (k *Keeper) Batch() {
	k.Now += toll.WallTime(k.Random.IntN(6 * 3600))
	var all []Passage
	for range 1 + k.Random.IntN(6) {
		at, how := k.Now-toll.WallTime(k.Random.IntN(120)), toll.OnTime
		switch k.Random.IntN(6) {
		case 0:
			at, how = k.Now-toll.WallTime(600+k.Random.IntN(5000)), toll.Late
		case 1:
			at, how = k.Now-toll.WallTime(7300+k.Random.IntN(160_000)), toll.LateQuarter
		case 2:
			at, how = k.Now-toll.WallTime(200_000+k.Random.IntN(2_000_000)), toll.TooLate
		}
		all = append(all, Passage{KeeperPlazas[k.Random.IntN(len(KeeperPlazas))], at.String(),
			[]string{"car", "truck", "bus"}[k.Random.IntN(3)], 1 + k.Random.IntN(2), how})
	}
	k.Store(int32(k.Random.IntN(2)), all...)
}

// Send merges the deltas of some batches that are not published, in order, and marks them.
func (k *Keeper) Send(partition int32, batches int) {
	k.T.Helper()
	rows,
		err := k.S.DB.Query(
		`SELECT first_offset, next_offset, deltas FROM toll_batch WHERE published = 0 AND partition_id = ?
			ORDER BY first_offset LIMIT ?`, partition, batches)
	if err != nil {
		k.T.Fatal(err)
	}
	defer rows.Close()
	var firsts []int64
	for rows.Next() {
		var first, next int64
		var blob dbsql.RawBytes
		if err := rows.Scan(&first, &next, &blob); err != nil {
			k.T.Fatal(err)
		}
		deltas, err := DecodeJSON(blob)
		if err != nil {
			k.T.Fatal(err)
		}
		for range 1 + k.Random.IntN(2) { // all of them may come twice
			for i := range deltas {
				d := deltas[i].Of(k.Epoch(), partition, first, next)
				s := k.States[d.Plaza]
				if s == nil {
					s = toll.NewState(0)
					k.States[d.Plaza] = s
				}
				if outcome := s.Merge(d); outcome != toll.Applied && outcome != toll.Duplicate {
					k.T.Fatalf("plaza %d, partition %d: the delta from %d to %d is a %v: merged %d", d.Plaza,
						partition, d.Prev, d.Next, outcome, s.MergedIn(partition))
				}
			}
		}
		firsts = append(firsts, first)
	}
	if err := rows.Err(); err != nil {
		k.T.Fatal(err)
	}
	_ = rows.Close()
	for _, first := range firsts {
		Exec(k.T, k.S, `UPDATE toll_batch SET published = 1 WHERE partition_id = ? AND first_offset = ?`,
			partition, first)
	}
}

// Close closes the windows that the watermark has passed, once all is merged.
func (k *Keeper) Close() {
	k.T.Helper()
	k.stale = map[int16]*toll.State{}
	for plaza, s := range k.States {
		k.stale[plaza] = &toll.State{Epoch: s.Epoch, Merged: slices.Clone(s.Merged)}
	}
	for p := range int32(2) {
		k.Send(p, 1000)
	}
	k.Until = max(k.Until, k.Zone.Minute(k.Now-7200)-1)
	for _, plaza := range slices.Sorted(maps.Keys(k.States)) {
		s := k.States[plaza]
		for {
			closer := toll.Closer{Kinds: k.Cfg.Windows, Zone: k.ZoneOf(plaza)}
			closing, due := closer.Close(plaza, s, k.Until, k.Until)
			if !due {
				break
			}
			k.StoreResults(k.res, closing)
			s.MarkStored(closing.Until, nil)
		}
	}
}

// Compact compacts by chance little or much, as far as the states allow it.
func (k *Keeper) Compact() {
	k.T.Helper()
	k.Folded = toll.FoldHorizon(k.States, k.Until, toll.MinKeptMinutes)
	k.Limits.JoinBytes, k.Limits.FoldBytes = int64(200+k.Random.IntN(20_000)),
		int64(500+k.Random.IntN(100_000))
	o := retention.CompactOptions{Now: time.Now(), States: k.States, Before: k.Folded,
		Keep: time.Duration(k.Random.IntN(2)) * time.Hour, KeepBytes: int64(k.Random.IntN(5000))}
	switch k.Random.IntN(4) {
	case 0:
		o.States = nil
	case 1:
		o.States = k.stale
	}
	for p := range int32(2) {
		done, err := k.Compactor().Compact(k.T.(*testing.T).Context(), p, o)
		if err != nil {
			k.T.Fatal(err)
		}
		k.Ran["joined"] += int(done.Joined)
		k.Ran["rolled up"] += int(done.RolledUp)
		if done.Blocked != "" {
			k.Ran["blocked"]++
		}
	}
}

// Rebuild begins a new epoch: everything is to be sent again.
func (k *Keeper) Rebuild() {
	epoch := k.Epoch() + 1
	Exec(k.T, k.S, `UPDATE toll_cursor SET epoch = ?`, epoch)
	Exec(k.T, k.S, `UPDATE toll_batch SET published = 0`)
	for p, c := range k.Cursors {
		c.Epoch = epoch
		k.Cursors[p] = c
	}
}

func (k *Keeper) Prune() {
	k.T.Helper()
	k.Pruned = max(k.Pruned, k.Now-toll.WallTime(86400*(1+k.Random.IntN(20))))
	n, err := k.S.Prune(context.Background(),
		retention.PruneOptions{Before: k.Pruned, BatchRows: 1 + k.Random.IntN(20)})
	if err != nil {
		k.T.Fatal(err)
	}
	k.Ran["rows pruned"] += int(n)
}

// VerifyAll checks every invariant as it stands.
func (k *Keeper) VerifyAll(deep bool) *verify.Report {
	k.T.Helper()
	r := Verify(k.T.(*testing.T), k.S,
		verify.Input{States: k.States, Deep: deep, Windows: k.Cfg.Windows})
	if r.Status == verify.Mismatch {
		for _, p := range r.Problems {
			k.T.Error(p)
		}
		k.T.FailNow()
	}
	var events int64
	for _, p := range k.Passages {
		events += int64(p.N)
	}
	if r.Events != events || r.Rows+r.Pruned != events || r.Merged+r.InFlight != events {
		k.T.Fatalf("%d events, got %+v", events, r)
	}
	return r
}

func Batch(w *ingest.Writer, c toll.Cursor, types ...string) *toll.Batch {
	b := &toll.Batch{Partition: c.Partition, First: c.Next, Next: c.Next + int64(len(types)),
		Epoch: c.Epoch, Expect: c.Token,
		Token: tables.NewToken(), Rows: w.NewRows(), Deltas: []byte("outbox"), Chain: []byte("chain")}
	for i, typ := range types {
		b.Rows.Append(&toll.Event{Time: 1644488582, Vehicle: int32(i), Type: typ, Plaza: 4000})
	}
	return b
}

// Outbox returns all batches of a partition, page by page.
func Outbox(t *testing.T, w *ingest.Writer, partition int32, above int64,
	unpublished bool) (all []toll.StoredBatch, epoch uint64, pages int) {
	t.Helper()
	for {
		page, err := w.Outbox(t.Context(), partition, above, unpublished)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Batches...)
		pages++
		if !page.More {
			return all, page.Epoch, pages
		}
		above = all[len(all)-1].Next
	}
}

func Verify(t *testing.T, s *Store, in verify.Input) *verify.Report {
	t.Helper()
	r, err := s.Verify(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// States merges what was stored, of a partition up to an offset where one is given, and reports how
// far windows were delivered.
func (x *Windowed) States(done string, upTo ...int64) map[int16]*toll.State {
	states := map[int16]*toll.State{}
	for i := range x.Deltas {
		d := &x.Deltas[i]
		if int(d.Partition) < len(upTo) && d.Next > upTo[d.Partition] {
			continue
		}
		if states[d.Plaza] == nil {
			states[d.Plaza] = toll.NewState(0)
		}
		states[d.Plaza].Merge(d)
	}
	for _, s := range states {
		s.Done, s.Dirty = MinuteOf(x.T, done), nil
	}
	return states
}

func (x *Windowed) Input(states map[int16]*toll.State, deep bool) verify.Input {
	return verify.Input{States: states, Deep: deep, Windows: x.Cfg.Windows,
		Zones: toll.NewZoneSet(x.Zone, x.Cfg.PlazaZones)}
}

// ProblemsOf returns the kinds that were found, ascending, and all texts.
func ProblemsOf(r *verify.Report) (kinds, texts string) {
	set := map[string]bool{}
	var b strings.Builder
	for _, p := range r.Problems {
		set[p.Kind] = true
		fmt.Fprintln(&b, p.Text)
	}
	return JoinSorted(set), b.String()
}

// MergedStates returns the states that have merged all that was stored, and whose windows were
// delivered up to a time.
func (x *Windowed) MergedStates(done string) map[int16]*toll.State {
	states := map[int16]*toll.State{}
	for i := range x.Deltas {
		d := &x.Deltas[i]
		if states[d.Plaza] == nil {
			states[d.Plaza] = toll.NewState(d.Epoch)
		}
		states[d.Plaza].Merge(d)
	}
	for _, s := range states {
		s.MarkStored(MinuteOf(x.T, done), nil)
	}
	return states
}

// FullCount gives the count of the rows as long as a busy machine needs.
var FullCount = verify.PlazaOptions{CountLimit: 2 * time.Minute}

func JoinSorted(set map[string]bool) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&b, " %s", k)
	}
	return strings.TrimSpace(b.String())
}
