package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"tollstream/topology"

	"tollstream/toll"
)

// watchPause is how often the view is shown anew.
const watchPause = time.Second

// Of a terminal.
const (
	cursorHome  = "\x1b[H"
	clearAll    = "\x1b[2J"
	clearLine   = "\x1b[K" // from the cursor on
	clearBelow  = "\x1b[J"
	cursorHides = "\x1b[?25l"
	cursorShows = "\x1b[?25h"
)

// watch shows the view every second until ctx ends. A server that is away is waited for.
func (a *app) watch(ctx context.Context, v *viewer) error {
	terminal := isTerminal(a.stdout) && !v.settings.json
	if terminal {
		fmt.Fprint(a.stdout, cursorHides+cursorHome+clearAll)
		defer fmt.Fprint(a.stdout, cursorShows+"\n")
	}
	ticker := time.NewTicker(watchPause)
	defer ticker.Stop()
	told := ""
	for {
		b, err := v.read(ctx)
		var permanent *toll.PermanentError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &permanent), errors.Is(err, errTableEnded):
			return err
		}
		trouble := ""
		switch {
		case err != nil:
			trouble = "waiting for the servers: " + oneLine(topology.Brief(err))
		case v.settings.plaza != nil && b.plazas[0].unknown():
			trouble = fmt.Sprintf("no vehicle has passed plaza %d yet", *v.settings.plaza)
		}
		switch {
		case terminal:
			err = v.redraw(a.stdout, b, trouble)
		case trouble != "":
			err = nil
			if trouble != told {
				fmt.Fprintln(a.stderr, "tollstream: "+trouble)
			}
		case v.settings.json:
			err = writeJSONLine(a.stdout, v.json(b))
		default:
			if err = v.write(a.stdout, b, plainScreen); err == nil {
				_, err = io.WriteString(a.stdout, "\n")
			}
		}
		if err != nil {
			return err
		}
		told = trouble
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// redraw writes a board over what stands on the terminal, without flicker. Where there is trouble, what was last shown
// stays, and the trouble takes the place of the first line.
func (v *viewer) redraw(w io.Writer, b *board, trouble string) error {
	s := terminalOf(w)
	s.width-- // in the last column, what clears the rest of the line would clear its end
	var frame strings.Builder
	frame.WriteString(cursorHome)
	if trouble != "" {
		frame.WriteString(cut(trouble, s.width) + clearLine)
		_, err := io.WriteString(w, frame.String())
		return err
	}
	var text strings.Builder
	if err := v.write(&text, b, s); err != nil {
		return err
	}
	text.WriteString("\nCtrl-C ends")
	lines := strings.Split(text.String(), "\n")
	if s.height > 0 {
		lines = lines[:min(len(lines), s.height)]
	}
	for i, line := range lines {
		if i > 0 {
			frame.WriteByte('\n')
		}
		frame.WriteString(cut(line, s.width) + clearLine)
	}
	frame.WriteString(clearBelow)
	_, err := io.WriteString(w, frame.String())
	return err
}

// cut shortens a line to a width, as a longer one would take two.
func cut(line string, width int) string {
	runes := []rune(line)
	if len(runes) <= width {
		return line
	}
	return string(runes[:max(width-1, 0)]) + "…"
}

func writeJSONLine(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}
