package main

import (
	"fmt"
	"io"

	"github.com/tollstream/tollstream/internal/text"
)

// didJSON is what init and reset print with --json.
type didJSON struct {
	Did []string `json:"did"`
}

// teller gathers what a command did, and without --json prints it line by line.
type teller struct {
	w      io.Writer
	asJSON bool
	did    []string
}

func (t *teller) tell(lines ...string) {
	t.did = append(t.did, lines...)
	for _, line := range lines {
		if !t.asJSON {
			fmt.Fprintln(t.w, text.OneLine(line))
		}
	}
}

// end prints what was done as JSON, or, where it was nothing, that.
func (t *teller) end(nothing string) error {
	if t.asJSON {
		return text.WriteJSON(t.w, didJSON{append([]string{}, t.did...)})
	}
	if len(t.did) == 0 {
		_, err := fmt.Fprintln(t.w, nothing)
		return err
	}
	return nil
}
