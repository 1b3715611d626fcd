package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/emit"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/simulate"
)

const profileDescription = `

	With --profile day vehicles come as they did in measured days: few at night, most at eight in
	the morning, at weekends in the afternoon, at each plaza by its own clock. No two days are the
	same: season, weather, holidays and chance change them as they change real ones, unless
	--variation is 0. How many pass there in a day, and how many of them are trucks, is in the
	plazas file, so there is no --rate. Event time begins at --start and goes --speed times as fast
	as the clock. Without --start it is the clock's own time, and emit catches up on what passed
	while Kafka was unavailable; but at another --speed than 1x it begins at today's midnight. It
	ends after --days, or --count, or when it is interrupted.
	` + tripsDescription

// profileFlags are the flags that only --profile knows.
func profileFlags() []cli.Flag {
	const category = "A day's profile"
	return append([]cli.Flag{
		&cli.StringFlag{Name: "profile", Category: category,
			Usage: "`SHAPE` of the traffic: day, each plaza by itself; trips, from plaza to plaza"},
		&cli.StringFlag{Name: "speed", Value: "1x", Category: category,
			Usage: "event time goes `N` times as fast as the clock: 60x is an hour a minute; 0 or max is " +
				"as fast as possible"},
		&cli.Float64Flag{Name: "days", Category: category,
			Usage: "end after `N` days of event time, such as 7 or 0.5"},
		&cli.Float64Flag{Name: "peak", Value: simulate.DefaultPeak, Category: category,
			Usage: "how sharp the peaks are: exponent `N` on the measured hourly shares; 1 is as " +
				"measured, over many roads"},
		&cli.Float64Flag{Name: "variation", Value: 1, Category: category,
			Usage: "how much days, hours, weather and holidays differ, in `TIMES` of what was measured; 0 " +
				"makes every day the average one"},
		&cli.GenericFlag{Name: "incident", Value: &textList{}, Category: category,
			Usage: "change a plaza's flow; `INCIDENT` is PLAZA,START,LENGTH,KIND[,SIZE], such as " +
				"4007,+7h30m,20m,blockage. " +
				"START is a time, or counts from --start. A blockage lets SIZE of the vehicles pass, 0.05 by " +
				"default; the others go another way and don't come later; with trips they wait. " +
				"A surge has SIZE times as many, 2.5 by default. May be repeated"},
		&cli.StringFlag{Name: "labels", Category: category,
			Usage: "write the incidents to `FILE`, one a line, as JSON: plaza, kind, size, start, end"},
		&cli.StringFlag{Name: "plazas-file", EnvVars: command.Env("plazas-file"), Category: category,
			Usage: "CSV `FILE` with a header row: id, and any of name, road, position_km, lanes, " +
				"capacity_per_lane, timezone, vehicles_per_day, heavy_share. " +
				"All its plazas are simulated unless --plazas chooses. Without it those of --plazas are, as " +
				"in a sample file that is built in"},
	}, tripsFlags(category)...)
}

// refuseProfileFlags returns a usage error for a flag that is nothing without --profile.
func refuseProfileFlags(c *cli.Context) error {
	for _, f := range profileFlags() {
		if name := f.Names()[0]; name != "profile" && command.Given(c, name) {
			return hint.Usagef("--%s is for --profile", name)
		}
	}
	return nil
}

// profileFrom reads the flags of --profile, nil where that is not given.
func profileFrom(c *cli.Context, cfg *emit.Config) (*emit.Profile, error) {
	const maxDays = 100_000
	shape := c.String("profile")
	switch {
	case shape == "":
		return nil, refuseProfileFlags(c)
	case shape != "day" && shape != "trips":
		return nil, hint.Usagef("--profile: %q is not one of: day, trips", shape)
	case command.Given(c, "rate"):
		return nil, hint.With(hint.Usagef("--rate is not for --profile"),
			"how many vehicles a plaza has in a day is in the plazas file; --speed makes time go faster")
	}
	speed, err := emit.ParseSpeed(c.String("speed"))
	if err != nil {
		return nil, hint.Usagef("--speed: %v", err)
	}
	p := &emit.Profile{Speed: speed, Live: cfg.Start.IsZero() && speed == 1,
		Labels: c.String("labels")}
	if p.Trips, err = tripsFrom(c, shape); err != nil {
		return nil, err
	}
	day := &p.Day
	day.Location, day.Seed = cfg.Location, cfg.Seed
	if day.Peak = c.Float64("peak"); !(day.Peak > 0 && day.Peak <= simulate.MaxPeak) {
		return nil, hint.Usagef("--peak: %v is not above 0 and at most %d", day.Peak, simulate.MaxPeak)
	}
	if day.Variation = c.Float64("variation"); !(day.Variation >= 0 &&
		day.Variation <= simulate.MaxVariation) {
		return nil, hint.Usagef("--variation: %v is not from 0 to %d", day.Variation,
			simulate.MaxVariation)
	}
	day.Start = emit.ProfileStart(cfg.Start, time.Now().In(cfg.Location), p.Live)
	if days := c.Float64("days"); command.Given(c, "days") {
		if !(days > 0 && days <= maxDays) {
			return nil, hint.Usagef("--days: %v is not above 0 and at most %d", days, maxDays)
		}
		day.End = emit.AddDays(day.Start, days)
	}
	incidents, _ := c.Generic("incident").(*textList)
	for _, text := range *incidents {
		i, err := emit.ParseIncident(text, day.Start)
		if err != nil {
			return nil, hint.With(hint.Usagef("--incident %s: %v", text, err),
				"--incident PLAZA,START,LENGTH,KIND[,SIZE], such as 4007,+7h30m,20m,blockage")
		}
		day.Incidents = append(day.Incidents, i)
	}
	name, listed := command.Setting(c, "plazas-file", ""), cfg.Plazas
	file, err := readPlazasFile(name)
	if err != nil {
		return nil, err
	}
	if name != "" {
		if len(file) == 0 {
			return nil, hint.Usagef("--plazas-file: %s has no plaza", name)
		}
		if strings.TrimSpace(c.String("plazas")) == "" || !c.IsSet("plazas") {
			listed = nil
		}
	}
	if day.Plazas, err = emit.ProfilePlazas(name, file, listed); err != nil {
		return nil, hint.Usagef("--plazas: %v", err)
	}
	if err := p.Validate(); err != nil {
		return nil, hint.Usagef("--profile: %v", err)
	}
	return p, nil
}
