package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
)

// codec is one binary message for the tests that hold for all of them.
type codec struct {
	kind   kind
	decode func([]byte) (any, error)
	encode func(any) []byte
}

var binaryCodecs = []codec{
	{kindPlazaDeltas, func(b []byte) (any, error) { v, err := DecodePlazaDeltas(b); return v, err },
		func(v any) []byte { return AppendPlazaDeltas(nil, v.([]toll.PlazaDelta)) }},
	{kindDelta, func(b []byte) (any, error) { v, err := DecodeDelta(b); return v, err },
		func(v any) []byte { return AppendDelta(nil, v.(*toll.Delta)) }},
	{kindState, func(b []byte) (any, error) { v, err := DecodeState(b); return v, err },
		func(v any) []byte { return AppendState(nil, v.(*toll.State)) }},
	{kindChain, func(b []byte) (any, error) { v, err := DecodeChain(b); return v, err },
		func(v any) []byte { return AppendChain(nil, v.(map[int16]int64)) }},
	{kindClock, func(b []byte) (any, error) { v, err := DecodeClock(b); return v, err },
		func(v any) []byte { c := v.(toll.Clock); return AppendClock(nil, &c) }},
}

// samples returns valid values of a kind.
func samples(k kind) []any {
	switch k {
	case kindPlazaDeltas:
		return []any{[]toll.PlazaDelta(nil), plazaDeltas(1, 1, 1), plazaDeltas(20, 3, 3), extremeDeltas(),
			packedDeltas(), foldedDeltas()}
	case kindDelta:
		extreme := extremeDeltas()
		return []any{
			&toll.Delta{},
			&toll.Delta{Epoch: 1757000000000, Partition: 3, First: 1000, Next: 2000,
				PlazaDelta: plazaDelta(4856, 2, 3)},
			&toll.Delta{Epoch: 1<<64 - 1, Partition: 1<<31 - 1, First: 1<<63 - 2, Next: 1<<63 - 1,
				PlazaDelta: extreme[0]},
			&toll.Delta{PlazaDelta: toll.PlazaDelta{Earliest: toll.MaxWallTime, Latest: toll.MaxWallTime}},
			foldedDeltas()[1].Of(1757000000000, 3, 0, 9000),
		}
	case kindState:
		full := plazaState(350, toll.MaxTypes, 16)
		return []any{&toll.State{}, toll.NewState(1), &toll.State{Epoch: 5, Gaps: 3},
			plazaState(120, 3, 4), plazaState(3, 70, 1), full, &toll.State{
				Epoch: 1<<64 - 1, Events: 1<<63 - 1, Checksum: 1<<64 - 1, Gaps: 1<<63 - 1,
				Earliest: toll.MinWallTime, Latest: toll.MaxWallTime,
				Types: []toll.TypeCount{{Type: "a", Count: 1<<63 - 1}},
				Late:  1<<63 - 1, LateQuarter: 1<<63 - 1, TooLate: 1<<63 - 1, Ahead: 1<<63 - 1, Lead: 1<<63 - 1,
				Done: 1<<31 - 1, Dirty: []toll.Window{{Start: -1 << 31, End: -1 << 31},
					{Start: 5, End: 1<<31 - 1}},
				Minutes: toll.Panes{From: -1 << 31, Gap: toll.Window{Start: -1 << 31, End: 1<<31 - 1},
					List: []toll.Pane{{Start: -1 << 31, Types: []toll.TypeCount{{Type: "b", Count: 1}}, Late: 1},
						{Start: 1<<31 - 1}}},
				Quarters: toll.Panes{From: 1<<31 - 1,
					List: []toll.Pane{{Start: -15, Late: 1<<63 - 1}, {Start: 0}, {Start: 15}, {Start: 45}}},
				Merged: []toll.Merged{{Partition: 0, Next: 1<<63 - 1, Latest: toll.MinWallTime},
					{Partition: 1<<31 - 1, Next: 0, Latest: toll.MaxWallTime}},
			}}
	case kindClock:
		return []any{toll.Clock{Events: 1, Time: -5}, clockAfter(5), clockAfter(5000),
			toll.Clock{Events: 1<<64 - 1, Time: 1<<63 - 1, Record: -1 << 63, Run: -1 << 31}}
	default:
		return []any{map[int16]int64{}, map[int16]int64{4856: 10_000}, chain(),
			map[int16]int64{toll.MinPlaza: 1<<63 - 1, 0: 0, toll.MaxPlaza: 1}}
	}
}

// packedDeltas are the outboxes of two batches in one row, foldedDeltas the same merged.
func packedDeltas() []toll.PlazaDelta {
	second := plazaDeltas(3, 2, 3)
	for i := range second {
		second[i].Prev = 2000
	}
	return toll.JoinDeltas([][]toll.PlazaDelta{plazaDeltas(2, 3, 3), second[:2]}, []int64{2000, 3000})
}

func foldedDeltas() []toll.PlazaDelta {
	packed := packedDeltas()
	folded := toll.FoldDeltas(packed[:2], packed[0].Panes[1].Start)
	return append(folded, toll.FoldDeltas(packed[2:], -1<<31)...)
}

func extremeDeltas() []toll.PlazaDelta {
	return []toll.PlazaDelta{
		{Plaza: toll.MinPlaza, Checksum: 1<<64 - 1, Events: 1<<63 - 1, Earliest: toll.MinWallTime,
			Latest: toll.MaxWallTime,
			Panes: []toll.Pane{{Start: -1 << 31},
				{Start: 1<<31 - 1, Types: []toll.TypeCount{{Type: "x", Count: 1<<63 - 1}}}}},
		{Plaza: toll.MaxPlaza, Prev: 1<<63 - 1, Events: 1, Earliest: toll.MaxWallTime,
			Latest: toll.MaxWallTime,
			Panes: []toll.Pane{{Start: 0,
				Types: []toll.TypeCount{{Type: strings.Repeat("🚗", 15), Count: 1}}}}},
	}
}

// clockAfter is the event time of a partition after n events.
func clockAfter(n int) toll.Clock {
	var c toll.Clock
	for i := range int64(n) {
		c.Observe(int16(4000+i%11), 1_700_000_000+i/10, (1_700_000_000+i/10)*1000, 60)
	}
	for i := range c.Voters { // as a codec does
		if !c.Votes(&c.Voters[i]) {
			c.Voters[i] = toll.Voter{}
		}
	}
	return c
}

func typeCounts(n, seed int) []toll.TypeCount {
	names := []string{"car", "truck", "van"}
	var types []toll.TypeCount
	for i := range n {
		name := fmt.Sprintf("vehicle type %02d", i)
		if n <= len(names) {
			name = names[i]
		}
		types = append(types, toll.TypeCount{Type: name, Count: int64(1 + (seed*7+i*13)%190)})
	}
	return types
}

func plazaDelta(plaza int16, panes, types int) toll.PlazaDelta {
	w := toll.WallTimeOf(time.Date(2022, 2, 10, 10, 23, 2, 0, time.UTC))
	d := toll.PlazaDelta{Plaza: plaza, Prev: 1000, Checksum: 0x0123456789abcdef * uint64(plaza),
		Earliest: w, Latest: w + toll.WallTime(60*panes)}
	for i := range panes {
		p := toll.Pane{Start: toll.Minute(w/60) - 60 + toll.Minute(i), Types: typeCounts(types, i)}
		d.Panes = append(d.Panes, p)
		d.Events += p.Count()
		if i%7 == 3 {
			d.Panes[i].Late = 1
		}
	}
	if panes > 1 {
		d.LateQuarter = []toll.Pane{{Start: toll.Minute(w/60) - 300, Types: typeCounts(types, 5)}}
		d.TooLate = []toll.Pane{{Start: toll.Minute(w/60) - 30000, Types: typeCounts(1, 6)}}
		d.Events += d.LateQuarter[0].Count() + d.TooLate[0].Count()
		d.Ahead, d.Lead = 3, 3600
	}
	return d
}

// plazaDeltas is the outbox of a batch.
func plazaDeltas(plazas, panes, types int) []toll.PlazaDelta {
	var deltas []toll.PlazaDelta
	for i := range plazas {
		deltas = append(deltas, plazaDelta(int16(4000+i), panes, types))
	}
	return deltas
}

// plazaState is the state of a plaza that counted for two hours or more.
func plazaState(panes, types, partitions int) *toll.State {
	d := plazaDelta(4856, panes, types)
	s := &toll.State{Epoch: 1757000000000, Events: 30_000_000, Checksum: d.Checksum,
		Earliest: d.Earliest - 30*86400, Latest: d.Latest, Types: typeCounts(types,
			0), Late: 7, TooLate: 1,
		Done: d.Panes[len(d.Panes)-1].Start, Dirty: []toll.Window{{Start: d.Panes[0].Start,
			End: d.Panes[0].Start + 2}},
		Minutes: toll.Panes{From: d.Panes[0].Start, List: d.Panes}, Quarters: toll.NewPanes()}
	for i := range min(192, 2*panes) {
		s.Quarters.List = append(s.Quarters.List,
			toll.Pane{Start: toll.QuarterOf(d.Panes[0].Start) + toll.Minute(15*i),
				Types: typeCounts(types, 12*i)})
	}
	for i := range s.Types {
		s.Types[i].Count *= 100_000
	}
	for i := range partitions {
		s.Merged = append(s.Merged, toll.Merged{Partition: int32(i), Next: int64(250_000_000 + i*10_007),
			Latest: d.Latest - toll.WallTime(i)})
	}
	return s
}

func chain() map[int16]int64 {
	c := map[int16]int64{}
	for i := range 1000 {
		c[int16(4000+i)] = 250_000_000 - int64(i%17)*10_000
	}
	return c
}

func forAll(t *testing.T, test func(t *testing.T, c codec, value any, message []byte)) {
	for _, c := range binaryCodecs {
		t.Run(c.kind.String(), func(t *testing.T) {
			for _, value := range samples(c.kind) {
				test(t, c, value, c.encode(value))
			}
		})
	}
}

func TestBinaryRoundTrip(t *testing.T) {
	forAll(t, func(t *testing.T, c codec, value any, message []byte) {
		got, err := c.decode(message)
		if err != nil || !reflect.DeepEqual(got, value) {
			t.Fatalf("%+v became %+v, %v", value, got, err)
		}
		if again := c.encode(got); string(again) != string(message) {
			t.Errorf("%x became %x", message, again)
		}
		if len(message) == 0 || message[0] != version && message[0] != c.kind.newest() {
			t.Errorf("a message that does not begin with its version: %x", message)
		}
	})
}

func TestBinaryNoticesEveryCorruption(t *testing.T) {
	forAll(t, func(t *testing.T, c codec, _ any, message []byte) {
		step := 1 + len(message)/500
		for i := 0; i < len(message); i += step {
			for _, flip := range []byte{1, 0x80, 0xff} {
				damaged := append([]byte(nil), message...)
				damaged[i] ^= flip
				if _, err := c.decode(damaged); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
					t.Fatalf("byte %d of %x changed by %x: %v", i, message, flip, err)
				}
			}
			if i > 0 || c.kind != kindChain && c.kind != kindClock { // no bytes at all are a new one
				if _, err := c.decode(message[:i]); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%x cut to %d bytes: %v", message, i, err)
				}
			}
		}
		if _, err := c.decode(append(message, 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a byte more: %v", err)
		}
	})
}

func TestBinaryKindsAreKeptApart(t *testing.T) {
	forAll(t, func(t *testing.T, c codec, _ any, message []byte) {
		for _, other := range binaryCodecs {
			if _, err := other.decode(message); other.kind != c.kind && !errors.Is(err, ErrCorrupt) &&
				!errors.Is(err, ErrNewer) {
				t.Errorf("a %s read as %s: %v", c.kind, other.kind, err)
			}
		}
	})
}

func TestBinaryVersions(t *testing.T) {
	forAll(t, func(t *testing.T, c codec, _ any, message []byte) {
		body := message[1 : len(message)-trailerBytes]
		newest := c.kind.newest()
		newer := seal(append([]byte{newest + 1}, body...), 0, c.kind)
		_, err := c.decode(newer)
		want := fmt.Sprintf(
			"decode %s: written by a newer version of tollstream (version %d, this one knows %d)", c.kind,
			newest+1, newest)
		if !errors.Is(err, ErrNewer) || errors.Is(err, ErrCorrupt) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		for v := range byte(version) {
			older := seal(append([]byte{v}, body...), 0, c.kind)
			if _, err := c.decode(older); !errors.Is(err, ErrCorrupt) {
				t.Errorf("version %d: %v", v, err)
			}
		}
	})
}

func TestBinaryAppends(t *testing.T) {
	s := plazaState(2, 2, 1)
	d := &toll.Delta{Next: 1, PlazaDelta: plazaDelta(1, 1, 1)}
	for name, got := range map[string][2][]byte{
		"state": {AppendState([]byte("before"), s), AppendState(nil, s)},
		"delta": {AppendDelta([]byte("before"), d), AppendDelta(nil, d)},
		"outbox": {AppendPlazaDeltas([]byte("before"), plazaDeltas(2, 1, 1)),
			AppendPlazaDeltas(nil, plazaDeltas(2, 1, 1))},
		"chain": {AppendChain([]byte("before"), chain()), AppendChain(nil, chain())},
	} {
		if string(got[0]) != "before"+string(got[1]) {
			t.Errorf("%s: %x does not end with %x", name, got[0], got[1])
		}
	}
}

// bodies of messages whose checksum is right, so what is wrong with them has to be noticed
// otherwise.
func TestBinaryRefuses(t *testing.T) {
	uv := func(vs ...uint64) (b []byte) {
		for _, v := range vs {
			b = binary.AppendUvarint(b, v)
		}
		return b
	}
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	sum := make([]byte, 8)
	const huge = 1 << 63
	for _, c := range []struct {
		name string
		kind kind
		body []byte
		want string
	}{
		{"nothing", kindState, nil, "not a number"},
		{"number in a longer form", kindChain, []byte{0x80, 0x00}, "not a number"},
		{"number beyond 64 bits", kindChain, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0x7f}, "not a number"},
		{"more plazas than bytes", kindChain, uv(huge, 0, 0), "it ends too early"},
		{"plaza out of range", kindChain, uv(1, 65536, 0), "plaza 32768 is out of range"},
		{"plaza that wraps around", kindChain, uv(1, huge+huge/2, 0), "numbers do not ascend"},
		{"negative next", kindChain, uv(1, 0, 1), "a negative offset"},
		{"negative next", kindState, join(uv(0, 0), sum, uv(0, 0, 0, 1, 0, 1, 0, 0, 0, 0)),
			"a negative offset"},
		{"bytes left", kindChain, uv(0, 0), "1 bytes too many"},
		{"more types than bytes", kindPlazaDeltas, uv(huge), "it ends too early"},
		{"type longer than the message", kindPlazaDeltas, join(uv(1, 100), []byte("car"), uv(0)),
			"it ends too early"},
		{"empty type", kindPlazaDeltas, join(uv(1, 0), uv(0, 0)), "an empty vehicle type"},
		{"type without a count", kindPlazaDeltas, join(uv(1, 3), []byte("car"), uv(0)),
			"1 vehicle types without a count"},
		{"types that descend", kindPlazaDeltas, join(uv(2, 1), []byte("b"), uv(1), []byte("a"), uv(0)),
			"vehicle types do not ascend"},
		{"type twice", kindPlazaDeltas, join(uv(2, 1), []byte("a"), uv(1), []byte("a"), uv(0)),
			"vehicle types do not ascend"},
		{"count without a type", kindPlazaDeltas, join(uv(0, 1, 0, 0, 1), sum, uv(0, 0, 1, 0, 1, 0, 1)),
			"more counts than vehicle types"},
		{"type that is not there", kindPlazaDeltas,
			join(uv(1, 1), []byte("a"), uv(1, 0, 0, 1), sum, uv(0, 0, 1, 0, 1, 1, 1)),
			"a vehicle type that is not there"},
		{"events that no pane has", kindPlazaDeltas, join(uv(0, 1, 0, 0, 7), sum, uv(0, 0, 0, 0, 0, 0)),
			"7 events, but 0 in the panes"},
		{"plaza out of range", kindPlazaDeltas, join(uv(0, 1, 65536, 0, 0), sum, uv(0, 0, 0, 0, 0, 0)),
			"plaza 32768 is out of range"},
		{"negative prev", kindPlazaDeltas, join(uv(0, 1, 0, 1, 0), sum, uv(0, 0, 0, 0, 0, 0)),
			"a negative offset"},
		{"latest before earliest", kindPlazaDeltas, join(uv(0, 1, 0, 0, 0), sum, uv(0, huge, 0)),
			"numbers do not ascend"},
		{"minute out of range", kindPlazaDeltas, join(uv(0, 1, 0, 0, 0), sum, uv(0, 0, 1, 1<<32, 0)),
			"minute 2147483648 is out of range"},
		{"panes cut off", kindPlazaDeltas, join(uv(0, 1, 0, 0, 0), sum, uv(0, 0, 5)),
			"it ends too early"},
		{"checksum cut off", kindState, uv(0, 0, 1), "it ends too early"},
		{"partition out of range", kindState, join(uv(0, 0), sum, uv(0, 0, 0, 1, 1<<31, 0, 0, 0, 0, 0)),
			"partition 2147483648 is out of range"},
		{"more partitions than bytes", kindState, join(uv(0, 0), sum, uv(0, 0, 0, 100)),
			"it ends too early"},
		{"negative partition", kindDelta, join(uv(0, 1, 0, 0, 0, 0, 0, 0), sum, uv(0, 0, 0)),
			"partition -1 is out of range"},
		{"negative first", kindDelta, join(uv(0, 0, huge, 1, 0, 0, 0, 0), sum, uv(0, 0, 0)),
			"a negative offset"},
		{"prev after first", kindDelta, join(uv(0, 0, 5, 1, 0, 0, 2, 0), sum, uv(0, 0, 0, 0, 0, 0)),
			"it follows a batch that ends at 6, but begins at 5"},
	} {
		message := seal(append([]byte{version}, c.body...), 0, c.kind)
		for _, codec := range binaryCodecs {
			if codec.kind != c.kind {
				continue
			}
			want := fmt.Sprintf("decode %s: corrupt: %s", c.kind, c.want)
			if got, err := codec.decode(message); err == nil || err.Error() != want {
				t.Errorf("%s: got %+v, %v; want %s", c.name, got, err, want)
			}
		}
	}
}

// A decoded list must not grow into its neighbour's memory.
func TestDecodedListsGrowApart(t *testing.T) {
	s, err := DecodeState(AppendState(nil, plazaState(3, 2, 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := plazaState(3, 2, 1)
	for i := range s.Minutes.List {
		got, want := &s.Minutes.List[i], &want.Minutes.List[i]
		got.Types = toll.AddTypes(got.Types, []toll.TypeCount{{Type: "bus", Count: 1}})
		want.Types = toll.AddTypes(want.Types, []toll.TypeCount{{Type: "bus", Count: 1}})
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestDecodedValuesKeepNothingOfTheMessage(t *testing.T) {
	forAll(t, func(t *testing.T, c codec, value any, message []byte) {
		got, err := c.decode(message)
		if err != nil {
			t.Fatal(err)
		}
		clear(message)
		if !reflect.DeepEqual(got, value) {
			t.Errorf("%+v became %+v", value, got)
		}
	})
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// fuzzBinary reads what is given as a message with a right checksum, since the fuzzer would hardly
// find one. Run it with -fuzzminimizetime=5x: the coverage of its pooled dictionaries varies, over
// which the fuzzer's minimizing gets stuck.
func fuzzBinary(f *testing.F, k kind) {
	corpus.Add(f)
	var c codec
	for _, c = range binaryCodecs {
		if c.kind == k {
			break
		}
	}
	for _, value := range samples(k) {
		message := c.encode(value)
		f.Add(message[1 : len(message)-trailerBytes])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for v := byte(version); v <= k.newest(); v++ {
			message := seal(append([]byte{v}, body...), 0, k)
			var value any
			var err error
			if n, most := allocated(func() { value, err = c.decode(message) }),
				uint64(100*len(message)+100_000); n > most {
				t.Fatalf("%d bytes allocated for a message of %d", n, len(message))
			}
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
				continue
			}
			if again := c.encode(value); string(again) != string(message) {
				t.Fatalf("%x became %+v became %x", message, value, again)
			}
		}
		c.decode(body) // mostly for panics
	})
}

func FuzzPlazaDeltas(f *testing.F) { fuzzBinary(f, kindPlazaDeltas) }
func FuzzDelta(f *testing.F)       { fuzzBinary(f, kindDelta) }
func FuzzState(f *testing.F)       { fuzzBinary(f, kindState) }
func FuzzChain(f *testing.F)       { fuzzBinary(f, kindChain) }
func FuzzClock(f *testing.F)       { fuzzBinary(f, kindClock) }

func TestChainOfANewCursor(t *testing.T) {
	for _, b := range [][]byte{nil, {}} {
		chain, err := DecodeChain(b)
		if err != nil || chain == nil || len(chain) != 0 {
			t.Errorf("DecodeChain(%#v) = %#v, %v", b, chain, err)
		}
	}
}

func BenchmarkChain(b *testing.B) {
	c := chain()
	message := AppendChain(nil, c)
	b.Logf("%d plazas: %d bytes", len(c), len(message))
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(message)))
		var dst []byte
		for b.Loop() {
			dst = AppendChain(dst[:0], c)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(message)))
		for b.Loop() {
			if _, err := DecodeChain(message); err != nil {
				b.Fatal(err)
			}
		}
	})
}
