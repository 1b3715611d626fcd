package codecs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Station names a plaza in the records of the FHWA's Traffic Monitoring Guide, with the codes of
// that guide. All may be empty.
type Station struct {
	State     string `json:"state,omitzero"`     // FIPS code, two digits: 17 for Illinois
	FSystem   string `json:"f_system,omitzero"`  // functional class, and R (rural) or U (urban): 1U
	ID        string `json:"id,omitzero"`        // at most six letters and digits
	Direction string `json:"direction,omitzero"` // 1 north, 2 northeast … 8 northwest; 0, 9 combined
	Lane      string `json:"lane,omitzero"`      // 1 for the outside lane …; 0 for all lanes combined
	Classes   string `json:"classes,omitzero"`   // as [ParseClasses] reads them
}

// TopClass is the last of the FHWA's classes of vehicles, which begin with 1 for motorcycles.
const TopClass = 13

// stationCodes are how the codes look.
var stationCodes = []struct {
	name, like string
	of         func(*Station) string
	pattern    *regexp.Regexp
}{
	{"state", "a FIPS code of two digits", func(s *Station) string { return s.State },
		regexp.MustCompile(`^[0-9]{2}$`)},
	{"f_system", "a functional class such as 1U or 3R", func(s *Station) string { return s.FSystem },
		regexp.MustCompile(`^[1-7][RU]$`)},
	{"station", "one to six letters and digits", func(s *Station) string { return s.ID },
		regexp.MustCompile(`^[0-9A-Za-z]{1,6}$`)},
	{"direction", "a digit", func(s *Station) string { return s.Direction },
		regexp.MustCompile(`^[0-9]$`)},
	{"lane", "a digit", func(s *Station) string { return s.Lane }, regexp.MustCompile(`^[0-9]$`)},
}

// Validate reports every code that can't be right, with the value it saw.
func (s *Station) Validate() error {
	var errs []error
	for _, code := range stationCodes {
		if value := code.of(s); value != "" && !code.pattern.MatchString(value) {
			errs = append(errs, fmt.Errorf("%s %q, want %s", code.name, value, code.like))
		}
	}
	if _, err := ParseClasses(s.Classes); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ParseClasses reads the classes of vehicle types, such as "car=2 truck=9": pairs with blanks or
// commas between. The error holds every violation.
func ParseClasses(text string) (map[string]int, error) {
	classes := map[string]int{}
	var errs []error
	for _, pair := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' }) {
		name, number, _ := strings.Cut(pair, "=")
		class, err := strconv.Atoi(number)
		if err != nil || class < 1 || class > TopClass || name == "" {
			errs = append(errs, fmt.Errorf("class %q, want a vehicle type and 1 to %d, such as car=2",
				pair, TopClass))
			continue
		}
		classes[name] = class
	}
	return classes, errors.Join(errs...)
}
