package toll

import (
	"encoding/binary"
	"hash/crc32"
)

// LastRecord identifies the last record of a partition that was consumed, rejected ones included.
// An offset names a record in one history of the partition only: an unclean leader election or a
// restored volume puts other records at offsets that were consumed. Comparing this record shows it.
type LastRecord struct {
	Known       bool // false before the first record
	Offset      int64
	LeaderEpoch int32  // of the leader that appended it, -1 where not known
	Timestamp   int64  // Unix milliseconds, as Kafka stores it
	CRC         uint32 // CRC-32C of its key and value
}

// Same reports whether another record is this one. Leader epochs are not compared: a restored
// volume may repeat them.
func (r LastRecord) Same(other LastRecord) bool {
	return r.Offset == other.Offset && r.Timestamp == other.Timestamp && r.CRC == other.CRC
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// RecordCRC returns the CRC of a record's key and value, with the key's length before them.
func RecordCRC(key, value []byte) uint32 {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(key)))
	crc := crc32.Update(0, castagnoli, length[:])
	crc = crc32.Update(crc, castagnoli, key)
	return crc32.Update(crc, castagnoli, value)
}
