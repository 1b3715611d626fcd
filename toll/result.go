package toll

// WindowID names one window of one plaza.
type WindowID struct {
	Plaza int16
	Kind  string // a [WindowKind]'s name
	Start Minute
}

// WindowCount is what one window of one plaza holds, by the events that are counted so far.
type WindowCount struct {
	WindowID
	End    Minute      // exclusive; of a day so far, how far it was counted
	Whole  bool        // End is the window's own end, not a step within it
	Reason CloseReason // why it closed
	Types  []TypeCount // events by type, ascending; on time and late, not those that came too late
	Late   int64       // of these, how many came late
}

// Events returns the number of events in the window.
func (w *WindowCount) Events() int64 { return SumTypes(w.Types) }

// CloseReason is why a window was closed for the first time.
type CloseReason string

// The reasons.
const (
	ClosedByWatermark CloseReason = "watermark" // the watermark of all partitions passed its end
	// it did once partitions were left out that had nothing to say
	ClosedByIdle CloseReason = "idle"
	ClosedByEnd  CloseReason = "end of stream" // the run was asked to end with what there is
)

// MeasureSpan is how many minutes before a minute's end the congestion at that end is judged by.
const MeasureSpan = 60

// Closing is what an aggregate submits of one plaza: windows that are to be stored. Submitting
// again what is stored already changes nothing.
type Closing struct {
	Plaza   int16
	Epoch   uint64 // of the state that this was counted from
	Windows []WindowCount
	// Recount are minutes [Start, End) whose windows the state can no longer count, since it has
	// dropped panes there. Those of them that end at or before Until are to be counted from the
	// outbox.
	Recount []Window
	// The minutes [From, Until) have closed with this submission; equal for none. Panes are the
	// plaza's minutes that the congestion of these is judged by: those of [From − MeasureSpan, Until)
	// that hold events. Where PanesLost is set the state has dropped some, and they are read from the
	// outbox too.
	From, Until Minute
	Panes       []Pane
	PanesLost   bool
	Reason      CloseReason // of what is counted from the outbox
}

// WindowResult is a window as it is stored and published. A revision's content never changes.
type WindowResult struct {
	WindowCount
	Epoch    uint64
	Revision int64 // from 1; 0 for a row that only events made which came too late
	// events of the window that came too late to be counted in it, when this revision was made
	TooLate int64
}

// Revise returns what is to be stored of a window of which old is stored, and false where that
// stays as it is.
//
// A window only ever gains events, so of two counts the one with more events is the newer one,
// whoever made it and however late it is submitted. (A count from the outbox may hold events of a
// partition that a later one from a state lacks for the moment; the last has them all.)
//
// That holds beyond an epoch as well: the row and the outbox that is counted again after a rebuild
// are of one database, restored or not. What a restored database lacks comes again from the topic,
// and is then more than the row holds. A count that is not more is no news, and one that is less
// must not replace what is stored: the outbox no longer has all minutes once it was compacted. An
// older epoch's count may hold events that the restored database never had.
//
// A revision's number may so have been published before the database was restored, with another
// content. Of two messages the one of the higher epoch is the newer one, and within an epoch that
// of the higher revision.
func Revise(old *WindowResult, epoch uint64, w *WindowCount) (WindowResult, bool) {
	if old == nil || old.Revision == 0 {
		r := WindowResult{WindowCount: *w, Epoch: epoch, Revision: 1}
		if old != nil {
			r.TooLate = old.TooLate
		}
		return r, w.Events() > 0
	}
	had, has := old.Events(), w.Events()
	more := has > had || has == had && w.Whole && !old.Whole
	if epoch < old.Epoch || !more {
		return *old, false
	}
	r := WindowResult{WindowCount: *w, Epoch: epoch, Revision: old.Revision + 1, TooLate: old.TooLate}
	r.Reason = old.Reason
	return r, true
}
