package toll

import (
	"cmp"
	"math"
	"slices"
)

// Closer decides which windows of a plaza are to be stored, from the plaza's state.
type Closer struct {
	Kinds []WindowKind
	// Zone is the plaza's, whose wall clock the windows align to.
	Zone *Zone
}

// maxCloseSpan is how many minutes a [Closing] covers from the first one with events on, so that it
// stays small when event time leaps or a backlog is worked off: a day. What is left closes with the
// next one.
const maxCloseSpan = 1440

// Close returns what is to be stored now that windows which end at or before until have closed, in
// minutes of the watermark; those after all too were closed by leaving idle partitions out. The
// state stays as it is until [State.MarkStored].
//
// Windows that closed before and whose minutes changed since are among them. It returns false for
// nothing to do. Where the closing's Until is below until, more is due.
func (c *Closer) Close(plaza int16, s *State, until, all Minute) (Closing, bool) {
	if until <= s.Done && len(s.Dirty) == 0 {
		return Closing{}, false
	}
	until = max(until, s.Done)
	if first, ok := s.firstOpen(); ok && int64(until) > int64(first)+maxCloseSpan {
		until = max(first+maxCloseSpan, s.Done)
	}
	closing := c.gather(plaza, s, until, func(end Minute) CloseReason {
		if end > all {
			return ClosedByIdle
		}
		return ClosedByWatermark
	})
	closing.Reason = ClosedByWatermark
	if until > all {
		closing.Reason = ClosedByIdle
	}
	if until > s.Done {
		closing.From = s.Done
		if s.Done == math.MinInt32 {
			closing.From = until
			if first, ok := s.firstOpen(); ok {
				closing.From = min(first, until)
			}
		}
		span := Window{Start: ClampMinute(int64(closing.From) - MeasureSpan), End: until}
		if s.Minutes.Complete(span) || s.Done == math.MinInt32 &&
			s.Minutes.Complete(Window{Start: closing.From, End: until}) {
			closing.Panes = slices.Clone(s.Minutes.In(span))
		} else {
			closing.PanesLost = true
		}
	}
	return closing, true
}

// CloseAll returns what is to be stored when the stream has ended: every window that holds events
// and is not known to be stored, as far as it has come. It returns false for nothing to do.
func (c *Closer) CloseAll(plaza int16, s *State) (Closing, bool) {
	closing := c.gather(plaza, s, math.MaxInt32, func(end Minute) CloseReason {
		if end <= s.Done {
			return ClosedByWatermark // before, and changed since
		}
		return ClosedByEnd
	})
	closing.Reason = ClosedByEnd
	closing.From, closing.Until = 0, 0
	if len(closing.Recount) > 0 {
		closing.Until = math.MaxInt32
		closing.From = closing.Until
	}
	return closing, len(closing.Windows) > 0 || len(closing.Recount) > 0
}

// firstOpen returns the first minute from Done on that may hold events.
func (s *State) firstOpen() (Minute, bool) {
	first, found := Minute(math.MaxInt32), false
	if panes := s.Minutes.In(Window{Start: s.Done, End: math.MaxInt32}); len(panes) > 0 {
		first, found = panes[0].Start, true
	}
	if panes := s.Quarters.In(Window{Start: s.Done, End: math.MaxInt32}); len(panes) > 0 {
		first, found = min(first, panes[0].Start), true
	}
	earliest := ClampMinute(int64(s.Earliest)/60 - dayMinutes) // a clock is within a day of UTC
	for _, gap := range []Window{s.Minutes.Gap, s.Quarters.Gap} {
		if gap.Start < gap.End && gap.End > s.Done {
			first, found = min(first, max(gap.Start, s.Done, earliest)), true
		}
	}
	return first, found
}

func (c *Closer) gather(plaza int16, s *State, until Minute,
	reason func(end Minute) CloseReason) Closing {
	closing := Closing{Plaza: plaza, Epoch: s.Epoch, From: until, Until: until}
	var windows []Window
	for i := range c.Kinds {
		k := &c.Kinds[i]
		panes := &s.Minutes
		if k.OfQuarters() {
			panes = &s.Quarters
		}
		windows, closing.Recount = c.due(k, s, panes, until, windows[:0], closing.Recount)
		for _, w := range windows {
			end := w.End
			if k.Day && until != math.MaxInt32 {
				end = k.StepEnd(c.Zone, w, until)
			}
			if end <= w.Start {
				continue
			}
			counted := Window{Start: w.Start, End: end}
			if !panes.Complete(counted) || k.OfQuarters() && (w.Start%Quarter != 0 || end%Quarter != 0) {
				closing.Recount = AddRange(closing.Recount, counted)
				continue
			}
			types, late := SumPanes(panes.In(counted))
			if len(types) == 0 {
				continue
			}
			closing.Windows = append(closing.Windows, WindowCount{
				WindowID: WindowID{Plaza: plaza, Kind: k.Name, Start: w.Start}, End: end, Whole: end == w.End,
				Reason: reason(end), Types: types, Late: late,
			})
		}
	}
	return closing
}

// due returns the windows of a kind that hold events and either close now or changed since they
// closed, ascending and once each. Minutes whose panes were dropped go to recount.
func (c *Closer) due(k *WindowKind, s *State, panes *Panes, until Minute, windows []Window,
	recount []Window) ([]Window, []Window) {
	// Windows that end after Done begin at Done or later, or hold the minute before it.
	from := s.Done
	if from > math.MinInt32 {
		windows = k.Covering(c.Zone, from-1, windows)
		for _, w := range windows {
			from = min(from, w.Start)
		}
	}
	var few [16]Window
	windows = windows[:0]
	add := func(span Window, want func(w Window) bool) {
		if span.Start > math.MinInt32 {
			span.Start = QuarterOf(span.Start)
		}
		for _, p := range panes.In(span) {
			last := p.Start
			if k.OfQuarters() {
				last = ClampMinute(int64(p.Start) + Quarter - 1)
			}
			for m := p.Start; ; m = last {
				for _, w := range k.Covering(c.Zone, m, few[:0]) {
					if want(w) {
						windows = append(windows, w)
					}
				}
				if m == last {
					break
				}
			}
		}
		if gap := panes.Gap; gap.Start < gap.End && gap.Start < span.End && gap.End > span.Start {
			recount = AddRange(recount,
				Window{Start: max(gap.Start, span.Start), End: min(gap.End, span.End)})
		}
	}
	closes := func(w Window) bool { return w.End > s.Done && w.End <= until }
	if k.Day {
		closes = func(w Window) bool {
			return k.StepEnd(c.Zone, w, until) > max(k.StepEnd(c.Zone, w, s.Done), w.Start) ||
				until == math.MaxInt32
		}
	}
	if until > s.Done {
		add(Window{Start: from, End: until}, closes)
		// Windows that were open when panes of theirs were dropped may have no other panes.
		for _, m := range [...]Minute{s.Done, panes.From} {
			if from >= panes.From || m == math.MinInt32 {
				continue
			}
			for _, w := range k.Covering(c.Zone, m-1, few[:0]) {
				if w.Start < panes.From && closes(w) {
					windows = append(windows, w)
				}
			}
		}
	}
	for _, dirty := range s.Dirty {
		if dirty.Start < panes.From {
			recount = AddRange(recount, Window{Start: dirty.Start, End: min(dirty.End, panes.From)})
		}
		add(dirty, func(w Window) bool { return k.Day && w.Start < until || w.End <= until })
	}
	slices.SortFunc(windows, func(a, b Window) int { return cmp.Compare(a.Start, b.Start) })
	return slices.Compact(windows), recount
}

// Weight is about how many windows are written to store a closing.
func (c *Closing) Weight(kinds []WindowKind) int {
	n := len(c.Windows) + 1
	for _, w := range c.Recount {
		minutes := min(int64(w.End), int64(c.Until)) - int64(w.Start)
		n += len(kinds) * int(min(max(minutes, 0), maxCloseSpan))
	}
	return n
}

// MarkStored records that a closing was stored, up to its Until, and that of the minutes before
// only those in dirty have changed since it was made.
func (s *State) MarkStored(until Minute, dirty []Window) {
	s.Done = max(s.Done, until)
	s.Dirty = dirty
	s.Minutes.dropBefore(ClampMinute(int64(s.Done) - int64(KeptMinutes)))
	s.Quarters.dropBefore(
		ClampMinute(int64(QuarterOf(max(s.Done, math.MinInt32+Quarter))) - int64(KeptQuarters)))
}

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
