package live

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	journeysPause    = 20
	journeysPatience = 8 * time.Second // of one read, for which a request waits 10 s
	journeysRetry    = 5 * time.Minute // after one that took longer
	// Rows that are read in less than that on a small server: with the index, and without.
	journeysRows, journeysRowsWhole = 2_000_000, 200_000
	pastFresh                       = 15 * time.Minute // what is usual moves slowly
	maxThrough                      = 200              // answers that are kept
)

// journeyBoards keeps what was read of journeys.
type journeyBoards struct {
	turn     chan struct{} // holds a value while somebody reads
	fresh    time.Duration // for which an answer is reused
	pause    time.Duration // how many times as long as reading took there is none
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

// begin waits until nobody else reads.
func (j *journeyBoards) begin(ctx context.Context) error {
	select {
	case j.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *journeyBoards) end() { <-j.turn }

// Journeys returns how long vehicles took from plaza to plaza in the last quarter of an hour, or
// why that is not read.
func (s *Source) Journeys(ctx context.Context) (*board.Journeys, error) {
	if _, err := s.read(ctx, detailAge); err != nil {
		return nil, err
	}
	j := &s.journeys
	if err := j.begin(ctx); err != nil {
		return nil, err
	}
	defer j.end()
	return s.sections(ctx)
}

// sections is Journeys of who has the turn.
func (s *Source) sections(ctx context.Context) (*board.Journeys, error) {
	j := &s.journeys
	if k := &j.sections; time.Now().Before(k.until) {
		return new(*k.answer), nil
	}
	began := time.Now()
	answer := &board.Journeys{Sections: []board.Section{}}
	why, err := s.survey(ctx, func(ctx context.Context, survey *journeys.Survey) (string, error) {
		w, err := survey.Window(ctx, nil, sectionWindow)
		if err != nil {
			return "", err
		}
		cost, err := survey.Cost(ctx, w, false)
		if err != nil {
			return "", err
		}
		if why := tooCostly(cost.Rows, cost.Indexed); why != "" {
			return why, nil
		}
		if j.past == nil || w.Start-j.pastOf >= toll.WallTime(pastFresh/time.Second) ||
			w.Start < j.pastOf {
			j.past, j.pastOf = nil, w.Start
			if cost, err = survey.Cost(ctx, w, true); err != nil {
				return "", err
			}
			if tooCostly(cost.Rows, cost.Indexed) == "" {
				if j.past, err = survey.Past(ctx, w); err != nil {
					return "", err
				}
			}
		}
		read, err := survey.Sections(ctx, w, j.past, nil, nil)
		if err == nil {
			answer = read
		}
		return "", err
	})
	if err != nil {
		return nil, err
	}
	switch why {
	case "":
	case journeys.ErrNoRows.Error():
		answer.JourneyWindow = s.notRead(why)
		answer.Status = board.TooFew
	default:
		answer.JourneyWindow = s.notRead(why)
	}
	now := time.Now()
	j.sections = kept[*board.Journeys]{answer,
		now.Add(max(j.fresh, j.pause*now.Sub(began)))}
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
	if err := j.begin(ctx); err != nil {
		return nil, err
	}
	defer j.end()
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
	why, err := s.survey(ctx, func(ctx context.Context, survey *journeys.Survey) (string, error) {
		w, err := survey.Window(ctx, nil, throughWindow)
		if err != nil {
			return "", err
		}
		cost, err := survey.TripsCost(ctx, w)
		if err != nil {
			return "", err
		}
		if why := tooCostly(cost.Rows, cost.Indexed); why != "" {
			return why, nil
		}
		read, err := survey.Through(ctx, w, id)
		if err == nil {
			answer = read
		}
		return "", err
	})
	if err != nil {
		return nil, err
	}
	if why != "" {
		answer.JourneyWindow = s.notRead(why)
	}
	if len(j.through) >= maxThrough {
		clear(j.through)
	}
	j.through[id] = kept[*board.Through]{answer, time.Now().Add(j.fresh)}
	return new(*answer), nil
}

// survey reads journeys, unless that takes too long, or did lately. why says so.
func (s *Source) survey(ctx context.Context,
	read func(context.Context, *journeys.Survey) (why string, err error)) (why string, err error) {
	const slow = "travel times take too long to read for the live view; " +
		"tollstream journeys reads them, and the index by time makes it fast: tollstream sql indexes"
	if time.Now().Before(s.journeys.slow) {
		return slow, nil
	}
	reading, cancel := context.WithTimeout(ctx, journeysPatience)
	defer cancel()
	survey, err := journeys.New(reading, s.store, time.Now)
	if err == nil {
		why, err = read(reading, survey)
	}
	if errors.Is(err, journeys.ErrNoRows) {
		return journeys.ErrNoRows.Error(), nil
	}
	if err != nil && errors.Is(reading.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
		s.journeys.slow = time.Now().Add(journeysRetry)
		return slow, nil
	}
	return why, err
}

// tooCostly returns why so many rows are not read for the live view, empty where they are.
func tooCostly(rows int64, indexed bool) string {
	switch {
	case !indexed && rows > journeysRowsWhole:
		return fmt.Sprintf("travel times would read all %s rows: "+
			"the index by time makes it fast: tollstream sql indexes", text.Number(rows))
	case rows > journeysRows:
		return fmt.Sprintf("travel times would read %s rows, too many for the live view; "+
			"tollstream journeys reads them", text.Number(rows))
	}
	return ""
}

// notRead returns the window of an answer that was not read.
func (s *Source) notRead(why string) board.JourneyWindow {
	w := board.JourneyWindow{At: time.Now(), Status: board.NotRead, Why: why}
	if b := s.Last(); b != nil && b.StreamTime != nil {
		w.From, w.Until, w.Timezone = b.StreamTime.Add(-sectionWindow), *b.StreamTime, b.Timezone
	}
	return w
}
