package board

import (
	"encoding/json"
	"math"

	"github.com/tollstream/tollstream/internal/text"
)

// Flow is vehicles per hour. What is not known is NaN, and null in JSON: it must not look like an
// empty road.
type Flow float64

// UnknownFlow returns the flow of which nothing is known.
func UnknownFlow() Flow { return Flow(math.NaN()) }

// Known reports whether it is known.
func (f Flow) Known() bool { return !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) }

// String returns it as text shows it.
func (f Flow) String() string {
	if !f.Known() {
		return "–"
	}
	return text.Round(float64(f))
}

// MarshalJSON implements [json.Marshaler].
func (f Flow) MarshalJSON() ([]byte, error) {
	if !f.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (f *Flow) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*f = UnknownFlow()
		return nil
	}
	return json.Unmarshal(text, (*float64)(f))
}
