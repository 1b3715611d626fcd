package sql

import "fmt"

// LogCheck is how the log of a partition compares with what was stored of it, as someone found who
// can read it. With both texts empty it is the same.
type LogCheck struct {
	Replaced  string // why it is another one
	Unchecked string // why it can't be told
}

// checkLog reports a log that is not the one that was stored.
func (v *verification) checkLog(c *cursorRow, r *PartitionReport) {
	found, checked := v.in.Logs[c.partition]
	why := c.logReplaced
	if why == "" {
		why = found.Replaced
	}
	switch {
	case why != "":
		r.Log = LogReplaced
		v.found.ofPartition(KindLogReplaced, c.partition, 0, 0,
			"the log was replaced, or lost its end: %s", why)
	case checked && found.Unchecked == "":
		r.Log = LogSame
	case checked:
		r.Log = LogUnchecked
		v.report.Notes = append(v.report.Notes,
			fmt.Sprintf(
				"partition %d: it was not checked whether the log is still the one that was stored: %s",
				c.partition, found.Unchecked))
	}
}

// The outcomes of comparing a partition's log, as a report has them.
const (
	LogSame      = "same"
	LogReplaced  = "replaced"
	LogUnchecked = "unchecked"
)
