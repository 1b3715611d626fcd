package toll

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DefaultCapacityPerLane is the capacity of a lane that is taken where none is configured, in
// passenger cars per hour. It is an assumption: it lies inside of the 600 to 750 that Woo and Hoel
// measured at toll booths, depending on the type of toll collection (Toll Plaza Capacity and Level
// of Service, Transportation Research Record 1320, 1991). Lanes without booths take more.
const DefaultCapacityPerLane = 650

// Bounds of a plaza's settings. What lies outside is a slip and no plaza: the widest have some
// fifty lanes, and a lane of a freeway, where nobody pays, passes 2,400 passenger cars per hour
// (HCM 2016).
const (
	MaxLanes           = 200
	MaxCapacityPerLane = 3000
)

// Plaza is a plaza's configuration. All but the ID may be left at zero.
type Plaza struct {
	ID         int16   `json:"id"`
	Name       string  `json:"name,omitzero"`
	Road       string  `json:"road,omitzero"`
	PositionKm float64 `json:"position_km,omitzero"` // along the road
	// 0 for not known: there is no capacity then
	Lanes int `json:"lanes,omitzero"`
	// passenger cars per hour; 0 for DefaultCapacityPerLane
	CapacityPerLane float64 `json:"capacity_per_lane,omitzero"`
	Timezone        string  `json:"timezone,omitzero"`         // IANA name; empty for the database's
	VehiclesPerDay  float64 `json:"vehicles_per_day,omitzero"` // for simulated events: on a weekday
	// for simulated events: 0 to 1, of all vehicles
	HeavyShare float64 `json:"heavy_share,omitzero"`
}

// Capacity returns how many passenger cars the plaza passes in an hour with all lanes open, and
// false where its lanes are not known.
func (p *Plaza) Capacity() (carsPerHour float64, ok bool) {
	lane := p.CapacityPerLane
	if lane == 0 {
		lane = DefaultCapacityPerLane
	}
	if p.Lanes <= 0 || !(lane > 0) || math.IsInf(lane, 0) {
		return 0, false
	}
	return float64(p.Lanes) * lane, true
}

// Validate reports every setting that can't be right, with the value it saw. Whether the timezone
// exists is for those to say who load it.
func (p *Plaza) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, text := range []struct{ name, value string }{{"name", p.Name}, {"road", p.Road},
		{"timezone", p.Timezone}} {
		switch {
		case !utf8.ValidString(text.value):
			bad("%s %q is not valid UTF-8", text.name, text.value)
		case strings.ContainsFunc(text.value, unicode.IsControl):
			bad("%s %q has control characters", text.name, text.value)
		case strings.TrimSpace(text.value) != text.value:
			bad("%s %q has blanks around it", text.name, text.value)
		}
	}
	if strings.EqualFold(p.Timezone, "local") {
		bad("timezone %q differs from machine to machine: name it, as in Europe/Berlin", p.Timezone)
	}
	if !finite(p.PositionKm) {
		bad("position %v km is not a number", p.PositionKm)
	}
	if p.Lanes < 0 || p.Lanes > MaxLanes {
		bad("lanes %d, want 0 (not known) to %d", p.Lanes, MaxLanes)
	}
	if !(p.CapacityPerLane == 0 || p.CapacityPerLane >= 1 && p.CapacityPerLane <= MaxCapacityPerLane) {
		bad("capacity per lane %v, want 0 (the default of %d) or 1 to %d passenger cars per hour",
			p.CapacityPerLane, DefaultCapacityPerLane, MaxCapacityPerLane)
	}
	if !finite(p.VehiclesPerDay) || p.VehiclesPerDay < 0 {
		bad("vehicles per day %v, want 0 or more", p.VehiclesPerDay)
	}
	if !(p.HeavyShare >= 0 && p.HeavyShare <= 1) {
		bad("heavy share %v, want 0 to 1", p.HeavyShare)
	}
	return errors.Join(errs...)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
