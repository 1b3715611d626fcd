package emit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

// ParseIncident reads an incident, PLAZA,START,LENGTH,KIND[,SIZE]. A relative START counts from
// start.
func ParseIncident(text string, start time.Time) (i simulate.Incident, err error) {
	fields := strings.Split(text, ",")
	if len(fields) != 4 && len(fields) != 5 {
		return i, fmt.Errorf("%d fields, it has 4 or 5", len(fields))
	}
	for at := range fields {
		fields[at] = strings.TrimSpace(fields[at])
	}
	plaza, err := strconv.ParseInt(fields[0], 10, 16)
	if err != nil {
		return i, fmt.Errorf("%q is no plaza from %d to %d", fields[0], toll.MinPlaza, toll.MaxPlaza)
	}
	i.Plaza = int16(plaza)
	if i.Start, err = parseIncidentStart(fields[1], start); err != nil {
		return i, err
	}
	length, err := toll.ParseDuration(fields[2])
	if err != nil || length <= 0 {
		return i, fmt.Errorf("%q is not a length such as 20m or 1h30m", fields[2])
	}
	i.End = i.Start.Add(length)
	switch i.Kind = fields[3]; i.Kind {
	case simulate.Blockage:
		i.Size = simulate.DefaultBlockage
	case simulate.Surge:
		i.Size = simulate.DefaultSurge
	default:
		return i, fmt.Errorf("%q is neither %s nor %s", i.Kind, simulate.Blockage, simulate.Surge)
	}
	if len(fields) == 5 {
		if i.Size, err = strconv.ParseFloat(fields[4], 64); err != nil {
			return i, fmt.Errorf("the size %q is not a number", fields[4])
		}
	}
	return i, nil
}

// parseIncidentStart reads a time, or how long after start, as +1h30m.
func parseIncidentStart(text string, start time.Time) (time.Time, error) {
	after, relative := strings.CutPrefix(text, "+")
	if !relative {
		return ParseTime(text, start.Location())
	}
	d, err := toll.ParseDuration(after)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%q is not a time after the start such as +1h30m", text)
	}
	return start.Add(d), nil
}

// ParseTime reads a time of events.
func ParseTime(text string, location *time.Location) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05",
		"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"} {
		t, err := time.ParseInLocation(layout, text, location)
		if err != nil {
			continue
		}
		t = t.In(location)
		if !toll.WallTimeOf(t).Valid() {
			return t, fmt.Errorf("%q is outside the years 1000 to 9999", text)
		}
		return t, nil
	}
	return time.Time{},
		fmt.Errorf("%q is not a time such as 2022-02-10 10:23:02 or 2022-02-10T10:23:02+01:00", text)
}
