package verify

// What to do about a problem. None of it is done automatically.
const (
	stepRebuild = "count the plazas again from the stored batches: tollstream rebuild --yes"
	stepRestore = "find out who changed the table; then restore the database from a backup, or " +
		"store all events again, " +
		"as far as the topic still holds them: tollstream reset --yes, then tollstream process"
	stepRestored = "if the database was restored from a backup, restore a newer one; or count the " +
		"plazas again from " +
		"what it holds: tollstream rebuild --yes"
	stepLog = "decide how to go on: tollstream accept-log reports what continuing in this log " +
		"leaves out, and tollstream " +
		"reset what a replay of it would lose"
	stepStalled = "start that process again; if windows still do not close, look at its log and at " +
		"MySQL's transactions and locks"
	stepDelete = "find out who wrote to toll_window; then delete the row, which no stored event " +
		"belongs to"
)

// nextStep returns what to do about a kind of problem.
func nextStep(kind string) string {
	switch kind {
	case KindTableTotal, KindTableChecksum, KindTableOffset, KindLostDelta, KindWindowMissing,
		KindWindowBehind:
		return stepRebuild
	case KindEpoch, KindTableAhead:
		return stepRestored
	case KindRowsMissing, KindRowsExtra, KindRowsChanged, KindMinuteRows, KindWindowRows,
		KindBatchGap, KindBatchOverlap, KindBatchSum, KindBatchOutbox, KindChain, KindCursorLost,
		KindCursorToken,
		KindOtherTopic, KindDeadLetters, KindWindowCount, KindWindowTooLate, KindWindowRange:
		return stepRestore
	case KindLogReplaced:
		return stepLog
	case KindWindowStalled:
		return stepStalled
	case KindWindowExtra:
		return stepDelete
	}
	return ""
}
