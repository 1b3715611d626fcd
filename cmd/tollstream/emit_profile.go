package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/simulate"
	"github.com/tollstream/tollstream/toll"
)

// Limits of a profile's settings.
const (
	minSpeed = 0.001
	maxSpeed = 1e6
	maxDays  = 100_000
)

const profileDescription = `

	With --profile day vehicles come as they did in measured days: few at night, most at eight in the morning, at weekends
	in the afternoon, at each plaza by its own clock. How many pass there in a day, and how many of them are trucks, is in
	the plazas file, so there is no --rate. Event time begins at --start and goes --speed times as fast as the clock. Without
	--start it is the clock's own time, and emit makes up for what passed while Kafka was away; but at another --speed than
	1x it begins at today's midnight. It ends after --days, or --count, or when it is interrupted.`

// profileFlags are the flags that only --profile knows.
func profileFlags() []cli.Flag {
	const category = "A day's profile"
	return []cli.Flag{
		&cli.StringFlag{Name: "profile", Category: category,
			Usage: "`SHAPE` of a day's traffic; there is one: day"},
		&cli.StringFlag{Name: "speed", Value: "1x", Category: category,
			Usage: "event time goes `N` times as fast as the clock: 60x is an hour a minute; 0 or max is as fast as it goes"},
		&cli.Float64Flag{Name: "days", Category: category,
			Usage: "end after `N` days of event time, such as 7 or 0.5"},
		&cli.Float64Flag{Name: "peak", Value: simulate.DefaultPeak, Category: category,
			Usage: "how sharp the peaks are: exponent `N` on the measured hourly shares; 1 is as measured, over many roads"},
		&cli.GenericFlag{Name: "incident", Value: &incidentList{}, Category: category,
			Usage: "change a plaza's flow; `INCIDENT` is PLAZA,START,LENGTH,KIND[,SIZE], such as 4007,+7h30m,20m,blockage. " +
				"START is a time, or counts from --start. A blockage lets SIZE of the vehicles pass, 0.05 by default; the others go another way and don't come later. " +
				"A surge has SIZE times as many, 2.5 by default. May be repeated"},
		&cli.StringFlag{Name: "labels", Category: category,
			Usage: "write the incidents to `FILE`, one a line, as JSON: plaza, kind, size, start, end"},
		&cli.StringFlag{Name: "plazas-file", EnvVars: env("plazas-file"), Category: category,
			Usage: "CSV `FILE` with a header row: id, and any of name, road, position_km, lanes, capacity_per_lane, timezone, vehicles_per_day, heavy_share. " +
				"All its plazas are simulated unless --plazas chooses. Without it those of --plazas are, as in a sample file that is built in"},
	}
}

// profileSettings is what the flags of --profile ask for.
type profileSettings struct {
	config simulate.ProfileConfig
	speed  float64 // of event time, in times the clock's; 0 is as fast as it goes
	live   bool    // event time is the clock's
	labels string  // file; empty for none
}

// ends reports whether there is an end of event time.
func (p *profileSettings) ends() bool { return p != nil && !p.config.End.IsZero() }

// refuseProfileFlags returns a usage error for a flag that is nothing without --profile.
func refuseProfileFlags(c *cli.Context) error {
	for _, f := range profileFlags() {
		if name := f.Names()[0]; name != "profile" && given(c, name) {
			return hint.Usagef("--%s is for --profile", name)
		}
	}
	return nil
}

// addProfile reads the flags of --profile, if that is given.
func (s *emitSettings) addProfile(c *cli.Context, now func() time.Time) error {
	shape := c.String("profile")
	switch {
	case shape == "":
		return refuseProfileFlags(c)
	case shape != "day":
		return hint.Usagef("--profile: %q is not one of: day", shape)
	case given(c, "rate"):
		return hint.With(hint.Usagef("--rate is not for --profile"),
			"how many vehicles a plaza has in a day is in the plazas file; --speed makes time go faster")
	}
	p := &profileSettings{labels: c.String("labels")}
	var err error
	if p.speed, err = parseSpeed(c.String("speed")); err != nil {
		return err
	}
	cfg := &p.config
	cfg.Location, cfg.Seed = s.location, s.seed
	if cfg.Peak = c.Float64("peak"); !(cfg.Peak > 0 && cfg.Peak <= simulate.MaxPeak) {
		return hint.Usagef("--peak: %v is not above 0 and at most %d", cfg.Peak, simulate.MaxPeak)
	}
	p.live = s.start.IsZero() && p.speed == 1
	cfg.Start = profileStart(s.start, now().In(s.location), p.live)
	if days := c.Float64("days"); given(c, "days") {
		if !(days > 0 && days <= maxDays) {
			return hint.Usagef("--days: %v is not above 0 and at most %d", days, maxDays)
		}
		cfg.End = addDays(cfg.Start, days)
	}
	list, _ := c.Generic("incident").(*incidentList)
	if cfg.Incidents, err = list.parse(cfg.Start); err != nil {
		return err
	}
	file, listed := setting(c, "plazas-file", ""), s.plazas
	if file != "" && (!c.IsSet("plazas") || strings.TrimSpace(c.String("plazas")) == "") {
		listed = nil
	}
	if cfg.Plazas, err = profilePlazas(file, listed); err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return hint.Usagef("--profile: %v", err)
	}
	s.profile, s.rate = p, 0
	return nil
}

// profileStart returns where event time begins.
func profileStart(start, now time.Time, live bool) time.Time {
	switch {
	case !start.IsZero():
		return start
	case live:
		return now
	}
	year, month, day := now.Date()
	return time.Date(year, month, day, 0, 0, 0, 0, now.Location())
}

// addDays returns the time some days later: whole days by the calendar, so that one from midnight
// ends at midnight where clocks change too, and the rest of a day as a part of 24 hours.
func addDays(t time.Time, days float64) time.Time {
	whole, part := math.Modf(days)
	return t.AddDate(0, 0, int(whole)).Add(time.Duration(part * float64(24*time.Hour)))
}

// parseSpeed reads a speed such as 60x; 0 is as fast as it goes.
func parseSpeed(text string) (float64, error) {
	if text == "max" {
		return 0, nil
	}
	speed, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || speed != 0 && !(speed >= minSpeed && speed <= maxSpeed) {
		return 0, hint.Usagef("--speed: %q is not a speed such as 60x, from %v to %.0f, nor max", text,
			minSpeed, maxSpeed)
	}
	return speed, nil
}

// profileFeed is the feed of a day's profile. It waits for each event's time.
type profileFeed struct {
	ctx         context.Context // ends a wait
	s           *profileSettings
	profile     *simulate.Profile
	pace        *pacer
	beforeSleep func()
	event       toll.Event
	at          time.Time // of the event
	n, count    int64
}

// openProfile returns the feed, and writes the labels.
func openProfile(ctx context.Context, s *emitSettings) (*profileFeed, error) {
	p := s.profile
	profile, err := simulate.NewProfile(p.config)
	if err != nil {
		return nil, err
	}
	if p.labels != "" {
		var b bytes.Buffer
		if err := simulate.WriteLabels(&b, s.location, p.config.Incidents); err != nil {
			return nil, err
		}
		if err := os.WriteFile(p.labels, b.Bytes(), 0o666); err != nil {
			return nil, fmt.Errorf("write --labels: %w", err)
		}
	}
	pace := newPacer(0)
	if p.live {
		// Vehicles passed while Kafka was away as well: each is due when the clock shows its time, and
		// not later for it.
		pace.began, pace.catchUp = p.config.Start, math.MaxInt64
	}
	return &profileFeed{ctx: ctx, s: p, profile: profile, pace: pace, beforeSleep: func() {},
		at: p.config.Start, count: s.count}, nil
}

func (f *profileFeed) next() (feedItem, error) {
	at, ok := f.profile.Next(&f.event)
	if !ok {
		return feedItem{}, io.EOF
	}
	if f.s.speed > 0 &&
		!f.pace.waitUntil(f.ctx, dueAt(f.s.config.Start, at, f.s.speed), f.beforeSleep) {
		return feedItem{}, f.ctx.Err()
	}
	f.at = at
	f.n++
	return feedItem{event: &f.event}, nil
}

// dueAt returns how long after start an event is due. A time.Duration would not hold 300 years of
// event time.
func dueAt(start, at time.Time, speed float64) time.Duration {
	const limit = math.MaxInt64 / 2
	return time.Duration(min(limit,
		float64(at.UnixMicro()-start.UnixMicro())/speed*float64(time.Microsecond)))
}

func (f *profileFeed) done() (at, length int64) {
	switch {
	case f.count > 0:
		return f.n, f.count
	case f.s.ends():
		start := f.s.config.Start.Unix()
		return f.at.Unix() - start, max(1, f.s.config.End.Unix()-start)
	}
	return f.n, 0
}
