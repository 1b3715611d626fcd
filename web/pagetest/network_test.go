package pagetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// network is a [web.Source] of made-up plazas on made-up roads. Its figures follow from a plaza's
// number and the event time, so the same moment shows the same figures, to the page and to the
// test. What deviates from a real one: no hysteresis, and whatever is asked about the past is
// as if it had never come late.
type network struct {
	mu        sync.Mutex
	plazas    []madeUp
	began     time.Time     // event time at the start
	wall      time.Time     // wall clock then
	speed     float64       // how much faster event time goes than the wall clock; 0 stops it
	lag       time.Duration // how long ago the rows were counted
	inFlight  int64
	recent    board.RecentRejects
	wrong     map[int16]string  // plazas that do not verify, and why
	unknown   map[int16][2]int  // of sparklines, quarters that are not known
	types     map[string]string // what vehicle types are called instead
	err       error             // of every call, nil for none
	incidents []board.Incident
	journeys  board.JourneyStatus // of what there is; empty for none
}

// madeUp is a plaza and what passes it.
type madeUp struct {
	toll.Plaza
	zone     *time.Location
	since    time.Duration // of event time before the start, of the state
	state    traffic.State
	factor   float64 // what passes now, of the usual
	total    int64   // before today
	zoneName string
}

// rush is when the made-up day is looked at: a Monday's rush hour.
var rush = time.Date(2026, 3, 2, 17, 8, 20, 0, zone("Europe/Berlin"))

func zone(name string) *time.Location {
	loc, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return loc
}

func newNetwork(plazas ...toll.Plaza) *network {
	n := &network{began: rush, wall: time.Now(), speed: 1, lag: 2 * time.Second,
		wrong: map[int16]string{}}
	for _, p := range plazas {
		m := madeUp{Plaza: p, zone: rush.Location(), state: traffic.Free, factor: 1, zoneName: p.Timezone}
		if p.Timezone != "" {
			m.zone = zone(p.Timezone)
		}
		m.since = time.Duration(20+chance(p.ID, "since")*400) * time.Minute
		m.total = int64(p.VehiclesPerDay * (20 + 30*chance(p.ID, "total")))
		n.plazas = append(n.plazas, m)
	}
	return n
}

// highway returns few plazas on a few roads, with something going on, as the README shows them.
func highway() *network {
	n := newNetwork(
		toll.Plaza{ID: 4000, Name: "Boughton", Road: "A 355", PositionKm: 3.2, Lanes: 14,
			VehiclesPerDay: 86640, HeavyShare: .092},
		toll.Plaza{ID: 4001, Name: "Devon", Road: "A 355", PositionKm: 17.8, Lanes: 12,
			VehiclesPerDay: 88090, HeavyShare: .067},
		toll.Plaza{ID: 4011, Name: "Spring Creek", Road: "A 355", PositionKm: 29.5, Lanes: 8,
			VehiclesPerDay: 51200, HeavyShare: .11},
		toll.Plaza{ID: 4012, Name: "Boone", Road: "A 355", PositionKm: 41, Lanes: 6,
			VehiclesPerDay: 36900, HeavyShare: .14},
		toll.Plaza{ID: 4002, Name: "Mill Lane", Road: "M 1", PositionKm: 4.5, Lanes: 6,
			VehiclesPerDay: 42000, HeavyShare: .08},
		toll.Plaza{ID: 4003, Name: "Quarry", Road: "M 1", PositionKm: 12, Lanes: 8, VehiclesPerDay: 58000,
			HeavyShare: .11},
		toll.Plaza{ID: 4004, Name: "Harbour", Road: "M 1", PositionKm: 19.5, Lanes: 10,
			VehiclesPerDay: 76500, HeavyShare: .07},
		toll.Plaza{ID: 4005, Name: "Freight Yard", Road: "M 1", PositionKm: 24, Lanes: 4,
			VehiclesPerDay: 27500, HeavyShare: .15},
		toll.Plaza{ID: 4006, Name: "City West", Road: "M 1", PositionKm: 31.5, Lanes: 12,
			VehiclesPerDay: 90000, HeavyShare: .06},
		toll.Plaza{ID: 4007, Name: "Tunnel", Road: "M 1", PositionKm: 36, Lanes: 5, VehiclesPerDay: 43500,
			HeavyShare: .12},
		toll.Plaza{ID: 4008, Name: "City East", Road: "M 1", PositionKm: 42.5, Lanes: 8,
			VehiclesPerDay: 54000, HeavyShare: .09},
		toll.Plaza{ID: 4009, Name: "Airport", Road: "M 1", PositionKm: 51, Lanes: 6,
			VehiclesPerDay: 45000, HeavyShare: .05},
		toll.Plaza{ID: 4010, Name: "Forest", Road: "M 1", PositionKm: 68, Lanes: 3, VehiclesPerDay: 11000,
			HeavyShare: .2},
		toll.Plaza{ID: 4856, Name: "Junction", Road: "M 2", PositionKm: 8, Lanes: 16,
			VehiclesPerDay: 118000, HeavyShare: .08},
		toll.Plaza{ID: 4857, Name: "Vineyard", Road: "M 2", PositionKm: 22.4, Lanes: 7,
			VehiclesPerDay: 39800, HeavyShare: .07},
		toll.Plaza{ID: 4858, Name: "Ferry", Road: "M 2", PositionKm: 37.1, Lanes: 4,
			VehiclesPerDay: 18400, HeavyShare: .13},
		toll.Plaza{ID: 4859, Name: "Old Bridge", Road: "M 2", PositionKm: 55.6, Lanes: 6,
			VehiclesPerDay: 31000, HeavyShare: .09, Timezone: "Europe/London"},
		toll.Plaza{ID: 1001},
	)
	n.happens(4007, traffic.Saturated, 1.22, 35*time.Minute)
	n.happens(4005, traffic.BelowUsual, 0.16, 12*time.Minute)
	n.happens(4008, traffic.Busy, 1.32, 26*time.Minute)
	n.happens(4002, traffic.Busy, 1.24, 8*time.Minute)
	n.happens(4858, traffic.NoData, 0, 41*time.Minute)
	return n
}

// thousand returns as many plazas as asked for, on roads of 40.
func thousand(count int) *network {
	first := []string{"Ash", "Birch", "Clear", "Deer", "East", "Fair", "Green", "High", "Iron", "King",
		"Long", "Mill", "North", "Oak", "Port", "Red", "Stone", "Three", "Upper", "West"}
	last := []string{"bridge", "brook", "burn", "cliff", "dale", "field", "ford", "gate", "ham",
		"haven", "hill", "land", "mere", "moor", "ridge", "side", "stead", "ton", "vale", "wood"}
	var plazas []toll.Plaza
	for i := range count {
		id := int16(1000 + i)
		lanes := 3 + int(chance(id, "lanes")*12)
		plazas = append(plazas, toll.Plaza{
			ID: id, Name: first[i%20] + last[(i*7+i/20)%20], Road: fmt.Sprintf("M %d",
				i/40+1), PositionKm: math.Round(1000*chance(id, "km"))/10 + float64(i%40)*5,
			Lanes: lanes, VehiclesPerDay: float64(lanes) * (5000 + 3200*chance(id, "volume")),
			HeavyShare: .03 + .15*chance(id, "heavy"),
		})
	}
	n := newNetwork(plazas...)
	for i, p := range plazas {
		switch {
		case i%97 == 13:
			n.happens(p.ID, traffic.Saturated, 2.2, 25*time.Minute)
		case i%61 == 7:
			n.happens(p.ID, traffic.BelowUsual, .2, 14*time.Minute)
		case i%19 == 3:
			n.happens(p.ID, traffic.Busy, 1.5, 9*time.Minute)
		case i%143 == 11:
			n.happens(p.ID, traffic.NoData, 0, 90*time.Minute)
		}
	}
	return n
}

// happens puts a plaza into a state for some time before the start.
func (n *network) happens(id int16, state traffic.State, factor float64,
	since time.Duration) {
	m := n.of(id)
	m.state, m.factor, m.since = state, factor, since
}

// change changes the network between two reads.
func (n *network) change(f func(n *network)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

func (n *network) of(id int16) *madeUp {
	i := slices.IndexFunc(n.plazas, func(m madeUp) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	return &n.plazas[i]
}

// now returns the event time.
func (n *network) now() time.Time {
	return n.began.Add(time.Duration(float64(time.Since(n.wall)) * n.speed)).Truncate(time.Second)
}

// chance returns a number in [0, 1) that follows from what it is given.
func chance(parts ...any) float64 {
	h := fnv.New64a()
	fmt.Fprintln(h, parts...)
	x := h.Sum64()
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return float64(x>>11) / (1 << 53)
}

// share returns how much of a day's traffic flows at a time of day, as a density over the day.
func share(hour float64) float64 {
	bump := func(at, width, size float64) float64 {
		d := (hour - at) / width
		return size * math.Exp(-d*d/2)
	}
	return (.012 + bump(7.8, 1.1, .034) + bump(13, 3.2, .038) + bump(17.2, 1.5, .042)) / 1.3
}

// expected returns the vehicles that usually pass in the quarter of an hour that begins at a time.
func (m *madeUp) expected(start time.Time) float64 {
	local := start.In(m.zone)
	hour := float64(local.Hour()) + float64(local.Minute())/60 + .125
	return m.VehiclesPerDay * share(hour) / 4
}

// renamed calls types what they are called here.
func (n *network) renamed(by map[string]int64) map[string]int64 {
	for from, to := range n.types {
		if count, ok := by[from]; ok {
			delete(by, from)
			by[to] = count
		}
	}
	return by
}

// passed returns the vehicles of a quarter of an hour by type, as far as it had passed at a time.
func (m *madeUp) passed(start, now, stateSince time.Time) map[string]int64 {
	part := min(1, now.Sub(start).Minutes()/15)
	if part <= 0 || m.VehiclesPerDay == 0 {
		return map[string]int64{}
	}
	all := m.expected(start) * part * (1 + .16*(chance(m.ID, start.Unix())-.5))
	if !start.Add(15 * time.Minute).Before(stateSince) {
		all *= m.factor
	}
	heavy := all * m.HeavyShare
	by := map[string]int64{"car": int64(all - heavy), "truck": int64(heavy * .84),
		"bus": int64(heavy * .16), "motorcycle": int64(all * .012)}
	for name, count := range by {
		if count == 0 {
			delete(by, name)
		}
	}
	return by
}

func sumOf(by map[string]int64) (all int64) {
	for _, n := range by {
		all += n
	}
	return all
}

// row returns a plaza as it stands at a time.
func (n *network) row(m *madeUp, now time.Time) board.Plaza {
	since := n.began.Add(-m.since).Truncate(time.Minute)
	p := board.Plaza{
		ID: int(m.ID), Name: m.Name, Road: m.Road, Lanes: m.Lanes, Timezone: m.zoneName, State: m.state,
		Since: &since,
		Late:  int64(chance(m.ID, "late") * 900), LateQuarter: int64(chance(m.ID, "quarter") * 40),
		TooLate: int64(chance(m.ID, "too") * 3),
	}
	if m.Road != "" {
		p.PositionKm = new(m.PositionKm)
	}
	quarter := now.Truncate(15 * time.Minute)
	midnight := midnight(now, m.zone)
	today := int64(0)
	for start := quarter.Add(-47 * 15 * time.Minute); !start.After(quarter); start = start.Add(
		15 * time.Minute) {
		count := sumOf(m.passed(start, now, since))
		p.Sparkline = append(p.Sparkline, new(count))
		if i := len(p.Sparkline) - 1; i >= n.unknown[m.ID][0] && i < n.unknown[m.ID][1] {
			p.Sparkline[i] = nil
		}
		if !start.Before(midnight) {
			today += count
		}
	}
	p.Total = m.total + today
	last := now.Add(-time.Duration(chance(m.ID, now.Unix()/3) * 4e9)).Truncate(time.Second)
	if m.state == traffic.NoData {
		last = since
	}
	p.LastEvent = &last

	before := m.passed(quarter.Add(-15*time.Minute), now, since)
	in15, heavy := float64(sumOf(before)), float64(before["truck"]+before["bus"])
	usual := m.expected(quarter.Add(-15 * time.Minute))
	p.FlowPerHour = board.Flow(in15 * 4)
	p.Throughput = new((in15 + heavy) * 4)
	if in15 > 0 {
		p.HeavyShare, p.HeadwaySeconds, p.PHF = new(heavy/in15), new(900/in15),
			new(.9+.09*chance(m.ID, "phf"))
	}
	if m.Lanes > 0 {
		p.Capacity = new(float64(m.Lanes) * toll.DefaultCapacityPerLane)
		p.VC = new(*p.Throughput / *p.Capacity)
	}
	if usual > 0 {
		u := traffic.Usual{Median: math.Round(usual), MAD: math.Round(usual * .05), N: 8}
		p.Usual = &u
		if z, ok := u.Z(in15); ok {
			p.Z = &z
		}
	}
	switch {
	case m.state == traffic.NoData:
		p.Why = "no vehicle in 15 min"
	case m.state == traffic.BelowUsual:
		p.Why = fmt.Sprintf("%.0f vehicles in 15 min, usual are %.0f; missing reports look the same",
			in15, usual)
	case p.VC != nil:
		p.Why = fmt.Sprintf("throughput %s pc/h is %.0f %% of the capacity of %s pc/h (%d lanes)",
			grouped(*p.Throughput), math.Floor(*p.VC*100), grouped(*p.Capacity), m.Lanes)
	default:
		p.Why = fmt.Sprintf("%.0f vehicles in 15 min; lanes and what is usual are not known", in15)
	}

	p.Verification = board.PlazaVerification{Status: board.Exact, TableCount: p.Total,
		StoredRows: new(p.Total), ChecksumOK: new(true)}
	if n.inFlight > 0 && int(m.ID)%3 == 0 {
		p.Verification.Status, p.Verification.InFlight = board.InFlight, n.inFlight/3
	}
	if _, ok := n.wrong[m.ID]; ok {
		p.Verification.Status, p.Verification.StoredRows, p.Verification.ChecksumOK = board.Mismatch,
			new(p.Total-1), new(false)
	}
	return p
}

// grouped writes a number with a comma before each three digits.
func grouped(x float64) string {
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func midnight(t time.Time, loc *time.Location) time.Time {
	y, month, d := t.In(loc).Date()
	return time.Date(y, month, d, 0, 0, 0, 0, loc)
}

func (n *network) Board(context.Context) (*board.Board, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return nil, n.err
	}
	now, wall := n.now(), time.Now()
	b := &board.Board{At: wall, StreamTime: &now,
		Watermark: new(now.Add(-time.Minute).Truncate(time.Minute)), Timezone: "Europe/Berlin",
		RecentRejects: n.recent}
	events := int64(0)
	for i := range n.plazas {
		b.Plazas = append(b.Plazas, n.row(&n.plazas[i], now))
		events += b.Plazas[i].Total
	}
	b.Verification = board.Verification{Status: board.Exact, Events: new(events),
		Rows: new(events + n.inFlight), InFlight: n.inFlight, CheckedAt: new(wall.Add(-n.lag))}
	if n.inFlight > 0 {
		b.Verification.Status = board.InFlight
	}
	for id, why := range n.wrong {
		b.Verification.Status = board.Mismatch
		*b.Verification.Rows--
		b.Verification.Problems = append(b.Verification.Problems, fmt.Sprintf("plaza %d: %s", id, why))
		b.Verification.Next = []string{"count the plazas again: tollstream rebuild --yes"}
	}
	return b, nil
}

func (n *network) Plaza(_ context.Context, id int16) (*board.Detail, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.of(id)
	switch {
	case n.err != nil:
		return nil, n.err
	case m == nil:
		return nil, board.ErrNotFound
	}
	now := n.now()
	d := &board.Detail{Plaza: n.row(m, now)}
	start := midnight(now, m.zone)
	var so, was int64
	d.Quarters = n.quarters(m, start, start.AddDate(0, 0, 1))
	d.LastWeek = n.quarters(m, start.AddDate(0, 0, -7), start.AddDate(0, 0, -6))
	for i, q := range d.Quarters {
		if q.Count != nil {
			so += *q.Count
		}
		if q.Start.Add(15 * time.Minute).Before(now) {
			was += *d.LastWeek[i].Count
		}
	}
	d.DaySoFar, d.DaySoFarLastWeek = &so, &was
	d.Changes = n.changes(m, d.Why)
	return d, nil
}

// known is how far back the past is known: what is older was deleted.
const known = 60 * 24 * time.Hour

// quarters returns the quarters of an hour that begin in [start, end).
func (n *network) quarters(m *madeUp, start, end time.Time) (all []board.Quarter) {
	now, since := n.now(), n.began.Add(-m.since).Truncate(time.Minute)
	for q := start; q.Before(end); q = q.Add(15 * time.Minute) {
		point := board.Quarter{Start: q}
		if !q.After(now) && q.After(n.began.Add(-known)) {
			by := m.passed(q, now, since)
			point.Count = new(sumOf(by))
			point.PassengerCars = new(float64(*point.Count + by["truck"] + by["bus"]))
			point.ByType = n.renamed(by)
		}
		if usual := m.expected(q); usual > 0 {
			u := traffic.Usual{Median: math.Round(usual), MAD: usual * .05, N: 8}
			low, high := u.Band()
			point.UsualMedian, point.UsualLow, point.UsualHigh = &u.Median, &low, &high
		}
		if m.Lanes > 0 {
			point.Capacity = new(float64(m.Lanes) * toll.DefaultCapacityPerLane / 4)
		}
		all = append(all, point)
	}
	return all
}

// changes returns the last changes of congestion at a plaza, for that reason.
func (n *network) changes(m *madeUp, reason string) (all []board.Change) {
	from, at := m.state, n.began.Add(-m.since).Truncate(time.Minute)
	for i := range 6 {
		next, why := traffic.Free, reason
		if from == traffic.Free {
			next, why = traffic.Busy, fmt.Sprintf("throughput is %d %% of the capacity", 64-i)
		} else if from == traffic.Saturated {
			next = traffic.Busy
		} else if i > 0 {
			why = fmt.Sprintf("throughput is %d %% of the capacity", 79+i)
		}
		all = append(all,
			board.Change{From: next, To: from, Since: at, Detected: at.Add(2 * time.Minute), Why: why})
		from, at = next, at.Add(-time.Duration(40+70*i)*time.Minute)
	}
	return all
}

func (n *network) Series(_ context.Context, id int16, r board.Range) (*board.Series, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.of(id)
	switch {
	case n.err != nil:
		return nil, n.err
	case m == nil:
		return nil, board.ErrNotFound
	case r.From == nil || r.Until == nil:
		return nil, fmt.Errorf("the page asks for both ends")
	}
	return &board.Series{From: *r.From, Until: *r.Until, Quarters: n.quarters(m, *r.From, *r.Until)},
		nil
}

func (n *network) Changes(_ context.Context, id int16, q board.ChangeQuery) (board.ChangePage,
	error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.of(id)
	if m == nil {
		return board.ChangePage{}, board.ErrNotFound
	}
	all := slices.DeleteFunc(n.changes(m, "as before"), func(c board.Change) bool {
		return !q.Holds(c.Detected)
	})
	return board.ChangePage{Changes: all[:min(len(all), q.Limit)]}, nil
}

// Windows returns windows of a quarter of an hour and of an hour, back to two days ago.
func (n *network) Windows(_ context.Context, id int16, q board.WindowQuery) (board.WindowPage,
	error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.of(id)
	switch {
	case n.err != nil:
		return board.WindowPage{}, n.err
	case m == nil:
		return board.WindowPage{}, board.ErrNotFound
	case q.Kind != "" && q.Kind != "15m" && q.Kind != "1h":
		return board.WindowPage{}, &board.UnknownKindError{Kinds: []string{"15m", "1h"}}
	}
	now := n.now()
	since := n.began.Add(-m.since)
	var page board.WindowPage
	for start := now.Truncate(15 * time.Minute).Add(-15 * time.Minute); start.After(
		now.Add(-48 * time.Hour)); start = start.Add(-15 * time.Minute) {
		for _, kind := range []string{"15m", "1h"} {
			length := 15 * time.Minute
			if kind == "1h" {
				length = time.Hour
			}
			if !q.Holds(start) || start.Truncate(length) != start || start.Add(length).After(now) ||
				q.Kind != "" &&
					q.Kind != kind {
				continue
			}
			if b := q.Before; b != nil && !(start.Before(b.Start) || start.Equal(b.Start) && kind > b.Kind) {
				continue
			}
			if len(page.Windows) == q.Limit {
				page.More = true
				return page, nil
			}
			by := map[string]int64{}
			for part := start; part.Before(start.Add(length)); part = part.Add(15 * time.Minute) {
				for name, count := range m.passed(part, now, since) {
					by[name] += count
				}
			}
			w := board.Window{Kind: kind, Start: start, End: start.Add(length), ByType: by, Count: sumOf(by),
				Final: true, Revision: 1, Reason: toll.ClosedByWatermark}
			w.Late = int64(chance(id, kind, start.Unix()) * 1.6)
			w.TooLate = int64(chance(id, kind, start.Unix(), "too") * 1.08)
			w.Revision += w.Late
			w.OnTime = w.Count - w.Late
			w.FlowPerHour = float64(w.Count) / length.Hours()
			page.Windows = append(page.Windows, w)
		}
	}
	return page, nil
}

func (n *network) DeadLetters(context.Context, board.PageQuery) (board.DeadLetterPage, error) {
	return board.DeadLetterPage{}, nil
}

func (n *network) Incidents(_ context.Context, q board.IncidentQuery) (board.IncidentPage, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var page board.IncidentPage
	for _, i := range n.incidents {
		if (!q.Open || i.Ended == nil) && (q.State == nil || slices.Contains(i.States, *q.State)) &&
			(q.Road == "" || q.Road == i.Road) && (q.Plaza == nil || int(*q.Plaza) == i.Plaza) &&
			(q.From == nil || i.Ended == nil || i.Ended.After(*q.From)) &&
			(q.Until == nil || i.Began.Before(*q.Until)) {
			page.Incidents = append(page.Incidents, i)
		}
	}
	return page, n.err
}

func (n *network) AddNote(_ context.Context, note board.NewNote) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.incidents {
		if in := &n.incidents[i]; in.ID == note.Incident.String() {
			in.Acknowledged = in.Acknowledged || note.Acknowledged
			in.Notes = append(slices.Clone(in.Notes), board.IncidentNote{At: time.Now(),
				Author: note.Author, Acknowledged: note.Acknowledged, Note: note.Note})
			return nil
		}
	}
	return board.ErrNoIncident
}

// Journeys returns the sections between plazas that follow each other on a road, both ways. At the
// one that leads to a saturated plaza vehicles take three times as long as usual.
func (n *network) Journeys(context.Context) (*board.Journeys, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	j := &board.Journeys{JourneyWindow: n.journeyWindow()}
	if j.Status != board.HasJourneys {
		return j, n.err
	}
	for i := range n.plazas {
		for _, to := range []int{i - 1, i + 1} {
			if to < 0 || to >= len(n.plazas) || n.plazas[to].Road != n.plazas[i].Road {
				continue
			}
			a, b := &n.plazas[i], &n.plazas[to]
			km := math.Abs(b.PositionKm - a.PositionKm)
			usual := km * 36 * (1 + .3*chance(a.ID, b.ID))
			s := board.Section{From: int(a.ID), To: int(b.ID), FromName: a.Name, ToName: b.Name,
				Road: a.Road, LengthKm: &km, Vehicles: int64(b.expected(n.began) / 2),
				UsualSeconds: &usual, FreeSeconds: new(usual * .95), DelayHours: new(.1),
				OverdueLow: new(int64(0)), OverdueHigh: new(int64(3))}
			factor := 1 + .1*chance(b.ID, a.ID)
			if b.state == traffic.Saturated && to == i+1 {
				factor, s.Slow, s.DelayHours = 2.9, true, new(31.4)
				s.OverdueLow, s.OverdueHigh = new(int64(41)), new(int64(60))
			}
			s.MedianSeconds, s.P95Seconds = new(usual*factor), new(usual*factor*1.3)
			j.Sections = append(j.Sections, s)
		}
	}
	j.Sort()
	return j, n.err
}

// Through returns where vehicles come from and go to: some from each plaza of the same road.
func (n *network) Through(_ context.Context, id int16) (*board.Through, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.of(id)
	if m == nil {
		return nil, board.ErrNotFound
	}
	t := &board.Through{JourneyWindow: n.journeyWindow(), Plaza: int(id), Name: m.Name}
	if t.Status != board.HasJourneys {
		return t, n.err
	}
	t.Vehicles = 1204
	for i := range n.plazas {
		if p := &n.plazas[i]; p.Road == m.Road && p.ID != id {
			share := .2 * chance(p.ID, id)
			t.Origins = append(t.Origins, board.Stream{Plaza: new(int(p.ID)), Name: p.Name,
				Vehicles: int64(1204 * share), Share: share})
		}
	}
	t.Origins = append(t.Origins, board.Stream{Vehicles: 18, Share: .015})
	t.Destinations = slices.Clone(t.Origins)
	slices.Reverse(t.Destinations[:len(t.Destinations)-1])
	return t, n.err
}

func (n *network) journeyWindow() board.JourneyWindow {
	end := n.began.Truncate(time.Minute)
	w := board.JourneyWindow{At: time.Now(), From: end.Add(-15 * time.Minute), Until: end,
		Timezone: "Europe/Berlin", Status: n.journeys}
	switch n.journeys {
	case "":
		w.Status, w.Why = board.RandomIDs, "no journeys: ids look random"
	case board.NotRead:
		w.Why = "reading takes more than 5 s: create the index by time"
	}
	return w
}
