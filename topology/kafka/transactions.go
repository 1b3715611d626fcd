package kafka

import (
	"log/slog"
	"time"
)

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

// transactionPatience is how long a transaction may be open before the log reports it. Kafka aborts
// one after transaction.timeout.ms, which is a minute by default and may be a quarter of an hour.
const transactionPatience = 30 * time.Second

// TransactionLog logs transactions that are open for long: once when they are, and once when the
// partition can be read again.
type TransactionLog struct {
	log      *slog.Logger
	reported map[int32]OpenTransaction
}

// NewTransactionLog returns a log that has reported nothing.
func NewTransactionLog(log *slog.Logger) *TransactionLog {
	return &TransactionLog{log, map[int32]OpenTransaction{}}
}

// Note takes what was seen of a partition. t has no Since where no transaction is open.
func (l *TransactionLog) Note(partition int32, t OpenTransaction, end int64, now time.Time) {
	before, reported := l.reported[partition]
	if reported && before != t {
		delete(l.reported, partition)
		reported = false
		l.log.Info("the producer's transaction ended, and its partition is read again",
			"partition", partition, "offset", before.Offset, "after",
			now.Sub(before.Since).Round(time.Second))
	}
	if !reported && !t.Since.IsZero() && now.Sub(t.Since) >= transactionPatience {
		l.reported[partition] = t
		l.log.Warn("a producer's transaction is open, and nothing behind its first record can be read; "+
			"kafka-transactions.sh find-hanging and abort help where its producer is gone",
			"partition", partition, "offset", t.Offset, "for", now.Sub(t.Since).Round(time.Second),
			"waiting", end-t.Offset)
	}
}
