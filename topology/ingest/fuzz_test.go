package ingest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/internal/simtest"
)

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzOrigin: what a retry header is read as is written as it was, or refused.
func FuzzOrigin(f *testing.F) {
	for _, text := range []string{"0", "0:0", "3:9223372036854775807", "2147483647:1", "1:2:3", "-1:2",
		"01:2", ":", "1:\x1b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, ok := parseOrigin(text)
		if !ok {
			return
		}
		if again, ok := parseOrigin(FormatOrigin(o)); !ok || again != o || o.Partition < 0 ||
			o.Offset < 0 {
			t.Fatalf("%q became %+v became %+v", text, o, again)
		}
	})
}

// FuzzIngest: whatever records hold, each is a row or a reject, and what the batch says of its rows
// can be stored, read, sent and merged, in memory by the size of the records.
func FuzzIngest(f *testing.F) {
	corpus.Add(f)
	f.Add([]byte("Thu Feb 10 10:23:02 2022,3728373,car,4856|2022-02-10 10:23:02,1,a b,-7|garbage||"),
		int64(1_644_488_582_000), uint16(5), uint64(1))
	f.Add(
		[]byte(
			`{"timestamp":"2022-02-10T10:23:02Z","vehicle_id":1,"vehicle_type":"(other)","toll_plaza_id":4001}|{`), int64(-1), uint16(999), uint64(2))
	f.Add(
		[]byte(
			"9999-12-31 23:59:59,1,x,32767|1000-01-01 00:00:00,1,y,-32768|2022-02-10 10:23:02,1,y,-32768"),
		int64(1<<62), uint16(65535), uint64(0))
	f.Add(
		bytes.Repeat(
			[]byte(
				"2022-02-10 10:23:02,1,car,4001|2022-02-10 07:00:02,1,car,4001|2022-02-01 "+
					"10:23:02,1,car,4001|"), 20), int64(1_644_488_582_000), uint16(60), uint64(6))
	f.Add([]byte("2022-02-10 10:23:02,1,car,1\n2022-02-10 10:23:02,2,car,2|"+
		`[{"time":"2022-02-10 10:23:02","vehicle_id":1,"vehicle_type":"x","plaza_id":1},{}]`),
		int64(1_644_488_582_000), uint16(5), uint64(2))
	cfg := testConfig()
	f.Fuzz(func(t *testing.T, text []byte, at int64, step uint16, reject uint64) {
		values := bytes.Split(text, []byte("|"))
		rows := new(simtest.Rows)
		b := newBuilder(rows, cfg)
		var deltas []toll.PlazaDelta
		check := func(rejects int) {
			if rows.Len()-b.extra() != len(b.records) || len(b.records)+len(b.rejects) != len(values) ||
				len(b.rejects) < rejects {
				t.Fatalf("%d records are %d rows of %d events and %d rejects", len(values), len(b.records),
					rows.Len(), len(b.rejects))
			}
			deltas = b.deltas()
			var events, ahead int64
			for i := range deltas {
				events += deltas[i].Events
				ahead += deltas[i].Ahead
				for _, p := range deltas[i].Panes {
					if len(p.Types) > toll.MaxTypes || p.Late < 0 || p.Late > p.Count() || i > 0 &&
						deltas[i].Plaza <= deltas[i-1].Plaza {
						t.Fatalf("delta %+v", deltas[i])
					}
				}
			}
			if events != int64(rows.Len()) || ahead > events {
				t.Fatalf("%d events and %d ahead in the deltas of %d rows", events, ahead, rows.Len())
			}
		}
		most := uint64(2_000*len(text) + 2<<20)
		if n := allocated(func() {
			for i, value := range values {
				b.add(&record{offset: int64(i), time: time.UnixMilli(at + int64(i)*int64(step)), value: value})
			}
			check(0)
			var rejected []toll.RejectedRow
			for i := range rows.Len() {
				if reject>>(i%64)&1 == 1 {
					rejected = append(rejected, toll.RejectedRow{Row: i, Rejection: toll.Rejection{
						Kind: toll.RejectRefused, Reason: "refused", SQLState: "22007"}})
				}
			}
			before := len(b.rejects)
			least := before + max(0, len(rejected)-b.extra())
			b.rebuild(rejected)
			check(least)
		}); n > most {
			t.Fatalf("%d bytes allocated for %d", n, len(text))
		}
		outbox := wire.AppendPlazaDeltas(nil, deltas)
		again, err := wire.DecodePlazaDeltas(outbox)
		if err != nil || string(wire.AppendPlazaDeltas(nil, again)) != string(outbox) {
			t.Fatalf("%+v became %+v, %v", deltas, again, err)
		}
		clock, err := wire.DecodeClock(wire.AppendClock(nil, &b.clock))
		if err != nil ||
			string(wire.AppendClock(nil, &clock)) != string(wire.AppendClock(nil, &b.clock)) {
			t.Fatalf("clock %+v: %v", b.clock, err)
		}
		for i := range again {
			d := again[i].Of(7, 0, 0, int64(len(values)))
			sent, err := wire.DecodeDelta(wire.AppendDelta(nil, d))
			if err != nil || !reflect.DeepEqual(sent, d) {
				t.Fatalf("%+v became %+v, %v", d, sent, err)
			}
			s := toll.NewState(0)
			if outcome := s.Merge(sent); outcome != toll.Applied || s.Events != d.Events ||
				toll.SumTypes(s.Types) != d.Events || s.Checksum != d.Checksum {
				t.Fatalf("%v: %+v became %+v", outcome, d, s)
			}
			if n := len(wire.AppendState(nil, s)); n > 6000 {
				t.Fatalf("a state of %d bytes", n)
			}
		}
	})
}

// sealed returns a binary message of ours with the right checksum of its kind.
func sealed(message []byte, kind byte) []byte {
	if len(message) < 5 {
		return message
	}
	body := message[:len(message)-4]
	sum := crc32.Update(crc32.Checksum([]byte{kind}, castagnoli), castagnoli, body)
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), sum)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FuzzAggregate merges whatever can be read as a delta into whatever can be read as a state, and
// closes its windows: the state can be written and read, takes the delta once, and stays small.
func FuzzAggregate(f *testing.F) {
	corpus.Add(f)
	state := toll.NewState(7)
	for i := range int64(3) {
		pane := toll.Pane{Start: toll.Minute(27_408_000 + 20*i),
			Types: []toll.TypeCount{{Type: "car", Count: 3}, {Type: "truck", Count: 1}}, Late: 1}
		d := &toll.Delta{Epoch: 7, Partition: 1, First: 10 * i, Next: 10*i + 10,
			PlazaDelta: toll.PlazaDelta{Plaza: 4001, Prev: 10 * i, Events: 8, Checksum: 5,
				Earliest: 1_644_480_000, Latest: 1_644_483_600, Panes: []toll.Pane{pane},
				TooLate: []toll.Pane{{Start: 27_000_000, Types: pane.Types}}}}
		f.Add(wire.AppendState(nil, state), wire.AppendDelta(nil, d), int32(27_408_010))
		state.Merge(d)
		f.Add(wire.AppendState(nil, state), wire.AppendDelta(nil, d), int32(27_409_000))
		d.Epoch, d.Fold = 8, &toll.Fold{Before: 27_408_010, OnTime: pane.Types, Late: 2,
			TooLate: pane.Types}
		d.Events += 8
		f.Add(wire.AppendState(nil, state), wire.AppendDelta(nil, d), int32(math.MaxInt32))
	}
	kinds, err := toll.ParseWindows("1m,10m/5m,15m,1h,day")
	if err != nil {
		f.Fatal(err)
	}
	zone := toll.NewZone(time.UTC)
	f.Fuzz(func(t *testing.T, stateMessage, deltaMessage []byte, until int32) {
		// The fuzzer would hardly find a checksum, so it is put right.
		s, err := wire.DecodeState(sealed(stateMessage, 's'))
		if err != nil {
			return
		}
		d, err := wire.DecodeDelta(sealed(deltaMessage, 'd'))
		if err != nil {
			return
		}
		for _, panes := range [][]toll.Pane{d.Panes, d.LateQuarter} {
			if len(panes) > 0 && panes[0].Start < math.MinInt32+toll.Quarter || len(panes) > 2000 {
				return // before the year 1000; more than a batch has of a plaza
			}
		}
		if len(s.Minutes.List)+len(s.Quarters.List) > 2000 ||
			s.Minutes.From > math.MaxInt32-toll.Quarter || len(s.Minutes.List) > 0 &&
			s.Minutes.List[0].Start < math.MinInt32+toll.Quarter {
			return
		}
		size := len(wire.AppendState(nil, s))
		events, epoch, gaps := s.Events, s.Epoch, s.Gaps
		before := wire.AppendState(nil, s)
		outcome := s.Merge(d)
		switch {
		case outcome == toll.Applied &&
			(s.Epoch != d.Epoch || s.MergedIn(d.Partition) != d.Next || epoch == d.Epoch &&
				s.Events != events+d.Events),
			(outcome == toll.Stale || outcome == toll.Duplicate && epoch == d.Epoch) &&
				!bytes.Equal(wire.AppendState(nil, s), before),
			outcome == toll.Gap && epoch == d.Epoch && (s.Events != events || s.Gaps != gaps+1):
			t.Fatalf("%v: %+v into an epoch %d with %d events is %+v", outcome, d, epoch, events, s)
		}
		roundTrip := func() {
			written := wire.AppendState(nil, s)
			again, err := wire.DecodeState(written)
			if err != nil || !bytes.Equal(wire.AppendState(nil, again), written) {
				t.Fatalf("%+v became %+v, %v", s, again, err)
			}
		}
		roundTrip()
		if n, most := len(wire.AppendState(nil, s)), size+len(deltaMessage)+8192; n > most {
			t.Fatalf("a state of %d bytes became one of %d by a delta of %d", size, n, len(deltaMessage))
		}
		if outcome == toll.Applied {
			if again := s.Merge(d); again != toll.Duplicate {
				t.Fatalf("the same delta again is a %v", again)
			}
		}
		closer := toll.Closer{Kinds: kinds, Zone: zone}
		for range 3 {
			closing, due := closer.Close(d.Plaza, s, toll.Minute(until), toll.Minute(until))
			if !due {
				break
			}
			if closing.Until < s.Done || closing.Weight(kinds) < 1 {
				t.Fatalf("closing %+v of %+v", closing, s)
			}
			for _, w := range closing.Windows {
				if w.Start >= w.End || len(w.Types) == 0 {
					t.Fatalf("window %+v", w)
				}
			}
			s.MarkStored(closing.Until, nil)
			roundTrip()
		}
		closer.CloseAll(d.Plaza, s)
	})
}

// heap returns the bytes in use after a collection.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMillionTypes lets a million vehicles pass one plaza, each of a type of its own: in batches,
// and in one batch as large as may be. What is kept of them stays small, in the builder, the outbox
// and the state, and counts them all.
func TestMillionTypes(t *testing.T) {
	const events = 1_000_000
	at, err := toll.WallTimeFromDate(2022, 2, 10, 10, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		batch      int
		outboxMost int // bytes
		heapMost   uint64
	}{
		{10_000, 4 << 10, 32 << 20},
		{events, 4 << 10, 400 << 20}, // of which a batch of a million records is the most
	} {
		t.Run(fmt.Sprint("batches of ", c.batch), func(t *testing.T) {
			b := newBuilder(new(fixedRows), testConfig())
			state := toll.NewState(1)
			before := heap()
			largest, most := 0, uint64(0)
			for first := 0; first < events; first += c.batch {
				for i := first; i < first+c.batch; i++ {
					e := toll.Event{Time: at + toll.WallTime(i/1000), Vehicle: int32(i),
						Type: fmt.Sprintf("type-%d", i), Plaza: 4001}
					b.add(&record{offset: int64(i), time: time.Unix(1_644_488_582+int64(i/1000), 0),
						value: codecs.AppendCSV(nil, &e)})
				}
				if len(b.types) > maxTypes+1 {
					t.Fatalf("a batch tells %d types apart", len(b.types))
				}
				outbox := wire.AppendPlazaDeltas(nil, b.deltas())
				largest = max(largest, len(outbox))
				deltas, err := wire.DecodePlazaDeltas(outbox)
				if err != nil || len(deltas) != 1 || deltas[0].Events != int64(c.batch) {
					t.Fatalf("%d deltas, %v", len(deltas), err)
				}
				deltas[0].Prev = int64(first)
				sent, err := wire.DecodeDelta(wire.AppendDelta(nil,
					deltas[0].Of(1, 0, int64(first), int64(first+c.batch))))
				if err != nil {
					t.Fatal(err)
				}
				if outcome := state.Merge(sent); outcome != toll.Applied {
					t.Fatal(outcome)
				}
				message := wire.AppendState(nil, state)
				if len(message) > 4096 {
					t.Fatalf("a state of %d bytes", len(message))
				}
				if state, err = wire.DecodeState(message); err != nil {
					t.Fatal(err)
				}
				if c.batch == events || first/c.batch%10 == 0 {
					now := heap()
					most = max(most, now-min(before, now))
				}
				b.reset()
			}
			if state.Events != events || toll.SumTypes(state.Types) != events ||
				len(state.Types) > toll.MaxTypes {
				t.Errorf("%d events, %d by %d types", state.Events, toll.SumTypes(state.Types),
					len(state.Types))
			}
			if len(b.typeIDs)+len(b.cells) > 0 {
				t.Errorf("%d types and %d cells are left", len(b.typeIDs), len(b.cells))
			}
			left := heap()
			left -= min(left, before)
			t.Logf("an outbox takes %d bytes at most, the heap %d MiB, and %d MiB afterwards", largest,
				most>>20, left>>20)
			if largest > c.outboxMost || most > c.heapMost {
				t.Errorf("an outbox takes %d bytes, the heap %d", largest, most)
			}
			runtime.KeepAlive(b)
		})
	}
}

// TestEveryPlaza lets a vehicle pass each plaza that there can be, twice. The chain, the outbox,
// the clock and each state stay small and hold them all.
func TestEveryPlaza(t *testing.T) {
	const plazas = toll.MaxPlaza - toll.MinPlaza + 1
	at, err := toll.WallTimeFromDate(2022, 2, 10, 10, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := newBuilder(new(fixedRows), testConfig())
	chain := map[int16]int64{}
	states := make(map[int16]*toll.State, plazas)
	for round := range int64(2) {
		first := round * plazas
		for i := range int64(plazas) {
			// each once, in no order
			e := toll.Event{Time: at + toll.WallTime(i/1000), Vehicle: int32(i), Type: "car",
				Plaza: int16(toll.MinPlaza + i*7919%plazas)}
			b.add(&record{offset: first + i, time: time.Unix(1_644_488_582+first+i/1000, 0),
				value: codecs.AppendCSV(nil, &e)})
		}
		outbox := wire.AppendPlazaDeltas(nil, b.deltas())
		if len(outbox) > 32*plazas {
			t.Errorf("an outbox of %d bytes", len(outbox))
		}
		deltas, err := wire.DecodePlazaDeltas(outbox)
		if err != nil || len(deltas) != plazas {
			t.Fatalf("%d deltas, %v", len(deltas), err)
		}
		for i := range deltas {
			d := &deltas[i]
			if int(d.Plaza) != toll.MinPlaza+i || d.Events != 1 {
				t.Fatalf("delta %d: %+v", i, d)
			}
			d.Prev = chain[d.Plaza]
			sent, err := wire.DecodeDelta(wire.AppendDelta(nil, d.Of(1, 0, first, first+plazas)))
			if err != nil {
				t.Fatal(err)
			}
			s := states[d.Plaza]
			if s == nil {
				s = toll.NewState(1)
			}
			if outcome := s.Merge(sent); outcome != toll.Applied || s.Events != round+1 {
				t.Fatalf("plaza %d: %v, %d events", d.Plaza, outcome, s.Events)
			}
			message := wire.AppendState(nil, s)
			if len(message) > 128 {
				t.Fatalf("plaza %d: a state of %d bytes", d.Plaza, len(message))
			}
			if states[d.Plaza], err = wire.DecodeState(message); err != nil {
				t.Fatal(err)
			}
			chain[d.Plaza] = first + plazas
		}
		message := wire.AppendChain(nil, chain)
		if len(message) > 8*plazas {
			t.Errorf("a chain of %d bytes", len(message))
		}
		if chain, err = wire.DecodeChain(message); err != nil || len(chain) != plazas ||
			chain[toll.MinPlaza] != first+plazas || chain[toll.MaxPlaza] != first+plazas {
			t.Fatalf("a chain of %d plazas, %v", len(chain), err)
		}
		clock := wire.AppendClock(nil, &b.clock)
		if len(clock) > math.MaxUint16 { // what its column holds
			t.Errorf("a clock of %d bytes", len(clock))
		}
		t.Logf("an outbox takes %d bytes, the chain %d, the clock %d", len(outbox), len(message),
			len(clock))
		b.reset()
	}
}
