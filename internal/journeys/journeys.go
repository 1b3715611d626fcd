// Package journeys surveys how long vehicles take from plaza to plaza, and where they come from and
// go to: it reads the rows of a database, and makes boards of what it counts.
package journeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	survey "github.com/tollstream/tollstream/sql/journeys"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/journeys"
)

// Survey surveys a database. It is for one goroutine at a time.
type Survey struct {
	database *survey.Surveyor
	zone     *toll.Zone // of the rows' times
	about    map[int16]toll.Plaza
	now      func() time.Time
}

// New returns a survey of a database.
func New(ctx context.Context, store *sql.Store, now func() time.Time) (*Survey, error) {
	meta, err := store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	location, err := time.LoadLocation(meta.Timezone)
	if err != nil {
		return nil, fmt.Errorf("load the database's timezone: %w", err)
	}
	s := &Survey{database: store.Journeys(), zone: toll.NewZone(location),
		about: map[int16]toll.Plaza{}, now: now}
	configured, err := store.ConfiguredPlazas(ctx)
	for _, p := range configured {
		s.about[p.ID] = p
	}
	return s, err
}

// Location is that of the rows' times.
func (s *Survey) Location() *time.Location { return s.zone.Location() }

// ErrNoRows is what [Survey.Window] returns, wrapped, for a table without rows.
var ErrNoRows = errors.New("there are no rows yet")

// Window returns the window of a length that ends at a time, nil for up to where rows are complete.
func (s *Survey) Window(ctx context.Context, at *time.Time, length time.Duration) (journeys.Window,
	error) {
	var end toll.WallTime
	if at != nil {
		end = s.zone.Wall(*at)
	} else {
		latest, ok, err := s.database.Latest(ctx, s.Location())
		if err != nil {
			return journeys.Window{}, err
		}
		if !ok {
			return journeys.Window{}, hint.With(ErrNoRows,
				"run tollstream emit --profile trips, and tollstream process")
		}
		end = (latest + 59) / 60 * 60
	}
	return journeys.Window{Start: end - toll.WallTime(length/time.Second), End: end}, nil
}

// Cost estimates what [Survey.Sections] and [Survey.Past] of a window read.
func (s *Survey) Cost(ctx context.Context, w journeys.Window, past bool) (survey.Cost, error) {
	scans := []journeys.Window{w.Scan()}
	if past {
		scans = append(scans, survey.PastScans(w)...)
	}
	return s.database.Cost(ctx, scans...)
}

// TripsCost estimates what [Survey.Through] reads.
func (s *Survey) TripsCost(ctx context.Context, w journeys.Window) (survey.Cost, error) {
	return s.database.Cost(ctx, w.TripScan())
}

// Past is what a window is compared with.
type Past = survey.Past

// Past reads what a window is compared with.
func (s *Survey) Past(ctx context.Context, w journeys.Window) (*Past, error) {
	return s.database.Past(ctx, w, s.Location())
}

// Sections reads the sections of a window, the worst delay first: all, or the one of two plazas.
// past and progress, which is called with how much of it is done, may be nil.
func (s *Survey) Sections(ctx context.Context, w journeys.Window, past *Past, one *journeys.Pair,
	progress func(done, total int)) (*board.Journeys, error) {
	j := &board.Journeys{JourneyWindow: s.window(w), Sections: []board.Section{}}
	counts, err := s.count(ctx, w, &j.JourneyWindow, progress)
	if err != nil || j.Status != board.HasJourneys {
		return j, err
	}
	if one != nil && counts.Sections[*one] == nil && counts.Before[*one] == nil {
		return nil, s.noSection(counts, *one)
	}
	departures, err := s.database.Departures(ctx, w.End)
	if err != nil {
		return nil, err
	}
	if past == nil {
		past = &Past{}
	}
	leaving := map[int16]int64{}
	pairs := maps.Clone(counts.Before) // of a section that is closed nobody arrives
	for pair, times := range counts.Sections {
		leaving[pair.From] += times.Vehicles()
		pairs[pair] = times
	}
	for pair := range pairs {
		times := counts.Sections[pair]
		// A section that becomes slow has two kinds of times for a while, as chance has many.
		counted, tested := journeys.Sum(times, counts.Before[pair]).Counts()
		switch {
		case one != nil:
			if pair != *one {
				continue
			}
		case tested && !counted, s.skips(pair, counts) && 10*times.Vehicles() < leaving[pair.From]:
			continue // chance, or vehicles that were not read at a plaza between
		}
		section, ok := s.section(pair, counts, past.Of(pair, counts), departures)
		if ok {
			j.Sections = append(j.Sections, section)
		} else if one != nil {
			return nil, fmt.Errorf(
				"fewer than %d vehicles went from plaza %d to %d in this time: too few to show",
				journeys.MinCell, pair.From, pair.To)
		}
	}
	j.Sort()
	return j, nil
}

// count counts what arrived in a window, and says whether there are journeys.
func (s *Survey) count(ctx context.Context, w journeys.Window, j *board.JourneyWindow,
	progress func(done, total int)) (*journeys.Counts, error) {
	counts, err := s.database.Sections(ctx, w, s.Location(), progress)
	switch {
	case errors.Is(err, survey.ErrTooMany):
		j.Status, j.Why = board.RandomIDs, "no journeys: "+err.Error()
		return nil, nil
	case err != nil:
		return nil, err
	}
	switch verdict := counts.Verdict(); verdict {
	case journeys.HasJourneys:
		j.Status = board.HasJourneys
	case journeys.RandomIDs:
		j.Status, j.Why = board.RandomIDs, verdict.String()
	default:
		j.Status = board.TooFew
		j.Why = fmt.Sprintf("no journeys: fewer than %d vehicles passed any two plazas",
			journeys.MinVehicles)
	}
	return counts, nil
}

// Check reads whether there are journeys in a window.
func (s *Survey) Check(ctx context.Context, w journeys.Window) (board.JourneyWindow, error) {
	j := s.window(w)
	_, err := s.count(ctx, w, &j, nil)
	return j, err
}

// skips reports whether another plaza that vehicles pass is between two of the same road.
func (s *Survey) skips(pair journeys.Pair, counts *journeys.Counts) bool {
	from, to := s.about[pair.From], s.about[pair.To]
	if from.Road == "" || from.Road != to.Road {
		return false
	}
	low, high := min(from.PositionKm, to.PositionKm), max(from.PositionKm, to.PositionKm)
	for id := range counts.Plazas {
		p := s.about[id]
		if p.Road == from.Road && p.PositionKm > low && p.PositionKm < high {
			return true
		}
	}
	return false
}

// section returns what is known of a section, and false where that is too little to be shown.
func (s *Survey) section(pair journeys.Pair, counts *journeys.Counts, r journeys.Reference,
	departures *journeys.Departures) (board.Section, bool) {
	times := counts.Sections[pair]
	from, to := s.about[pair.From], s.about[pair.To]
	b := board.Section{From: int(pair.From), To: int(pair.To), FromName: text.OneLine(from.Name),
		ToName: text.OneLine(to.Name), Vehicles: times.Vehicles()}
	if from.Road == to.Road {
		b.Road = text.OneLine(from.Road)
	}
	km, ok := journeys.Length(&from, &to)
	if ok {
		b.LengthKm = known(km, 3)
	}
	var overdue *journeys.Overdue
	if o, ok := departures.Overdue(pair, r.Usual); ok {
		overdue = &o
		b.OverdueLow, b.OverdueHigh = new(int64(math.Floor(o.Low))), new(int64(math.Ceil(o.High)))
	}
	b.Slow = journeys.Detect(counts.Recent[pair], times, r.Usual, overdue) != journeys.NoClue
	b.UsualSeconds, b.FreeSeconds = known(r.Usual, 1), known(r.Free, 1)
	if r.Usual > 0 {
		b.UsualOf = r.UsualFrom.String()
	}
	if r.Free > 0 {
		b.FreeOf = r.FreeFrom.String()
	}
	m, ok := journeys.Measure(times, r, km)
	if !ok {
		b.Vehicles = 0
		return b, b.Slow
	}
	b.Vehicles, b.Stopped = m.Vehicles, m.Stopped
	b.MedianSeconds, b.LowSeconds, b.HighSeconds = known(m.Median, 1), known(m.Low, 1), known(m.High,
		1)
	b.P85Seconds, b.P95Seconds = known(m.P85, 1), known(m.P95, 1)
	if m.Free > 0 {
		b.DelayHours = new(round(m.DelayHours, 2))
	}
	b.SpeedKmh, b.TTI, b.PTI = known(m.SpeedKmh, 1), known(m.TravelTimeIndex, 3),
		known(m.PlanningTimeIndex, 3)
	b.BufferIndex, b.Reliability = new(round(m.BufferIndex, 3)), known(m.Reliability, 3)
	return b, true
}

// Through reads where the vehicles that pass a plaza in a window come from and go to.
func (s *Survey) Through(ctx context.Context, w journeys.Window, plaza int16) (*board.Through,
	error) {
	t := &board.Through{JourneyWindow: s.window(w), Plaza: int(plaza),
		Name: text.OneLine(s.about[plaza].Name)}
	trips, err := s.database.Trips(ctx, w, &plaza, s.Location())
	if errors.Is(err, survey.ErrTooMany) {
		t.Status, t.Why = board.RandomIDs, "no journeys: "+err.Error()
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	t.Status = board.HasJourneys
	origins, destinations := trips.Origins(), trips.Destinations()
	for id, n := range trips.Same {
		origins[id], destinations[id] = origins[id]+n, destinations[id]+n
	}
	for _, n := range origins {
		t.Vehicles += n
	}
	if t.Vehicles == 0 {
		t.Status, t.Why = board.TooFew, fmt.Sprintf("no vehicle passed plaza %d", plaza)
	}
	t.Origins, t.Destinations = s.streams(origins), s.streams(destinations)
	return t, nil
}

func (s *Survey) streams(counts map[int16]int64) []board.Stream {
	all := []board.Stream{}
	for _, share := range journeys.Shares(counts, cmp.Compare[int16]) {
		stream := board.Stream{Vehicles: share.Vehicles, Share: round(share.Fraction, 4)}
		if !share.Other {
			stream.Plaza, stream.Name = new(int(share.Of)), text.OneLine(s.about[share.Of].Name)
		}
		all = append(all, stream)
	}
	return all
}

// window returns what is known of a window before it is read.
func (s *Survey) window(w journeys.Window) board.JourneyWindow {
	at := func(t toll.WallTime) time.Time {
		return time.Unix(s.zone.Unix(t), 0).In(s.Location())
	}
	return board.JourneyWindow{At: s.now(), From: at(w.Start), Until: at(w.End),
		Timezone: s.Location().String()}
}

// noSection returns why there is no section of two plazas.
func (s *Survey) noSection(counts *journeys.Counts, pair journeys.Pair) error {
	for _, id := range []int16{pair.From, pair.To} {
		if _, passed := counts.Plazas[id]; passed {
			continue
		}
		if _, known := s.about[id]; known {
			return fmt.Errorf("no vehicle passed plaza %d in this time", id)
		}
		return hint.With(fmt.Errorf("plaza %d is not known", id), "tollstream view lists the plazas")
	}
	var next []string
	var others []int16
	for p := range counts.Sections {
		if p.From == pair.From {
			others = append(others, p.To)
		}
	}
	slices.Sort(others)
	for _, id := range others[:min(len(others), 20)] {
		next = append(next, fmt.Sprint(id))
	}
	err := fmt.Errorf("no vehicle went from plaza %d to %d next in this time", pair.From, pair.To)
	if len(next) == 0 {
		return err
	}
	return hint.With(err, fmt.Sprintf("after %d they passed %s", pair.From, strings.Join(next, ", ")))
}

// known returns a rounded figure, and nil for 0, which stands for not known.
func known(x float64, decimals int) *float64 {
	if x == 0 {
		return nil
	}
	return new(round(x, decimals))
}

func round(x float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(x*scale) / scale
}
