package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/journeys"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	domain "github.com/tollstream/tollstream/toll/journeys"
)

func journeysCommand() *cli.Command {
	return &cli.Command{
		Name:  "journeys",
		Usage: "shows how long vehicles take from plaza to plaza, and where they come from and go to",
		Description: `Where the same vehicle passes two plazas, that is a journey. Without --from and
			--through it lists the sections between plazas, the worst delay first. Each is compared with
			what is usual: the same time of the four weeks before, else the hour before. Of a large
			network, where the weeks would take more than seconds to read, it is of fewer. Vehicles' ids
			stay in the database, and what fewer than five vehicles did is not shown.`,
		UsageText: `tollstream journeys
			tollstream journeys --from 4006 --to 4007
			tollstream journeys --through 4007 --window 2h
			tollstream journeys --at "2022-02-10 08:00" --csv`,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "from", Usage: "show all figures of the section that begins at a `PLAZA`; " +
				"with --to"},
			&cli.IntFlag{Name: "to", Usage: "the `PLAZA` where it ends"},
			&cli.IntFlag{Name: "through",
				Usage: "show where the vehicles that pass a `PLAZA` come from and go to"},
			&cli.StringFlag{Name: "at", Usage: "end at a `TIME` of the database's clock, as in " +
				"\"2022-02-10 08:00\"; default is up to the newest events"},
			&cli.DurationFlag{Name: "window", Value: 15 * time.Minute,
				DefaultText: "15m, with --through 1h", Usage: "count what arrived in `TIME` before that"},
			&cli.IntFlag{Name: "weeks", DefaultText: "up to 4, as many as are read in seconds",
				Usage: "compare with so many `WEEKS` before, 0 to 4, however long that takes"},
			&cli.BoolFlag{Name: "csv", Usage: "print CSV"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		}, endpoint.MySQLFlags()...),
		Action: func(c *cli.Context) error {
			ask, err := journeysAsked(c)
			if err != nil {
				return err
			}
			return endpoint.WithStore(c, func(_ endpoint.Connection, store *sql.Store) error {
				return ask.run(c, store)
			})
		},
	}
}

// journeysAsk is what a command line asks about journeys.
type journeysAsk struct {
	one     *domain.Pair // a section alone
	through *int16
	window  time.Duration
	weeks   *int // nil for as many as are affordable
}

const longestJourneys = 31 * 24 * time.Hour

func journeysAsked(c *cli.Context) (ask journeysAsk, err error) {
	plazas := map[string]*int16{}
	for _, name := range []string{"from", "to", "through"} {
		if c.IsSet(name) {
			if plazas[name], err = plazaFrom(c, name); err != nil {
				return ask, err
			}
		}
	}
	from, to := plazas["from"], plazas["to"]
	ask.through, ask.window = plazas["through"], c.Duration("window")
	switch {
	case (from == nil) != (to == nil):
		return ask, hint.Usagef("--from and --to belong together")
	case from != nil && ask.through != nil:
		return ask, hint.Usagef("--through excludes --from and --to")
	case from != nil && *from == *to:
		return ask, hint.Usagef("--from and --to are the same plaza")
	case c.Bool("json") && c.Bool("csv"):
		return ask, hint.Usagef("--json and --csv exclude each other")
	case from != nil:
		ask.one = &domain.Pair{From: *from, To: *to}
	case ask.through != nil && !c.IsSet("window"):
		ask.window = time.Hour
	}
	if c.IsSet("weeks") {
		if ask.weeks = new(c.Int("weeks")); *ask.weeks < 0 || *ask.weeks > domain.UsualWeeks {
			return ask, hint.Usagef("--weeks: %d is not between 0 and 4", *ask.weeks)
		}
	}
	if ask.window < time.Minute || ask.window > longestJourneys || ask.window%time.Second != 0 {
		return ask, hint.Usagef("--window: %v is not between 1m and 31d", ask.window)
	}
	return ask, nil
}

func (ask *journeysAsk) run(c *cli.Context, store *sql.Store) error {
	survey, err := journeys.New(c.Context, store, time.Now)
	if err != nil {
		return err
	}
	at, err := timeFrom(c, "at", survey.Location())
	if err != nil {
		return err
	}
	if err := survey.Choose(c.Context, at, ask.window); err != nil {
		return err
	}
	status := text.NewStatusLine(c.App.ErrWriter)
	steps := command.NewSteps(status, "reading the rows")
	defer steps.End()
	out := c.App.Writer
	if ask.through != nil {
		t, err := survey.ReadThrough(c.Context, *ask.through, status)
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return text.WriteJSON(out, t)
		case c.Bool("csv"):
			return board.WriteStreams(out, t)
		}
		return render.Through(out, t)
	}
	j, err := survey.ReadSections(c.Context, ask.one, ask.weeks, status)
	switch {
	case err != nil:
		return err
	case c.Bool("json"):
		return text.WriteJSON(out, j)
	case c.Bool("csv"):
		return board.WriteSections(out, j.Sections)
	case ask.one != nil && len(j.Sections) == 1:
		return render.Section(out, &j.JourneyWindow, &j.Sections[0])
	}
	return render.Journeys(out, j, text.Width(out))
}
