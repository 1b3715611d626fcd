package toll

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// clockScript runs a script on a clock, whose lateness is a minute. Each line is
//
//	plaza event-time [record-time] [× number]: outcome
//
// with times of day, and an outcome of "on time", "late", "late for minutes" or "too late", and
// "ahead" where the clock did not follow. Without a record time it is the event time of the first
// line that had none, plus a second a line. "clock time" says what the clock shows.
func clockScript(t *testing.T, script string) {
	t.Helper()
	var c Clock
	record := int64(-1)
	for n, line := range strings.Split(strings.TrimSpace(script), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if at, ok := strings.CutPrefix(line, "clock "); ok {
			if want := secondsOf(t, at); c.Time != want {
				t.Fatalf("line %d: the clock shows %s, want %s", n+1, clockText(c.Time), clockText(want))
			}
			continue
		}
		head, want, _ := strings.Cut(line, ": ")
		head, times, _ := strings.Cut(head, " × ")
		count := 1
		if times != "" {
			fmt.Sscan(times, &count)
		}
		fields := strings.Fields(head)
		var plaza int16
		fmt.Sscan(fields[0], &plaza)
		at := secondsOf(t, fields[1])
		if record < 0 {
			record = at
		}
		if len(fields) > 2 {
			record = secondsOf(t, fields[2])
		}
		var got string
		for range count {
			timeliness, ahead := c.Observe(plaza, at, record*1000, 60)
			got = timeliness.String()
			if ahead {
				got += ", ahead"
			}
			record++
		}
		if got != want {
			t.Fatalf("line %d: %s: %s, want %s", n+1, head, got, want)
		}
	}
}

// secondsOf reads a time of day, with days before it as in 2d03:00:00.
func secondsOf(t *testing.T, text string) int64 {
	t.Helper()
	var d, h, m, s int64
	if days, rest, ok := strings.Cut(text, "d"); ok {
		fmt.Sscan(days, &d)
		text = rest
	}
	if _, err := fmt.Sscanf(text, "%d:%d:%d", &h, &m, &s); err != nil {
		t.Fatalf("%q is no time: %v", text, err)
	}
	return 1_700_000_000/86400*86400 + d*86400 + h*3600 + m*60 + s
}

func clockText(s int64) string {
	s -= 1_700_000_000 / 86400 * 86400
	return fmt.Sprintf("%dd%02d:%02d:%02d", s/86400, s/3600%24, s/60%60, s%60)
}

func TestClock(t *testing.T) {
	for name, script := range map[string]string{
		"in order": `
			1 10:00:00: on time
			2 10:00:30: on time
			1 10:05:00: on time
			clock 10:05:00`,
		"out of order within the lateness": `
			1 10:00:00: on time
			2 09:59:00: on time
			2 09:58:59: late
			clock 10:00:00`,
		"late, late for minutes, too late": `
			1 3d10:00:00: on time
			1 3d09:58:59: late
			1 3d07:59:00: late
			1 3d07:58:59: late for minutes
			1 1d09:59:00: late for minutes
			1 1d09:58:58: too late
			1 3d10:00:01: on time
			clock 3d10:00:01`,
		"one clock of three far ahead moves nothing, however often": `
			1 10:00:00: on time
			2 10:00:00: on time
			3 5d00:00:00: on time, ahead
			3 5d00:00:01 × 500: on time, ahead
			1 10:00:02: on time
			3 5d00:00:09: on time, ahead
			2 10:00:03: on time
			clock 10:00:03`,
		"two of five far ahead move nothing": `
			1 10:00:00: on time
			2 10:00:00: on time
			3 10:00:00: on time
			4 19:00:00 × 100: on time, ahead
			5 19:00:00 × 100: on time, ahead
			1 10:00:04: on time
			clock 10:00:04`,
		"most plazas jump": `
			1 10:00:00: on time
			2 10:00:00: on time
			3 10:00:00: on time
			1 19:00:04: on time, ahead
			2 19:00:03: on time
			clock 19:00:03 # what more than half have reached
			2 19:00:05: on time
			3 10:00:20: late for minutes`,
		"most plazas jump, and one goes on as before in between": `
			1 10:00:00: on time
			2 10:00:00: on time
			3 10:00:00: on time
			1 15:00:00: on time, ahead
			3 10:00:01: on time
			2 15:00:01: on time
			clock 15:00:00`,
		"two of two jump at the third event": `
			1 10:00:00: on time
			2 10:00:00: on time
			1 15:00:00: on time, ahead
			2 15:00:01: on time, ahead
			1 15:00:02: on time
			clock 15:00:01`,
		"a plaza alone jumps at its third event": `
			1 10:00:00: on time
			1 19:00:00: on time, ahead
			1 19:00:01: on time, ahead
			1 19:00:02: on time
			clock 19:00:02`,
		"a plaza alone with one wrong event": `
			1 10:00:00: on time
			1 9d10:00:00: on time, ahead
			1 10:00:01: on time
			1 9d10:00:00: on time, ahead
			1 9d10:00:00: on time, ahead
			1 10:00:02: on time
			clock 10:00:02`,
		"after a quiet night": `
			1 20:00:00: on time
			2 20:00:01: on time
			3 20:00:02: on time
			2 1d05:00:00 1d05:00:00: on time, ahead
			2 1d05:00:20 1d05:00:20: on time, ahead
			2 1d05:00:40 1d05:00:40: on time
			clock 1d05:00:40`,
		"steps of up to ten minutes": `
			1 10:00:00: on time
			1 10:10:00: on time
			2 10:20:00: on time
			1 10:30:01: on time, ahead
			clock 10:20:00`,
		"old events sent again": `
			1 5d10:00:00: on time
			2 5d10:00:00: on time
			1 1d08:00:00 × 99: too late
			2 1d08:00:00 × 1: too late
			clock 1d08:00:00
			1 1d08:00:30: on time`,
		"a few old events": `
			1 5d10:00:00: on time
			2 5d10:00:00: on time
			1 1d08:00:00 × 99: too late
			2 5d10:00:01: on time
			1 1d08:00:00 × 99: too late
			clock 5d10:00:01`,
	} {
		t.Run(name, func(t *testing.T) {
			clockScript(t, script)
		})
	}
}

// However wrong the clocks of fewer than half of the plazas are, the clock stays that of the
// others.
func TestClockFollowsTheMajority(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		right := 2 + rng.IntN(10)
		wrong := rng.IntN(right)
		offsets := make([]int64, right+wrong)
		for i := range wrong {
			offsets[right+i] = rng.Int64N(2e9) - 1e9
		}
		var c Clock
		now := int64(1_700_000_000)
		for range right { // each has been heard of
			for i := range right {
				c.Observe(int16(i*7), now, now*1000, 60)
			}
		}
		for range 3000 {
			now += rng.Int64N(5)
			plaza := rng.IntN(len(offsets))
			c.Observe(int16(plaza*7), now+offsets[plaza], now*1000, 60)
			if c.Time > now+maxLead || c.Time < now-maxLag {
				t.Fatalf("seed %d, %d right and %d wrong: the clock is off by %d s", seed, right, wrong,
					c.Time-now)
			}
		}
	}
}

// Voters that have no say any more can be dropped without changing what follows: the codec does so
// between batches.
func TestClockForgetsWithoutTrace(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var whole, cut Clock
		now := int64(1_700_000_000)
		for n := range 5000 {
			switch rng.IntN(400) {
			case 0:
				now += rng.Int64N(20 * 3600)
			case 1:
				now -= rng.Int64N(20 * 3600)
			default:
				now += rng.Int64N(3)
			}
			plaza, record := int16(rng.IntN(200)), now*1000+rng.Int64N(100_000)
			t1, a1 := whole.Observe(plaza, now, record, 60)
			t2, a2 := cut.Observe(plaza, now, record, 60)
			if t1 != t2 || a1 != a2 || whole.Time != cut.Time {
				t.Fatalf("seed %d, event %d: %v %v, and cut %v %v", seed, n, t1, a1, t2, a2)
			}
			if rng.IntN(50) == 0 {
				for i := range cut.Voters {
					if !cut.Votes(&cut.Voters[i]) {
						cut.Voters[i] = Voter{}
					}
				}
			}
		}
	}
}

func TestStreamWatermark(t *testing.T) {
	p := func(time, recordSeconds int64, caughtUp bool) PartitionTime {
		return PartitionTime{Started: true, Time: time, Record: recordSeconds * 1000, CaughtUp: caughtUp}
	}
	for _, c := range []struct {
		name       string
		partitions []PartitionTime
		want       Watermark
	}{
		{"no partition", nil, Watermark{Time: -60, All: -60}},
		{"nothing yet", []PartitionTime{{CaughtUp: true}}, Watermark{Time: -60, All: -60}},
		{"one", []PartitionTime{p(1000, 5000, true)}, Watermark{true, 940, 940}},
		{"the lowest counts", []PartitionTime{p(1000, 5000, true), p(900, 5010, true)},
			Watermark{true, 840, 840}},
		{"idle is left out", []PartitionTime{p(1000, 5031, true), p(900, 5000, true)},
			Watermark{true, 940, 840}},
		{"idle for just as long as allowed", []PartitionTime{p(1000, 5030, true), p(900, 5000, true)},
			Watermark{true, 840, 840}},
		{"behind, but with records left", []PartitionTime{p(1000, 9000, true), p(900, 5000, false)},
			Watermark{true, 840, 840}},
		{"a partition never written to", []PartitionTime{p(1000, 5000, true), {CaughtUp: true}},
			Watermark{true, 940, 940}},
		{"a partition of which nothing is stored yet", []PartitionTime{p(1000, 5000, true), {}},
			Watermark{false, 940, 940}},
		{"the newest is never idle", []PartitionTime{p(700, 9000, true), p(900, 5000, true)},
			Watermark{true, 640, 640}},
	} {
		if got := StreamWatermark(c.partitions, 60, 30_000); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func BenchmarkClock(b *testing.B) {
	var c Clock
	now := int64(1_700_000_000)
	for n := 0; b.Loop(); n++ {
		c.Observe(int16(4000+n%11), now+int64(n/100), now*1000, 60)
	}
}

func TestStreamTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(clock string) WallTime {
		w, err := time.Parse(time.DateTime, "2022-02-10 "+clock)
		if err != nil {
			t.Fatal(err)
		}
		return WallTimeOf(w)
	}
	state := func(merged ...Merged) *State {
		s := &State{Merged: merged}
		for _, m := range merged {
			s.Events++
			s.Latest = max(s.Latest, m.Latest)
		}
		return s
	}
	for _, c := range []struct {
		name   string
		states map[int16]*State
		stream string // in UTC
	}{
		{name: "nothing"},
		{name: "gaps only", states: map[int16]*State{1: {Gaps: 2}}},
		{"one", map[int16]*State{1: state(Merged{0, 10, at("10:23:02")})}, "09:23:00"},
		{"two", map[int16]*State{
			1: state(Merged{0, 10, at("10:23:59")}),
			2: state(Merged{0, 12, at("10:24:10")}),
		}, "09:24:00"},
		{"partitions", map[int16]*State{
			1: state(Merged{0, 10, at("10:20:00")}, Merged{1, 10, at("10:10:30")}),
			2: state(Merged{0, 12, at("10:24:10")}, Merged{1, 9, at("10:10:00")}),
			3: state(Merged{0, 14, at("10:25:00")}),
		}, "09:24:00"},
		{"two clocks of five are wrong", map[int16]*State{
			1: state(Merged{0, 10, at("10:23:02")}),
			2: state(Merged{0, 10, at("10:23:12")}),
			3: state(Merged{0, 10, at("10:23:22")}),
			4: state(Merged{1, 10, MaxWallTime}),
			5: state(Merged{1, 10, at("23:00:00")}),
		}, "09:23:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			zone := NewZone(berlin)
			stream := ""
			if m, ok := StreamTime(c.states, zone); ok {
				stream = m.Time().Format(time.TimeOnly)
			}
			if stream != c.stream {
				t.Errorf("stream time %q, want %q", stream, c.stream)
			}
		})
	}
}

// TestClocks sets each clock wrong in turn: ages are counted from the earliest of them, and what is
// more than an hour off is named.
func TestClocks(t *testing.T) {
	right := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	ahead, behind := right.AddDate(1, 2, 0), right.AddDate(-4, 0, 0)
	all := Clocks{Event: right, Record: right, Server: right, Own: right}
	for name, c := range map[string]struct {
		clocks Clocks
		now    time.Time
		wrong  string
	}{
		"all agree": {all, right, ""},
		"minutes apart": {Clocks{right.Add(-time.Minute), right.Add(59 * time.Minute),
			right.Add(-time.Hour), right}, right.Add(-time.Hour), ""},
		"event time ahead":      {Clocks{ahead, right, right, right}, right, "event"},
		"event time behind":     {Clocks{behind, right, right, right}, behind, ""},
		"records ahead":         {Clocks{right, ahead, right, right}, right, "record"},
		"records behind":        {Clocks{right, behind, right, right}, behind, ""},
		"server ahead":          {Clocks{right, right, ahead, right}, right, "server"},
		"server behind":         {Clocks{right, right, behind, right}, behind, "server"},
		"own ahead":             {Clocks{right, right, right, ahead}, right, "server"},
		"own behind":            {Clocks{right, right, right, behind}, behind, "eventrecordserver"},
		"wall clocks ahead":     {Clocks{right, right, ahead, ahead}, right, ""},
		"all but one ahead":     {Clocks{ahead, right, ahead, ahead}, right, ""},
		"records without times": {Clocks{right, time.Time{}, right, right}, right, ""},
		"no events yet":         {Clocks{time.Time{}, time.Time{}, ahead, right}, right, "server"},
		"an hour and a second": {Clocks{right, right, right.Add(time.Hour + time.Second), right}, right,
			"server"},
		"event time at year 999": {Clocks{time.Date(999, 1, 1, 0, 0, 0, 0, time.UTC), right, right,
			right}, time.Date(999, 1, 1, 0, 0, 0, 0, time.UTC), ""},
	} {
		now, known := c.clocks.Now()
		if !known || !now.Equal(c.now) {
			t.Errorf("%s: it is %v (%v), want %v", name, now, known, c.now)
		}
		wrong := ""
		for _, s := range c.clocks.Skews() {
			if s.Wrong() {
				wrong += string(s.Clock)
			}
		}
		if wrong != c.wrong {
			t.Errorf("%s: wrong are %q, want %q", name, wrong, c.wrong)
		}
	}
	for _, c := range []Clocks{{Event: right, Record: right, Own: right},
		{Event: right, Record: right, Server: right}, {}} {
		if now, known := c.Now(); known {
			t.Errorf("%+v: it is %v, although a wall clock is not known", c, now)
		}
	}
}

func TestNewestRecord(t *testing.T) {
	for want, clocks := range map[int64][]Clock{
		0:  {{Events: 3, Record: -1}, {Record: 70}}, // without a timestamp, and without an event
		50: {{Events: 1, Record: 20}, {Events: 1, Record: 50}, {Events: 2, Record: -1}},
	} {
		if got := NewestRecord(clocks); want == 0 && !got.IsZero() || want > 0 &&
			got.UnixMilli() != want {
			t.Errorf("got %v, want %d", got, want)
		}
	}
}
