package report

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/toll"
)

// The records are those of the FHWA's Traffic Monitoring Guide (2022), chapter 4, with a pipe
// between fields: the fields of its hourly volume and classification records, in their order
// (https://www.fhwa.dot.gov/policyinformation/tmguide/tmg_2022/traffic-data-formats.cfm). Times are
// of the plaza's clock.

// tmgWarnings are what an authority should know of the records, a sentence each.
type tmgWarnings struct {
	unclassified map[string]bool // vehicle types without a class
	emptyDays    int             // left out
}

func (w *tmgWarnings) sentences() (all []string) {
	if len(w.unclassified) > 0 {
		all = append(all,
			fmt.Sprintf("no class for %s: counted in the totals alone; add --classes TYPE=CLASS",
				strings.Join(slices.Sorted(maps.Keys(w.unclassified)), ", ")))
	}
	if w.emptyDays > 0 {
		all = append(all, fmt.Sprintf("left out %d days of a plaza on which no vehicle passed: "+
			"whether it reported is not known", w.emptyDays))
	}
	return all
}

// checkStations returns an error that names the codes of a report's plazas that the plazas file
// lacks.
func checkStations(r *Report, file map[int16]codecs.Station, volume bool) error {
	var errs []error
	for i := range r.Plazas {
		s := file[r.Plazas[i].ID]
		for _, code := range []struct {
			column, value string
			needed        bool
		}{{"state", s.State, true}, {"station", s.ID, true}, {"direction", s.Direction, true},
			{"f_system", s.FSystem, volume}} {
			if code.needed && code.value == "" {
				errs = append(errs, fmt.Errorf("plaza %d has no %s", r.Plazas[i].ID, code.column))
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	const shown = 5
	if n := len(errs) - shown; n > 0 {
		errs = append(errs[:shown], fmt.Errorf("and %d more", n))
	}
	return hint.With(errors.Join(errs...),
		"the plazas file (--plazas-file) has them in its columns state, f_system, station and direction")
}

// stationFields are the fields with which a record names its station.
func stationFields(s *codecs.Station) []string {
	id := strings.Repeat("0", max(0, 6-len(s.ID))) + s.ID
	lane := s.Lane
	if lane == "" {
		lane = "0"
	}
	return []string{id, s.Direction, lane}
}

// reportedDays returns the days of a plaza on which a vehicle passed, with their hours.
func (w *tmgWarnings) reportedDays(p *Plaza) iter.Seq2[*Day, []Hour] {
	return func(yield func(*Day, []Hour) bool) {
		hours := p.ByHour
		for d := range p.Days {
			day := &p.Days[d]
			own := hours[:day.Hours]
			hours = hours[day.Hours:]
			switch {
			case day.Vehicles > 0:
				if !yield(day, own) {
					return
				}
			case day.Counted > 0:
				w.emptyDays++
			}
		}
	}
}

// writeVolume writes an hourly traffic volume record for each day of a plaza on which a vehicle
// passed. Hours that are not known are blank.
func writeVolume(w io.Writer, r *Report, file map[int16]codecs.Station) (*tmgWarnings, error) {
	if err := checkStations(r, file, true); err != nil {
		return nil, err
	}
	out := bufio.NewWriter(w)
	warnings := &tmgWarnings{}
	for i := range r.Plazas {
		s := file[r.Plazas[i].ID]
		for day, hours := range warnings.reportedDays(&r.Plazas[i]) {
			fields := append([]string{"3", s.State, s.FSystem}, stationFields(&s)...)
			fields = append(fields, day.Date.Format("2006"), day.Date.Format("01"), day.Date.Format("02"),
				strconv.Itoa(int(weekday(day.Date))+1), "0", "60")
			var volumes [24]string
			for h := range hours {
				if hours[h].Coverage == Counted {
					volumes[hourOf(&hours[h])] = strconv.FormatInt(hours[h].Vehicles, 10)
				}
			}
			fmt.Fprintln(out, strings.Join(append(fields, volumes[:]...), "|"))
		}
	}
	return warnings, out.Flush()
}

// DefaultClasses are the FHWA's classes of vehicle types that say it by their name.
func DefaultClasses() map[string]int {
	return map[string]int{"motorcycle": 1, "car": 2, "van": 3, "pickup": 3, "bus": 4}
}

// writeClasses writes a vehicle classification record for each hour of a plaza that is counted, on
// days on which a vehicle passed. Types without a class are in the total alone, as the guide wants
// it of vehicles that could not be classified.
func writeClasses(w io.Writer, r *Report, file map[int16]codecs.Station,
	usual map[string]int) (*tmgWarnings,
	error) {
	if err := checkStations(r, file, false); err != nil {
		return nil, err
	}
	out := bufio.NewWriter(w)
	warnings := &tmgWarnings{unclassified: map[string]bool{}}
	for i := range r.Plazas {
		p := &r.Plazas[i]
		s := file[p.ID]
		own, err := codecs.ParseClasses(s.Classes)
		if err != nil {
			return nil, fmt.Errorf("plaza %d: %w", p.ID, err)
		}
		classes := maps.Clone(usual)
		maps.Copy(classes, own)
		for day, hours := range warnings.reportedDays(p) {
			for h := range hours {
				if hours[h].Coverage == Counted {
					fields := append([]string{"C", s.State}, stationFields(&s)...)
					fields = append(fields, day.Date.Format("2006"), day.Date.Format("01"),
						day.Date.Format("02"), fmt.Sprintf("%02d", hourOf(&hours[h])), "60",
						strconv.FormatInt(hours[h].Vehicles, 10), "0")
					fields = append(fields, warnings.classCounts(hours[h].Types, classes)...)
					fmt.Fprintln(out, strings.Join(fields, "|"))
				}
			}
		}
	}
	return warnings, out.Flush()
}

// classCounts returns the vehicles of each class.
func (w *tmgWarnings) classCounts(types []toll.TypeCount, classes map[string]int) []string {
	var counts [codecs.TopClass]int64
	for _, t := range types {
		if class := classes[t.Type]; class > 0 {
			counts[class-1] += t.Count
		} else {
			w.unclassified[t.Type] = true
		}
	}
	var fields []string
	for _, n := range counts {
		fields = append(fields, strconv.FormatInt(n, 10))
	}
	return fields
}

func hourOf(h *Hour) int {
	_, second := h.Wall.Day()
	return int(second / 3600)
}

func weekday(w toll.WallTime) time.Weekday { return time.Unix(int64(w), 0).UTC().Weekday() }
