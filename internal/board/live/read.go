package live

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology"
)

// Bounds of how long rows are counted.
const (
	// DeepLimit is that of deep counts, which is as good as none.
	DeepLimit = 24 * time.Hour
	// countShare is how much longer than a count took the next one waits, where boards are read again
	// and again: counting then takes at most a twentieth of the database's time.
	countShare = 20
)

// Read reads a board. Its error is a [board.OutageError] where a server does not answer.
func (r *Reader) Read(ctx context.Context) (*board.Board, error) {
	b, err := r.read(ctx)
	if err != nil && !toll.IsPermanent(err) && !errors.Is(err, board.ErrEnded) {
		return nil, outage("MySQL", err)
	}
	return b, err
}

// outage says which server an error is about, unless that was said.
func outage(server string, err error) error {
	if err == nil || board.OutageOf(err) != "" {
		return err
	}
	return &board.OutageError{Server: server, Err: err}
}

// read reads the group table first and then the database, whose snapshot then holds all that is
// merged.
func (r *Reader) read(ctx context.Context) (*board.Board, error) {
	b := &board.Board{At: time.Now(), Location: r.cfg.Location, Limits: r.cfg.Limits}
	states, err := r.states(ctx)
	if err != nil {
		return nil, err
	}
	if !r.cfg.Repeated {
		r.Stop()
	}
	checks, err := r.check(ctx, states)
	if err != nil {
		return nil, err
	}
	b.RowsAt, b.DeadLetters = r.countedAt, r.deadLetters
	progress, err := r.store.Progress(ctx)
	if err != nil {
		return nil, err
	}
	meta, err := r.store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	if meta.Windows != "" {
		if b.Kinds, err = toll.ParseWindows(meta.Windows); err != nil {
			return nil, fmt.Errorf("read the windows that the database has: %w", err)
		}
	}
	// A state from before a rebuild counts as empty.
	var epoch uint64
	for _, p := range progress {
		epoch = max(epoch, p.Epoch)
	}
	maps.DeleteFunc(states, func(_ int16, s *toll.State) bool { return s.Epoch < epoch })
	b.Known = slices.Sorted(maps.Keys(states))

	if r.cfg.Plaza == nil {
		recent, err := r.store.RecentRejects(ctx)
		if err != nil {
			return nil, err
		}
		b.RecentRejects = board.RecentRejects{Records: recent.Records, Rejected: recent.Rejected,
			High: recent.High()}
	}
	if now, started := toll.StreamTime(states, toll.NewZone(r.cfg.Location)); started {
		b.StreamTime = new(now.Time())
	}
	if err := r.readProgress(ctx, b, clocks.Cursors(progress), &meta); err != nil {
		return nil, err
	}
	for i := range checks {
		c := &checks[i]
		p := board.Plaza{ID: c.Plaza, Location: r.cfg.Location, Check: *checkOf(c),
			Counted: r.counted[c.Plaza], Counts: new(toll.State)}
		if c.Plaza != board.NullPlaza && states[int16(c.Plaza)] != nil {
			p.Counts = states[int16(c.Plaza)]
		}
		b.Plazas = append(b.Plazas, p)
	}
	if err := r.readCongestion(ctx, b); err != nil {
		return nil, err
	}
	if r.cfg.Silent {
		r.addSilent(b)
	}
	if r.cfg.Plaza != nil {
		if err := r.readHistory(ctx, b); err != nil {
			return nil, err
		}
	}
	b.Derive()
	return b, nil
}

// readProgress adds how far the stream has come: its watermark, as far as what is stored reveals
// it; the topic's records that are not stored yet; and clocks that disagree.
func (r *Reader) readProgress(ctx context.Context, b *board.Board, cursors []toll.Cursor,
	meta *sql.Meta) error {
	lateness := meta.Lateness
	if meta.Windows == "" { // no process has set it
		lateness = toll.DefaultLateness
	}
	mark, err := r.marks.Read(ctx, cursors, lateness, toll.DefaultIdle)
	if err != nil {
		return outage("Kafka", noAnswer(err))
	}
	backlog, err := r.marks.Backlog(ctx, cursors)
	if err != nil {
		return outage("Kafka", noAnswer(err))
	}
	b.Waiting = backlog.Offsets
	for _, t := range backlog.Open {
		b.OpenTransactions = append(b.OpenTransactions,
			board.OpenTransaction{Partition: t.Partition, Offset: t.Offset, Since: t.Since})
	}
	all, _, err := clocks.Read(ctx, r.store, cursors, meta.Lateness, toll.DefaultIdle)
	if err != nil {
		return err
	}
	if mark.Known {
		b.Watermark = new(clocks.EventTime(mark))
		all.Event = *b.Watermark
	}
	b.Warnings = clocks.Warnings(all.Skews())
	return r.readHealth(ctx, b, cursors, &backlog, all.Record)
}

// aboutEvery is how often the plazas file is read again from the database; it changes when a
// process starts.
const aboutEvery = 10 * time.Second

// readCongestion adds the last assessment of each plaza, and its description in the plazas file.
func (r *Reader) readCongestion(ctx context.Context, b *board.Board) error {
	if r.about == nil || time.Since(r.aboutAt) > aboutEvery {
		configured, err := r.store.ConfiguredPlazas(ctx)
		if err != nil {
			return err
		}
		r.about, r.aboutAt = map[int16]toll.Plaza{}, time.Now()
		for _, p := range configured {
			r.about[p.ID] = p
		}
	}
	congestion, err := r.store.Congestion(ctx)
	if err != nil {
		return err
	}
	for i := range b.Plazas {
		p := &b.Plazas[i]
		if p.ID == board.NullPlaza {
			continue
		}
		if a, ok := congestion[int16(p.ID)]; ok && a.Assessed() {
			p.Assessment = &a
		}
		p.Describe(r.about[int16(p.ID)])
	}
	return nil
}

// addSilent adds the plazas of the plazas file that no vehicle has passed.
func (r *Reader) addSilent(b *board.Board) {
	known := map[int]bool{}
	for i := range b.Plazas {
		known[b.Plazas[i].ID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(r.about)) {
		if !known[int(id)] {
			p := board.Plaza{ID: int(id), Location: r.cfg.Location, Counts: new(toll.State),
				Check: board.Check{Status: board.NotVerified}}
			if r.rowsRead { // of none, or it would be known
				p.Counted = &board.Check{Status: board.Exact, StoredRows: new(int64(0))}
			}
			p.Describe(r.about[id])
			b.Plazas = append(b.Plazas, p)
		}
	}
}

// How many of the last windows of a kind, and changes of congestion, are read; text shows fewer.
const (
	windowsRead = 10
	changesRead = 10
)

// readHistory adds the windows of the only plaza that closed last, the short ones first, and the
// last changes of its congestion.
func (r *Reader) readHistory(ctx context.Context, b *board.Board) error {
	b.History = &board.History{}
	if len(b.Kinds) == 0 {
		return nil
	}
	windows, err := r.store.Windows(ctx, *r.cfg.Plaza, windowsRead)
	if err != nil {
		return err
	}
	b.History.RecentWindows = windowsOf(windows)
	b.SortWindows(b.History.RecentWindows)
	if b.History.CapacityBound, err = r.bounds.of(ctx, r.store,
		newHistory(r.store, r.cfg.Holidays, b, &b.Plazas[0])); err != nil {
		return err
	}
	b.History.Changes, err = readChanges(ctx, r.store, *r.cfg.Plaza)
	return err
}

func readChanges(ctx context.Context, store *sql.Store, plaza int16) ([]board.Change, error) {
	transitions, err := store.Transitions(ctx, plaza, changesRead)
	if err != nil {
		return nil, err
	}
	return changesOf(transitions), nil
}

func changesOf(transitions []traffic.Transition) []board.Change {
	changes := make([]board.Change, 0, len(transitions))
	for i := range transitions {
		t := &transitions[i]
		changes = append(changes, board.Change{From: t.From, To: t.To, Since: t.Since.Time(),
			Detected: t.Detected.Time(), Why: t.Why, Measure: t.Measure})
	}
	return changes
}

func windowsOf(stored []results.StoredWindow) []board.Window {
	windows := make([]board.Window, 0, len(stored))
	for i := range stored {
		w := &stored[i]
		events := w.Events()
		windows = append(windows, board.Window{
			Kind: w.Kind, Start: w.Start.Time(), End: w.End.Time(), Count: events,
			ByType:      board.ByType(w.Types),
			FlowPerHour: toll.FlowPerHour(events, toll.Window{Start: w.Start, End: w.End}.Span()),
			Final:       w.Whole && w.Revision > 0, Revision: w.Revision, Reason: w.Reason,
			OnTime: events - w.Late, Late: w.Late, TooLate: w.TooLateNow,
		})
	}
	return windows
}

// check checks the plazas against the database. Where boards are read again and again, rows are not
// counted every time if that takes long.
func (r *Reader) check(ctx context.Context, states map[int16]*toll.State) ([]verify.PlazaCheck,
	error) {
	o := verify.PlazaOptions{CountOnly: !r.cfg.Deep}
	if r.cfg.Deep {
		o.CountLimit = DeepLimit
	}
	o.SkipRows = !r.countedAt.IsZero() && time.Since(r.countedAt) < countShare*r.countTook
	began := time.Now()
	var checks []verify.PlazaCheck
	var err error
	if plaza := r.cfg.Plaza; plaza != nil {
		var check *verify.PlazaCheck
		if check, err = r.checker.Plaza(ctx, *plaza, states[*plaza], o); err == nil {
			checks = []verify.PlazaCheck{*check}
		}
	} else {
		checks, err = r.checker.Plazas(ctx, states, o)
	}
	if err != nil || o.SkipRows {
		return checks, err
	}
	if r.cfg.Plaza == nil {
		r.deadLetters, err = r.store.CountDeadLetters(ctx, sql.DeadLetterFilter{})
		if err != nil {
			return nil, err
		}
	}
	r.countedAt, r.countTook = time.Now(), time.Since(began)
	r.counted, r.rowsRead = map[int]*board.Check{}, true
	for i := range checks {
		c := checkOf(&checks[i])
		r.counted[checks[i].Plaza], r.rowsRead = c, r.rowsRead && c.StoredRows != nil
	}
	return checks, nil
}

func checkOf(c *verify.PlazaCheck) *board.Check {
	check := &board.Check{TableCount: c.TableCount, StoredRows: c.StoredRows, Baseline: c.Baseline,
		Pruned: c.Pruned, InFlight: c.InFlight, ChecksumOK: c.ChecksumOK,
		Status: board.Status(c.Status), Note: c.Note}
	for i := range c.Problems {
		check.Problems = append(check.Problems, board.Problem(c.Problems[i]))
	}
	return check
}

const (
	// boundAge is how long a bound is shown before weeks of windows are read again for it.
	boundAge = 10 * time.Minute
	// boundsKept bounds how many plazas' are kept.
	boundsKept = 1000
)

// capacityBounds remembers what plazas' capacities are at least. Its zero value knows none.
type capacityBounds struct {
	mu    sync.Mutex
	known map[int16]capacityBound
}

type capacityBound struct {
	at    time.Time
	bound *traffic.CapacityBound
}

// of returns the bound of a plaza by its windows of a quarter of an hour in the weeks before now;
// nil where they show none.
func (c *capacityBounds) of(ctx context.Context, store *sql.Store,
	h *history) (*traffic.CapacityBound,
	error) {
	if h.quarter == "" {
		return nil, nil
	}
	plaza := int16(h.p.ID)
	c.mu.Lock()
	last, ok := c.known[plaza]
	c.mu.Unlock()
	if ok && time.Since(last.at) < boundAge {
		return last.bound, nil
	}
	now := toll.QuarterOf(h.now)
	windows, err := store.WindowsBetween(ctx, plaza, h.quarter,
		toll.Window{Start: now - traffic.HistoryWeeks*7*24*60, End: now})
	if err != nil {
		return nil, err
	}
	eq := traffic.DefaultEquivalents()
	quarters := make([]traffic.QuarterFlow, 0, len(windows))
	for i := range windows {
		if w := &windows[i]; w.End-w.Start == toll.Quarter {
			quarters = append(quarters, traffic.QuarterFlow{Start: w.Start, Cars: eq.PassengerCars(w.Types)})
		}
	}
	next := capacityBound{at: time.Now()}
	if b, ok := traffic.LearnCapacity(h.zone, quarters); ok {
		next.bound = &b
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= boundsKept {
		c.known = map[int16]capacityBound{}
	}
	c.known[plaza] = next
	return next.bound, nil
}

// oldRecord is how old the newest stored record of a partition may be where more of it wait:
// storing a batch takes less.
const oldRecord = 15 * time.Second

// readHealth adds whether events arrive and processes run. newest is the timestamp of the newest
// record that is stored, zero for none.
//
// An event arrives when it is appended to the topic. That is the record's timestamp, unless the
// producer has set another: so what was observed counts too, by the processes, and between two
// boards by this reader.
func (r *Reader) readHealth(ctx context.Context, b *board.Board, cursors []toll.Cursor,
	backlog *topology.Backlog, newest time.Time) error {
	if err := r.readProcesses(ctx, b); err != nil {
		return err
	}
	f := &b.Feed
	r.observed = r.observed || r.ends > 0
	if r.ends > 0 && backlog.Ends > r.ends {
		r.growing = b.At
	}
	r.ends = backlog.Ends
	for _, at := range []time.Time{newest, r.growing} {
		if at.IsZero() {
			continue
		}
		if at.After(b.At) { // by a wrong clock
			at = b.At
		}
		if f.ArrivedAt == nil || at.After(*f.ArrivedAt) {
			f.ArrivedAt = new(at.In(r.cfg.Location))
		}
	}
	f.Newest = backlog.Offsets == 0 || r.observed
	records := map[int32]int64{} // timestamps of the newest that are stored, by partition
	for _, c := range cursors {
		clock, err := wire.DecodeClock(c.Clock)
		if err != nil {
			return fmt.Errorf("read the clock of partition %d: %w", c.Partition, err)
		}
		records[c.Partition] = clock.Record
	}
	for partition, waiting := range backlog.ByPartition {
		if b.At.Sub(time.UnixMilli(records[partition])) > oldRecord {
			b.Processing.Behind += waiting
		}
	}
	return nil
}

// readProcesses adds the processes, their times by this machine's clock.
func (r *Reader) readProcesses(ctx context.Context, b *board.Board) error {
	all, now, err := r.store.Processes(ctx)
	if err != nil {
		return err
	}
	own := func(t time.Time) time.Time { return b.At.Add(-max(now.Sub(t), 0)).In(r.cfg.Location) }
	b.Processing.All = []board.Instance{}
	for i := range all {
		p := &all[i]
		in := board.Instance{Name: p.Instance, Version: p.Version, StartedAt: own(p.Started),
			SeenAt: own(p.Seen), Ended: p.Ended, Problem: p.Problem, DrainPerSecond: p.DrainPerSecond}
		if !p.Stopped.IsZero() {
			in.StoppedAt = new(own(p.Stopped))
		}
		b.Processing.All = append(b.Processing.All, in)
		b.Feed.Share = max(b.Feed.Share, p.ArrivalShare)
		if p.Arrived.IsZero() {
			continue
		}
		if at := own(p.Arrived); b.Feed.ArrivedAt == nil || at.After(*b.Feed.ArrivedAt) {
			b.Feed.ArrivedAt = &at
		}
	}
	return nil
}
