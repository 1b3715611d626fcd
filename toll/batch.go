package toll

import (
	"encoding/binary"
	"hash/crc32"
)

// Cursor is the progress of one source partition, as the database holds it: the source of truth.
type Cursor struct {
	Partition int32
	Next      int64 // first offset that is not stored yet
	// random and new with every batch, so that a cursor that came back to an offset shows
	Token uint64
	Epoch uint64 // raised by a rebuild
	Chain []byte // per plaza the Next of the last batch that had it, encoded
	Clock []byte // the partition's event time, a [Clock], encoded; empty before the first event

	// Last is the last record that was consumed.
	Last LastRecord
	// LogReplaced is why the partition's log is not the one that was consumed, empty while it is.
	// Nothing may be consumed before an operator has decided.
	LogReplaced string
}

// Rows gathers events in the form in which the database loads them. It is implemented by the store.
type Rows interface {
	// Append adds a valid event and returns the CRC-32 (IEEE) of its row's text.
	Append(*Event) uint32
	// Len returns the number of rows.
	Len() int
	// Size returns the bytes that the rows take.
	Size() int
	// Reset empties it for reuse.
	Reset()
}

// Retry records that row Row of a batch, from the record at Offset, is the repaired event of a dead
// letter, which is admitted once.
type Retry struct {
	Row    int
	Offset int64 // where the repaired event was read
	Of     Origin
}

// Origin names a record of the topic of events.
type Origin struct {
	Partition int32
	Offset    int64
}

// Batch is a run of offsets [First, Next) of one source partition, stored in one transaction.
// Events − Extra + Rejected + Skipped = Next − First.
type Batch struct {
	Partition int32
	First     int64
	Next      int64
	Epoch     uint64 // the cursor's, on which the batch builds
	Expect    uint64 // the cursor's token, on which the batch builds
	Token     uint64 // the cursor's token once the batch is stored; the same in every attempt
	Rows      Rows
	Extra     int // of the rows: those beyond the first of their record
	Rejects   []Reject
	Retries   []Retry
	Deltas    []byte // the outbox: the batch's plaza deltas, encoded
	Chain     []byte // the cursor's chain once the batch is stored, encoded
	Clock     []byte // the cursor's clock once the batch is stored, encoded

	// Gone is how many of the skipped offsets held records that retention deleted before they were
	// stored.
	Gone int64
	// Last is the last record that was consumed, in this batch or before.
	Last LastRecord
	// Minutes are those from the first to behind the last event; empty for a batch without events.
	Minutes Window
	// TooLate is what the batch adds to windows' counts of events that came too late for them,
	// ascending by window.
	TooLate []TooLateCount
}

// TooLateCount is how many events of a batch came too late to be counted in a window that they
// belong to.
type TooLateCount struct {
	WindowID
	End    Minute // of the whole window
	Events int64
}

// Events returns the number of rows.
func (b *Batch) Events() int { return b.Rows.Len() }

// Records returns the number of records that are rows, of one event each or several.
func (b *Batch) Records() int { return b.Rows.Len() - b.Extra }

// Skipped returns the offsets that held no record for us: control records, aborted and compacted
// ones.
func (b *Batch) Skipped() int64 {
	return b.Next - b.First - int64(b.Records()) - int64(len(b.Rejects))
}

// StoredBatch is a batch as the outbox holds it.
type StoredBatch struct {
	Partition int32
	First     int64
	Next      int64
	Token     uint64
	Events    int64
	Deltas    []byte
}

// Unpublished is what of a partition's outbox is not known to be published.
type Unpublished struct {
	First   int64 // where the first such batch begins; the cursor's Next where there is none
	Batches int64
	Events  int64
}

// OutboxPage is a run of a partition's stored batches, in order, and the cursor's epoch, as they
// were at one moment.
type OutboxPage struct {
	Epoch   uint64
	Batches []StoredBatch
	More    bool // there were more than fit a page
}

// BatchRef names a stored batch.
type BatchRef struct {
	First int64
	Token uint64
}

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
