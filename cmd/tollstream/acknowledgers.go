package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/web/incidents"
	"github.com/tollstream/tollstream/web/serve"
)

// ackTokensFlag is the flag that [acknowledgersFrom] reads.
func ackTokensFlag(category string) cli.Flag {
	return &cli.StringFlag{Name: "ack-tokens-file", EnvVars: command.Env("ack-tokens-file"),
		Category: category,
		Usage: fmt.Sprintf("let people acknowledge incidents on the page: `FILE` with a line NAME TOKEN "+
			"for each, tokens of %d characters or more", serve.MinToken)}
}

// acknowledgersFrom returns who may acknowledge incidents, none without the flag.
func acknowledgersFrom(c *cli.Context) ([]incidents.Acknowledger, error) {
	file := command.Setting(c, "ack-tokens-file", "")
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --ack-tokens-file: %w", err)
	}
	var all []incidents.Acknowledger
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case len(words) == 1: // which may be the token
			return nil, hint.Usagef("--ack-tokens-file: line %d of %s is not NAME TOKEN", number, file)
		default: // a name may have blanks
			all = append(all, incidents.Acknowledger{Name: strings.Join(words[:len(words)-1], " "),
				Token: words[len(words)-1]})
		}
	}
	if len(all) == 0 {
		return nil, hint.With(hint.Usagef("--ack-tokens-file: %s is empty", file), tokenHint)
	}
	return all, nil
}
