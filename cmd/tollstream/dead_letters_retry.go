package main

import (
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/deadletters"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
)

func retryCommand() *cli.Command {
	return &cli.Command{
		Name:      "retry",
		Usage:     "sends one again, repaired, or all that can be read now",
		ArgsUsage: "PARTITION:OFFSET | --all",
		Description: `The event goes to the topic once more with the origin of the record that it
			repairs; the database admits it once, however often it is sent. What still is no event is
			refused here, with the reason.

			--all sends those again that can be read as they are, for example with another --format. What
			the database refused is not among them, unless --refused is given, after the table was
			corrected.`,
		UsageText: "tollstream dead-letters retry 0:1234 --payload " +
			"'Thu Feb 10 10:23:02 2022,3728373,car,4856'" + `
			tollstream dead-letters retry 0:1234 --payload-file repaired
			tollstream dead-letters retry --all --format protobuf
			tollstream dead-letters retry --all --refused`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "payload",
				Usage: "the repaired event, a `TEXT`; without it the payload as it was"},
			&cli.StringFlag{Name: "payload-file",
				Usage: "`FILE` that holds the repaired event, - for standard input"},
			command.ChoiceFlag("format", "", "auto",
				"`FORMAT` of the payload: auto, csv, json or protobuf", "auto", "csv", "json", "protobuf"),
			mappingFlag(command.Env("mapping"), "as of process"),
			&cli.BoolFlag{Name: "all", Usage: "retry all that can be read now"},
			&cli.BoolFlag{Name: "refused", Usage: "with --all: also what the database refused"},
		},
		Action: retryDeadLetters,
	}
}

func retryDeadLetters(c *cli.Context) error {
	if err := refuseListFlags(c); err != nil {
		return err
	}
	format, m, err := formatFrom(c)
	if err != nil {
		return err
	}
	repaired := command.Given(c, "payload") || command.Given(c, "payload-file")
	switch {
	case command.Given(c, "payload") && command.Given(c, "payload-file"):
		return hint.Usagef("--payload and --payload-file exclude each other")
	case c.Bool("all") && (repaired || c.NArg() > 0):
		return hint.Usagef("--all takes neither a record nor a payload")
	case c.Bool("refused") && !c.Bool("all"):
		return hint.Usagef("--refused goes with --all")
	case !c.Bool("all") && c.NArg() != 1:
		return hint.With(hint.Usagef("retry needs one PARTITION:OFFSET, or --all"),
			"tollstream dead-letters lists them")
	}
	return endpoint.WithStore(c, func(con endpoint.Connection, store *sql.Store) error {
		r, err := deadletters.NewRetrier(c.Context, con, store, format, m)
		if err != nil {
			return err
		}
		result, line := deadletters.Retried{Sent: 1}, ""
		if c.Bool("all") {
			result, err = r.All(c.Context, store, c.Bool("refused"))
			line = result.String()
		} else {
			line, err = retryOne(c, store, r)
		}
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return text.WriteJSON(c.App.Writer, result)
		}
		_, err = fmt.Fprintln(c.App.Writer, line)
		return err
	})
}

func retryOne(c *cli.Context, store *sql.Store, r *deadletters.Retrier) (string, error) {
	d, err := letterOf(c, store)
	if err != nil {
		return "", err
	}
	payload, err := repairedPayload(c, d)
	if err != nil {
		return "", err
	}
	return r.One(c.Context, d, payload)
}

// repairedPayload returns the payload to send for a dead letter.
func repairedPayload(c *cli.Context, d *sql.DeadLetter) ([]byte, error) {
	var payload []byte
	var err error
	switch file := c.String("payload-file"); {
	case file == "-":
		payload, err = io.ReadAll(c.App.Reader)
	case file != "":
		payload, err = os.ReadFile(file)
	case command.Given(c, "payload"):
		payload = []byte(c.String("payload"))
	default:
		payload = d.Payload
	}
	if err != nil {
		return nil, fmt.Errorf("read --payload-file: %w", err)
	}
	return payload, nil
}

// refuseListFlags refuses flags of the list, which subcommands inherit.
func refuseListFlags(c *cli.Context) error {
	for _, name := range []string{"limit", "partition", "after", "kind", "reason"} {
		if command.Given(c, name) {
			return hint.Usagef("--%s is for the list, not for %s", name, c.Command.Name)
		}
	}
	return nil
}
