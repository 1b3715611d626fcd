package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/toll/traffic"
)

func acknowledgeCommand() *cli.Command {
	return &cli.Command{
		Name:      "ack",
		Usage:     "notes that somebody takes care of an incident",
		ArgsUsage: "INCIDENT",
		Description: "The note is kept with the time, the name, and the host it came from. " +
			"Notes are only added, so a second one corrects the first.",
		UsageText: `tollstream incidents ack 20220210T0813Z-4856 --note "patrol is on its way"`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "note", Usage: "`TEXT` to keep with it, 1,000 characters at most"},
			&cli.StringFlag{Name: "by", DefaultText: "the user's", Usage: "`NAME` of who takes care of it"},
		},
		Action: acknowledge,
	}
}

func acknowledge(c *cli.Context) error {
	if c.NArg() != 1 {
		return hint.With(hint.Usagef("ack needs one INCIDENT"), "tollstream incidents lists them")
	}
	id, err := traffic.ParseIncidentID(c.Args().First())
	if err != nil {
		return hint.With(hint.Usagef("%v", err), "tollstream incidents lists them")
	}
	note := incidents.Note{IncidentID: id, Acknowledged: true,
		Author: strings.TrimSpace(c.String("by")),
		Text:   strings.TrimSpace(c.String("note")), Source: "command"}
	if n := len([]rune(note.Text)); n > incidents.MaxNote {
		return hint.Usagef("--note has %d characters, want %d at most", n, incidents.MaxNote)
	}
	if u, err := user.Current(); err == nil && note.Author == "" {
		note.Author = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		note.Source = "command at " + host
	}
	return endpoint.WithStore(c, func(_ endpoint.Connection, store *sql.Store) error {
		err := store.AddNote(c.Context, note)
		if errors.Is(err, incidents.ErrNoIncident) {
			return hint.With(fmt.Errorf("there is no incident %s", id), "tollstream incidents lists them")
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.App.Writer, "acknowledged %s by %s\n", id, text.Escape(note.Author))
		return err
	})
}
