package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/events"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:      "events",
		Usage:     "checks which events of a file or the topic would be rows",
		UsageText: "tollstream events check tolldata.csv",
		Subcommands: []*cli.Command{{
			Name:      "check",
			Usage:     "counts rows and dead letters, and proposes a mapping",
			ArgsUsage: "[FILE | -]",
			Description: `Reads a file as emit --from does, or without one the topic from its beginning as
				process does, and changes nothing. Exit status 1 if any record would be a dead letter. The
				proposed mapping is a guess from the first 1,000 records: look at its first row.`,
			UsageText: `tollstream events check tolldata.csv
				tollstream events check --mapping "time=3 toll_plaza_id=1 time_format=day_first" tolldata.csv
				tollstream events check --topic toll`,
			Flags: slices.Concat([]cli.Flag{
				mappingFlag(command.Env("mapping"), topicMapping),
				command.ChoiceFlag("format", "", "auto", "`FORMAT` of the topic's events without a "+
					"content-type header: auto, csv, json or protobuf", "auto", "csv", "json", "protobuf"),
				&cli.Int64Flag{Name: "count", Value: 100_000,
					Usage: "read at most `N` records of each partition"},
				&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			}, endpoint.SchemaFlags(), endpoint.Flags()),
			Action: checkEvents,
		}},
	}
}

func checkEvents(c *cli.Context) error {
	format, m, err := formatFrom(c)
	var messages []protoreflect.MessageDescriptor
	if unnamed := (*mapping.MessageError)(nil); errors.As(err, &unnamed) && unnamed.Message == "" {
		format, messages = codecs.Protobuf, unnamed.Known // one of them is proposed
	} else if err != nil {
		return err
	}
	con, err := endpoint.From(c)
	if err != nil {
		return err
	}
	check, err := checkSource(c, con, format, m, messages)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = text.WriteJSON(c.App.Writer, check)
	} else {
		check.Write(c.App.Writer)
	}
	if err == nil && check.Rejected() > 0 {
		err = command.ErrReported
	}
	return err
}

// checkSource checks the file that a command line names, or the topic.
func checkSource(c *cli.Context, con endpoint.Connection, format codecs.Format,
	m *mapping.Mapping, messages []protoreflect.MessageDescriptor) (*events.Check, error) {
	name, zone := c.Args().First(), toll.NewZone(con.Location)
	switch {
	case c.NArg() > 1:
		return nil, hint.Usagef("check takes one file, or none for the topic")
	case name == "-":
		return events.CheckFile("standard input", c.App.Reader, zone, m)
	case name != "":
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		check, err := events.CheckFile(name, file, zone, m)
		if err != nil {
			err = fmt.Errorf("read %s: %w", name, err)
		}
		return check, err
	}
	schemas, err := endpoint.SchemasFrom(c)
	if err != nil {
		return nil, err
	}
	return events.CheckTopic(c.Context, events.Topic{Cluster: con.Cluster, Name: con.Topic, Zone: zone,
		Format: format, Mapping: m, Schemas: schemas, Most: c.Int64("count"), Messages: messages})
}

// mappingFlag sets how events are read that are not in the course's form. env is for commands that
// read the topic.
func mappingFlag(env []string, usage string) cli.Flag {
	return &cli.StringFlag{Name: "mapping", EnvVars: env, Usage: usage}
}

const topicMapping = "`TEXT` that says where fields stand in events of another form than the " +
	"usual one, such as time=ts time_format=epoch_ms; tollstream events check proposes one"

// mappingFrom reads --mapping; nil for none.
func mappingFrom(c *cli.Context) (*mapping.Mapping, error) {
	text := command.Setting(c, "mapping", "")
	if text == "" {
		return nil, nil
	}
	m, err := mapping.Parse(text)
	if err != nil {
		return nil, hint.Usagef("--mapping: %v", err)
	}
	if m.Descriptors == "" {
		return m, nil
	}
	set, err := os.ReadFile(m.Descriptors)
	if err != nil {
		return nil, fmt.Errorf("--mapping: %w", err)
	}
	if err := m.Describe(set); err != nil {
		return m, hint.Usagef("--mapping: %s: %w", m.Descriptors, err)
	}
	return m, nil
}

// formatFrom reads --format and --mapping of what is in the topic.
func formatFrom(c *cli.Context) (codecs.Format, *mapping.Mapping, error) {
	format, err := codecs.ParseFormat(command.Setting(c, "format", "auto"))
	if err != nil {
		return 0, nil, hint.Usagef("--format: %v", err)
	}
	m, err := mappingFrom(c)
	return format, m, err
}

// eventsFrom reads how process reads events.
func eventsFrom(c *cli.Context, cfg *topology.Config) (err error) {
	if cfg.Format, cfg.Mapping, err = formatFrom(c); err != nil {
		return err
	}
	schemas, err := endpoint.SchemasFrom(c)
	if schemas != nil {
		cfg.Schemas = schemas
	}
	return err
}
