package journeys

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll/journeys"
)

// How fast a small server reads, about: rows of the time that is asked for, and rows that it only
// passes over for want of the index.
const (
	rowsPerSecond    = 400_000
	skippedPerSecond = 2_000_000
	announced        = 5 * time.Second // what takes longer is announced
)

// announce logs what reading costs, where that takes a while.
func announce(c Cost, statements int, status *text.StatusLine) {
	took, advice := float64(c.Rows)/rowsPerSecond, ""
	if !c.Indexed {
		took = float64(c.Rows) / skippedPerSecond * float64(statements)
		advice = "; the index by time makes it fast: tollstream sql indexes"
	}
	if d := time.Duration(took * float64(time.Second)); d > announced {
		fmt.Fprintf(status, "tollstream: reading %s of livetolldata, about %s%s\n",
			text.Count(c.Rows, "row"), text.Seconds(d.Round(time.Second)), advice)
	}
}

// ReadSections is [Survey.Sections] with what is usual, for a person who waits: status shows what
// it costs where that is much, and how far it is. Of weeks see [Survey.ChoosePast].
func (s *Survey) ReadSections(ctx context.Context, one *journeys.Pair, weeks *int,
	status *text.StatusLine) (*board.Journeys, error) {
	defer status.Set("")
	cost, err := s.Cost(ctx)
	if err != nil {
		return nil, err
	}
	scope, more, err := s.ChoosePast(ctx, weeks, cost)
	if err != nil {
		return nil, err
	}
	if cost.Indexed {
		cost.Rows += more.Rows
	}
	announce(cost, 2, status)
	status.Set("reading what is usual …")
	past, err := s.Past(ctx, scope)
	if err != nil {
		return nil, err
	}
	status.Set("reading the travel times …")
	return s.Sections(ctx, past, one, func(done, total int) {
		if total > 1 {
			status.Set(fmt.Sprintf("reading the travel times … %d %%", 100*done/total))
		}
	})
}

// ReadThrough is [Survey.Through], where there are journeys, for a person who waits.
func (s *Survey) ReadThrough(ctx context.Context, plaza int16,
	status *text.StatusLine) (*board.Through, error) {
	defer status.Set("")
	cost, err := s.TripsCost(ctx)
	if err != nil {
		return nil, err
	}
	announce(cost, 2, status)
	status.Set("reading the trips …")
	window, _, _, err := s.count(ctx, nil)
	if err != nil || window.Status != board.HasJourneys {
		return &board.Through{JourneyWindow: window, Plaza: int(plaza),
			Origins: []board.Stream{}, Destinations: []board.Stream{}}, err
	}
	return s.Through(ctx, plaza)
}
