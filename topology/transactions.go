package topology

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

// openTransactions remembers since when transactions are open.
type openTransactions struct {
	now  func() time.Time
	open map[int32]OpenTransaction // by partition
}

func newOpenTransactions() *openTransactions {
	return &openTransactions{now: time.Now, open: map[int32]OpenTransaction{}}
}

// look notes how far a partition can be read, given its end. It returns the open transaction, and
// false where there is none.
func (o *openTransactions) look(partition int32, stable, end int64) (OpenTransaction, bool) {
	if stable >= end {
		delete(o.open, partition)
		return OpenTransaction{}, false
	}
	t, known := o.open[partition]
	if !known || t.Offset != stable {
		t = OpenTransaction{Partition: partition, Offset: stable, Since: o.now()}
		o.open[partition] = t
	}
	return t, true
}

// transactionPatience is how long a transaction may be open before the log reports it. Kafka aborts
// one after transaction.timeout.ms, which is a minute by default and may be a quarter of an hour.
const transactionPatience = 30 * time.Second

// transactionLog logs transactions that are open for long: once when they are, and once when the
// partition can be read again.
type transactionLog struct {
	log      *slog.Logger
	reported map[int32]OpenTransaction
}

// note takes what was seen of a partition. t has no Since where no transaction is open.
func (l *transactionLog) note(partition int32, t OpenTransaction, end int64, now time.Time) {
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
