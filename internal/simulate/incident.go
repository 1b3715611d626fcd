package simulate

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// Kinds of incidents.
const (
	// Blockage lets only a part of the vehicles pass. The others are lost to the plaza: they go
	// another way. None waits and comes later, so the flow after a blockage is the usual one.
	Blockage = "blockage"
	// Surge multiplies the flow, as far as the plaza's capacity lets it.
	Surge = "surge"
)

// The usual sizes of incidents, and the largest.
const (
	DefaultBlockage = 0.05
	DefaultSurge    = 2.5
	MaxSurge        = 100
)

// Incident is something that changes a plaza's flow for a while.
type Incident struct {
	Plaza      int16
	Kind       string    // Blockage or Surge
	Start, End time.Time // [Start, End) of event time
	// the flow is that many times the usual: below 1 for a blockage, above for a surge
	Size float64
}

// String returns the incident as a command line has it: plaza,start,length,kind,size.
func (i *Incident) String() string {
	return fmt.Sprintf("%d,%s,%v,%s,%v", i.Plaza, i.Start.Format(time.DateTime), i.End.Sub(i.Start),
		i.Kind, i.Size)
}

// validate returns what is wrong with the incident by itself.
func (i *Incident) validate() error {
	switch {
	case i.Kind != Blockage && i.Kind != Surge:
		return fmt.Errorf("the kind %q is neither %s nor %s", i.Kind, Blockage, Surge)
	case i.Kind == Blockage && !(i.Size >= 0 && i.Size < 1):
		return fmt.Errorf("the size %v of a %s is not from 0 to below 1", i.Size, i.Kind)
	case i.Kind == Surge && !(i.Size > 1 && i.Size <= MaxSurge):
		return fmt.Errorf("the size %v of a %s is not above 1 and at most %d", i.Size, i.Kind, MaxSurge)
	case !i.End.After(i.Start):
		return fmt.Errorf("the length %v is not above 0", i.End.Sub(i.Start))
	}
	return nil
}

// Label is a line of a labels file, as JSON: what a detector should find.
type Label struct {
	Plaza     int16     `json:"plaza"`
	Kind      string    `json:"kind"`
	Size      float64   `json:"size"`
	Start     time.Time `json:"start"`      // RFC 3339
	End       time.Time `json:"end"`        // exclusive
	StartWall string    `json:"start_wall"` // the same as livetolldata.timestamp has it
	EndWall   string    `json:"end_wall"`
}

// WriteLabels writes a label for each incident, one a line, by start. Wall times are those of
// location.
func WriteLabels(w io.Writer, location *time.Location, incidents []Incident) error {
	encoder := json.NewEncoder(w)
	byStart := slices.SortedStableFunc(slices.Values(incidents), func(a, b Incident) int {
		return a.Start.Compare(b.Start)
	})
	for _, i := range byStart {
		start, end := i.Start.In(location), i.End.In(location)
		if err := encoder.Encode(Label{
			Plaza: i.Plaza, Kind: i.Kind, Size: i.Size, Start: start, End: end,
			StartWall: toll.WallTimeOf(start).String(), EndWall: toll.WallTimeOf(end).String(),
		}); err != nil {
			return err
		}
	}
	return nil
}
