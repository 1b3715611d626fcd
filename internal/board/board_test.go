package board

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// now is the stream's time of the boards.
var now = time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)

// boardOf returns a board of plazas that passed ten vehicles, all of them in the last minute.
func boardOf(plazas int) *Board {
	b := &Board{At: now, Location: time.UTC, StreamTime: &now, Watermark: &now, RowsAt: now}
	minute := toll.MinuteAt(now.Unix())
	for id := range plazas {
		state := &toll.State{Events: 10, Minutes: toll.Panes{List: []toll.Pane{
			{Start: minute, Types: []toll.TypeCount{{Type: "car", Count: 10}}}}}}
		rows := int64(10)
		check := Check{Status: Exact, TableCount: rows, StoredRows: &rows}
		b.Plazas = append(b.Plazas, Plaza{ID: id, Counts: state, Check: check, Counted: &check,
			Location: time.UTC})
	}
	b.Derive()
	return b
}

// TestVerificationOfOneMoment shows the figures of one check, the last that read the rows, while
// events go on.
func TestVerificationOfOneMoment(t *testing.T) {
	b := boardOf(2)
	// Two events were on their way when the rows were read. They were not read since.
	*b.Plazas[0].Counted = Check{Status: InFlight, TableCount: 10, InFlight: 2,
		StoredRows: new(int64(12))}
	b.Plazas[0].Check = Check{Status: NotVerified, TableCount: 15}
	added := Plaza{ID: 7, Counts: &toll.State{Events: 1}, Location: time.UTC,
		Check: Check{Status: NotVerified, TableCount: 1}}
	b.Plazas = append(b.Plazas, added)
	b.Derive()
	v := b.Verification
	if v.Status != InFlight || *v.Events != 20 || *v.Rows != 22 || v.InFlight != 2 ||
		v.CheckedAt == nil || b.InFlight != 0 {
		t.Errorf("%+v: %d events, %d rows", v, *v.Events, *v.Rows)
	}
	if v := b.Plazas[2].Verification; v.Status != NotVerified {
		t.Errorf("plaza without a check: %+v", v)
	}
}

// TestRowsNotRead has counts of rows that were cut off: nothing is proved, and nothing is exact.
func TestRowsNotRead(t *testing.T) {
	b := boardOf(2)
	for i := range b.Plazas {
		b.Plazas[i].Check = Check{Status: NotVerified, TableCount: 10}
		b.Plazas[i].Counted = &b.Plazas[i].Check
	}
	b.Derive()
	if v := b.Verification; v.Status != NotVerified || v.Rows != nil || v.CheckedAt != nil ||
		*v.Events != 20 {
		t.Errorf("%+v", v)
	}
	// What is wrong without them is reported with its own figures.
	b.Plazas[1].Check = Check{Status: Mismatch, TableCount: 11, Problems: []Problem{{Text: "twice"}}}
	b.Derive()
	if v := b.Verification; v.Status != Mismatch || len(v.Problems) != 1 || *v.Events != 21 {
		t.Errorf("%+v", v)
	}
}

// TestMismatchStands keeps the verdict of the last count of rows until the next.
func TestMismatchStands(t *testing.T) {
	b := boardOf(2)
	step := "run tollstream rebuild"
	b.Plazas[1].Counted = &Check{Status: Mismatch, Problems: []Problem{{Text: "a row is missing",
		Next: step}, {Text: "and another one", Next: step}}}
	b.Plazas[1].Check.StoredRows = nil
	b.Derive()
	if v := b.Verification; v.Status != Mismatch || len(v.Problems) != 2 ||
		!slices.Equal(v.Next, []string{step}) || b.Plazas[0].Verification.Status != Exact {
		t.Errorf("%+v", v)
	}
}

// TestDerive takes the figures of the last assessment while it is of the last hour, and else
// counts.
func TestDerive(t *testing.T) {
	b := boardOf(2)
	p := &b.Plazas[0]
	if p.FlowPerHour != 40 || !p.FlowKnown || p.State != traffic.NoData || p.Measure != nil {
		t.Errorf("never assessed: %+v", p)
	}
	until := toll.MinuteAt(now.Unix())
	p.Assessment = &traffic.Assessment{State: traffic.Busy, Since: until - 5, Until: until,
		Why: "demand", Last: traffic.Measure{FlowPerHour: 900, VC: new(0.8)}}
	b.Derive()
	if p.State != traffic.Busy || p.FlowPerHour != 900 || *p.VC != 0.8 || p.Outdated() ||
		b.Summary.States.Busy != 1 || b.Summary.States.NoData != 1 {
		t.Errorf("assessed: %+v", p)
	}
	p.Assessment.Until = until - outdatedAfter - 1
	b.Derive()
	if p.State != traffic.NoData || p.FlowPerHour != 40 || p.VC != nil || !p.Outdated() ||
		p.Why != "judged up to 05:59 only, as busy" {
		t.Errorf("assessed long ago: %+v", p)
	}
	p.Counts.Minutes.From = until
	if b.Derive(); p.FlowKnown {
		t.Error("a flow of minutes that are not kept")
	}
}

// TestOrder sorts by figures that equal ones share: they go by their fullness, as on the page.
func TestOrder(t *testing.T) {
	p := &Plaza{ID: 1, FlowPerHour: 5}
	q := &Plaza{ID: 2, FlowPerHour: 4, Measures: Measures{VC: new(0.1)}}
	if CompareTies(p, q) <= 0 {
		t.Error("a plaza whose fullness is not known goes first")
	}
	for name, figure := range Figures {
		x, y := figure(p), figure(q)
		if CompareFigures(x, y, true) != -CompareFigures(y, x, true) {
			t.Errorf("%s: %v and %v have no order", name, x, y)
		}
	}
	if Status("").Valid() || !Mismatch.Valid() {
		t.Error("verdicts")
	}
}

// TestSort has plazas without a figure, with equal ones, and rows without a plaza.
func TestSort(t *testing.T) {
	at := func(plaza int, flow float64, vc, z *float64) Plaza {
		return Plaza{ID: plaza, FlowPerHour: Flow(flow), Measures: Measures{VC: vc, Z: z},
			Total: int64(10 - plaza)}
	}
	b := Board{Plazas: []Plaza{
		at(9, 100, new(0.5), new(-7.0)),
		at(3, 300, nil, new(2.0)),
		at(5, 100, new(0.9), nil),
		at(1, 0, new(0.5), new(7.0)),
		at(4, 200, new(0.0), new(0.0)),
		{ID: NullPlaza},
	}}
	for order, want := range map[string][]int{
		ByTotal:     {1, 3, 4, 5, 9, NullPlaza},
		ByFlow:      {3, 4, 5, 9, 1, NullPlaza},
		ByVC:        {5, 1, 9, 4, 3, NullPlaza},
		ByDeviation: {1, 9, 3, 4, 5, NullPlaza},
	} {
		for range 5 {
			b.Sort(order)
			var got []int
			for i := range b.Plazas {
				got = append(got, b.Plazas[i].ID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", order, got, want)
			}
			rand.Shuffle(len(b.Plazas), func(i, j int) {
				b.Plazas[i], b.Plazas[j] = b.Plazas[j], b.Plazas[i]
			})
		}
	}
}

func TestClockSpan(t *testing.T) {
	at := func(day, hour int) time.Time { return time.Date(2026, 3, day, hour, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		from, until time.Time
		want        string
	}{
		{at(2, 7), at(2, 8), "07:00–08:00"}, {at(1, 23), at(2, 0), "2026-03-01 23:00–24:00"},
		{at(1, 0), at(2, 0), "2026-03-01"}, {at(2, 0), at(2, 0), "00:00–00:00"},
	} {
		if got := ClockSpan(time.UTC, c.from, c.until, toll.MinuteAt(now.Unix())); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func TestNextSteps(t *testing.T) {
	got := NextSteps([]Problem{{Next: "b"}, {Next: "a"}, {Next: "b"}, {}})
	if want := []string{"b", "a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// judged returns a board of two plazas that are free, with an event just now and a process.
func judged(change func(b *Board)) *Board {
	b := boardOf(2)
	first := toll.MinuteAt(now.Add(-time.Hour).Unix())
	for i := range b.Plazas {
		p := &b.Plazas[i]
		p.Counts.Earliest = toll.NewZone(b.Location).Wall(first.Time())
		m := traffic.Measure{Plaza: int16(p.ID), End: b.Now(), Count15: 300, FlowPerHour: 1200,
			Usual: &traffic.Usual{Median: 450, MAD: 20, N: 8}}
		p.Assessment = &traffic.Assessment{State: traffic.Free, Why: "all is well", Last: m,
			First: first, Until: m.End, Since: first}
	}
	b.Feed = Feed{ArrivedAt: new(b.At), Newest: true}
	b.Processing.All = []Instance{{Name: "one", StartedAt: b.At.Add(-time.Hour), SeenAt: b.At}}
	if change != nil {
		change(b)
	}
	b.Derive()
	return b
}

// TestHealth has feeds that fall silent, and processes that stop, are killed, end, or are behind.
func TestHealth(t *testing.T) {
	silent := func(age time.Duration) func(b *Board) {
		return func(b *Board) { b.Feed.ArrivedAt = new(b.At.Add(-age)) }
	}
	replay := func(age time.Duration, share float64) func(b *Board) {
		return func(b *Board) {
			b.At = b.At.Add(1000 * time.Hour)
			silent(age)(b)
			b.Feed.Share = share
			b.Processing.All[0].SeenAt = b.At
		}
	}
	process := func(age time.Duration, change func(in *Instance)) func(b *Board) {
		return func(b *Board) {
			in := &b.Processing.All[0]
			in.SeenAt = b.At.Add(-age)
			if change != nil {
				change(in)
			}
		}
	}
	stopped := func(in *Instance) { in.StoppedAt = &in.SeenAt }
	for _, c := range []struct {
		what   string
		change func(b *Board)
		state  traffic.State
		notice string // empty for none
	}{
		{"all is well", nil, traffic.Free, ""},
		{"a minute and a half is chance", silent(90 * time.Second), traffic.Free, ""},
		{"two minutes are not, at a busy hour", silent(2 * time.Minute), traffic.NoData,
			"SEVERE feed: no event has arrived for 2 min; usual at this hour are 3,600 vehicles/h"},
		{"a quiet hour", func(b *Board) {
			silent(2 * time.Minute)(b)
			for i := range b.Plazas {
				b.Plazas[i].Assessment.Last.Usual.Median = 1
			}
		}, traffic.Free, ""},
		{"a replay", replay(90*time.Second, 1), traffic.Free, ""},
		{"the end of a replay", replay(2*time.Minute, 1), traffic.NoData,
			"SEVERE feed: no event has arrived for 2 min"},
		{"one that comes in bursts", replay(4*time.Minute, 1./3), traffic.Free, ""},
		{"no rate is known", replay(14*time.Minute, 0), traffic.Free, ""},
		{"nor much later", replay(16*time.Minute, 0), traffic.NoData,
			"SEVERE feed: no event has arrived for 16 min"},
		{"what is newest is not known", func(b *Board) {
			silent(time.Hour)(b)
			b.Feed.Newest = false
		}, traffic.Free, ""},

		{"a heartbeat is missing", process(30*time.Second, nil), traffic.Free, ""},
		{"it was killed", process(40*time.Second, nil), traffic.Free,
			"SEVERE process: process was last seen 40 s ago: it was killed, or can't reach MySQL"},
		{"and stays away", process(3*time.Minute, nil), traffic.NoData,
			"SEVERE process: process was last seen 3 min ago: it was killed, or can't reach MySQL"},
		{"it stopped", process(3*time.Minute, stopped), traffic.NoData,
			"SEVERE process: process stopped 3 min ago; start it with tollstream process"},
		{"it ended at the end", process(time.Hour, func(in *Instance) {
			stopped(in)
			in.Ended = true
		}), traffic.Free, ""},
		{"another one runs", func(b *Board) {
			process(time.Hour, stopped)(b)
			b.Processing.All = append(b.Processing.All, Instance{Name: "two", SeenAt: b.At})
		}, traffic.Free, ""},
		{"none has run", func(b *Board) { b.Processing.All, b.Waiting = []Instance{}, 1 }, traffic.Free,
			"SEVERE process: no process has run yet; 1 event waits; start one with tollstream process"},
		{"it lost Kafka", process(0, func(in *Instance) { in.Problem = "kafka: no answer" }),
			traffic.Free, "process: process one is not ready: kafka: no answer"},
		{"it has just begun", process(0, func(in *Instance) {
			in.Problem, in.StartedAt = "group: no partitions", in.SeenAt
		}), traffic.Free, ""},
		{"a small lag", func(b *Board) { b.Processing.Behind, b.Waiting = 900, 900 }, traffic.Free, ""},
		{"a backlog", func(b *Board) {
			b.Processing.Behind, b.Waiting = 1_240_000, 1_240_000
			b.Processing.All[0].DrainPerSecond = 6000
		}, traffic.Free, "catching_up: catching up, 1,240,000 events behind, about 4 min"},
		{"of plazas not judged yet", func(b *Board) {
			b.Processing.Behind, b.Waiting = 5000, 5000
			for i := range b.Plazas {
				b.Plazas[i].Assessment = nil
			}
		}, traffic.CatchingUp, "catching_up: catching up, 5,000 events behind"},
		{"judged before the first event", func(b *Board) {
			for i := range b.Plazas {
				p := &b.Plazas[i]
				p.Assessment.State, p.Assessment.First = traffic.NoData, p.Assessment.Until
				p.Assessment.Last = traffic.Measure{Capacity: new(3000.0), VC: new(0.0)}
				p.Counts.Earliest = toll.NewZone(b.Location).Wall(now.Add(-3 * time.Minute))
			}
		}, traffic.WarmingUp, ""},
		{"the first minutes", func(b *Board) {
			for i := range b.Plazas {
				p := &b.Plazas[i]
				p.Assessment = nil
				p.Counts.Earliest = toll.NewZone(b.Location).Wall(now.Add(-3 * time.Minute))
			}
		}, traffic.WarmingUp, ""},
	} {
		b := judged(c.change)
		var notices []string
		for _, n := range b.Notices {
			severe := ""
			if n.Severe {
				severe = "SEVERE "
			}
			notices = append(notices, severe+n.Kind+": "+n.Text)
		}
		if got := strings.Join(notices, "; "); got != c.notice {
			t.Errorf("%s: notices %q, want %q", c.what, got, c.notice)
		}
		p := &b.Plazas[0]
		if p.State != c.state || *b.Summary.States.Of(c.state) != 2 || p.Why == "" {
			t.Errorf("%s: %s (%s), summary %+v", c.what, p.State, p.Why, b.Summary)
		}
		if known := c.state != traffic.NoData; p.FlowPerHour.Known() != known ||
			b.Summary.FlowPerHour.Known() != known {
			t.Errorf("%s: flow %v, of all %v", c.what, p.FlowPerHour, b.Summary.FlowPerHour)
		}
		if c.state == traffic.WarmingUp { // ten vehicles in four minutes
			if *p.ObservedMinutes != 4 || p.FlowPerHour != 150 {
				t.Errorf("%s: flow %v of %d minutes", c.what, p.FlowPerHour, *p.ObservedMinutes)
			}
		}
		if c.what == "all is well" && p.ObservedMinutes != nil {
			t.Errorf("%s: observed for %d minutes", c.what, *p.ObservedMinutes)
		}
		if _, err := json.Marshal(b); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestFirstMinutes has a plaza that was judged by three minutes, of four that it was observed: its
// figures are of those three.
func TestFirstMinutes(t *testing.T) {
	b := judged(func(b *Board) {
		p := &b.Plazas[0]
		p.Counts.Earliest = toll.NewZone(b.Location).Wall(now.Add(-3 * time.Minute))
		m := &p.Assessment.Last
		m.Observed, m.FlowPerHour, m.Throughput = 3, 1200, 1500
		m.Capacity, m.VC = new(3000.0), new(0.5)
	})
	p := &b.Plazas[0]
	if p.State != traffic.Free || *p.ObservedMinutes != 3 || p.FlowPerHour != 1200 || *p.VC != 0.5 ||
		*p.Throughput != 1500 {
		t.Errorf("%s of %d minutes: flow %v, v/c %v, demand %v", p.State, *p.ObservedMinutes,
			p.FlowPerHour, *p.VC, *p.Throughput)
	}
}
