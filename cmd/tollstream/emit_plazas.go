package main

import (
	"strconv"
	"strings"

	"tollstream/toll"
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
			return nil, usagef("--plazas: %q is neither a plaza from 0 to %d nor a range of them", part, toll.MaxPlaza)
		case last < first:
			return nil, usagef("--plazas: the range %q ends before it begins", part)
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
