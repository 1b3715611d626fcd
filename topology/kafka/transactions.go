package kafka

import "time"

// OpenTransaction is a partition of the topic of events in which a producer's transaction is open.
// The records from its first one on can't be read before it ends, those of other producers neither:
// they might be aborted.
type OpenTransaction struct {
	Partition int32
	Offset    int64     // of the first record that can't be read: the last stable offset
	Since     time.Time // when it was first seen; zero for no such transaction
}

// OpenTransactions remembers since when transactions are open.
type OpenTransactions struct {
	Now  func() time.Time
	open map[int32]OpenTransaction // by partition
}

// NewOpenTransactions returns one that knows of none.
func NewOpenTransactions() *OpenTransactions {
	return &OpenTransactions{Now: time.Now, open: map[int32]OpenTransaction{}}
}

// Look notes how far a partition can be read, given its end. It returns the open transaction, and
// false where there is none.
func (o *OpenTransactions) Look(partition int32, stable, end int64) (OpenTransaction, bool) {
	if stable >= end {
		delete(o.open, partition)
		return OpenTransaction{}, false
	}
	t, known := o.open[partition]
	if !known || t.Offset != stable {
		t = OpenTransaction{Partition: partition, Offset: stable, Since: o.Now()}
		o.open[partition] = t
	}
	return t, true
}
