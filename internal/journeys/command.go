package journeys

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	survey "github.com/tollstream/tollstream/sql/journeys"
	"github.com/tollstream/tollstream/toll/journeys"
)

// How fast a small server counts, about: rows of the time that is asked for, and rows that it only
// passes over for want of the index.
const (
	rowsPerSecond    = 400_000
	skippedPerSecond = 2_000_000
	announced        = 5 * time.Second // what takes longer is announced
)

// announce logs what reading costs, where that takes a while.
func announce(c survey.Cost, statements int, log func(line string)) {
	took := time.Duration(float64(c.Rows) / rowsPerSecond * float64(time.Second))
	advice := ""
	if !c.Indexed {
		took = time.Duration(float64(c.Rows) / skippedPerSecond * float64(statements) *
			float64(time.Second))
		advice = "; the index by time makes it fast: tollstream sql indexes"
	}
	if took > announced {
		log(fmt.Sprintf("tollstream: reading %s of livetolldata, about %s%s",
			text.Count(c.Rows, "row"), text.Seconds(took.Round(time.Second)), advice))
	}
}

// ReadSections is [Survey.Sections] with what is usual, for a person who waits: log receives what
// it costs where that is much, and status how far it is.
func (s *Survey) ReadSections(ctx context.Context, w journeys.Window, one *journeys.Pair,
	log, status func(string)) (*board.Journeys, error) {
	cost, err := s.Cost(ctx, w, true)
	if err != nil {
		return nil, err
	}
	announce(cost, 3, log)
	status("reading what is usual …")
	past, err := s.Past(ctx, w)
	if err != nil {
		return nil, err
	}
	status("reading the travel times …")
	return s.Sections(ctx, w, past, one, func(done, total int) {
		if total > 1 {
			status(fmt.Sprintf("reading the travel times … %d %%", 100*done/total))
		}
	})
}

// ReadThrough is [Survey.Through], where there are journeys, for a person who waits.
func (s *Survey) ReadThrough(ctx context.Context, w journeys.Window, plaza int16,
	log, status func(string)) (*board.Through, error) {
	cost, err := s.TripsCost(ctx, w)
	if err != nil {
		return nil, err
	}
	announce(cost, 2, log)
	status("reading the trips …")
	window, err := s.Check(ctx, w)
	if err != nil || window.Status != board.HasJourneys {
		return &board.Through{JourneyWindow: window, Plaza: int(plaza),
			Origins: []board.Stream{}, Destinations: []board.Stream{}}, err
	}
	return s.Through(ctx, w, plaza)
}
