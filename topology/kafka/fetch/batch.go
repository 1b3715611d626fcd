package fetch

import (
	"encoding/binary"
	"time"
)

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
