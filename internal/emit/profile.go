package emit

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

const (
	minSpeed = 0.001
	maxSpeed = 1e6
)

// Profile is how the vehicles of a measured day pass.
type Profile struct {
	Day    simulate.ProfileConfig
	Speed  float64 // of event time, in times the clock's; 0: as fast as possible
	Live   bool    // event time is the clock's
	Labels string  // file to which the incidents are written; empty for none
	Trips  *Trips  // nil: each plaza has vehicles of its own
}

// Trips is how vehicles drive from plaza to plaza, see [simulate.TripsConfig].
type Trips struct {
	Stops, Unread float64
	Truth         string // file to which is written what really happened; empty for none
}

// ends reports whether there is an end of event time.
func (p *Profile) ends() bool { return p != nil && !p.Day.End.IsZero() }

// ProfileStart returns the first event time: start, or if that is zero, now for live events and
// else the last midnight.
func ProfileStart(start, now time.Time, live bool) time.Time {
	switch {
	case !start.IsZero():
		return start
	case live:
		return now
	}
	year, month, day := now.Date()
	return time.Date(year, month, day, 0, 0, 0, 0, now.Location())
}

// AddDays returns the time some days later: whole days by the calendar, so that one from midnight
// ends at midnight where clocks change too, and the rest of a day as a part of 24 hours.
func AddDays(t time.Time, days float64) time.Time {
	whole, part := math.Modf(days)
	return t.AddDate(0, 0, int(whole)).Add(time.Duration(part * float64(24*time.Hour)))
}

// ParseSpeed reads a speed such as 60x; 0 and max are as fast as possible.
func ParseSpeed(text string) (float64, error) {
	if text == "max" {
		return 0, nil
	}
	speed, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || speed != 0 && !(speed >= minSpeed && speed <= maxSpeed) {
		return 0, fmt.Errorf("%q is not a speed such as 60x, from %v to %.0f, nor max", text, minSpeed,
			maxSpeed)
	}
	return speed, nil
}

// config returns the configuration of trips.
func (p *Profile) config() simulate.TripsConfig {
	return simulate.TripsConfig{ProfileConfig: p.Day, Stops: p.Trips.Stops, Unread: p.Trips.Unread}
}

// Validate reports every violation.
func (p *Profile) Validate() error {
	if p.Trips == nil {
		return p.Day.Validate()
	}
	cfg := p.config()
	return cfg.Validate()
}

// profileFeed is the feed of a day's profile. It waits for each event's time.
type profileFeed struct {
	cfg     *Profile
	profile interface {
		Next(*toll.Event) (at time.Time, ok bool)
	}
	truth    *truthFile // nil for none
	pace     *pacer
	event    toll.Event
	at       time.Time // of the event
	n, count int64
}

// openProfile returns the feed, and writes the labels.
func openProfile(cfg *Config) (*profileFeed, error) {
	p := cfg.Profile
	f := &profileFeed{cfg: p, pace: newPacer(0), at: p.Day.Start, count: cfg.Count}
	var err error
	if p.Trips == nil {
		f.profile, err = simulate.NewProfile(p.Day)
	} else {
		trips := p.config()
		if p.Trips.Truth != "" {
			trips.Truth = func(x simulate.Truth) { f.truth.Write(x) }
		}
		f.profile, err = simulate.NewTrips(trips)
	}
	if err != nil {
		return nil, err
	}
	if p.Labels != "" {
		var b bytes.Buffer
		if err := simulate.WriteLabels(&b, cfg.Location, p.Day.Incidents); err != nil {
			return nil, err
		}
		if err := os.WriteFile(p.Labels, b.Bytes(), 0o666); err != nil {
			return nil, fmt.Errorf("write --labels: %w", err)
		}
	}
	if p.Live {
		// Vehicles passed while Kafka was unavailable as well: each is due when the clock shows its
		// time, and not later for it.
		f.pace.began, f.pace.catchUp = p.Day.Start, math.MaxInt64
	}
	if p.Trips != nil && p.Trips.Truth != "" {
		if f.truth, err = createTruth(p.Trips.Truth); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Close writes what is left of the truth.
func (f *profileFeed) Close() error {
	if f.truth == nil {
		return nil
	}
	return f.truth.Close()
}

// truthFile is the file of --truth.
type truthFile struct {
	*simulate.TruthWriter
	file *os.File
}

func createTruth(name string) (*truthFile, error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("write --truth: %w", err)
	}
	return &truthFile{simulate.NewTruthWriter(file), file}, nil
}

// Close returns the first error of all writes.
func (t *truthFile) Close() error {
	if err := cmp.Or(t.Flush(), t.file.Close()); err != nil {
		return fmt.Errorf("write --truth: %w", err)
	}
	return nil
}

func (f *profileFeed) next(ctx context.Context, beforeWait func()) (item, error) {
	at, ok := f.profile.Next(&f.event)
	if !ok {
		return item{}, io.EOF
	}
	if f.cfg.Speed > 0 &&
		!f.pace.waitUntil(ctx, dueAfter(f.cfg.Day.Start, at, f.cfg.Speed), beforeWait) {
		return item{}, ctx.Err()
	}
	f.at = at
	f.n++
	return item{event: &f.event}, nil
}

// dueAfter returns how long after start an event is due. A time.Duration would not hold 300 years
// of event time.
func dueAfter(start, at time.Time, speed float64) time.Duration {
	const limit = math.MaxInt64 / 2
	return time.Duration(min(limit,
		float64(at.UnixMicro()-start.UnixMicro())/speed*float64(time.Microsecond)))
}

func (f *profileFeed) done() (at, length int64) {
	switch {
	case f.count > 0:
		return f.n, f.count
	case f.cfg.ends():
		start := f.cfg.Day.Start.Unix()
		return f.at.Unix() - start, max(1, f.cfg.Day.End.Unix()-start)
	}
	return f.n, 0
}

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
