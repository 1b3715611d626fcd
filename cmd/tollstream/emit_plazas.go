package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

// parsePlazas reads a list of plazas, such as 4000-4010,4856.
func parsePlazas(list string) ([]int16, error) {
	var plazas []int16
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := parsePlaza(from)
		last, err2 := parsePlaza(to)
		switch {
		case err1 != nil || err2 != nil:
			return nil, hint.Usagef("--plazas: %q is neither a plaza from 0 to %d nor a range of them", part,
				toll.MaxPlaza)
		case last < first:
			return nil, hint.Usagef("--plazas: the range %q ends before it begins", part)
		}
		for p := first; p <= last; p++ {
			plazas = append(plazas, int16(p))
		}
	}
	return plazas, nil
}

func parsePlaza(s string) (uint64, error) {
	// 15 bits: the plazas of SMALLINT that are not negative.
	return strconv.ParseUint(strings.TrimSpace(s), 10, 15)
}

// samplePlazas returns the plazas of the sample file, which is part of the program.
func samplePlazas() []toll.Plaza {
	plazas, err := codecs.ReadPlazas(strings.NewReader(simulate.SamplePlazas))
	if err != nil {
		panic(err)
	}
	return plazas
}

// profilePlazas returns the plazas to simulate. Of a plazas file they are all, or those that are
// listed, which must be in it. Without a file they are those listed, as the sample file has them or
// else plazas like most.
func profilePlazas(file string, listed []int16) ([]toll.Plaza, error) {
	known := samplePlazas()
	if file != "" {
		var err error
		if known, err = readPlazasFile(file); err != nil {
			return nil, err
		}
		if len(known) == 0 {
			return nil, hint.Usagef("--plazas-file: %s has no plaza", file)
		}
		if listed == nil {
			return known, nil
		}
	}
	slices.Sort(listed)
	var plazas []toll.Plaza
	for _, id := range slices.Compact(listed) {
		at := slices.IndexFunc(known, func(p toll.Plaza) bool { return p.ID == id })
		switch {
		case at >= 0:
			plazas = append(plazas, known[at])
		case file != "":
			return nil, hint.Usagef("--plazas: %d is not in %s", id, file)
		default:
			plazas = append(plazas, simulate.DefaultPlaza(id))
		}
	}
	return plazas, nil
}
