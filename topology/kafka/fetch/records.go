package fetch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Records are records of a partition, in the order of their offsets. Those of batches are decoded
// when they are taken: a [kgo.Record] takes several times the memory of an event.
type Records struct {
	batches []batch
	list    []*kgo.Record // that are decoded already, where there are no batches
}

// batch is the rest of a batch of records.
type batch struct {
	records []byte // not compressed
	count   int    // of records
	first   int64  // offset that those of the records count from
	epoch   int32
	time    int64 // that the records' times count from, in Unix milliseconds; or of all
	append  bool  // all have the time at which the broker appended them
}

// RecordsOf returns records that are decoded.
func RecordsOf(list ...*kgo.Record) Records { return Records{list: list} }

// Len returns how many records there are.
func (rs *Records) Len() int {
	n := len(rs.list)
	for i := range rs.batches {
		n += rs.batches[i].count
	}
	return n
}

// LeaderEpoch returns that of the first record, of which there must be one.
func (rs *Records) LeaderEpoch() int32 {
	if len(rs.batches) > 0 {
		return rs.batches[0].epoch
	}
	return rs.list[0].LeaderEpoch
}

// Next takes the first record, and reports whether there was one. The record's key and value stay
// as they are, its headers are valid until the next call with the same record.
func (rs *Records) Next(r *kgo.Record) (bool, error) {
	if len(rs.batches) == 0 {
		if len(rs.list) == 0 {
			return false, nil
		}
		*r, rs.list = *rs.list[0], rs.list[1:]
		return true, nil
	}
	b := &rs.batches[0]
	record, err := b.next()
	if err == nil {
		err = b.decode(record, r)
	}
	if b.count == 0 {
		rs.batches = rs.batches[1:]
	}
	return err == nil, err
}

// Cut takes records of one leader epoch: so many at most, and about so many bytes. last is the last
// of them.
func (rs *Records) Cut(most, bytes int) (head Records, last kgo.Record, err error) {
	epoch, n, size := rs.LeaderEpoch(), 0, 0
	for n < len(rs.list) && n < most && size < bytes && rs.list[n].LeaderEpoch == epoch {
		size += len(rs.list[n].Value)
		n++
	}
	if n > 0 {
		head.list, rs.list = rs.list[:n:n], rs.list[n:]
		return head, *head.list[n-1], nil
	}
	var record []byte
	var of batch
	for len(rs.batches) > 0 && n < most && size < bytes && rs.batches[0].epoch == epoch {
		b := &rs.batches[0]
		whole := *b
		for b.count > 0 && n < most && size < bytes {
			if record, err = b.next(); err != nil {
				return head, last, err
			}
			size += len(record)
			n++
		}
		of, whole.count = whole, whole.count-b.count
		whole.records = whole.records[:len(whole.records)-len(b.records)]
		head.batches = append(head.batches, whole)
		if b.count == 0 {
			rs.batches = rs.batches[1:]
		}
	}
	return head, last, of.decode(record, &last)
}

// next takes the bytes of the first record.
func (b *batch) next() ([]byte, error) {
	length, n := kbin.Varint(b.records)
	if n <= 0 || length < 0 || int(length) > len(b.records)-n {
		return nil, fmt.Errorf("a batch of records from offset %d on ends within a record", b.first)
	}
	record := b.records[n : n+int(length)]
	b.records, b.count = b.records[n+int(length):], b.count-1
	return record, nil
}

// decode decodes a record of the batch.
func (b *batch) decode(record []byte, r *kgo.Record) error {
	in := kbin.Reader{Src: record}
	in.Int8() // attributes, which have no meaning
	at := b.time + in.Varlong()
	if b.append {
		at = b.time
	}
	r.Timestamp = time.UnixMilli(at)
	r.Offset, r.LeaderEpoch = b.first+int64(in.Varint()), b.epoch
	r.Headers = r.Headers[:0]
	if value, ok := onlyValue(in.Src); ok {
		r.Key, r.Value = nil, value
		return nil
	}
	r.Key, r.Value = in.VarintBytes(), in.VarintBytes()
	for range in.VarintArrayLen() {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: in.VarintString(), Value: in.VarintBytes()})
	}
	if !in.Ok() {
		return fmt.Errorf("a record of the batch from offset %d on can't be decoded", b.first)
	}
	return nil
}

// onlyValue returns the value of a record that has no key, no headers and a short value, as nearly
// all have, from behind its offset on.
func onlyValue(in []byte) (value []byte, ok bool) {
	const noKey, noHeaders = 1, 0 // as variable-length integers: -1 and 0
	if len(in) < 3 || in[0] != noKey || in[1]&0x81 != 0 || int(in[1]>>1) != len(in)-3 ||
		in[len(in)-1] != noHeaders {
		return nil, false
	}
	return in[2 : len(in)-1 : len(in)-1], true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readBatches returns the records from an offset on of what was fetched, and the next offset. It
// reports false for what is better left to [kgo.ProcessFetchPartition]: transactions, old formats,
// and whatever is wrong with the first batch.
func readBatches(rp *kmsg.FetchResponseTopicPartition, from int64,
	decompressor kgo.Decompressor) (rs Records, next int64, ok bool) {
	next = from
	for in := rp.RecordBatches; len(in) >= batchHeaderBytes; {
		size := int64(int32(binary.BigEndian.Uint32(in[batchLengthAt:]))) + batchLengthAt + 4
		if size > int64(len(in)) {
			break // the beginning of a batch
		}
		var rb kmsg.RecordBatch
		const plain = 0x07 | 0x08 // compression, and whose the times are
		if size < batchHeaderBytes || rb.ReadFrom(in[:size]) != nil || rb.Magic != 2 ||
			rb.Attributes&^plain != 0 ||
			crc32.Checksum(in[batchCRCAt+4:size], castagnoli) != uint32(rb.CRC) {
			return rs, next, false
		}
		in = in[size:]
		end := rb.FirstOffset + int64(rb.LastOffsetDelta) + 1
		if end <= next {
			continue
		}
		b := batch{records: rb.Records, count: int(rb.NumRecords), first: rb.FirstOffset,
			epoch: rb.PartitionLeaderEpoch, time: rb.FirstTimestamp, append: rb.Attributes&0x08 != 0}
		if b.append {
			b.time = rb.MaxTimestamp
		}
		if codec := kgo.CompressionCodecType(rb.Attributes & 0x07); codec != kgo.CodecNone {
			var err error
			if b.records, err = decompressor.Decompress(b.records, codec); err != nil {
				return rs, next, len(rs.batches) > 0 // it is met again, as the first one
			}
		}
		if b.count < 0 || b.count > len(b.records) || !b.skip(next) {
			return rs, next, len(rs.batches) > 0
		}
		if next = end; b.count > 0 {
			rs.batches = append(rs.batches, b)
		}
	}
	return rs, next, true
}

// skip leaves out the records below an offset, and reports whether these can be decoded.
func (b *batch) skip(from int64) bool {
	for b.first < from && b.count > 0 {
		rest := *b
		record, err := rest.next()
		var r kgo.Record
		if err != nil || rest.decode(record, &r) != nil {
			return false
		}
		if r.Offset >= from {
			break
		}
		*b = rest
	}
	return true
}

// Places within a batch of records, by Kafka's protocol, version 2 of the format.
const (
	batchLengthAt    = 8
	batchCRCAt       = 17
	batchTimeAt      = 27
	batchHeaderBytes = 61
)

// batchAt returns the batch that begins at an offset, all of it that is there.
func batchAt(batches []byte, offset int64) []byte {
	for len(batches) >= batchHeaderBytes {
		size := int64(int32(binary.BigEndian.Uint32(batches[batchLengthAt:]))) + batchLengthAt + 4
		size = min(size, int64(len(batches)))
		if int64(binary.BigEndian.Uint64(batches)) == offset || size < batchHeaderBytes {
			return batches[:max(size, 0)]
		}
		batches = batches[size:]
	}
	return batches
}

// batchTime returns the time of a batch's first record.
func batchTime(batch []byte) time.Time {
	if len(batch) < batchHeaderBytes {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(batch[batchTimeAt:])))
}
