package live

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/journeys"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// What the live view reads of journeys. It is read when it is asked for, one at a time, by whoever
// asks first.
const (
	sectionWindow = 15 * time.Minute
	throughWindow = time.Hour
	journeysFresh = time.Minute // for which an answer is reused, unless the configuration says so
	// how many times as long as reading took there is none: 5 % of a connection's time
	journeysPause     = 20
	journeysPatience  = 8 * time.Second  // of one read, for which a request waits 10 s
	journeysRetry     = 5 * time.Minute  // after one that took longer
	journeysRowsWhole = 200_000          // that are read without the index
	pastFresh         = 15 * time.Minute // what is usual moves slowly
	maxThrough        = 200              // answers that are kept
)

// journeyBoards keeps what was read of journeys.
type journeyBoards struct {
	turn     *semaphore.Weighted // held by who reads
	fresh    time.Duration       // for which an answer is reused
	pause    time.Duration       // how many times as long as reading took there is none
	sections kept[*board.Journeys]
	through  map[int16]kept[*board.Through]
	past     *journeys.Past
	pastOf   toll.WallTime
	slow     time.Time // until then reading takes too long
}

type kept[T any] struct {
	answer T
	until  time.Time
}

// Journeys returns how long vehicles took from plaza to plaza in the last quarter of an hour, or
// why that is not read.
func (s *Source) Journeys(ctx context.Context) (*board.Journeys, error) {
	if _, err := s.read(ctx, detailAge); err != nil {
		return nil, err
	}
	if err := s.journeys.turn.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.journeys.turn.Release(1)
	return s.sections(ctx)
}

// sections is Journeys of who has the turn.
func (s *Source) sections(ctx context.Context) (*board.Journeys, error) {
	j := &s.journeys
	began := time.Now()
	if k := &j.sections; began.Before(k.until) {
		return new(*k.answer), nil
	}
	var answer *board.Journeys
	unread, err := s.survey(ctx, sectionWindow, func(ctx context.Context,
		survey *journeys.Survey) error {
		cost, err := survey.Cost(ctx)
		if err := affordable(cost, err); err != nil {
			return err
		}
		start := survey.Start()
		if j.past == nil || start-j.pastOf >= toll.WallTime(pastFresh/time.Second) || start < j.pastOf {
			j.past, j.pastOf = nil, start
			scope, _, err := survey.ChoosePast(ctx, nil, cost)
			if err != nil {
				return err
			}
			if j.past, err = survey.Past(ctx, scope); err != nil {
				return err
			}
		}
		answer, err = survey.Sections(ctx, j.past, nil, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	if unread != nil {
		answer = &board.Journeys{JourneyWindow: *unread, Sections: []board.Section{}}
	}
	now := time.Now()
	j.sections = kept[*board.Journeys]{answer, now.Add(max(j.fresh, j.pause*now.Sub(began)))}
	return new(*answer), nil
}

// Through returns where the vehicles that passed a plaza in the last hour came from and went to, or
// why that is not read.
func (s *Source) Through(ctx context.Context, id int16) (*board.Through, error) {
	_, p, err := s.plaza(ctx, id)
	if err != nil {
		return nil, err
	}
	j := &s.journeys
	if err := j.turn.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer j.turn.Release(1)
	if k, ok := j.through[id]; ok && time.Now().Before(k.until) {
		return new(*k.answer), nil
	}
	sections, err := s.sections(ctx) // which says whether there are journeys at all
	if err != nil {
		return nil, err
	}
	answer := &board.Through{JourneyWindow: sections.JourneyWindow, Plaza: int(id), Name: p.Name}
	if sections.Status != board.HasJourneys {
		return answer, nil
	}
	var read *board.Through
	unread, err := s.survey(ctx, throughWindow, func(ctx context.Context,
		survey *journeys.Survey) error {
		err := affordable(survey.TripsCost(ctx))
		if err == nil {
			read, err = survey.Through(ctx, id)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case unread != nil:
		answer.JourneyWindow = *unread
	default:
		answer = read
	}
	if len(j.through) >= maxThrough {
		clear(j.through)
	}
	j.through[id] = kept[*board.Through]{answer, time.Now().Add(j.fresh)}
	return new(*answer), nil
}

// survey reads journeys of the last window of a length, unless that takes too long, or did lately:
// then it returns the window, with why.
func (s *Source) survey(ctx context.Context, length time.Duration,
	read func(context.Context, *journeys.Survey) error) (*board.JourneyWindow, error) {
	const slow = "travel times take too long to read for the live view; " +
		"tollstream journeys reads them, and the index by time makes it fast: tollstream sql indexes"
	if time.Now().Before(s.journeys.slow) {
		return s.notRead(board.NotRead, slow), nil
	}
	reading, cancel := context.WithTimeout(ctx, journeysPatience)
	defer cancel()
	survey, err := journeys.New(reading, s.store, time.Now)
	if err == nil {
		err = survey.Choose(reading, nil, length)
	}
	if err == nil {
		err = read(reading, survey)
	}
	costly, ok := errors.AsType[costlyError](err)
	switch {
	case ok:
		return s.notRead(board.NotRead, costly.Error()), nil
	case errors.Is(err, journeys.ErrNoRows):
		return s.notRead(board.TooFew, journeys.ErrNoRows.Error()), nil
	case err != nil && errors.Is(reading.Err(), context.DeadlineExceeded) && ctx.Err() == nil:
		s.journeys.slow = time.Now().Add(journeysRetry)
		return s.notRead(board.NotRead, slow), nil
	}
	return nil, err
}

// costlyError is why rows are not read for the live view.
type costlyError string

func (e costlyError) Error() string { return string(e) }

// affordable returns a [costlyError] where reading costs too much.
func affordable(cost journeys.Cost, err error) error {
	if why := tooCostly(cost.Rows, cost.Indexed); err == nil && why != "" {
		return costlyError(why)
	}
	return err
}

// tooCostly returns why so many rows are not read for the live view, empty where they are.
func tooCostly(rows int64, indexed bool) string {
	switch {
	case !indexed && rows > journeysRowsWhole:
		return fmt.Sprintf("travel times would read all %s rows: "+
			"the index by time makes it fast: tollstream sql indexes", text.Number(rows))
	case rows > journeys.AffordableRows:
		return fmt.Sprintf("travel times would read %s rows, too many for the live view; "+
			"tollstream journeys reads them", text.Number(rows))
	}
	return ""
}

// notRead returns the window of an answer that was not read.
func (s *Source) notRead(status board.JourneyStatus, why string) *board.JourneyWindow {
	w := &board.JourneyWindow{At: time.Now(), Status: status, Why: why}
	if b := s.Last(); b != nil && b.StreamTime != nil {
		w.From, w.Until, w.Timezone = b.StreamTime.Add(-sectionWindow), *b.StreamTime, b.Timezone
	}
	return w
}
