package closing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/internal/simtest"
	"github.com/tollstream/tollstream/topology/monitor"
)

// stream runs the event-time layer in memory, step by step: sources fill batches and store them,
// plazas merge what they mean, and windows close and are stored. All of it is the real code but for
// the servers, from which it deviates:
//
//   - Each plaza has a log of deltas and a changelog of its own, so it is read and falls back apart
//     from the others.
//   - What is stored is stored at once: no answer is lost (see TestPartitionFailsAtEveryStep for
//     that).
type stream struct {
	cfg       *testConfig
	sources   []*streamSource
	plazas    map[int16]*streamPlaza
	results   *memoryResults
	windows   *Windows
	published []traffic.NoticeRef // acknowledged, and not marked yet
	largest   int                 // most bytes that a state took
	fault     fault
}

// fault is a defect that is put into the protocol, to see that the tests find it.
type fault int

const (
	noFault       fault = iota
	forgetsAgain        // what changes while a submission is under way is not noted
	cleansEarly         // Dirty is cleared when it is submitted, not once that is stored
	advancesEarly       // Done is moved on when windows are submitted
)

// streamSource is a source partition.
type streamSource struct {
	log   []logged // what the topic holds; the index is the offset
	store *partitionStore
	steps *ingest.Steps
	read  int // the next of the log
}

type logged struct {
	record *kgo.Record
	event  toll.Event
}

// partitionStore is a simtest.Store that counts for the results what it stores.
type partitionStore struct {
	*simtest.Store
	results *memoryResults
}

func (s *partitionStore) Commit(ctx context.Context, b *toll.Batch,
	published []toll.BatchRef) error {
	err := s.Store.Commit(ctx, b, published)
	if err == nil {
		s.results.add(b)
	}
	return err
}

// streamPlaza is a plaza's part of the loop and of the group table.
type streamPlaza struct {
	id    int16
	loop  [][]byte  // deltas, as they were sent
	table []version // the last ones that were written, the newest last
}

// version is a state that was written.
type version struct {
	state []byte // nil for none
	next  int    // of the loop
}

func (p *streamPlaza) now() *version { return &p.table[len(p.table)-1] }

func newStream(cfg *testConfig, partitions int) *stream {
	s := &stream{cfg: cfg, plazas: map[int16]*streamPlaza{}, results: newMemoryResults(cfg)}
	s.windows = s.newWindows()
	for p := range partitions {
		store := &simtest.Store{Current: toll.Cursor{Partition: int32(p), Token: 1, Epoch: 5},
			Refuse: map[int32]bool{}}
		s.sources = append(s.sources, &streamSource{store: &partitionStore{store, s.results}})
		s.openSource(p)
	}
	return s
}

func (s *stream) newWindows() *Windows {
	return New(&s.cfg.Config, s.results,
		func(_ int16, _ []byte, done func(error)) error { done(nil); return nil },
		func(err error) { s.results.fail("closing windows failed: %v", err) })
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// openSource begins a session of a source partition, as after a restart.
func (s *stream) openSource(p int) {
	src := s.sources[p]
	cursor, unpublished, _ := src.store.Load(context.Background(), int32(p), 0)
	var left []toll.StoredBatch
	for above, more := unpublished.First, true; more; {
		page := must(src.store.Outbox(context.Background(), int32(p), above, true))
		for i := range page.Batches {
			left = append(left, page.Batches[i])
			above = page.Batches[i].Next
		}
		more = page.More
	}
	partition := must(ingest.New(s.cfg.ingest(), ingest.Dependencies{
		Store: src.store, Publish: s.send, Mark: func(int64) {}, Stats: monitor.NewStats(),
		Fail: func(err error) { s.results.fail("a source failed: %v", err) },
	}, cursor))
	src.steps = must(partition.Steps(left...))
	src.read = int(cursor.Next)
}

// gather reads up to n records of a partition into the open batch.
func (s *stream) gather(p, n int) {
	src := s.sources[p]
	for ; n > 0 && src.read < len(src.log) && !src.steps.Full(); n-- {
		src.steps.Add(src.log[src.read].record)
		src.read++
	}
}

// store stores the open batch of a partition; meanwhile up to n more records are read.
func (s *stream) store(p, n int) {
	src := s.sources[p]
	if !src.steps.Take() {
		return
	}
	s.gather(p, n)
	must(0, src.steps.Store())
}

// publish sends the deltas of a partition's next batches, as many as most.
func (s *stream) publish(p, most int) {
	src := s.sources[p]
	if n := min(most, src.steps.Pending()); n > 0 {
		must(0, src.steps.Publish(n))
	}
}

func (s *stream) send(plaza int16, deltas [][]byte, done func(error)) error {
	p := s.plazas[plaza]
	if p == nil {
		p = &streamPlaza{id: plaza, table: []version{{}}}
		s.plazas[plaza] = p
	}
	p.loop = append(p.loop, wire.AppendDeltas(nil, deltas...))
	done(nil)
	return nil
}

// merge delivers a plaza's next delta, as run.aggregate takes it, and reports whether there was
// one.
func (s *stream) merge(p *streamPlaza) bool {
	next := p.now().next
	if next == len(p.loop) {
		return false
	}
	state := toll.NewState(0)
	if b := p.now().state; b != nil {
		state = must(wire.StateCodec{}.Decode(b)).(*toll.State)
	}
	var merged []*toll.Delta
	for _, d := range must(wire.DeltasCodec{}.Decode(p.loop[next])).([]*toll.Delta) {
		switch state.Merge(d) {
		case toll.Gap:
			s.results.fail("plaza %d: a delta is missing before %d:%d", d.Plaza, d.Partition, d.First)
		case toll.Applied:
			merged = append(merged, d)
		}
	}
	s.step(p.id, state, merged...)
	s.write(p, state, next+1)
	return true
}

// visit looks at a plaza, as run.visit does, and reports whether the state took note of anything.
func (s *stream) visit(p *streamPlaza) bool {
	if p.now().state == nil || !s.windows.Wants(p.id) {
		return false
	}
	state := must(wire.StateCodec{}.Decode(p.now().state)).(*toll.State)
	changed := s.step(p.id, state)
	if changed {
		s.write(p, state, p.now().next)
	}
	return changed
}

// step is Windows.Step with the faults.
func (s *stream) step(plaza int16, state *toll.State, merged ...*toll.Delta) bool {
	if s.fault == forgetsAgain {
		merged = nil
	}
	before := len(s.windows.queue.waiting)
	changed := s.windows.Step(plaza, state, merged...)
	if len(s.windows.queue.waiting) > before && s.fault != noFault {
		closing := s.windows.queue.waiting[before].closing
		switch {
		case s.fault == cleansEarly:
			state.Dirty, changed = nil, true
		case s.fault == advancesEarly && closing.Until > state.Done && closing.Until < math.MaxInt32:
			state.Done, changed = closing.Until, true
		}
	}
	return changed
}

func (s *stream) write(p *streamPlaza, state *toll.State, next int) {
	b := must(wire.StateCodec{}.Encode(state))
	s.largest = max(s.largest, len(b))
	if len(p.table) == 64 {
		p.table = slices.Clone(p.table[32:])
	}
	p.table = append(p.table, version{b, next})
}

// observe reads the watermark.
func (s *stream) observe() *Horizon {
	var cursors []toll.Cursor
	for _, src := range s.sources {
		cursors = append(cursors, src.store.Current)
	}
	h := must(HorizonOf(&s.cfg.Config, cursors, len(s.sources),
		func(next map[int32]int64) (map[int32]bool, error) {
			done := map[int32]bool{}
			for p := range next {
				done[p] = next[p] >= int64(len(s.sources[p].log))
			}
			return done, nil
		}))
	h.ending = s.windows.isEnding()
	s.windows.horizons.add(h)
	return h
}

// storeResults stores what was submitted, and publishes what that made.
func (s *stream) storeResults() {
	taken := s.windows.take()
	s.published = must(s.windows.store(context.Background(), taken, s.published))
	s.windows.stored(taken)
}

// inOrder returns the plazas, ascending.
func (s *stream) inOrder() []*streamPlaza {
	var all []*streamPlaza
	for _, id := range slices.Sorted(maps.Keys(s.plazas)) {
		all = append(all, s.plazas[id])
	}
	return all
}

// closeDue visits all plazas until nothing is due any more.
func (s *stream) closeDue() {
	s.observe()
	for again := true; again; {
		again = false
		for _, p := range s.inOrder() {
			again = s.visit(p) || again
		}
		again = again || len(s.windows.queue.waiting) > 0
		s.storeResults()
	}
}

// drain stores, publishes and merges all there is of some partitions.
func (s *stream) drain(partitions ...int) {
	for _, p := range partitions {
		for src := s.sources[p]; src.read < len(src.log) || !src.steps.Empty(); {
			s.gather(p, math.MaxInt)
			s.store(p, 0)
		}
		for s.sources[p].steps.Pending() > 0 {
			s.publish(p, 1)
		}
	}
	for _, p := range s.inOrder() {
		for s.merge(p) {
		}
	}
}

func (s *stream) all() []int {
	all := make([]int, len(s.sources))
	for p := range all {
		all[p] = p
	}
	return all
}

// end ends the stream once all was merged: what is open closes.
func (s *stream) end() error {
	if s.windows.isEnding() { // each run ends once
		s.windows.Reset()
		s.windows.end = nil
	}
	s.windows.End()
	s.observe()
	for range 1000 {
		s.windows.beginVisit()
		for _, p := range s.inOrder() {
			s.visit(p)
		}
		s.windows.endVisit(true, 0)
		if s.windows.AllClosed() {
			return nil
		}
		s.storeResults()
	}
	return errors.New("the stream did not end")
}

// crash drops what is in memory. Each plaza falls back by up to so many of the versions that were
// written, and the loop is read again from an earlier place, which rewind chooses. It returns what
// was in memory: it may live on, in a process that others took for dead.
func (s *stream) crash(versions func() int, rewind func(next int) int) *Windows {
	zombie := s.windows
	s.windows, s.published = s.newWindows(), nil
	for _, p := range s.inOrder() {
		p.table = p.table[:max(len(p.table)-versions(), 1)]
		p.now().next = rewind(p.now().next)
	}
	return zombie
}

// memoryResults are Results in memory. Minutes are counted from the outbox when batches are stored.
type memoryResults struct {
	kinds   []toll.WindowKind
	zones   *toll.ZoneSet
	rows    map[toll.WindowID]*memoryWindow
	waiting map[toll.WindowID]*memoryWindow // of these, results that are not known to be published
	minutes map[int16]map[toll.Minute]*memoryMinute
	sent    map[traffic.NoticeRef]string // what notices said that were returned
	failure error                        // the first

	recounts int // closings that had one
}

type memoryWindow struct {
	toll.WindowResult
	tooLate   int64 // up to now
	recounted bool  // from the outbox
}

// memoryMinute is what batches hold of a plaza's minute.
type memoryMinute struct {
	types, lateQuarter []toll.TypeCount
	late               int64
}

func newMemoryResults(cfg *testConfig) *memoryResults {
	return &memoryResults{
		kinds: cfg.Windows, zones: toll.NewZoneSet(cfg.Zone, cfg.PlazaZones),
		rows:    map[toll.WindowID]*memoryWindow{},
		waiting: map[toll.WindowID]*memoryWindow{},
		minutes: map[int16]map[toll.Minute]*memoryMinute{}, sent: map[traffic.NoticeRef]string{},
	}
}

func (r *memoryResults) fail(format string, args ...any) {
	if r.failure == nil {
		r.failure = fmt.Errorf(format, args...)
	}
}

// row returns the row of a window, which may be one that only events made which came too late.
func (r *memoryResults) row(id toll.WindowID, end toll.Minute) *memoryWindow {
	if r.rows[id] == nil {
		r.rows[id] =
			&memoryWindow{WindowResult: toll.WindowResult{WindowCount: toll.WindowCount{WindowID: id,
				End: end}}}
	}
	return r.rows[id]
}

// add counts a batch that is stored.
func (r *memoryResults) add(b *toll.Batch) {
	for _, c := range b.TooLate {
		r.row(c.WindowID, c.End).tooLate += c.Events
	}
	var events int64
	for _, d := range must(wire.DecodePlazaDeltas(b.Deltas)) {
		events += d.Events
		minutes := r.minutes[d.Plaza]
		if minutes == nil {
			minutes = map[toll.Minute]*memoryMinute{}
			r.minutes[d.Plaza] = minutes
		}
		at := func(m toll.Minute) *memoryMinute {
			if m < b.Minutes.Start || m >= b.Minutes.End && m < math.MaxInt32 {
				r.fail("minute %d is not in the batch's %v", m, b.Minutes)
			}
			if minutes[m] == nil {
				minutes[m] = new(memoryMinute)
			}
			return minutes[m]
		}
		for _, p := range d.Panes {
			m := at(p.Start)
			m.types = toll.AddTypes(m.types, p.Types)
			m.late += p.Late
		}
		for _, p := range d.LateQuarter {
			m := at(p.Start)
			m.lateQuarter = toll.AddTypes(m.lateQuarter, p.Types)
		}
	}
	if events != int64(b.Events()) {
		r.fail("a batch of %d events has deltas of %d", b.Events(), events)
	}
}

// Store implements Results.
func (r *memoryResults) Store(_ context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) ([]traffic.Notice, bool, error) {
	for _, ref := range published {
		if w := r.rows[ref.WindowID]; w != nil && w.Revision == ref.Revision {
			delete(r.waiting, ref.WindowID)
		}
	}
	if left := r.unpublished(closings); len(left) > 0 {
		return left, false, nil
	}
	for i := range closings {
		c := &closings[i]
		for j := range c.Windows {
			r.store(c.Epoch, &c.Windows[j], false)
		}
		for _, w := range r.recount(c) {
			r.store(c.Epoch, &w, true)
		}
	}
	return r.unpublished(closings), true, nil
}

// store stores a window, if it is news. By type a revision has no fewer events than the one before,
// with two exceptions: what was counted from the outbox may have events that no state has merged
// yet, and a day so far may begin again, after a crash from which its plaza catches up.
func (r *memoryResults) store(epoch uint64, w *toll.WindowCount, recounted bool) {
	row := r.row(w.WindowID, w.End)
	old := row.WindowResult
	old.TooLate = row.tooLate
	revised, ok := toll.Revise(&old, epoch, w)
	if !ok {
		return
	}
	had, has := old.Events(), revised.Events()
	switch {
	case revised.Revision != old.Revision+1:
		r.fail("%v: revision %d follows %d", w.WindowID, revised.Revision, old.Revision)
	case has < had || has == had && !(w.Whole && !old.Whole):
		r.fail("%v: revision %d has %d events, and the one before %d", w.WindowID, revised.Revision, has,
			had)
	case revised.End >= old.End && !row.recounted &&
		(!contains(revised.Types, old.Types) || revised.Late < old.Late):
		r.fail("%v: revision %d has %v, and the one before %v", w.WindowID, revised.Revision,
			revised.Types, old.Types)
	}
	row.WindowResult, row.recounted = revised, recounted
	r.waiting[w.WindowID] = row
}

// contains reports whether of each type there are at least as many.
func contains(more, less []toll.TypeCount) bool {
	of := map[string]int64{}
	for _, t := range more {
		of[t.Type] = t.Count
	}
	for _, t := range less {
		if of[t.Type] < t.Count && len(more) < toll.MaxTypes {
			return false
		}
	}
	return true
}

// recount counts the windows that a state can't tell.
func (r *memoryResults) recount(c *toll.Closing) []toll.WindowCount {
	if len(c.Recount) == 0 {
		return nil
	}
	r.recounts++
	zone := r.zones.Of(c.Plaza)
	counts := map[toll.WindowID]*toll.WindowCount{}
	for i := range r.kinds {
		k := &r.kinds[i]
		for m, minute := range r.minutes[c.Plaza] {
			for _, w := range k.Covering(zone, m, nil) {
				end := k.StepEnd(zone, w, c.Until)
				if !toll.InRanges(c.Recount, w) || end <= m {
					continue
				}
				id := toll.WindowID{Plaza: c.Plaza, Kind: k.Name, Start: w.Start}
				if counts[id] == nil {
					counts[id] = &toll.WindowCount{WindowID: id, End: end, Whole: end == w.End, Reason: c.Reason}
				}
				n := counts[id]
				n.Types = toll.AddTypes(n.Types, minute.types)
				n.Late += minute.late
				if k.OfQuarters() {
					n.Types = toll.AddTypes(n.Types, minute.lateQuarter)
					n.Late += toll.SumTypes(minute.lateQuarter)
				}
			}
		}
	}
	var all []toll.WindowCount
	for _, n := range counts {
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b toll.WindowCount) int { return compareIDs(a.WindowID, b.WindowID) })
	return all
}

func compareIDs(a, b toll.WindowID) int {
	return cmp.Or(cmp.Compare(a.Plaza, b.Plaza), cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Start, b.Start))
}

// unpublished returns the notices of the closings' plazas that are to be published, and checks that
// each says what it said before.
func (r *memoryResults) unpublished(closings []toll.Closing) []traffic.Notice {
	var all []traffic.Notice
	plazas := map[int16]bool{}
	for i := range closings {
		plazas[closings[i].Plaza] = true
	}
	for id, w := range r.waiting {
		if !plazas[id.Plaza] {
			continue
		}
		result := w.WindowResult
		n := traffic.Notice{Ref: traffic.NoticeRef{WindowID: w.WindowID, Revision: w.Revision},
			Window: &result}
		text := string(must(appendNotice(nil, &n, r.zones.Of(w.Plaza).Location())))
		if said, ok := r.sent[n.Ref]; ok && said != text {
			r.fail("revision %d of %v said %s, and now says %s", w.Revision, w.WindowID, said, text)
		}
		r.sent[n.Ref] = text
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b traffic.Notice) int {
		return compareIDs(a.Ref.WindowID, b.Ref.WindowID)
	})
	return all
}

// windowScript runs a script on a stream with the default settings. Its lines are
//
//	windows 1m,1h                         the kinds, if others than by default
//	zone Europe/Berlin                    the clock of the events, if not UTC
//	plaza 4000 Asia/Tokyo                 the clock of a plaza, if it is not the events'
//	date 2022-03-27                       the day of the times that follow
//	event p0 4000 10:23:02 car ×3 @10:30:00
//	                                      in partition 0 three cars pass plaza 4000; type, number
//	                                      and record time may be left out
//	advance 40s                           the record time of what follows moves on
//	flush [p0 …]                          what these partitions hold, or all, is stored and merged,
//	                                      and windows close
//	restart                               the process is killed, and the group table falls back by
//	                                      some deltas
//	replay 7                              all of it once more from the start, in batches of 7, one
//	                                      partition after the other;
//	                                      windows must come out as before
//	end                                   the stream ends
//	watermark 10:22:02
//	expect 4000 5m/1m 10:20 count 3       the result of a window that begins then on the plaza's
//	                                      clock
//	expect none 4000 1m 10:24             it has none
//
// where times may have days before them, as in 2d10:23:02. The record time is the first event's
// time, plus a second a line. An expectation may say on_time, late, too_late, revision, reason,
// types (car=2,van=1), minutes (its length) and until (of a day so far).
type windowScript struct {
	t      *testing.T
	cfg    *testConfig
	stream *stream
	day    toll.WallTime
	record time.Time
	line   string
}

func runWindowScript(t *testing.T, script string) {
	t.Helper()
	s := &windowScript{t: t, cfg: newTestConfig()}
	s.cfg.Windows = must(toll.ParseWindows(toll.DefaultWindows))
	s.cfg.BatchRows = 1000
	s.cfg.PlazaZones = map[int16]*toll.Zone{}
	s.day = must(toll.WallTimeFromDate(2022, 2, 10, 0, 0, 0))
	partitions := 1
	for _, word := range strings.Fields(script) {
		if p, ok := strings.CutPrefix(word, "p"); ok {
			if n, err := strconv.Atoi(p); err == nil {
				partitions = max(partitions, n+1)
			}
		}
	}
	for n, line := range strings.Split(strings.TrimSpace(script), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		s.line = fmt.Sprintf("line %d: %s", n+1, line)
		fields := strings.Fields(line)
		if s.stream == nil && !slices.Contains([]string{"windows", "zone", "plaza", "date"}, fields[0]) {
			s.stream = newStream(s.cfg, partitions)
		}
		s.run(fields[0], fields[1:])
		if s.stream != nil && s.stream.results.failure != nil {
			s.fail("%v", s.stream.results.failure)
		}
	}
}

func (s *windowScript) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s: %s", s.line, fmt.Sprintf(format, args...))
}

func (s *windowScript) run(command string, args []string) {
	s.t.Helper()
	switch command {
	case "windows":
		s.cfg.Windows = must(toll.ParseWindows(args[0]))
	case "zone":
		s.cfg.Zone = zoneNamed(args[0])
	case "plaza":
		s.cfg.PlazaZones[s.plaza(args[0])] = zoneNamed(args[1])
	case "date":
		day := must(time.Parse("2006-01-02", args[0]))
		s.day = toll.WallTimeOf(day)
	case "event":
		s.event(args)
	case "advance":
		s.record = s.record.Add(must(time.ParseDuration(args[0])))
	case "flush":
		partitions := s.stream.all()
		if len(args) > 0 {
			partitions = partitions[:0]
			for _, a := range args {
				partitions = append(partitions, s.partition(a))
			}
		}
		s.stream.drain(partitions...)
		s.stream.closeDue()
	case "restart":
		s.restart()
	case "replay":
		s.replay(must(strconv.Atoi(args[0])))
	case "end":
		if err := s.stream.end(); err != nil {
			s.fail("%v", err)
		}
	case "watermark":
		if got, want := s.stream.observe().Mark, s.cfg.Zone.Unix(s.wall(args[0])); !got.Known ||
			got.Time != want {
			s.fail("it is %+v, %v", got, s.cfg.Zone.Wall(time.Unix(got.Time, 0)))
		}
	case "expect":
		s.expect(args)
	default:
		s.fail("no such command")
	}
}

func zoneNamed(name string) *toll.Zone { return toll.NewZone(must(time.LoadLocation(name))) }

func (s *windowScript) plaza(text string) int16 { return int16(must(strconv.Atoi(text))) }
func (s *windowScript) partition(text string) int {
	return must(strconv.Atoi(strings.TrimPrefix(text, "p")))
}

// wall reads a time of day, with days before it.
func (s *windowScript) wall(text string) toll.WallTime {
	s.t.Helper()
	days, clock, ok := strings.Cut(text, "d")
	if !ok {
		days, clock = "0", text
	}
	layout := "15:04:05"
	if strings.Count(clock, ":") == 1 {
		layout = "15:04"
	}
	at, err := time.Parse(layout, clock)
	if err != nil {
		s.fail("%v", err)
	}
	return s.day + toll.WallTime(86400*must(strconv.Atoi(days))+at.Hour()*3600+at.Minute()*60+
		at.Second())
}

func (s *windowScript) event(args []string) {
	p, e, times := s.partition(args[0]), toll.Event{Plaza: s.plaza(args[1]), Time: s.wall(args[2]),
		Type: "car"}, 1
	if s.record.IsZero() {
		s.record = time.Unix(s.cfg.Zone.Unix(e.Time), 0)
	}
	for _, a := range args[3:] {
		if n, ok := strings.CutPrefix(a, "×"); ok {
			times = must(strconv.Atoi(n))
		} else if at, ok := strings.CutPrefix(a, "@"); ok {
			s.record = time.Unix(s.cfg.Zone.Unix(s.wall(at)), 0)
		} else {
			e.Type = a
		}
	}
	for range times {
		s.stream.sources[p].append(e, s.record)
	}
	s.record = s.record.Add(time.Second)
}

// append appends an event to a partition's log.
func (p *streamSource) append(e toll.Event, at time.Time) {
	p.log = append(p.log,
		logged{&kgo.Record{Offset: int64(len(p.log)), Timestamp: at, Value: codecs.AppendCSV(nil, &e)},
			e})
}

func (s *windowScript) restart() {
	s.stream.crash(func() int { return 3 }, func(int) int { return 0 })
	for p := range s.stream.sources {
		s.stream.openSource(p)
	}
	s.stream.drain(s.stream.all()...)
	s.stream.closeDue()
}

func (s *windowScript) replay(rows int) {
	s.t.Helper()
	cfg := *s.cfg
	cfg.BatchRows = rows
	before := s.stream
	s.stream = newStream(&cfg, len(before.sources))
	for p := range s.stream.sources {
		s.stream.sources[p].log = before.sources[p].log
	}
	for p := len(before.sources) - 1; p >= 0; p-- {
		for src := s.stream.sources[p]; src.read < len(src.log); {
			s.stream.gather(p, rows)
			s.stream.store(p, 0)
			s.stream.publish(p, 1)
			s.stream.drain()
			s.stream.closeDue()
		}
	}
	if before.windows.isEnding() {
		if err := s.stream.end(); err != nil {
			s.fail("%v", err)
		}
	}
	if err := sameWindows(s.stream.results.contents(), before.results.contents()); err != nil {
		s.fail("%v", err)
	}
}

// content is what a window holds when all is over, whatever the way there.
type content struct {
	end           toll.Minute
	types         string
	late, tooLate int64
}

func (r *memoryResults) contents() map[toll.WindowID]content {
	all := map[toll.WindowID]content{}
	for id, w := range r.rows {
		all[id] = content{w.End, fmt.Sprint(w.Types), w.Late, w.tooLate}
	}
	return all
}

func sameWindows(got, want map[toll.WindowID]content) error {
	for id, w := range want {
		if g, ok := got[id]; !ok || g != w {
			return fmt.Errorf("%d's window %s of %v: got %+v (%v), want %+v", id.Plaza, id.Kind,
				id.Start.Time(), g, ok, w)
		}
	}
	for id, g := range got {
		if _, ok := want[id]; !ok {
			return fmt.Errorf("%d's window %s of %v is too much: %+v", id.Plaza, id.Kind, id.Start.Time(), g)
		}
	}
	return nil
}

func (s *windowScript) expect(args []string) {
	s.t.Helper()
	none := args[0] == "none"
	if none {
		args = args[1:]
	}
	plaza := s.plaza(args[0])
	zone := s.stream.results.zones.Of(plaza)
	w := s.stream.results.rows[toll.WindowID{Plaza: plaza, Kind: args[1],
		Start: zone.Minute(s.wall(args[2]))}]
	if none {
		if w != nil && w.Revision > 0 {
			s.fail("it has one: %+v", w)
		}
		return
	}
	if w == nil {
		s.fail("it has none")
	}
	sofar := false
	for i := 3; i+1 < len(args); i += 2 {
		var got any
		want := args[i+1]
		switch args[i] {
		case "count":
			got = w.Events()
		case "on_time":
			got = w.Events() - w.Late
		case "late":
			got = w.Late
		case "too_late":
			got = w.tooLate
		case "revision":
			got = w.Revision
		case "reason":
			got, want = strings.ReplaceAll(string(w.Reason), " ", "_"), strings.ReplaceAll(want, " ", "_")
		case "minutes":
			got = int64(w.End) - int64(w.Start)
		case "until":
			sofar = true
			got, want = zone.Wall(w.End.Time()).String(), s.wall(want).String()
		case "types":
			var all []string
			for _, t := range w.Types {
				all = append(all, fmt.Sprintf("%s=%d", t.Type, t.Count))
			}
			got = strings.Join(all, ",")
		default:
			s.fail("no such thing as %s", args[i])
		}
		if fmt.Sprint(got) != want {
			s.fail("%s is %v: %+v", args[i], got, w)
		}
	}
	if w.Revision > 0 && w.Whole == sofar {
		s.fail("whole is %v: %+v", w.Whole, w)
	}
}

func TestWindowScripts(t *testing.T) {
	for name, script := range map[string]string{
		"on time": `
			event p0 4000 10:20:10 car ×2
			event p0 4000 10:20:40 truck
			event p0 4000 10:22:00
			flush
			watermark 10:21:00
			expect 4000 1m 10:20 count 3 on_time 3 late 0 too_late 0 revision 1 reason watermark types car=2,truck=1
			expect none 4000 1m 10:21
			expect none 4000 1m 10:22
			expect none 4000 1m 10:19`,
		"out of order within the lateness is on time": `
			event p0 4000 10:20:50
			event p0 4001 10:21:40
			event p0 4000 10:20:40 # a minute behind
			event p0 4000 10:22:30
			flush
			expect 4000 1m 10:20 count 2 on_time 2 late 0 revision 1`,
		"late": `
			event p0 4000 10:20:10 ×2
			event p0 4000 10:22:30
			flush
			watermark 10:21:30
			expect 4000 1m 10:20 count 2 on_time 2 late 0 revision 1
			expect none 4000 15m 10:15
			event p0 4000 10:20:59 truck
			flush
			watermark 10:21:30
			expect 4000 1m 10:20 count 3 on_time 2 late 1 too_late 0 revision 2 reason watermark types car=2,truck=1
			event p0 4000 10:31:00
			flush
			expect 4000 15m 10:15 count 4 on_time 3 late 1 revision 1`,
		"late for a minute in which nothing was": `
			event p0 4000 10:20:10
			event p0 4000 10:25:00
			flush
			event p0 4000 10:22:00
			flush
			expect 4000 1m 10:22 count 1 on_time 0 late 1 revision 1`,
		"late by more than two hours changes quarters only": `
			event p0 4000 10:20:10
			event p0 4000 12:21:11 @12:21:11 # is ahead
			event p0 4000 12:21:11
			event p0 4000 12:21:11
			flush
			watermark 12:20:11
			expect 4000 1m 10:20 count 1 revision 1
			event p0 4000 10:20:11 truck # as late as can be
			event p0 4000 10:20:10 truck
			flush
			expect 4000 1m 10:20 count 2 on_time 1 late 1 too_late 1 revision 2
			expect 4000 5m/1m 10:16 count 2 late 1 too_late 1
			expect 4000 15m 10:15 count 3 on_time 1 late 2 too_late 0
			expect 4000 1h 10:00 count 3 on_time 1 late 2 too_late 0
			expect 4000 day 00:00 count 3 on_time 1 late 2 too_late 0 until 12:15`,
		"late by more than two days changes nothing": `
			event p0 4000 10:20:10
			event p0 4000 2d10:21:11 @2d10:21:11
			event p0 4000 2d10:21:11
			event p0 4000 2d10:21:11
			flush
			watermark 2d10:20:11
			expect 4000 1h 10:00 count 1 revision 1
			event p0 4000 10:20:11 # as late as can be for quarters
			event p0 4000 10:20:10
			event p0 4000 09:59:59 ×2
			flush
			expect 4000 1h 10:00 count 2 late 1 too_late 1 revision 2
			expect 4000 day 00:00 count 2 late 1 too_late 3
			expect 4000 1m 10:20 count 1 too_late 2 revision 1
			expect 4000 1h 09:00 count 0 too_late 2 revision 0
			expect none 4000 1h 09:00`,
		"out of order across partitions": `
			event p0 4000 10:20:10
			event p0 4000 10:30:00
			event p1 4000 10:19:00
			flush p0
			expect none 4000 1m 10:20 # partition 1 holds events that are not stored
			flush p1
			watermark 10:18:00
			expect none 4000 1m 10:20
			event p1 4000 10:20:30 # a minute and more behind partition 0, and on time in its own
			event p1 4000 10:24:00
			flush
			watermark 10:23:00
			expect 4000 1m 10:20 count 2 on_time 2 late 0 revision 1 reason watermark
			expect 4000 1m 10:19 count 1 on_time 1 late 0 revision 1`,
		"idle partition": `
			event p1 4000 10:20:10
			event p0 4000 10:20:20
			event p0 4000 10:25:00
			flush
			watermark 10:19:10
			expect none 4000 1m 10:20
			advance 27s
			event p0 4000 10:25:30 # 30 seconds of record time after partition 1's last
			flush
			expect none 4000 1m 10:20
			event p0 4000 10:25:31
			flush
			watermark 10:24:31
			expect 4000 1m 10:20 count 2 on_time 2 revision 1 reason idle
			event p1 4000 10:20:40 # it had been on time
			flush
			watermark 10:19:40
			expect 4000 1m 10:20 count 3 on_time 3 late 0 revision 2 reason idle`,
		"a partition that is slow is not idle": `
			event p0 4000 10:20:20
			event p1 4000 10:20:10
			flush
			event p0 4000 10:25:00 @10:25:00
			event p1 4000 10:20:40 @10:20:40
			flush p0
			expect none 4000 1m 10:20
			flush p1
			expect 4000 1m 10:20 count 3 on_time 3 revision 1 reason idle`,
		"all idle": `
			event p0 4000 10:20:20
			event p1 4000 10:20:10
			event p0 4000 10:21:10
			event p1 4000 10:21:30
			advance 100h # without an event no time passes
			flush
			watermark 10:20:10
			expect none 4000 1m 10:20
			restart
			expect none 4000 1m 10:20
			end
			expect 4000 1m 10:20 count 2 revision 1 reason end_of_stream`,
		"a partition never written to holds nothing back": `
			event p0 4000 10:20:20
			event p0 4000 10:22:20
			flush
			watermark 10:21:20
			expect 4000 1m 10:20 count 1 reason watermark
			event p1 4000 10:23:00 # and does so from its first event on
			event p0 4000 10:29:00
			flush
			watermark 10:22:00
			expect none 4000 1m 10:22`,
		"far-future clock at one plaza": `
			event p0 4000 10:20:10
			event p0 4001 10:20:11
			event p0 4002 2000d00:00:00 @10:20:12 ×500
			event p0 4000 10:20:30
			event p0 4001 10:21:00
			event p0 4002 2000d00:01:00
			event p0 4000 10:22:00
			flush
			watermark 10:21:00
			expect 4000 1m 10:20 count 2 on_time 2 revision 1
			expect 4001 1m 10:20 count 1 on_time 1 revision 1
			expect none 4002 1m 2000d00:00
			end
			expect 4002 1m 2000d00:00 count 500 on_time 500 revision 1 reason end_of_stream
			expect 4000 1m 10:22 count 1 reason end_of_stream`,
		"far-future clock alone in its partition": `
			event p0 4000 10:20:10
			event p1 4002 2000d00:00:00 @10:20:12 ×10
			event p0 4000 10:23:10
			flush
			watermark 10:22:10
			expect none 4002 1m 2000d00:00
			expect 4000 1m 10:20 count 1 on_time 1`,
		"quiet night": `
			event p0 4000 20:00:10
			event p0 4001 20:00:20
			event p0 4002 20:00:30
			flush
			expect none 4000 1m 20:00
			event p0 4000 1d05:30:00 @1d05:30:00
			event p0 4001 1d05:31:00 @1d05:31:00
			flush
			watermark 19:59:30
			event p0 4000 1d05:32:00 @1d05:32:00 # the third
			flush
			watermark 1d05:30:00 # what 4001 has reached: 4002 has no say after ten minutes
			expect 4000 1m 20:00 count 1 on_time 1 revision 1
			expect 4002 1m 20:00 count 1 on_time 1 revision 1
			expect 4000 day 00:00 count 1 revision 1`,
		"compressed simulation": `
			event p0 4000 06:00:00 @10:00:00
			event p0 4001 06:20:00 # twenty minutes a second
			event p0 4000 06:40:00
			event p0 4001 07:00:00
			event p0 4000 07:20:00
			event p0 4001 07:40:00
			event p0 4000 08:00:00
			event p0 4001 08:20:00
			flush
			watermark 07:39:00 # every third event is a jump
			expect 4000 1h 06:00 count 2 on_time 2
			expect 4001 1h 06:00 count 1 on_time 1
			expect none 4001 1h 07:00
			event p0 4000 08:40:00
			event p0 4001 09:00:00
			flush
			watermark 08:39:00
			expect 4001 1h 07:00 count 2 on_time 2`,
		"producers in another timezone": `
			event p0 4000 10:20:10
			event p0 4001 10:20:20
			event p0 4002 19:20:30 @10:20:30 # nine hours east
			event p0 4000 10:21:10
			event p0 4001 10:22:10
			event p0 4002 19:22:30
			flush
			watermark 10:21:10
			expect 4000 1m 10:20 count 1 on_time 1
			expect none 4002 1m 19:20
			event p0 4000 19:22:40 # all are, from now on
			event p0 4001 19:23:40
			event p0 4002 19:23:50
			flush
			watermark 19:22:50
			expect 4002 1m 19:20 count 1 on_time 1
			expect 4001 1m 10:22 count 1 on_time 1`,
		"all producers in another timezone": `
			event p0 4000 19:20:10 @10:20:10
			event p0 4001 19:20:20
			event p0 4000 19:22:10
			flush
			watermark 19:21:10
			expect 4000 1m 19:20 count 1 on_time 1 reason watermark`,
		"the plaza's clock is not the database's": `
			zone UTC
			plaza 4000 Asia/Kathmandu # 5:45 ahead
			event p0 4000 18:10:00 @18:10:00
			event p0 4001 18:10:00
			event p0 4000 18:20:00
			event p0 4001 19:40:00 @19:40:00
			event p0 4001 19:50:00
			event p0 4001 19:59:00
			flush
			expect 4000 day 00:00 count 1 minutes 1440 revision 1
			expect 4000 1h 23:00 count 1 minutes 60
			expect 4000 1h 1d00:00 count 1 minutes 60
			expect 4000 day 1d00:00 count 1 until 1d01:30
			expect 4001 1h 18:00 count 1
			expect none 4001 1h 23:00`,
		"clocks set forward": `
			zone Europe/Berlin
			date 2022-03-27
			event p0 4000 01:59:59
			event p0 4000 03:00:00 # a second later
			event p0 4000 02:30:00 # never shown: the last second before 03:00
			event p0 4000 04:05:00
			event p0 4000 1d00:20:00 @1d00:20:00 ×3
			flush
			expect 4000 1h 01:00 count 2 minutes 60
			expect 4000 1h 03:00 count 1 minutes 60
			expect 4000 1m 01:59 count 2
			expect none 4000 1m 03:30
			expect 4000 5m/1m 01:55 count 2 minutes 5
			expect 4000 5m/1m 01:56 count 2 minutes 4 # the change ends it
			expect 4000 day 00:00 count 4 minutes 1380`,
		"clocks set back": `
			zone Europe/Berlin
			date 2022-10-30
			event p0 4000 01:59:59
			event p0 4000 02:00:00
			event p0 4000 02:59:59 # the first time: it can't be told from the second
			event p0 4000 03:00:00
			event p0 4000 03:05:00
			event p0 4000 04:01:00 ×3
			flush
			expect 4000 1h 01:00 count 1 minutes 60
			expect 4000 1h 02:00 count 2 minutes 120 # it closes after two real hours
			expect 4000 15m 02:45 count 1 minutes 75
			expect 4000 1h 03:00 count 2 minutes 60
			expect 4000 1m 02:59 count 1 minutes 61
			event p0 4000 1d00:20:00 @1d00:20:00 ×3
			flush
			expect 4000 day 00:00 count 8 minutes 1500`,
		"clocks set back by half an hour": `
			zone Australia/Lord_Howe
			date 2022-04-03
			event p0 4000 01:29:59
			event p0 4000 01:30:00
			event p0 4000 01:59:59
			event p0 4000 02:00:00
			event p0 4000 03:05:00
			event p0 4000 1d00:20:00 @1d00:20:00 ×3
			flush
			expect 4000 1h 01:00 count 3 minutes 90
			expect 4000 15m 01:45 count 1 minutes 45
			expect 4000 1h 02:00 count 1 minutes 60
			expect 4000 day 00:00 count 5 minutes 1470`,
		"clocks set forward by half an hour": `
			zone Australia/Lord_Howe
			date 2022-10-02
			event p0 4000 01:59:59
			event p0 4000 02:30:00 # a second later
			event p0 4000 03:05:00
			event p0 4000 1d00:20:00 @1d00:20:00 ×3
			flush
			expect 4000 1h 01:00 count 1 minutes 60
			expect 4000 1h 02:30 count 1 minutes 30
			expect 4000 day 00:00 count 3 minutes 1410`,
		"window boundaries, a second either side": `
			event p0 4000 10:14:59
			event p0 4000 10:15:00
			event p0 4000 10:15:01
			event p0 4000 10:15:59
			event p0 4000 10:16:00
			event p0 4000 10:16:59 # the watermark is a second short
			flush
			expect 4000 1m 10:14 count 1
			expect none 4000 1m 10:15
			event p0 4000 10:17:00
			flush
			watermark 10:16:00
			expect 4000 1m 10:15 count 3
			expect 4000 5m/1m 10:10 count 1
			expect 4000 5m/1m 10:11 count 4
			expect none 4000 5m/1m 10:12
			expect 4000 15m 10:00 count 1
			expect none 4000 15m 10:15
			end
			expect 4000 15m 10:15 count 6 minutes 15`,
		"hopping windows": `
			windows 5m/1m,7m/2m
			event p0 4000 10:22:30
			event p0 4000 10:40:00 @10:40:00 ×3
			flush
			expect none 4000 5m/1m 10:17
			expect 4000 5m/1m 10:18 count 1 minutes 5
			expect 4000 5m/1m 10:19 count 1
			expect 4000 5m/1m 10:20 count 1
			expect 4000 5m/1m 10:21 count 1
			expect 4000 5m/1m 10:22 count 1
			expect none 4000 5m/1m 10:23
			expect none 4000 7m/2m 10:14
			expect 4000 7m/2m 10:16 count 1 minutes 7
			expect 4000 7m/2m 10:22 count 1
			event p0 4000 10:20:00 # late
			flush
			expect 4000 5m/1m 10:16 count 1 late 1 revision 1
			expect 4000 5m/1m 10:18 count 2 late 1 revision 2
			expect 4000 5m/1m 10:22 count 1 late 0 revision 1`,
		"a quiet plaza's windows close without its next event": `
			event p0 4000 10:20:10
			event p0 4001 10:20:20
			flush
			expect none 4000 1m 10:20
			event p0 4001 10:27:00
			flush
			expect 4000 1m 10:20 count 1 revision 1 reason watermark
			expect 4000 5m/1m 10:20 count 1
			expect none 4000 15m 10:15
			event p0 4001 10:31:00
			flush
			expect 4000 15m 10:15 count 1`,
		"the day so far is stored where it changed": `
			event p0 4000 10:20:10
			event p0 4001 10:29:00
			flush
			expect none 4000 day 00:00
			event p0 4001 10:31:00
			flush
			expect 4000 day 00:00 count 1 until 10:30 revision 1
			event p0 4001 10:40:00
			event p0 4001 10:50:00
			event p0 4001 11:00:00
			event p0 4001 11:10:00
			flush
			expect 4000 day 00:00 count 1 until 10:30 revision 1
			event p0 4000 11:10:30
			event p0 4001 11:17:00
			flush
			expect 4000 day 00:00 count 2 until 11:15 revision 2
			event p0 4000 10:25:00 # late
			flush
			expect 4000 day 00:00 count 3 late 1 until 11:15 revision 3
			event p0 4001 1d00:20:00 @1d00:20:00 ×3
			flush
			expect 4000 day 00:00 count 3 late 1 revision 4 minutes 1440 # the whole day
			end
			expect 4000 day 00:00 count 3 late 1 revision 4`,
		"end of stream": `
			event p0 4000 10:20:10 ×2
			event p0 4000 10:22:30 truck
			flush
			end
			expect 4000 1m 10:20 count 2 reason watermark revision 1
			expect 4000 1m 10:22 count 1 reason end_of_stream revision 1
			expect 4000 1h 10:00 count 3 reason end_of_stream
			expect 4000 day 00:00 count 3 reason end_of_stream minutes 1440
			event p0 4000 10:22:40 # there is more after all
			event p0 4000 10:24:00
			flush
			expect 4000 1m 10:22 count 2 on_time 2 revision 2 reason end_of_stream types car=1,truck=1
			end
			expect 4000 1h 10:00 count 5 revision 2`,
		"killed and started again": `
			event p0 4000 10:20:10 ×2
			flush
			event p0 4000 10:21:30
			flush
			event p0 4000 10:22:30
			flush
			event p0 4000 10:20:40
			flush
			expect 4000 1m 10:20 count 3 late 1 revision 2
			restart
			expect 4000 1m 10:20 count 3 late 1 revision 2
			event p0 4000 10:20:50
			flush
			restart
			expect 4000 1m 10:20 count 4 late 2 revision 3`,
		"replay in batches of other sizes": `
			event p0 4000 10:20:10 ×7
			event p1 4000 10:21:20
			event p0 4001 10:24:20 truck ×3
			flush p0
			event p1 4001 10:26:00
			event p0 4000 10:27:20
			event p0 4000 10:20:00 ×2 # late
			event p1 4001 10:31:00
			flush
			event p0 4000 13:00:00 @13:00:00 ×3
			event p0 4000 10:22:00 # late for minutes
			event p1 4000 13:00:00 ×3
			event p1 4001 2d17:00:00 @2d17:00:00 ×5
			event p1 4001 14:00:00
			event p1 4001 12:00:00 # too late
			flush
			end
			expect 4000 1m 10:20 count 9 on_time 7 late 2
			expect 4000 15m 10:15 count 12 on_time 9 late 3
			expect 4001 1h 12:00 count 0 too_late 1 revision 0
			replay 1
			expect 4000 1m 10:20 count 9 on_time 7 late 2
			replay 2
			replay 3
			replay 1000`,
	} {
		t.Run(name, func(t *testing.T) { runWindowScript(t, script) })
	}
}

// The stream has not ended as long as it is not known of some plaza whether all was merged.
func TestEndWaitsForWhatIsNotMerged(t *testing.T) {
	cfg := newTestConfig()
	cfg.Windows = must(toll.ParseWindows(toll.DefaultWindows))
	s := newStream(cfg, 1)
	at := must(toll.WallTimeFromDate(2022, 2, 10, 10, 20, 0))
	visit := func() bool {
		s.windows.beginVisit()
		for _, p := range s.inOrder() {
			s.visit(p)
		}
		s.windows.endVisit(true, 0)
		s.storeResults()
		return s.windows.AllClosed()
	}
	s.sources[0].append(toll.Event{Time: at, Type: "car", Plaza: 4000}, time.Unix(0, 0))
	s.drain(0)
	s.windows.End()
	if visit() {
		t.Fatal("ended before a watermark was read")
	}
	s.sources[0].append(toll.Event{Time: at + 60, Type: "car", Plaza: 4000}, time.Unix(1, 0))
	s.gather(0, 1)
	s.store(0, 0)
	s.publish(0, 1)
	s.observe()
	if visit() {
		t.Fatal("ended before all was merged")
	}
	s.drain(0)
	for n := 0; !visit(); n++ {
		if n == 10 {
			t.Fatal("did not end")
		}
	}
	if n := len(s.results.rows); n != 2+6+1+1+1 {
		t.Errorf("%d windows", n)
	}
}
