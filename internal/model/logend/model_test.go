// Package logend searches for ways in which a log that loses its end is not noticed: a
// breadth-first search through all interleavings of one partition, one process, and a broker that
// loses records.
//
// The rule that it checks: the cursor holds the identity of the last record consumed, which the
// batch's transaction stores. Before anything is consumed the record at that offset is compared
// with it. While a process runs, the last record that it took in is compared, which may not be
// stored yet:
//
//   - before the first record whose leader epoch is not that of the one before, and
//   - before what is fetched after a broker was connected.
//
// The content decides, since a restored volume may repeat its epoch. A log is shorter where the
// leader's own log ends, not where the high watermark is. On a difference nothing is consumed until
// an operator decides. What retention deleted is not compared, nor counted as lost: nobody knows
// any more what it was.
//
// The search shows that no record is stored then that follows others than those that were stored
// before it, and that the same log is never refused. The mutations leave out a part of the rule
// each; of each the search finds what it is for.
package logend

import (
	"fmt"
	"strings"
	"testing"
)

const length = 4 // of the log at most

// Rule is the rule, or what is left of it.
type Rule struct {
	NoStart     bool // the log is not compared before anything is consumed
	NoEpoch     bool // nor where the leader epoch changes while running
	NoConnect   bool // nor after a broker was connected while running
	EpochOnly   bool // leader epochs are compared instead of contents
	StoredOnly  bool // while running, the last record stored is compared, not the last one taken in
	Watermark   bool // the high watermark is taken for the end of the log
	ConnectLate bool // at a start the connections are counted after the comparison, not before
}

// Bounds are how often things may happen.
type Bounds struct {
	Records, Losses, Elections, Crashes, Trims int
}

// record is a record of the log. Each has another id.
type record struct{ id, epoch uint8 }

// fetched is a record on its way to be stored, with the ids of those below it in the log that it
// was fetched from; 0 where retention had deleted it.
type fetched struct {
	record
	below  [length]uint8
	unsure bool // fetched over another connection than the one before
}

const (
	down = iota
	reading
	comparing
	running
)

// state is all there is: broker, database and process. It is comparable, so that it can be a key.
type state struct {
	log             [length]record
	start, end      uint8
	watermark       uint8 // consumers see what is below
	epoch, connects uint8

	rows    [length]uint8 // ids that are stored, by offset
	next    uint8         // the cursor
	last    record        // of the cursor, at next-1
	refused bool

	phase    uint8
	position uint8         // behind the last record taken in
	taken    record        // at position-1
	pending  [length]uint8 // ids taken in and not stored
	known    uint8         // connects at the last fetch
	buffer   [2]fetched
	buffered uint8
	tainted  bool // something was taken in that follows others than those before it

	records, losses, elections, crashes, trims uint8
	violation                                  uint8
}

const (
	none = iota
	lost
	falseAlarm
)

var violations = [...]string{"",
	"a record was stored that follows others than those stored before it",
	"the log that was stored was refused"}

// step is a state that another one leads to.
type step struct {
	state
	action string
}

// at returns what the process has consumed at an offset.
func (s *state) at(offset uint8) uint8 {
	if offset < s.next {
		return s.rows[offset]
	}
	return s.pending[offset]
}

// same reports whether the log still is the one that was consumed, as far as it is there.
func (s *state) same() bool {
	for o := s.start; o < s.position; o++ {
		if o >= s.end || s.log[o].id != s.at(o) {
			return false
		}
	}
	return true
}

// compare reports whether the log passes for the one that holds a record at an offset below next.
func (s *state) compare(r Rule, next uint8, last record) bool {
	end := s.end
	if r.Watermark {
		end = s.watermark
	}
	switch {
	case next == 0: // nothing was consumed
		return true
	case end < next:
		return false
	case next-1 < s.start: // deleted
		return true
	case r.EpochOnly:
		return s.log[next-1].epoch == last.epoch
	}
	return s.log[next-1].id == last.id
}

// stop ends the process. What it has not stored is forgotten.
func (s *state) stop() {
	s.phase, s.position, s.taken, s.known, s.buffered, s.tainted = down, 0, record{}, 0, 0, false
	s.pending, s.buffer = [length]uint8{}, [2]fetched{}
}

// refuse ends the process for good.
func (s *state) refuse() {
	if s.same() {
		s.violation = falseAlarm
	}
	s.refused = true
	s.stop()
}

func (s state) steps(r Rule, b Bounds) (all []step) {
	add := func(t state, format string,
		args ...any) {
		all = append(all, step{t, fmt.Sprintf(format, args...)})
	}
	if int(s.records) < b.Records && s.end < length {
		t := s
		t.records++
		t.log[t.end] = record{t.records, t.epoch}
		t.end++
		add(t, "record %d is appended at offset %d in epoch %d", t.records, s.end, t.epoch)
	}
	if s.watermark < s.end {
		t := s
		t.watermark = t.end
		add(t, "the high watermark rises to %d", t.watermark)
	}
	if int(s.losses) < b.Losses {
		for end := s.start; end < s.end; end++ {
			t := s
			t.losses++
			for o := end; o < s.end; o++ {
				t.log[o] = record{}
			}
			t.end, t.watermark = end, min(t.watermark, end)
			u := t
			t.epoch++
			add(t, "an unclean election: the log ends at %d, epoch %d begins", end, t.epoch)
			u.connects++
			add(u, "an older volume of the same epoch is restored: the log ends at %d", end)
			u.epoch++
			add(u, "an older volume is restored: the log ends at %d, epoch %d begins", end, u.epoch)
		}
	}
	if int(s.elections) < b.Elections {
		for watermark := s.start; watermark <= s.watermark; watermark++ {
			t := s
			t.elections++
			t.epoch++
			t.watermark = watermark
			add(t, "an election: epoch %d begins, the leader knows the high watermark %d", t.epoch,
				watermark)
		}
	}
	if int(s.trims) < b.Trims {
		for start := s.start + 1; start <= s.watermark; start++ {
			t := s
			t.trims++
			for o := s.start; o < start; o++ {
				t.log[o] = record{}
			}
			t.start = start
			add(t, "retention deletes what is below %d", start)
		}
	}
	if s.phase != down && int(s.crashes) < b.Crashes {
		t := s
		t.crashes++
		t.stop()
		add(t, "the process dies")
	}
	return append(all, s.process(r)...)
}

// process returns what the process may do.
func (s state) process(r Rule) (all []step) {
	emit := func(t state, format string,
		args ...any) {
		all = append(all, step{t, fmt.Sprintf(format, args...)})
	}
	switch s.phase {
	case down:
		if !s.refused {
			t := s
			t.phase, t.position, t.taken = reading, s.next, s.last
			emit(t, "a process reads the cursor %d", s.next)
		}
	case reading:
		t := s
		t.phase, t.known = comparing, s.connects
		emit(t, "it counts %d connections", s.connects)
	case comparing:
		t := s
		t.phase = running
		if r.ConnectLate {
			t.known = 0
		}
		switch {
		case !r.NoStart && !s.compare(r, s.next, s.last):
			t.refuse()
			emit(t, "it refuses the log")
		case s.next < s.start:
			t.refused = true
			t.stop()
			emit(t, "it refuses: records are gone that were never stored")
		default:
			emit(t, "the log passes")
		}
	case running:
		next := s.position + s.buffered
		switch {
		case next > s.end || next < s.start:
			t := s
			t.stop()
			emit(t, "offset %d is out of range: the process begins again", next)
		case int(s.buffered) < len(s.buffer) && next < s.watermark:
			t := s
			f := fetched{record: s.log[next], unsure: s.connects != s.known}
			if r.ConnectLate && s.known == 0 {
				f.unsure = false
			}
			t.known = s.connects
			for o := s.start; o < next; o++ {
				f.below[o] = s.log[o].id
			}
			t.buffer[s.buffered] = f
			t.buffered++
			emit(t, "it fetches record %d at offset %d", f.id, next)
		}
		if s.buffered > 0 {
			all = append(all, s.take(r))
		}
		if s.position > s.next {
			t := s
			copy(t.rows[s.next:s.position], s.pending[s.next:s.position])
			t.next, t.last = s.position, s.taken
			t.pending = [length]uint8{}
			if s.tainted {
				t.violation = lost
			}
			emit(t, "it stores up to offset %d", t.next)
		}
	}
	return all
}

// take takes in the next record that was fetched, if the log passes where it is to be compared.
func (s state) take(r Rule) step {
	t := s
	f := s.buffer[0]
	unsure := f.unsure && !r.NoConnect || s.position > 0 && f.epoch != s.taken.epoch && !r.NoEpoch
	next, last := s.position, s.taken
	if r.StoredOnly {
		next, last = s.next, s.last
	}
	if unsure && !s.compare(r, next, last) {
		t.refuse()
		return step{t, "it refuses the log"}
	}
	for o := s.start; o < s.position; o++ {
		if id := f.below[o]; id != 0 && id != s.at(o) {
			t.tainted = true
		}
	}
	t.pending[s.position] = f.id
	t.position++
	t.taken = f.record
	t.buffer[0], t.buffer[1] = s.buffer[1], fetched{}
	t.buffered--
	return step{t, fmt.Sprintf("it takes record %d in", f.id)}
}

// Result is the outcome of a search.
type Result struct {
	States     int
	Exhaustive bool
	Violation  string // empty for none
	Trace      []string
}

// String returns the trace to the violation, a step a line.
func (r Result) String() string { return r.Violation + ":\n" + strings.Join(r.Trace, "\n") }

// Search goes through all states that can be reached, at most most of them, and ends at the first
// violation, to which no trace is shorter.
func Search(r Rule, b Bounds, most int) Result {
	type origin struct {
		from   int32
		action string
	}
	first := state{epoch: 1, connects: 1}
	seen := map[state]struct{}{first: {}}
	queue, origins := []state{first}, []origin{{-1, ""}}
	for i := 0; i < len(queue); i++ {
		if len(queue) > most {
			return Result{States: len(queue)}
		}
		for _, next := range queue[i].steps(r, b) {
			if _, known := seen[next.state]; known {
				continue
			}
			seen[next.state] = struct{}{}
			queue = append(queue, next.state)
			origins = append(origins, origin{int32(i), next.action})
			if v := next.violation; v != none {
				result := Result{States: len(queue), Violation: violations[v]}
				for at := int32(len(queue) - 1); at > 0; at = origins[at].from {
					result.Trace = append([]string{origins[at].action}, result.Trace...)
				}
				return result
			}
		}
	}
	return Result{States: len(queue), Exhaustive: true}
}

// usual are bounds within which each mutation shows.
var usual = Bounds{Records: 4, Losses: 1, Elections: 1, Crashes: 1, Trims: 1}

// TestRule: with the whole rule nothing is lost, in all states that there are, and the same log is
// never refused.
func TestRule(t *testing.T) {
	for name, b := range map[string]Bounds{
		"one loss":   usual,
		"two losses": {Records: 5, Losses: 2, Elections: 1, Crashes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Search(Rule{}, b, 20_000_000)
			if r.Violation != "" || !r.Exhaustive {
				t.Fatalf("after %d states, exhaustive %v: %v", r.States, r.Exhaustive, r)
			}
			t.Logf("%d states", r.States)
		})
	}
}

// TestMutations: without a part of the rule the search finds what it is for.
func TestMutations(t *testing.T) {
	for name, c := range map[string]struct {
		rule  Rule
		b     Bounds
		want  uint8
		trace string // that the trace holds
	}{
		"no comparison at a start": {Rule{NoStart: true}, usual, lost, ""},
		"none where the epoch changes": {Rule{NoEpoch: true}, usual, lost,
			"an unclean election"},
		"none after a connection": {Rule{NoConnect: true}, usual, lost,
			"an older volume of the same epoch is restored"},
		"epochs alone, which a restored volume repeats": {Rule{EpochOnly: true},
			Bounds{Records: 3, Losses: 1, Crashes: 1}, lost,
			"an older volume of the same epoch is restored"},
		"the last record stored, not the last taken in": {Rule{StoredOnly: true}, usual, lost, ""},
		"the high watermark for the end": {Rule{Watermark: true}, usual, falseAlarm,
			"knows the high watermark"},
		"connections counted after the comparison": {Rule{ConnectLate: true}, usual, lost, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Search(c.rule, c.b, 20_000_000)
			if r.Violation != violations[c.want] || !strings.Contains(strings.Join(r.Trace, "\n"), c.trace) {
				t.Fatalf("after %d states: %v", r.States, r)
			}
			t.Logf("%d states, %v", r.States, r)
		})
	}
}
