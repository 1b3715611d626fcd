package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/emit"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/simulate"
)

const tripsDescription = `

	With --profile trips the same vehicles drive along a road, in both directions, and pass one
	plaza after the other, so that there are travel times, origins and destinations to find. Roads
	and positions are in the plazas file. As many pass each plaza as with --profile day, but what a
	plaza or a blockage doesn't let pass waits. --truth writes what a perfect observer would know.`

// tripsFlags are the flags that only --profile trips knows.
func tripsFlags(category string) []cli.Flag {
	return []cli.Flag{
		&cli.Float64Flag{Name: "stops", Value: simulate.DefaultStops, Category: category,
			Usage: "with trips: this `SHARE` of the vehicles stops between two plazas, for 5 to 45 minutes"},
		&cli.Float64Flag{Name: "unread", Value: simulate.DefaultUnread, Category: category,
			Usage: "with trips: this `SHARE` of the vehicles that pass a plaza is not read there"},
		&cli.StringFlag{Name: "truth", Category: category,
			Usage: "with trips: write to CSV `FILE`, for every five minutes, how many vehicles arrive on " +
				"each section and of each trip, how long they take and how long they wait"},
	}
}

// tripsFrom reads the flags of --profile trips, nil for another shape.
func tripsFrom(c *cli.Context, shape string) (*emit.Trips, error) {
	if shape == "trips" {
		return &emit.Trips{Stops: c.Float64("stops"), Unread: c.Float64("unread"),
			Truth: c.String("truth")}, nil
	}
	for _, f := range tripsFlags("") {
		if name := f.Names()[0]; command.Given(c, name) {
			return nil, hint.Usagef("--%s is for --profile trips", name)
		}
	}
	return nil, nil
}

// textList is the value of a flag that may be repeated. It is a [cli.Generic], since a list of
// urfave/cli would split at commas.
type textList []string

// Set takes one text.
func (l *textList) Set(text string) error {
	*l = append(*l, text)
	return nil
}

func (l *textList) String() string {
	if l == nil {
		return ""
	}
	return strings.Join(*l, " ")
}
