package topology

import (
	"log/slog"
	"time"

	"github.com/tollstream/tollstream/topology/kafka"
)

// transactionPatience is how long a transaction may be open before the log reports it. Kafka aborts
// one after transaction.timeout.ms, which is a minute by default and may be a quarter of an hour.
const transactionPatience = 30 * time.Second

// transactionLog logs transactions that are open for long: once when they are, and once when the
// partition can be read again.
type transactionLog struct {
	log      *slog.Logger
	reported map[int32]kafka.OpenTransaction
}

// note takes what was seen of a partition. t has no Since where no transaction is open.
func (l *transactionLog) note(partition int32, t kafka.OpenTransaction, end int64, now time.Time) {
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
