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

// Survey surveys a window of a database, which [Survey.Choose] chooses. It is for one goroutine at
// a time.
type Survey struct {
	database *survey.Surveyor
	zone     *toll.Zone // of the rows' times
	about    map[int16]toll.Plaza
	now      func() time.Time
	window   journeys.Window
}

// New returns a survey of a database.
func New(ctx context.Context, store *sql.Store, now func() time.Time) (*Survey, error) {
	location, err := store.Location(ctx)
	if err != nil {
		return nil, err
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

// ErrNoRows is what [Survey.Choose] returns, wrapped, for a table without rows.
var ErrNoRows = errors.New("there are no rows yet")

// Choose chooses the window of a length that ends at a time, nil for up to where rows are complete.
func (s *Survey) Choose(ctx context.Context, at *time.Time, length time.Duration) error {
	var end toll.WallTime
	if at != nil {
		end = s.zone.Wall(*at)
	} else {
		latest, ok, err := s.database.Latest(ctx, s.Location())
		if err != nil {
			return err
		}
		if !ok {
			return hint.With(ErrNoRows, "run tollstream emit --profile trips, and tollstream process")
		}
		end = (latest + 59) / 60 * 60
	}
	s.window = journeys.Window{Start: end - toll.WallTime(length/time.Second), End: end}
	return nil
}

// Start is when the window begins.
func (s *Survey) Start() toll.WallTime { return s.window.Start }

// Cost is what reading costs.
type Cost = survey.Cost

// Cost estimates what [Survey.Sections] reads.
func (s *Survey) Cost(ctx context.Context) (Cost, error) {
	return s.database.Cost(ctx, s.window.Scan())
}

// Rows that a small server counts in about 8 s: with the index, and passing over those that are not
// of the time for want of it.
const (
	AffordableRows      = 3_000_000
	affordableWithTable = 5_000_000
)

// PastScope is how much of the past is read.
type PastScope = survey.PastScope

// ChoosePast returns how much of the past is read, and what it costs: with weeks nil as much as is
// affordable together with a window that costs now: the weeks before, the last one first, then the
// off-peak hours. Else it is so many weeks, and the off-peak hours of all.
func (s *Survey) ChoosePast(ctx context.Context, weeks *int, now Cost) (PastScope, Cost, error) {
	if weeks != nil {
		scope := PastScope{Weeks: *weeks, OffPeak: *weeks > 0}
		cost, err := s.database.Cost(ctx, scope.Scans(s.window)...)
		return scope, cost, err
	}
	return affordable(now, func(scope PastScope) (Cost, error) {
		return s.database.Cost(ctx, scope.Scans(s.window)...)
	})
}

// affordable chooses how much of the past is read together with a window that costs now.
func affordable(now Cost, costOf func(PastScope) (Cost, error)) (PastScope, Cost, error) {
	if !now.Indexed { // one statement passes over all rows, whatever it counts
		if now.Rows > affordableWithTable {
			return PastScope{}, Cost{}, nil
		}
		return survey.All, now, nil
	}
	chosen, costs := PastScope{}, Cost{Indexed: true}
	for _, scope := range survey.PastScopes {
		cost, err := costOf(scope)
		if err != nil {
			return PastScope{}, Cost{}, err
		}
		if now.Rows+cost.Rows > AffordableRows {
			break
		}
		chosen, costs = scope, cost
	}
	return chosen, costs, nil
}

// TripsCost estimates what [Survey.Through] reads.
func (s *Survey) TripsCost(ctx context.Context) (Cost, error) {
	return s.database.Cost(ctx, s.window.TripScan())
}

// Past is what a window is compared with.
type Past = survey.Past

// Past reads what the window is compared with.
func (s *Survey) Past(ctx context.Context, scope PastScope) (*Past, error) {
	return s.database.Past(ctx, s.window, scope, s.Location())
}

// Sections reads the sections of the window, the worst delay first: all, or the one of two plazas.
// progress, which is called with how much of it is done, may be nil.
func (s *Survey) Sections(ctx context.Context, past *Past, one *journeys.Pair,
	progress func(done, total int)) (*board.Journeys, error) {
	j := &board.Journeys{UsualWeeks: past.Scope.Weeks, Sections: []board.Section{}}
	window, counts, departures, err := s.count(ctx, progress)
	if j.JourneyWindow = window; err != nil || j.Status != board.HasJourneys {
		return j, err
	}
	if one != nil && counts.Sections[*one] == nil && counts.Before[*one] == nil {
		return nil, s.noSection(counts, *one)
	}
	leaving := map[int16]int64{}
	pairs := maps.Clone(counts.Before) // of a section that is closed nobody arrives
	for pair, times := range counts.Sections {
		leaving[pair.From] += times.Vehicles()
		pairs[pair] = times
	}
	if one != nil {
		pairs = map[journeys.Pair]journeys.Times{*one: nil}
	}
	for pair := range pairs {
		times := counts.Sections[pair]
		// A section that becomes slow has two kinds of times for a while, as chance has many.
		if one == nil && (!journeys.Sum(times, counts.Before[pair]).Alike() ||
			s.skips(pair, counts) && 10*times.Vehicles() < leaving[pair.From]) {
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

// count counts what arrived in the window, and says whether there are journeys.
func (s *Survey) count(ctx context.Context, progress func(done, total int)) (board.JourneyWindow,
	*journeys.Counts, *journeys.Departures, error) {
	counts, departures, err := s.database.Sections(ctx, s.window, s.Location(), progress)
	w, err := s.outcome(err)
	if err != nil || w.Status != board.HasJourneys {
		return w, nil, nil, err
	}
	switch verdict := counts.Verdict(); verdict {
	case journeys.HasJourneys:
	case journeys.RandomIDs:
		w.Status, w.Why = board.RandomIDs, verdict.String()
	default:
		w.Status = board.TooFew
		w.Why = fmt.Sprintf("no journeys: fewer than %d vehicles passed any two plazas",
			journeys.MinVehicles)
	}
	return w, counts, departures, nil
}

// skips reports whether another plaza that vehicles pass is between two of the same road.
func (s *Survey) skips(pair journeys.Pair, counts *journeys.Counts) bool {
	from, to := s.about[pair.From], s.about[pair.To]
	if from.Road == "" || from.Road != to.Road {
		return false
	}
	for id := range counts.Plazas {
		p := s.about[id]
		if p.Road == from.Road && (p.PositionKm-from.PositionKm)*(to.PositionKm-p.PositionKm) > 0 {
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
		ToName: text.OneLine(to.Name)}
	if from.Road == to.Road {
		b.Road = text.OneLine(from.Road)
	}
	km, _ := journeys.Length(&from, &to)
	b.LengthKm = known(km, 3)
	var overdue *journeys.Overdue
	if o, ok := departures.Overdue(pair, r.Usual); ok {
		overdue = &o
		b.OverdueLow, b.OverdueHigh = new(int64(math.Floor(o.Low))), new(int64(math.Ceil(o.High)))
	}
	b.Slow = journeys.Detect(counts.Recent[pair], times, r.Usual, overdue) != journeys.NoClue
	b.UsualSeconds, b.FreeSeconds = known(r.Usual, 1), known(r.Free, 1)
	b.UsualOf, b.FreeOf = r.UsualFrom.String(), r.FreeFrom.String()
	m, ok := journeys.Measure(times, r, km)
	if !ok {
		return b, b.Slow
	}
	b.Vehicles, b.Stopped = m.Vehicles, m.Stopped
	b.MedianSeconds, b.LowSeconds, b.HighSeconds = known(m.Median, 1), known(m.Low, 1), known(m.High,
		1)
	b.P85Seconds, b.P95Seconds = known(m.P85, 1), known(m.P95, 1)
	if m.Free > 0 {
		b.DelayHours = new(text.Rounded(m.DelayHours, 2))
	}
	b.SpeedKmh, b.TTI, b.PTI = known(m.SpeedKmh, 1), known(m.TravelTimeIndex, 3),
		known(m.PlanningTimeIndex, 3)
	b.BufferIndex, b.Reliability = new(text.Rounded(m.BufferIndex, 3)), known(m.Reliability, 3)
	return b, true
}

// Through reads where the vehicles that pass a plaza in the window come from and go to.
func (s *Survey) Through(ctx context.Context, plaza int16) (*board.Through, error) {
	trips, err := s.database.Trips(ctx, s.window, &plaza, s.Location())
	window, err := s.outcome(err)
	t := &board.Through{JourneyWindow: window, Plaza: int(plaza),
		Name: text.OneLine(s.about[plaza].Name)}
	if err != nil || t.Status != board.HasJourneys {
		return t, err
	}
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
		stream := board.Stream{Vehicles: share.Vehicles, Share: text.Rounded(share.Fraction, 4)}
		if !share.Other {
			stream.Plaza, stream.Name = new(int(share.Of)), text.OneLine(s.about[share.Of].Name)
		}
		all = append(all, stream)
	}
	return all
}

// outcome returns what is known of the window after it was read, and why it could not be.
func (s *Survey) outcome(err error) (board.JourneyWindow, error) {
	at := func(t toll.WallTime) time.Time {
		return time.Unix(s.zone.Unix(t), 0).In(s.Location())
	}
	w := board.JourneyWindow{At: s.now(), From: at(s.window.Start), Until: at(s.window.End),
		Timezone: s.Location().String(), Status: board.HasJourneys}
	if errors.Is(err, survey.ErrTooMany) {
		w.Status, w.Why = board.RandomIDs, "no journeys: "+err.Error()
		return w, nil
	}
	return w, err
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
	for _, p := range slices.SortedFunc(maps.Keys(counts.Sections), journeys.Pair.Compare) {
		if p.From == pair.From && len(next) < 20 {
			next = append(next, fmt.Sprint(p.To))
		}
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
	return new(text.Rounded(x, decimals))
}

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
