package main

import (
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
)

// mappingFlag sets how events are read that are not in the course's form. env is for commands that
// read the topic.
func mappingFlag(env []string, usage string) cli.Flag {
	return &cli.StringFlag{Name: "mapping", EnvVars: env, Usage: usage}
}

const topicMapping = "`TEXT` that says where fields stand in events that are not in the usual form, " +
	"such as time=ts time_format=epoch_ms; tollstream events check proposes one"

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
	return m, nil
}
