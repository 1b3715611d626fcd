package codecs

import (
	"runtime"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/corpus"
	"github.com/tollstream/tollstream/toll"
)

// FuzzDecodeMemory: reading a payload takes memory by its size, and time as well, whatever it says
// its format is.
func FuzzDecodeMemory(f *testing.F) {
	corpus.Add(f)
	for format, payload := range payloads(f) {
		f.Add(payload, format.ContentType())
	}
	f.Add([]byte(`{"a":[[[[{"b":"\u0000\ud83d"}]]]],"timestamp":1e999999999}`), "application/json")
	f.Add([]byte("\x0a\xff\xff\xff\xff\x0f"), "application/x-protobuf")
	f.Add([]byte(`"`+"\\ud83d"), "application/json; charset=\x00")
	zone := berlin(f)
	f.Fuzz(func(t *testing.T, payload []byte, contentType string) {
		for _, format := range []Format{Auto, CSV, JSON, Protobuf} {
			d := NewDecoder(format, zone.Clone())
			var e toll.Event
			began := time.Now()
			most := uint64(64*(len(payload)+len(contentType)) + 64<<10)
			if n := allocated(func() { _ = d.Decode(payload, contentType, &e) }); n > most {
				t.Fatalf("%v: %d bytes allocated for a payload of %d", format, n, len(payload))
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Fatalf("%v: %v for a payload of %d bytes", format, took, len(payload))
			}
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
