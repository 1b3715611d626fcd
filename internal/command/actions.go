package command

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/text"
)

// Actions are what a command did. Without --json they are printed as they happen.
type Actions struct {
	c   *cli.Context
	did []string
}

// NewActions returns the empty list of a command that may have the flag --json.
func NewActions(c *cli.Context) *Actions { return &Actions{c: c, did: []string{}} }

// Did adds actions, one a line.
func (a *Actions) Did(lines ...string) {
	a.did = append(a.did, lines...)
	for _, line := range lines {
		if !a.c.Bool("json") {
			fmt.Fprintln(a.c.App.Writer, text.OneLine(line))
		}
	}
}

// End prints the list as JSON, or, where nothing was done, a sentence.
func (a *Actions) End(nothing string) error {
	if a.c.Bool("json") {
		return text.WriteJSON(a.c.App.Writer, map[string][]string{"did": a.did})
	}
	if len(a.did) == 0 {
		_, err := fmt.Fprintln(a.c.App.Writer, nothing)
		return err
	}
	return nil
}
