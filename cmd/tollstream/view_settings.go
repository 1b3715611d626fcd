package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/web/incidents"
	"github.com/tollstream/tollstream/web/serve"
)

type viewSettings struct {
	plaza             *int16 // nil for all
	sort              string // of all plazas, see [board.Board.Sort]
	sorted            bool   // whether sort was asked for
	top               int    // how many of them, 0 for all
	watch, deep, json bool
	plain             bool // lines, and no full screen
	exitCode          bool // exit with the verdict
	holidays          traffic.Holidays
}

func viewSettingsFrom(c *cli.Context) (viewSettings, error) {
	s := viewSettings{
		sort: c.String("sort"), sorted: c.IsSet("sort"), top: c.Int("top"), watch: c.Bool("watch"),
		deep: c.Bool("deep"), json: c.Bool("json"),
		plain: c.Bool("plain"), exitCode: c.Bool("exit-code"),
	}
	var err error
	if s.holidays, err = holidaysFrom(c); err != nil {
		return s, err
	}
	if s.exitCode && s.watch {
		return s, hint.Usagef("--exit-code is for one look, not for --watch")
	}
	if s.plain && !s.watch {
		return s, hint.Usagef("--plain is for --watch")
	}
	switch s.sort {
	case board.ByState, board.ByTotal, board.ByFlow, board.ByVC, board.ByDeviation:
	default:
		return s, hint.Usagef("--sort: %q is not one of state, total, flow, vc, deviation", s.sort)
	}
	if c.IsSet("top") && s.top < 1 {
		return s, hint.Usagef("--top: %d is not above 0", s.top)
	}
	if !c.IsSet("plaza") {
		return s, nil
	}
	for _, name := range []string{"sort", "top"} {
		if c.IsSet(name) {
			return s, hint.Usagef("--%s is for all plazas, not for one", name)
		}
	}
	n := c.Int("plaza")
	if n < toll.MinPlaza || n > toll.MaxPlaza {
		return s, hint.Usagef("--plaza: %d is not between %d and %d", n, toll.MinPlaza, toll.MaxPlaza)
	}
	plaza := int16(n)
	s.plaza = &plaza
	return s, nil
}

// print prints a board as it was asked for, as text of the width of a terminal.
func (s *viewSettings) print(w io.Writer, b *board.Board) error {
	o := render.Options{Order: s.sort, Top: s.top, Width: text.Width(w)}
	b.Sort(s.sort)
	if s.json {
		write := text.WriteJSON
		if s.watch {
			write = text.WriteJSONLine
		}
		if s.plaza != nil {
			return write(w, render.PlazaJSON(b))
		}
		return write(w, render.PlazasJSON(b, o))
	}
	page := ""
	if s.plaza != nil {
		page = render.Plaza(b, o.Width)
	} else {
		page = render.Plazas(b, o)
	}
	if s.watch {
		page += "\n"
	}
	_, err := io.WriteString(w, page)
	return err
}

// knownShown is how many plazas an error names.
const knownShown = 20

func unknownPlaza(plaza int16, known []int16) error {
	err := fmt.Errorf("no vehicle has passed plaza %d", plaza)
	if len(known) == 0 {
		return hint.With(err, "no plaza has events yet: run tollstream emit, and tollstream process")
	}
	var names []string
	for _, k := range known[:min(len(known), knownShown)] {
		names = append(names, strconv.Itoa(int(k)))
	}
	advice := "the plazas are " + strings.Join(names, ", ")
	if more := len(known) - len(names); more > 0 {
		advice += fmt.Sprintf(" and %s more; tollstream view lists them", text.Number(more))
	}
	return hint.With(err, advice)
}

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
