package verify

import (
	"fmt"

	"github.com/tollstream/tollstream/sql/internal/tables"
)

// LogCheck is how the log of a partition compares with what was stored of it, as someone found who
// can read it. With both texts empty it is the same.
type LogCheck struct {
	Replaced  string // why it is another one
	Unchecked string // why it is not known
}

// checkLog reports a log that is not the one that was stored.
func (v *verification) checkLog(c *tables.CursorRow, r *PartitionReport) {
	found, checked := v.in.Logs[c.Partition]
	why := c.LogReplaced
	if why == "" {
		why = found.Replaced
	}
	switch {
	case why != "":
		r.Log = LogReplaced
		v.found.ofPartition(KindLogReplaced, c.Partition, 0, 0,
			"the log was replaced, or lost its end: %s", why)
	case checked && found.Unchecked == "":
		r.Log = LogSame
	case checked:
		r.Log = LogUnchecked
		v.report.Notes = append(v.report.Notes,
			fmt.Sprintf(
				"partition %d: it was not checked whether the log is still the one that was stored: %s",
				c.Partition, found.Unchecked))
	}
}

// The outcomes of comparing a partition's log, as a report has them.
const (
	LogSame      = "same"
	LogReplaced  = "replaced"
	LogUnchecked = "unchecked"
)
