package closing

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/internal/simtest"
)

// windowCase is a random stream: what its partitions hold, and the settings. It is a function of
// its seed.
type windowCase struct {
	zone     string
	zones    map[int16]string
	kinds    string
	lateness time.Duration
	logs     [][]logged
	refuse   map[int32]bool // vehicles of rows that the database refuses
}

func (c *windowCase) events() int {
	n := 0
	for _, log := range c.logs {
		n += len(log)
	}
	return n
}

func (c *windowCase) String() string {
	return fmt.Sprintf("%d partitions, %d events, windows %s, lateness %v, zone %s, plazas' %v",
		len(c.logs), c.events(), c.kinds, c.lateness, c.zone, c.zones)
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func newWindowCase(seed uint64) *windowCase {
	rng := rand.New(rand.NewPCG(seed, 10))
	c := &windowCase{
		zone: pick(rng, "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu",
			"Australia/Lord_Howe", "America/St_Johns", "Africa/Monrovia"),
		kinds: pick(rng, toll.DefaultWindows, toll.DefaultWindows, toll.DefaultWindows,
			"1m,7m/2m,1h/15m,day/5m", "2h30m/30m,24h/1h,3m",
			"4h5m/5m,1m", "23h59m/2h24m,15m,day/1h", "24h,30m/15m", "25m/10m,8h"),
		zones:    map[int16]string{},
		lateness: pick(rng, 0, time.Minute, time.Minute, 10*time.Minute, 2*time.Hour),
		refuse:   map[int32]bool{},
	}
	// On most of these dates clocks were set somewhere. On the last, Monrovia was 44:30 minutes from
	// UTC.
	date := pick(rng, "2022-03-27", "2022-10-30", "2022-02-10", "2022-04-03", "2022-11-06",
		"2010-11-07", "2010-03-14", "1971-05-01")
	day := toll.WallTimeOf(must(time.Parse("2006-01-02", date)))
	plazas := make([]int16, 1+rng.IntN(6))
	clocks := make([]int64, len(plazas)) // how wrong their clocks are, seconds
	for i := range plazas {
		plazas[i] = int16(4000 + rng.IntN(100))
		if rng.IntN(3) == 0 {
			c.zones[plazas[i]] = pick(rng, "UTC", "Asia/Tokyo", "America/New_York", "Asia/Kathmandu",
				"Africa/Monrovia", "Australia/Lord_Howe", "America/St_Johns")
		}
		if rng.IntN(8) == 0 {
			clocks[i] = rng.Int64N(2*86400*365) - 86400*365
		}
	}
	types := make([]string, 1+rng.IntN(6))
	length := 30 + rng.IntN(300)
	if rng.IntN(16) == 0 { // states give up panes
		types, length = make([]string, toll.MaxTypes-1), 1000
	}
	for i := range types {
		types[i] = fmt.Sprintf("type %d", i)
	}
	wild := rng.IntN(8) == 0      // some clocks are wrong by random
	jumps := pick(rng, 1, 20, 20) // how rare they are
	spread := pick[int64](rng, 60, 6*3600)
	c.logs = make([][]logged, 1+rng.IntN(4))
	for p := range c.logs {
		at, sent := int64(day)+rng.Int64N(spread), int64(day)+rng.Int64N(60)
		step := pick[int64](rng, 1, 5, 30, 120, 400)
		if spread < 3600 {
			step = 30
		}
		quiet := pick[int64](rng, 1, 1, 2, 40)
		burst := 0
		var log streamSource
		for i := range length / len(c.logs) {
			switch {
			case burst > 0:
				burst--
			case rng.IntN(40) == 0:
				burst = rng.IntN(30)
			default:
				at += rng.Int64N(2 * step)
			}
			switch rng.IntN(150 * jumps) {
			case 0:
				at += rng.Int64N(4 * 3600)
			case 1:
				at += rng.Int64N(3 * 86400)
			case 2:
				at -= rng.Int64N(6 * 3600)
			}
			sent += rng.Int64N(2 * quiet)
			n := rng.IntN(len(plazas))
			e := toll.Event{Plaza: plazas[n], Type: types[rng.IntN(len(types))],
				Vehicle: int32(p*1_000_000 + i)}
			at := at + clocks[n] + astray(rng)
			if wild && n == 0 {
				at += rng.Int64N(40 * 86400)
			}
			e.Time = min(max(toll.WallTime(at), toll.MinWallTime), toll.MaxWallTime)
			if rng.IntN(200) == 0 {
				c.refuse[e.Vehicle] = true
			}
			log.append(e, time.Unix(sent, 0))
		}
		c.logs[p] = log.log
	}
	return c
}

// astray returns how far an event is from where its partition has come to, in seconds: mostly not
// at all.
func astray(rng *rand.Rand) int64 {
	switch n := rng.IntN(1000); {
	case n < 80:
		return -rng.Int64N(240)
	case n < 120:
		return -rng.Int64N(3 * 3600)
	case n < 140:
		return -rng.Int64N(3 * 86400)
	case n < 150:
		return -rng.Int64N(20 * 86400)
	case n < 170:
		return rng.Int64N(1200)
	case n < 180:
		return rng.Int64N(10 * 365 * 86400)
	case n < 181:
		return int64(toll.MaxWallTime)
	}
	return 0
}

// run reads a case in a random order, with crashes, zombies and rebalances, and ends it. Its error
// says what does not hold.
func (c *windowCase) run(seed uint64, fault fault) (*stream, error) {
	rng := rand.New(rand.NewPCG(seed, 11))
	cfg := newTestConfig()
	cfg.Zone, cfg.Windows, cfg.PlazaZones = zoneNamed(c.zone), must(toll.ParseWindows(c.kinds)),
		map[int16]*toll.Zone{}
	for plaza, name := range c.zones {
		cfg.PlazaZones[plaza] = zoneNamed(name)
	}
	cfg.Lateness, cfg.Idle = c.lateness, pick(rng, time.Second, 30*time.Second, time.Hour)
	cfg.BatchRows = pick(rng, 1, 7, 40, 1000)
	s := newStream(cfg, len(c.logs))
	s.fault = fault
	speeds, total := make([]int, len(c.logs)), 0
	for p := range s.sources {
		s.sources[p].log = c.logs[p]
		s.sources[p].store.Refuse = maps.Clone(c.refuse)
		speeds[p] = pick(rng, 1, 20, 400)
		total += speeds[p]
	}
	source := func() int {
		at := rng.IntN(total)
		for p, speed := range speeds {
			if at -= speed; at < 0 && s.unfinished(p) {
				return p
			}
		}
		return rng.IntN(len(c.logs))
	}
	plaza := func() *streamPlaza {
		if all := s.inOrder(); len(all) > 0 {
			return all[rng.IntN(len(all))]
		}
		return &streamPlaza{table: []version{{}}}
	}
	faults := pick(rng, 0, 2, 6) // crashes and the like in a hundred steps
	slow := pick(rng, 1, 1, 8)   // how much rarer results are stored
	if fault != noFault {
		faults, slow = 3, 1
	}
	var zombies []*zombie
	for steps := 0; s.unfinishedAny() && steps < 20_000; steps++ {
		if rng.IntN(100) < faults {
			switch rng.IntN(6) {
			case 0, 1: // killed
				limit := 1 + rng.IntN(8)
				if rng.IntN(2) == 0 { // after the results were stored, before they were published
					taken := s.windows.take()
					closings := make([]toll.Closing, len(taken))
					for i := range taken {
						closings[i] = taken[i].closing
					}
					_, _, _ = s.results.Store(context.Background(), closings, s.published)
				}
				published := s.published
				dead := s.crash(func() int {
					return rng.IntN(limit)
				}, func(next int) int { return rng.IntN(next + 1) })
				if rng.IntN(3) == 0 {
					zombies = append(zombies, &zombie{dead, published})
				}
				fallthrough
			case 2:
				for p := range s.sources {
					s.openSource(p)
				}
			case 3: // a rebalance, with some submissions under way
				taken := s.windows.take()
				s.windows.Reset()
				s.published = must(s.windows.store(context.Background(), taken, s.published))
				s.windows.stored(taken)
			default:
				if len(zombies) > 0 {
					zombies[rng.IntN(len(zombies))].store()
				}
			}
		}
		switch rng.IntN(20) {
		case 0, 1, 2, 3, 4:
			s.gather(source(), 1+rng.IntN(60))
		case 5, 6, 7:
			s.store(source(), rng.IntN(20))
		case 8, 9, 10:
			s.publish(source(), 1+rng.IntN(3))
		case 11, 12, 13, 14:
			for p, n := plaza(), 1+rng.IntN(6); n > 0 && s.merge(p); n-- {
			}
		case 15:
			s.observe()
		case 16, 17:
			s.visit(plaza())
		case 18:
			if rng.IntN(slow) == 0 {
				s.storeResults()
			}
		case 19:
			p := source()
			must(0, s.sources[p].steps.MarkAcked())
		}
		if s.results.failure != nil {
			return s, s.results.failure
		}
	}
	events := s.classify()
	s.drain(s.all()...)
	s.closeDue()
	if err := s.checkClosed(events); err != nil {
		return s, fmt.Errorf("before the end: %w", err)
	}
	if err := s.end(); err != nil {
		return s, err
	}
	for _, z := range zombies {
		z.store()
	}
	if s.results.failure != nil {
		return s, s.results.failure
	}
	return s, s.checkAll(events)
}

// zombie is a process that was taken for dead, and still stores what it had to submit.
type zombie struct {
	windows   *Windows
	published []traffic.NoticeRef
}

func (z *zombie) store() {
	taken := z.windows.take()
	z.published = must(z.windows.store(context.Background(), taken, z.published))
	z.windows.stored(taken)
}

func (s *stream) unfinished(p int) bool {
	src := s.sources[p]
	return src.read < len(src.log) || !src.steps.Empty() || src.steps.Pending() > 0
}

func (s *stream) unfinishedAny() bool {
	for p := range s.sources {
		if s.unfinished(p) {
			return true
		}
	}
	for _, p := range s.plazas {
		if p.now().next < len(p.loop) {
			return true
		}
	}
	return false
}

// judged is an event with what its partition's clock makes of it.
type judged struct {
	plaza      int16
	minute     toll.Minute
	typ        string
	timeliness toll.Timeliness
}

// classify judges all events that the database takes, in the order of their offsets.
func (s *stream) classify() []judged {
	var all []judged
	for _, src := range s.sources {
		var clock toll.Clock
		for i := range src.log {
			e := &src.log[i].event
			if src.store.Refuse[e.Vehicle] {
				continue
			}
			at := s.cfg.Zone.Unix(e.Time)
			t, _ := clock.Observe(e.Plaza, at, src.log[i].record.Timestamp.UnixMilli(),
				int64(s.cfg.Lateness/time.Second))
			all = append(all, judged{e.Plaza, toll.MinuteAt(at), e.Type, t})
		}
	}
	return all
}

// counted is what a window holds by a naive count.
type counted struct {
	end           toll.Minute
	types         map[string]int64
	late, tooLate int64
}

func (c *counted) events() int64 {
	var n int64
	for _, of := range c.types {
		n += of
	}
	return n
}

// count counts windows by going through all events, up to the minute that until gives for a window.
func (s *stream) count(events []judged,
	until func(k *toll.WindowKind, z *toll.Zone, plaza int16,
		w toll.Window) toll.Minute) map[toll.WindowID]*counted {
	all := map[toll.WindowID]*counted{}
	var windows []toll.Window
	zones := toll.NewZoneSet(s.cfg.Zone, s.cfg.PlazaZones)
	for i := range s.cfg.Windows {
		k := &s.cfg.Windows[i]
		for _, e := range events {
			z := zones.Of(e.plaza)
			windows = k.Covering(z, e.minute, windows[:0])
			for _, w := range windows {
				id := toll.WindowID{Plaza: e.plaza, Kind: k.Name, Start: w.Start}
				n := all[id]
				if n == nil {
					n = &counted{end: until(k, z, e.plaza, w), types: map[string]int64{}}
					all[id] = n
				}
				switch {
				case e.timeliness == toll.TooLate || e.timeliness == toll.LateQuarter && !k.OfQuarters():
					n.tooLate++
				case e.minute < n.end:
					n.types[e.typ]++
					if e.timeliness != toll.OnTime {
						n.late++
					}
				}
			}
		}
	}
	return all
}

// checkAll checks that each window is stored, whole, as a count of all events makes it.
func (s *stream) checkAll(events []judged) error {
	want := s.count(events,
		func(_ *toll.WindowKind, _ *toll.Zone, _ int16, w toll.Window) toll.Minute {
			return w.End
		})
	for id, n := range want {
		if err := s.checkWindow(id, n, true); err != nil {
			return err
		}
	}
	for id, row := range s.results.rows {
		if want[id] == nil {
			return fmt.Errorf("%v is no window: %+v", id, row)
		}
	}
	return nil
}

// checkClosed checks those windows that the watermark has passed. One that was stored as far as a
// later minute is left out: the watermark has gone back since, and the process was killed, so it is
// taken for open.
func (s *stream) checkClosed(events []judged) error {
	until := s.observe().until
	want := s.count(events,
		func(k *toll.WindowKind, z *toll.Zone, _ int16, w toll.Window) toll.Minute {
			return k.StepEnd(z, w, until)
		})
	for id, n := range want {
		if row := s.results.rows[id]; row != nil && row.Revision > 0 && row.End > n.end {
			continue
		}
		if err := s.checkWindow(id, n, false); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) checkWindow(id toll.WindowID, want *counted, whole bool) error {
	row := s.results.rows[id]
	if row == nil {
		if want.events() == 0 && want.tooLate == 0 {
			return nil
		}
		return fmt.Errorf("%v is missing: %+v", id, want)
	}
	types := map[string]int64{}
	for _, t := range row.Types {
		types[t.Type] = t.Count
	}
	ok := maps.Equal(types, want.types) && row.Late == want.late && row.tooLate == want.tooLate &&
		(row.Revision > 0) == (want.events() > 0)
	if whole && row.Revision > 0 {
		ok = ok && row.Whole && row.End == want.end
	}
	if !ok {
		return fmt.Errorf("%v: stored %+v, too late %d, want %+v", id, row.WindowResult, row.tooLate,
			want)
	}
	return nil
}

// However a stream is read, in batches of whatever size, whichever partition first, through crashes
// and rebalances and with zombies about, its windows are those that a count of all events gives.
func TestWindowsAreExact(t *testing.T) {
	seen := map[string]int{}
	for seed := range simtest.Seeds(16) {
		c := newWindowCase(seed)
		first, err := c.run(2*seed, noFault)
		if err != nil {
			t.Fatalf("seed %d, %v: %v", seed, c, err)
		}
		second, err := c.run(2*seed+1, noFault)
		if err != nil {
			t.Fatalf("seed %d, second time, %v: %v", seed, c, err)
		}
		if err := sameWindows(second.results.contents(), first.results.contents()); err != nil {
			t.Fatalf("seed %d, %v: %v", seed, c, err)
		}
		for _, s := range []*stream{first, second} {
			seen["recounts"] += s.results.recounts
			seen["most bytes of a state"] = max(seen["most bytes of a state"], s.largest)
			for _, w := range s.results.rows {
				seen["windows"]++
				seen[string(w.Reason)]++
				seen["revisions"] += int(max(w.Revision-1, 0))
				seen["late"] += int(w.Late)
				seen["too late"] += int(w.tooLate)
			}
		}
	}
	t.Logf("seen: %v", seen)
	for _, what := range []toll.CloseReason{toll.ClosedByWatermark, toll.ClosedByIdle,
		toll.ClosedByEnd, "recounts", "revisions", "late", "too late"} {
		if seen[string(what)] == 0 && !testing.Short() {
			t.Errorf("of %s there was none, so nothing was tested", what)
		}
	}
}

// Each of these defects must be found, or the test above would prove nothing.
func TestWindowsPropertyFindsFaults(t *testing.T) {
	for name, fault := range map[string]fault{"forgets again": forgetsAgain,
		"cleans early": cleansEarly, "advances early": advancesEarly} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(1000) {
				c := newWindowCase(seed)
				if c.events() > 400 {
					continue // takes long
				}
				if _, err := c.run(seed, fault); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("not found")
		})
	}
}

// plazaLoad is what one plaza sees in a test of how large its state grows.
type plazaLoad struct {
	name     string
	types    int                               // of vehicles
	rate     int                               // vehicles a minute
	days     int                               // of traffic
	every    toll.Minute                       // minutes that a batch holds
	stuck    bool                              // the watermark stops after an hour
	outage   bool                              // what is submitted is never stored, after an hour
	each     func(rng *rand.Rand, e *crossing) // changes an event
	typeName func(n int) string
}

// crossing is some vehicles of one type in one minute.
type crossing struct {
	minute toll.Minute
	typ    int
	late   bool
	late15 bool // late for minutes
}

// A state takes at most 4 KB with the default settings, whatever comes: what exceeds it is counted
// from the outbox when it is needed. The names of many types come on top.
func TestStateStaysSmall(t *testing.T) {
	for _, load := range []plazaLoad{
		{name: "three types", types: 3, rate: 200, days: 3, every: 3},
		{name: "six types", types: 6, rate: 200, days: 3, every: 2},
		{name: "six types, a few a minute", types: 6, rate: 3, days: 3, every: 10},
		{name: "six types, very many", types: 6, rate: 20_000, days: 3, every: 15},
		{name: "as many types as are counted apart", types: 32, rate: 200, days: 3, every: 8},
		{name: "every second minute has one", types: 3, rate: 1, days: 3, every: 5, stuck: true,
			each: func(_ *rand.Rand, e *crossing) { e.minute &^= 1 }},
		{name: "every second quarter has one", types: 3, rate: 1, days: 3, every: 5,
			each: func(_ *rand.Rand, e *crossing) { e.minute -= e.minute % 30 }},
		{name: "the watermark stops", types: 6, rate: 200, days: 1, every: 5, stuck: true},
		{name: "the database is away", types: 6, rate: 200, days: 1, every: 5, outage: true},
		{name: "a clock that is wrong by random", types: 6, rate: 3, days: 1, every: 5,
			each: func(rng *rand.Rand, e *crossing) {
				e.minute += toll.Minute(rng.IntN(365 * 1440))
			}},
		{name: "a clock that is wrong by up to millennia", types: 6, rate: 3, days: 1, every: 5,
			each: func(rng *rand.Rand, e *crossing) {
				e.minute += toll.Minute(rng.IntN(1_000_000_000)) * 2
			}},
		{name: "late ones everywhere", types: 6, rate: 100, days: 1, every: 5, outage: true,
			each: func(rng *rand.Rand, e *crossing) {
				if e.typ == 0 {
					e.minute -= toll.Minute(rng.IntN(1500))
					e.late = true
				}
			}},
		{name: "late for minutes everywhere", types: 6, rate: 100, days: 2, every: 10,
			each: func(rng *rand.Rand, e *crossing) {
				if e.typ == 0 {
					e.minute -= toll.Minute(rng.IntN(2 * 1440))
					e.late15 = true
				}
			}},
		{name: "all types are different", types: 1_000_000, rate: 100, days: 1, every: 5,
			typeName: func(n int) string {
				return fmt.Sprintf("%015d", n)
			}},
	} {
		t.Run(load.name, func(t *testing.T) {
			t.Parallel()
			largest, recounts, closings := load.run(t)
			t.Logf("at most %d bytes; %d of %d closings have a recount", largest, recounts, closings)
		})
	}
}

func (l *plazaLoad) run(t *testing.T) (largest, recounts, closings int) {
	rng := rand.New(rand.NewPCG(1, 12))
	cfg := newTestConfig()
	cfg.Windows = must(toll.ParseWindows(toll.DefaultWindows))
	w := New(&cfg.Config, nil, nil, nil)
	state := toll.NewState(1)
	prev := int64(1_000_000_000)
	for p := range int32(4) {
		state.Merged = append(state.Merged, toll.Merged{Partition: p, Next: prev})
	}
	name := func(n int) string { return fmt.Sprintf("type%02d", n) }
	if l.typeName != nil {
		name = l.typeName
	}
	start := toll.Minute(27_400_000)
	for now := start; now < start+toll.Minute(l.days)*1440; now += l.every {
		d := &toll.Delta{Epoch: 1, First: prev, Next: prev + 1_000_000, PlazaDelta: toll.PlazaDelta{
			Plaza: 4000, Prev: prev, Checksum: rng.Uint64(), Earliest: toll.WallTime(now) * 60,
			Latest: toll.WallTime(now+l.every) * 60}}
		prev = d.Next
		panes, late15 := map[toll.Minute]*toll.Pane{}, map[toll.Minute]*toll.Pane{}
		for m := now; m < now+l.every; m++ {
			groups := min(l.rate, 2*min(l.types, 50))
			for range groups {
				e := crossing{minute: m, typ: rng.IntN(l.types)}
				if l.each != nil {
					l.each(rng, &e)
				}
				into := panes
				if e.late15 {
					into = late15
				}
				if into[e.minute] == nil {
					into[e.minute] = &toll.Pane{Start: e.minute}
				}
				n := int64(l.rate / groups)
				p := into[e.minute]
				p.Types = toll.AddTypes(p.Types, []toll.TypeCount{{Type: name(e.typ), Count: n}})
				if e.late {
					p.Late += n
				}
				d.Events += n
			}
		}
		for _, m := range slices.Sorted(maps.Keys(panes)) {
			d.Panes = append(d.Panes, *panes[m])
		}
		for _, m := range slices.Sorted(maps.Keys(late15)) {
			d.LateQuarter = append(d.LateQuarter, *late15[m])
		}
		if o := state.Merge(d); o != toll.Applied {
			t.Fatal(o)
		}
		if now < start+60 || !l.stuck {
			w.horizons.list = []*Horizon{{Epoch: 1, until: now - 1, all: now - 1}}
		}
		w.Step(4000, state, d)
		if now < start+60 || !l.outage {
			taken := w.take()
			for _, h := range taken {
				closings++
				if len(h.closing.Recount) > 0 {
					recounts++
				}
			}
			w.stored(taken)
		}
		b := must(wire.StateCodec{}.Encode(state))
		names := 0
		for _, c := range state.Types {
			names += 1 + len(c.Type)
		}
		allowed := 4096
		if l.types > 6 {
			allowed += names
		}
		if len(b) > allowed {
			t.Fatalf("%d bytes on minute %d, want at most %d; %d minutes and %d quarters are kept", len(b),
				now-start, allowed, len(state.Minutes.List), len(state.Quarters.List))
		}
		largest = max(largest, len(b))
		state = must(wire.StateCodec{}.Decode(b)).(*toll.State)
	}
	return largest, recounts, closings
}
