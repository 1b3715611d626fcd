package verify

const MaxPoints = maxPoints

var (
	MaxRowWindows  = &maxRowWindows
	MaxVerifyPanes = &maxVerifyPanes
	Snapshots      = snapshots
)
