package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

func incidentsCommand() *cli.Command {
	const listing = "For the list"
	return &cli.Command{
		Name:  "incidents",
		Usage: "lists the incidents of all plazas, and acknowledges them",
		Description: `An incident is an episode of a plaza: from when it is saturated, below or above
			usual until it is none of these. Without a subcommand this lists them, the newest first, with
			their gravest state, the highest flow (of one below usual the lowest), and what was noted.`,
		UsageText: `tollstream incidents
			tollstream incidents --open
			tollstream incidents --from 2022-02-10 --to 2022-02-11 --csv
			tollstream incidents ack 20220210T0813Z-4856 --note "patrol is on its way"`,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "limit", Category: listing, Value: 50, Usage: "list at most `N`, 0 for all"},
			&cli.BoolFlag{Name: "open", Category: listing, Usage: "list those that have not ended"},
			&cli.IntFlag{Name: "plaza", Category: listing, Usage: "list those of a plaza"},
			&cli.StringFlag{Name: "road", Category: listing,
				Usage: "list those of a `ROAD` of the plazas file"},
			&cli.StringFlag{Name: "state", Category: listing,
				Usage: "list those that went through a `STATE`, as saturated or below_usual"},
			&cli.StringFlag{Name: "from", Category: listing,
				Usage: "list those that had not ended before a `TIME` of the database's clock, as " +
					"2022-02-10 or \"2022-02-10 06:00\""},
			&cli.StringFlag{Name: "to", Category: listing, Usage: "list those that began before a `TIME`"},
			&cli.BoolFlag{Name: "csv", Category: listing, Usage: "print CSV"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		}, endpoint.MySQLFlags()...),
		Action:      listIncidents,
		Subcommands: []*cli.Command{acknowledgeCommand()},
	}
}

const incidentsAtOnce = 500 // that are read at a time

func listIncidents(c *cli.Context) error {
	q, err := incidentQuery(c)
	if err != nil {
		return err
	}
	if c.Bool("json") && c.Bool("csv") {
		return hint.Usagef("--json and --csv exclude each other")
	}
	return endpoint.WithStore(c, func(_ endpoint.Connection, store *sql.Store) error {
		location, err := store.Location(c.Context)
		if err != nil {
			return err
		}
		for name, bound := range map[string]**time.Time{"from": &q.From, "to": &q.Until} {
			if *bound, err = timeFrom(c, name, location); err != nil {
				return err
			}
		}
		page, err := readIncidents(c.Context, store, q)
		switch {
		case err != nil:
			return err
		case c.Bool("csv"):
			return board.WriteIncidents(c.App.Writer, page.Incidents, true)
		case c.Bool("json"):
			return text.WriteJSON(c.App.Writer, append([]board.Incident{}, page.Incidents...))
		}
		return render.Incidents(c.App.Writer, page, text.Width(c.App.Writer))
	})
}

// readIncidents reads as many incidents as a query's limit, 0 for all.
func readIncidents(ctx context.Context, store *sql.Store,
	q board.IncidentQuery) (all board.IncidentPage, err error) {
	limit := q.Limit
	for {
		q.Limit = incidentsAtOnce
		if limit > 0 {
			q.Limit = min(q.Limit, limit-len(all.Incidents))
		}
		page, err := live.Incidents(ctx, store, q)
		if err != nil {
			return all, err
		}
		all.Incidents, all.More = append(all.Incidents, page.Incidents...), page.More
		if !page.More || len(all.Incidents) == limit {
			return all, nil
		}
		last := &all.Incidents[len(all.Incidents)-1]
		q.Before = &board.IncidentPosition{Began: last.Began, Plaza: int16(last.Plaza)}
	}
}

func incidentQuery(c *cli.Context) (q board.IncidentQuery, err error) {
	q = board.IncidentQuery{Road: c.String("road"), Open: c.Bool("open"), Limit: c.Int("limit")}
	if q.Limit < 0 {
		return q, hint.Usagef("--limit: %d is not 0 or more", q.Limit)
	}
	if command.Given(c, "plaza") {
		if q.Plaza, err = plazaFrom(c, "plaza"); err != nil {
			return q, err
		}
	}
	if name := c.String("state"); name != "" {
		q.State = new(traffic.State)
		if err := q.State.UnmarshalText([]byte(name)); err != nil {
			return q, hint.Usagef("--state: %v", err)
		}
	}
	return q, nil
}

// plazaFrom returns the plaza that a flag names.
func plazaFrom(c *cli.Context, flag string) (*int16, error) {
	plaza := c.Int(flag)
	if plaza < toll.MinPlaza || plaza > toll.MaxPlaza {
		return nil, hint.Usagef("--%s: %d is not a plaza", flag, plaza)
	}
	return new(int16(plaza)), nil
}

// timeFrom reads a flag that is a time by the clock of a location, or with an offset; nil for none.
func timeFrom(c *cli.Context, name string, location *time.Location) (*time.Time, error) {
	value := c.String(name)
	if value == "" {
		return nil, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, "2006-01-02 15:04",
		"2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(layout, value, location); err == nil {
			return &t, nil
		}
	}
	return nil, hint.Usagef("--%s: %q is not a time such as 2022-02-10 or \"2022-02-10 06:00\"", name,
		value)
}
