package closing

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

func TestNotice(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	start := toll.Minute(time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC).Unix() / 60)
	window := toll.WindowResult{WindowCount: toll.WindowCount{
		WindowID: toll.WindowID{Plaza: 4856, Kind: "15m", Start: start}, End: start +
			15, Whole: true, Reason: toll.ClosedByWatermark,
		Types: []toll.TypeCount{{Type: "car", Count: 9}, {Type: `x"<y`, Count: 3}}, Late: 2,
	}, Epoch: 7, Revision: 2, TooLate: 1}
	change := traffic.Transition{Plaza: 4856, From: traffic.Free, To: traffic.Saturated, Since: start,
		Detected: start + 2, Why: "demand", Epoch: 7}
	for _, c := range []struct {
		notice traffic.Notice
		want   string
	}{
		{traffic.Notice{Window: &window},
			`{"schema":1,"type":"window","plaza":4856,"kind":"15m","start":"2026-03-02T07:00:00+01:00","end":"2026-03-02T07:15:00+01:00",` +
				`"final":true,"revision":2,"reason":"watermark","count":12,"by_type":{"car":9,"x\"\u003cy":3},"flow_per_hour":48,"on_time":10,"late":2,"too_late":1,"epoch":7,"version":"00000000000000000007.0000000000000000002"}`},
		{traffic.Notice{Ref: traffic.NoticeRef{Number: 3}, Transition: &change},
			`{"schema":1,"type":"congestion","plaza":4856,"number":3,"event":"onset","from":"free","to":"saturated",` +
				`"since":"2026-03-02T07:00:00+01:00","detected":"2026-03-02T07:02:00+01:00","why":"demand",` +
				`"measure":{"plaza":0,"end":0,"count_15":0,"count_60":0,"heavy_15":0,"heavy_60":0,"flow_per_hour":0,"heavy_factor":0,"passenger_car_flow":0,"demand":0},"epoch":7,"version":"00000000000000000007.2147483651"}`},
	} {
		got, err := appendNotice([]byte(">"), &c.notice, berlin)
		if err != nil || string(got) != ">"+c.want {
			t.Errorf("got %s, %v\nwant %s", got, err, c.want)
		}
	}
	if got, err := appendNotice(nil, &traffic.Notice{}, berlin); err == nil {
		t.Errorf("nothing became %s", got)
	}
	for _, c := range []struct {
		from, to traffic.State
		want     string
	}{
		{traffic.Free, traffic.Busy, "onset"}, {traffic.Busy, traffic.Saturated,
			"change"}, {traffic.Saturated,
			traffic.Free, "end"},
		{traffic.NoData, traffic.Free, "change"}, {traffic.Free, traffic.BelowUsual,
			"onset"}, {traffic.BelowUsual,
			traffic.NoData, "end"},
	} {
		if got := eventOf(&traffic.Transition{From: c.from, To: c.to}); got != c.want {
			t.Errorf("%v to %v: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

// windowNotice is the JSON of a closed window, as encoding/json writes it.
type windowNotice struct {
	Schema      int              `json:"schema"`
	Type        string           `json:"type"`
	Plaza       int16            `json:"plaza"`
	Kind        string           `json:"kind"`
	Start       string           `json:"start"`
	End         string           `json:"end"`
	Final       bool             `json:"final"`
	Revision    int64            `json:"revision"`
	Reason      toll.CloseReason `json:"reason"`
	Count       int64            `json:"count"`
	ByType      map[string]int64 `json:"by_type"`
	FlowPerHour float64          `json:"flow_per_hour"`
	OnTime      int64            `json:"on_time"`
	Late        int64            `json:"late"`
	TooLate     int64            `json:"too_late"`
	Epoch       uint64           `json:"epoch"`
	Version     string           `json:"version"`
}

// TestWindowNotice compares windows with what encoding/json makes of them.
func TestWindowNotice(t *testing.T) {
	zones := []*time.Location{time.UTC, time.FixedZone("", -(5*3600 + 1800))}
	names := []string{"", "\u2028", "<b>&amp;", "a\nb", "bus", "car", `q"uo\te`, "Täxi🚕", "~", "\x7f",
		"\xff"}
	slices.Sort(names)
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		w := toll.WindowResult{
			WindowCount: toll.WindowCount{
				WindowID: toll.WindowID{Plaza: int16(random.Uint32()), Kind: "5m/1m",
					Start: toll.Minute(random.IntN(40_000_000))},
				Whole: random.IntN(2) == 0, Reason: toll.ClosedByEnd, Late: random.Int64N(3),
			},
			Epoch: random.Uint64() >> random.IntN(64), Revision: random.Int64() >> random.IntN(63),
			TooLate: random.Int64N(9),
		}
		w.End = w.Start + 1 + toll.Minute(random.IntN(1500))
		byType := map[string]int64{}
		for _, name := range names {
			if random.IntN(2) == 0 {
				n := 1 + random.Int64N(1<<random.IntN(50))
				w.Types = append(w.Types, toll.TypeCount{Type: name, Count: n})
				byType[name] = n
			}
		}
		loc := zones[random.IntN(2)]
		at := func(m toll.Minute) string { return m.Time().In(loc).Format(time.RFC3339) }
		want, err := json.Marshal(windowNotice{
			Schema: noticeSchema, Type: "window", Plaza: w.Plaza, Kind: w.Kind, Start: at(w.Start),
			End:   at(w.End),
			Final: w.Whole, Revision: w.Revision, Reason: w.Reason, Count: w.Events(), ByType: byType,
			FlowPerHour: toll.FlowPerHour(w.Events(), toll.Window{Start: w.Start, End: w.End}.Span()),
			OnTime:      w.Events() - w.Late, Late: w.Late, TooLate: w.TooLate, Epoch: w.Epoch,
			Version: fmt.Sprintf("%020d.%019d", w.Epoch, w.Revision),
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendNotice(nil, &traffic.Notice{Window: &w}, loc)
		if err != nil || string(got) != string(want) {
			t.Fatalf("got %s, %v\nwant %s", got, err, want)
		}
	}
}

// TestWindowVersion compares versions as text, in the order of epoch and revision.
func TestWindowVersion(t *testing.T) {
	last := ""
	for _, v := range []struct {
		epoch    uint64
		revision int64
	}{{0, 0}, {0, 1}, {7, 1}, {7, 2}, {7, 10}, {7, math.MaxInt64}, {8, 1}, {10, 1}, {1772431200000,
		3}, {1772431200001, 1}, {math.MaxUint64, 1}} {
		got := windowVersion(&toll.WindowResult{Epoch: v.epoch, Revision: v.revision})
		if got <= last || last != "" && len(got) != len(last) {
			t.Errorf("%v: %s is not after %s", v, got, last)
		}
		last = got
	}
}

// TestTransitionVersion has a consumer that keeps the message of the greatest version of a plaza,
// whichever comes first: the plaza's state, also where a failover lost changes that were
// published, and those that are found again differ from them.
func TestTransitionVersion(t *testing.T) {
	type change struct {
		epoch  uint64
		number int64
		to     traffic.State
	}
	var messages [][]byte
	for _, c := range []change{
		{0, math.MinInt32, traffic.Free}, {0, -1, traffic.Busy}, {0, 0, traffic.Free}, {7, -1,
			traffic.Busy}, {7, 9,
			traffic.Free}, {7, 10, traffic.Busy},
		{7, math.MaxInt32, traffic.Saturated}, // lost, as is the epoch's clock that ran ahead
		{8, 10, traffic.Free}, {8, 11, traffic.BelowUsual}, {math.MaxUint64, 0, traffic.Busy},
	} {
		n := traffic.Notice{Ref: traffic.NoticeRef{Number: c.number},
			Transition: &traffic.Transition{To: c.to, Epoch: c.epoch}}
		m, err := appendNotice(nil, &n, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
	}
	for n := range messages {
		type message struct {
			Epoch   uint64
			Number  int64
			Version string
		}
		var kept message
		for i := range n + 1 {
			for _, at := range []int{i, n - i} {
				var m message
				if err := json.Unmarshal(messages[at], &m); err != nil {
					t.Fatal(err)
				}
				if m.Version > kept.Version {
					kept = m
				}
			}
		}
		var want message
		if err := json.Unmarshal(messages[n], &want); err != nil || kept != want {
			t.Errorf("kept %+v, want %+v, %v", kept, want, err)
		}
	}
}
