package ingest

import (
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
)

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
