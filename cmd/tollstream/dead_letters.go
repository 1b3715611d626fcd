package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/deadletters"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

func deadLettersCommand() *cli.Command {
	const listing = "For the list"
	return &cli.Command{
		Name:  "dead-letters",
		Usage: "shows what was rejected and why, and sends it again repaired",
		Description: `A record that can't be a row is kept with the reason, its partition and offset,
			and its bytes. Without a subcommand this lists them.`,
		UsageText: `tollstream dead-letters
			tollstream dead-letters --partition 0 --limit 100
			tollstream dead-letters show 0:1234
			tollstream dead-letters retry 0:1234 --payload 'Thu Feb 10 10:23:02 2022,3728373,car,4856'`,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "limit", Category: listing, Value: 20,
				Usage: "list at most `N`, 0 for all"},
			&cli.IntFlag{Name: "partition", Category: listing, Usage: "list those of partition `P`"},
			&cli.StringFlag{Name: "after", Category: listing, Usage: "list those behind `PARTITION:OFFSET`"},
			&cli.StringFlag{Name: "kind", Category: listing, Usage: "list those of `KIND`: " + kindNames()},
			&cli.StringFlag{Name: "reason", Category: listing,
				Usage: "list those whose reason holds `TEXT`"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		}, endpoint.Flags()...),
		Action: listDeadLetters,
		Subcommands: []*cli.Command{
			{
				Name:      "list",
				Usage:     "lists them, which is also what happens without a subcommand",
				UsageText: "tollstream dead-letters list --limit 100",
				Action:    listDeadLetters,
			},
			{
				Name:      "show",
				Usage:     "shows one, with its payload",
				ArgsUsage: "PARTITION:OFFSET",
				Description: "A payload that is no text comes as a hex dump. With --raw only the payload is " +
					"written, byte for byte: into a file, to be repaired.",
				UsageText: "tollstream dead-letters show 0:1234\ntollstream dead-letters show 0:1234 --raw > " +
					"payload",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "raw", Usage: "write the payload alone, as it is"}},
				Action: showDeadLetter,
			},
			retryCommand(),
		},
	}
}

// kindNames lists the kinds of rejects.
func kindNames() string {
	names := make([]string, len(toll.RejectKinds))
	for i, k := range toll.RejectKinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

func listDeadLetters(c *cli.Context) error {
	filter, err := letterFilter(c)
	if err != nil {
		return err
	}
	return endpoint.WithStore(c, func(_ endpoint.Connection, store *sql.Store) error {
		return deadletters.List(c.Context, c.App.Writer, store, filter, c.Bool("json"))
	})
}

func letterFilter(c *cli.Context) (sql.DeadLetterFilter, error) {
	f := sql.DeadLetterFilter{Kind: toll.RejectKind(c.String("kind")), Reason: c.String("reason")}
	if f.Limit = c.Int("limit"); f.Limit < 0 {
		return f, hint.Usagef("--limit: %d is not 0 or more", f.Limit)
	}
	if f.Kind != "" && !f.Kind.Known() {
		return f, hint.Usagef("--kind: %q is none of %s", string(f.Kind), kindNames())
	}
	if command.Given(c, "partition") {
		p := c.Int("partition")
		if p < 0 || p > 1<<31-1 {
			return f, hint.Usagef("--partition: %d is not a partition", p)
		}
		partition := int32(p)
		f.Partition = &partition
	}
	if command.Given(c, "after") {
		o, err := deadletters.ParseOrigin("--after", c.String("after"))
		if err != nil {
			return f, err
		}
		f.After = &o
	}
	return f, nil
}

func showDeadLetter(c *cli.Context) error {
	if err := refuseListFlags(c); err != nil {
		return err
	}
	return endpoint.WithStore(c, func(_ endpoint.Connection, store *sql.Store) error {
		d, err := letterOf(c, store)
		if err != nil {
			return err
		}
		switch {
		case c.Bool("raw") && c.Bool("json"):
			return hint.Usagef("--raw and --json exclude each other")
		case c.Bool("raw"):
			if n := int64(len(d.Payload)); n < d.PayloadBytes {
				fmt.Fprintf(c.App.ErrWriter, "tollstream: only the first %s of %s were kept\n", text.Number(n),
					text.Count(d.PayloadBytes, "byte"))
			}
			_, err := c.App.Writer.Write(d.Payload)
			return err
		case c.Bool("json"):
			return deadletters.WriteJSON(c.App.Writer, d)
		}
		return deadletters.Write(c.App.Writer, d)
	})
}

// letterOf reads the dead letter that the one argument names.
func letterOf(c *cli.Context, store *sql.Store) (*sql.DeadLetter, error) {
	if c.NArg() != 1 {
		return nil, hint.With(hint.Usagef("%s needs one PARTITION:OFFSET", c.Command.Name),
			"tollstream dead-letters lists them")
	}
	origin, err := deadletters.ParseOrigin(c.Command.Name, c.Args().First())
	if err != nil {
		return nil, err
	}
	return deadletters.Find(c.Context, store, origin)
}
