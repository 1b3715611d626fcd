package topology

import (
	"context"
	"fmt"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
	"github.com/tollstream/tollstream/topology/kafka"
)

// checkLog returns an error unless a partition's log is still the one that was consumed up to a
// cursor. What it finds is recorded in the database first.
func (r *run) checkLog(ctx context.Context, cursor *toll.Cursor) error {
	if cursor.LogReplaced != "" {
		return ingest.LogReplaced(cursor.LogReplaced)
	}
	f, err := r.log.CheckLog(ctx, cursor.Partition, cursor.Next, cursor.Last)
	if err != nil {
		return fmt.Errorf("compare the log with what was stored of it: %w", kafka.Explain(err))
	}
	if f.Replaced != "" {
		if err := r.checkTopic(ctx); err != nil {
			return err // a topic that was recreated has another log, which is nothing to record
		}
		return ingest.RefuseLog(ctx, r.ingesting, r.store, r.database, cursor, f.Replaced)
	}
	if f.Unchecked != "" && (cursor.Last.Known || len(cursor.Chain) > 0) {
		r.cfg.Log.Warn(ingest.UncheckedLog, "partition", cursor.Partition, "why", f.Unchecked)
	}
	return nil
}
