package fetch

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// randomBatch returns a batch as it is stored, of records from an offset on, some of which were
// compacted away, and the offset behind it.
func randomBatch(t *testing.T, rnd *rand.Rand, first int64, attributes int16) ([]byte, int64) {
	t.Helper()
	var records []byte
	n, delta := rnd.IntN(20), int32(0)
	bytesOf := func() []byte {
		b := make([]byte, rnd.IntN(100))
		for i := range b {
			b[i] = byte(rnd.IntN(256))
		}
		return b
	}
	for range n {
		r := kmsg.Record{OffsetDelta: delta, TimestampDelta64: int64(rnd.IntN(2000) - 1000),
			Value: bytesOf()}
		if rnd.IntN(3) == 0 {
			r.Key = bytesOf()
		}
		if rnd.IntN(9) == 0 {
			r.Value = nil // a tombstone
		}
		for range rnd.IntN(3) {
			r.Headers = append(r.Headers, kmsg.Header{Key: "content-type", Value: bytesOf()})
		}
		body := r.AppendTo(nil)[1:] // without the length, of one byte
		records = append(kbin.AppendVarint(records, int32(len(body))), body...)
		delta += 1 + int32(rnd.IntN(2))
	}
	if codec := kgo.CompressionCodecType(attributes & 7); codec != kgo.CodecNone {
		compressor, err := kgo.DefaultCompressor([...]kgo.CompressionCodec{1: kgo.GzipCompression(),
			2: kgo.SnappyCompression(), 3: kgo.Lz4Compression(), 4: kgo.ZstdCompression()}[codec])
		if err != nil {
			t.Fatal(err)
		}
		compressed, _ := compressor.Compress(new(bytes.Buffer), records)
		records = bytes.Clone(compressed)
	}
	b := kmsg.RecordBatch{FirstOffset: first, PartitionLeaderEpoch: int32(first / 1000), Magic: 2,
		Attributes: attributes, LastOffsetDelta: delta, FirstTimestamp: 1_700_000_000_000,
		MaxTimestamp: 1_700_000_009_000, ProducerID: 7, NumRecords: int32(n), Records: records}
	return sealBatch(b.AppendTo(nil)), first + int64(delta) + 1
}

// sealBatch sets the length and the checksum of a batch.
func sealBatch(b []byte) []byte {
	binary.BigEndian.PutUint32(b[batchLengthAt:], uint32(len(b)-batchLengthAt-4))
	binary.BigEndian.PutUint32(b[batchCRCAt:], crc32.Checksum(b[batchCRCAt+4:], castagnoli))
	return b
}

// TestReadBatches: records are those that kgo reads, from wherever they are read, also cut.
func TestReadBatches(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	decompressor := kgo.DefaultDecompressor()
	for round := range 500 {
		rp := &kmsg.FetchResponseTopicPartition{}
		next := int64(rnd.IntN(1000))
		first := next
		for range rnd.IntN(6) {
			attributes := int16(rnd.IntN(2) * rnd.IntN(5)) // compression
			if rnd.IntN(4) == 0 {
				attributes |= 8 // the broker's time
			}
			var b []byte
			b, next = randomBatch(t, rnd, next, attributes)
			rp.RecordBatches = append(rp.RecordBatches, b...)
		}
		if n := len(rp.RecordBatches); rnd.IntN(3) == 0 {
			rp.RecordBatches = rp.RecordBatches[:rnd.IntN(n+1)] // brokers cut off the last one
		}
		from := first + rnd.Int64N(max(next-first, 1))
		want, wantNext := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: from}, rp,
			decompressor, nil)
		got, gotNext, ok := readBatches(rp, from, decompressor)
		if want.Err != nil || !ok || gotNext != wantNext || got.Len() != len(want.Records) {
			t.Fatalf("round %d: %d records up to %d, %v; want %d up to %d, %v", round, got.Len(), gotNext,
				ok, len(want.Records), wantNext, want.Err)
		}
		left := want.Records
		for got.Len() > 0 {
			most, size := 1+rnd.IntN(9), 1+rnd.IntN(2000)
			head, last, err := got.Cut(most, size)
			if err != nil {
				t.Fatal(err)
			}
			records := taken(t, head)
			if len(records) == 0 || len(records) > most ||
				!reflect.DeepEqual(&last, records[len(records)-1]) {
				t.Fatalf("%d records of %d at most, the last of which is %+v", len(records), most, last)
			}
			for _, r := range records {
				same(t, r, left[0])
				left = left[1:]
				if r.LeaderEpoch != last.LeaderEpoch {
					t.Fatalf("records of leader epochs %d and %d are together", r.LeaderEpoch,
						last.LeaderEpoch)
				}
			}
		}
		if len(left) > 0 {
			t.Fatalf("%d records are missing", len(left))
		}
	}
}

func same(t *testing.T, got, want *kgo.Record) {
	t.Helper()
	if got.Offset != want.Offset || !got.Timestamp.Equal(want.Timestamp) ||
		got.LeaderEpoch != want.LeaderEpoch || !bytes.Equal(got.Key, want.Key) ||
		(got.Key == nil) != (want.Key == nil) || !bytes.Equal(got.Value, want.Value) ||
		(got.Value == nil) != (want.Value == nil) ||
		len(got.Headers) != len(want.Headers) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i := range got.Headers {
		if got.Headers[i].Key != want.Headers[i].Key ||
			!bytes.Equal(got.Headers[i].Value, want.Headers[i].Value) {
			t.Fatalf("got the header %+v, want %+v", got.Headers[i], want.Headers[i])
		}
	}
}

// TestReadBatchesLeaves: what kgo knows better is left to it, and a batch that its producer wrote
// wrong is an error and not the end of the records.
func TestReadBatchesLeaves(t *testing.T) {
	decompressor := kgo.DefaultDecompressor()
	rnd := rand.New(rand.NewPCG(3, 4))
	read := func(b []byte) (Records, int64, bool) {
		return readBatches(&kmsg.FetchResponseTopicPartition{RecordBatches: b}, 0, decompressor)
	}
	var good []byte
	var next int64
	for next < 5 {
		good, next = randomBatch(t, rnd, 0, 0)
	}
	if _, _, ok := read(good); !ok {
		t.Fatal("a batch is left to kgo")
	}
	for name, change := range map[string]func(b []byte){
		"a transaction":         func(b []byte) { b[22] |= 0x10 },
		"a control batch":       func(b []byte) { b[22] |= 0x20 },
		"an old format":         func(b []byte) { b[16] = 1 },
		"more records than fit": func(b []byte) { b[57] = 1 },
		"compressed wrong":      func(b []byte) { b[22] |= byte(kgo.CodecLz4) },
	} {
		b := bytes.Clone(good)
		change(b)
		if _, _, ok := read(sealBatch(b)); ok {
			t.Errorf("%s is read", name)
		}
	}
	damaged := bytes.Clone(good)
	damaged[len(damaged)-1] ^= 1
	if _, _, ok := read(damaged); ok {
		t.Error("a damaged batch is read")
	}
	both := append(bytes.Clone(good), damaged...)
	if _, _, ok := read(both); ok {
		t.Error("a damaged batch behind another one is passed over")
	}

	short := sealBatch(bytes.Clone(good[:len(good)-1]))
	records, _, ok := read(short)
	if _, _, err := records.Cut(100, 1<<20); !ok || err == nil {
		t.Errorf("the batch that ends within a record: %v, %v", ok, err)
	}
	wrong := bytes.Clone(good)
	wrong[batchHeaderBytes+2] = 0xff // a number that goes on and on
	for i := range 12 {
		wrong[batchHeaderBytes+2+i] = 0xff
	}
	records, _, ok = read(sealBatch(wrong))
	if more, err := records.Next(&kgo.Record{Timestamp: time.Now()}); !ok || more || err == nil {
		t.Errorf("a record that can't be decoded: %v, %v, %v", ok, more, err)
	}
}

// BenchmarkRecords decodes the records of a batch of the course's lines.
func BenchmarkRecords(b *testing.B) {
	var records []byte
	const n = 1000
	for i := range int32(n) {
		r := kmsg.Record{OffsetDelta: i, TimestampDelta64: int64(i),
			Value: []byte("Thu Feb 10 10:23:02 2022,3728373,car,4856")}
		body := r.AppendTo(nil)[1:]
		records = append(kbin.AppendVarint(records, int32(len(body))), body...)
	}
	var r kgo.Record
	for b.Loop() {
		rs := Records{batches: []batch{{records: records, count: n}}}
		for {
			more, err := rs.Next(&r)
			if err != nil {
				b.Fatal(err)
			}
			if !more {
				break
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
}
