package traffic

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/toll"
)

// Equivalents is how many passenger cars a vehicle of a type counts (E_T), by type in lower
// case. A type that is not in it is a car.
type Equivalents map[string]float64

// heavyCars is E_T of heavy vehicles in level terrain: HCM 2016 (Highway Capacity Manual, 6th
// edition), chapter 12. In rolling terrain it is 3.
const heavyCars = 2.0

// Bounds of an equivalent: a motorcycle is a part of a car, and no vehicle takes the place of more
// than a few.
const (
	minCars = 0.1
	maxCars = 20
)

// DefaultEquivalents returns 2.0 for each of the usual names of a heavy vehicle. Vans and pickups
// drive as cars do.
func DefaultEquivalents() Equivalents {
	return Equivalents{
		"truck": heavyCars, "lorry": heavyCars, "hgv": heavyCars, "semi": heavyCars, "tractor": heavyCars,
		"trailer": heavyCars, "bus": heavyCars, "coach": heavyCars, "rv": heavyCars,
	}
}

// ParseEquivalents reads a setting as truck=2.5,bus=1.8. What it names changes [DefaultEquivalents]
// or adds to them; a type at 1 is a car. It reports every violation at once.
func ParseEquivalents(text string) (Equivalents, error) {
	all := DefaultEquivalents()
	if strings.TrimSpace(text) == "" {
		return all, nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	seen := map[string]bool{}
	for entry := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(entry, "=")
		if !ok {
			bad("equivalent %q, want type=cars, as in truck=2.5", strings.TrimSpace(entry))
			continue
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if err := toll.ValidateType(name); err != nil {
			bad("equivalent %q: %w", strings.TrimSpace(entry), err)
			continue
		}
		name = strings.ToLower(name)
		if seen[name] {
			bad("equivalent of %q is given twice", name)
		}
		seen[name] = true
		cars, err := strconv.ParseFloat(value, 64)
		if err != nil || !(cars >= minCars && cars <= maxCars) {
			bad("equivalent of %q is %q, want a number from %v to %v", name, value, minCars, maxCars)
			continue
		}
		all[name] = cars
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return all, nil
}

// String returns the form that [ParseEquivalents] reads, ascending by type.
func (e Equivalents) String() string {
	entries := make([]string, 0, len(e))
	for _, name := range slices.Sorted(maps.Keys(e)) {
		entries = append(entries, name+"="+strconv.FormatFloat(e[name], 'f', -1, 64))
	}
	return strings.Join(entries, ",")
}

// PassengerCars returns the passenger-car equivalent of the vehicles. Converting each product keeps
// compilers from fusing it with the sum, which would give other digits on other machines.
func (e Equivalents) PassengerCars(types []toll.TypeCount) (cars float64) {
	for _, t := range types {
		cars += float64(float64(t.Count) * e.Of(t.Type))
	}
	return cars
}

// Of returns the passenger-car equivalent of one vehicle of a type. Here, and only here, the case
// of a type does not matter: a TRUCK is as long as a truck.
func (e Equivalents) Of(vehicleType string) float64 {
	cars, ok := e[strings.ToLower(vehicleType)]
	if !ok || !(cars > 0) || math.IsInf(cars, 1) {
		return 1
	}
	return cars
}
