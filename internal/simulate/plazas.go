package simulate

import (
	"cmp"
	_ "embed"

	"github.com/tollstream/tollstream/toll"
)

// SamplePlazas is a plazas file with the course's plazas, as package codecs reads it.
//
//go:embed plazas.csv
var SamplePlazas string

// What a plaza is taken to have where the plazas file has nothing: few vehicles for its lanes.
const (
	DefaultLanes      = 4
	DefaultPerLane    = 5000 // vehicles a day
	DefaultHeavyShare = 0.08
)

// DefaultPlaza returns a plaza of which nothing but its number is known.
func DefaultPlaza(id int16) toll.Plaza {
	return toll.Plaza{ID: id, Lanes: DefaultLanes, VehiclesPerDay: DefaultLanes * DefaultPerLane,
		HeavyShare: DefaultHeavyShare}
}

// VehiclesPerDay returns how many vehicles a day are simulated at a plaza.
func VehiclesPerDay(p *toll.Plaza) float64 {
	if p.VehiclesPerDay > 0 {
		return p.VehiclesPerDay
	}
	return float64(cmp.Or(p.Lanes, DefaultLanes)) * DefaultPerLane
}
