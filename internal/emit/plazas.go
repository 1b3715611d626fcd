package emit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

// ParsePlazas reads a list of plazas, such as 4000-4010,4856.
func ParsePlazas(list string) ([]int16, error) {
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
			return nil, fmt.Errorf("%q is neither a plaza from 0 to %d nor a range of them", part,
				toll.MaxPlaza)
		case last < first:
			return nil, fmt.Errorf("the range %q ends before it begins", part)
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

// SamplePlazas returns the plazas of the built-in sample file.
func SamplePlazas() []toll.Plaza {
	plazas, err := codecs.ReadPlazas(strings.NewReader(simulate.SamplePlazas))
	if err != nil {
		panic(err)
	}
	return plazas
}

// ProfilePlazas returns the listed ones of the plazas of a file, all of them for nil. Where name is
// empty there is no file: then it returns the listed ones as in the sample file, or else like most
// plazas.
func ProfilePlazas(name string, file []toll.Plaza, listed []int16) ([]toll.Plaza, error) {
	known := file
	switch {
	case name == "":
		known = SamplePlazas()
	case listed == nil:
		return file, nil
	}
	listed = slices.Clone(listed)
	slices.Sort(listed)
	var plazas []toll.Plaza
	for _, id := range slices.Compact(listed) {
		at := slices.IndexFunc(known, func(p toll.Plaza) bool { return p.ID == id })
		switch {
		case at >= 0:
			plazas = append(plazas, known[at])
		case name != "":
			return nil, fmt.Errorf("%d is not in %s", id, name)
		default:
			plazas = append(plazas, simulate.DefaultPlaza(id))
		}
	}
	return plazas, nil
}
