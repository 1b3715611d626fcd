package kafka

import "encoding/binary"

// Places within a batch of records, by Kafka's protocol, version 2 of the format.
const (
	batchLengthAt    = 8
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
