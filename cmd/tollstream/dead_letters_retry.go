package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/lovoo/goka"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

func (a *app) retryCommand() *cli.Command {
	return &cli.Command{
		Name:      "retry",
		Usage:     "sends one again, repaired, or all that can be read now",
		ArgsUsage: "PARTITION:OFFSET | --all",
		Description: `The event goes to the topic once more and says which record it repairs; the database admits it once, however
			often it is sent. What still is no event is refused here, with the reason.

			--all sends those again that can be read as they are, for example since they need another --format. What the database
			refused is not among them, unless --refused is given: for when the table was corrected.`,
		UsageText: `tollstream dead-letters retry 0:1234 --payload 'Thu Feb 10 10:23:02 2022,3728373,car,4856'
			tollstream dead-letters retry 0:1234 --payload-file repaired
			tollstream dead-letters retry --all --format protobuf
			tollstream dead-letters retry --all --refused`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "payload",
				Usage: "the repaired event, a `TEXT`; without it the payload as it was"},
			&cli.StringFlag{Name: "payload-file",
				Usage: "`FILE` that holds the repaired event, - for standard input"},
			&cli.StringFlag{Name: "format", EnvVars: command.Env("format"), Value: "auto",
				Usage: "`FORMAT` of the payload: auto, csv, json or protobuf"},
			&cli.BoolFlag{Name: "all", Usage: "retry all that can be read now"},
			&cli.BoolFlag{Name: "refused", Usage: "with --all: also what the database refused"},
		},
		Action: a.withStore(a.retryDeadLetters),
	}
}

func (a *app) retryDeadLetters(c *cli.Context, con endpoint.Connection, store *sql.Store) error {
	format, err := codecs.ParseFormat(command.Setting(c, "format", "auto"))
	if err != nil {
		return hint.Usagef("--format: %v", err)
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
	// The database must be of this topic: else the event would go where nobody knows its origin.
	info, found, err := con.Cluster.Describe(c.Context, con.Topic)
	if err != nil {
		return err
	}
	if !found {
		return toll.Permanent("run: tollstream init", "topic %s does not exist", con.Topic)
	}
	if _, err := store.Check(c.Context, con.Identity(info.ID)); err != nil {
		return err
	}
	r := &retrier{con: con, format: format,
		decoder: codecs.NewDecoder(format, toll.NewZone(con.Location))}
	if c.Bool("all") {
		return a.retryAll(c, store, r)
	}
	d, err := letterOf(c, store)
	if err != nil {
		return err
	}
	payload, err := a.repairedPayload(c, d)
	if err != nil {
		return err
	}
	return a.retryOne(c, d, payload, r)
}

// repairedPayload returns the payload to send for a dead letter.
func (a *app) repairedPayload(c *cli.Context, d *sql.DeadLetter) ([]byte, error) {
	switch file := c.String("payload-file"); {
	case file == "-":
		payload, err := io.ReadAll(a.stdin)
		if err != nil {
			return nil, fmt.Errorf("read --payload-file: %w", err)
		}
		return payload, nil
	case file != "":
		payload, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read --payload-file: %w", err)
		}
		return payload, nil
	case command.Given(c, "payload"):
		return []byte(c.String("payload")), nil
	}
	return d.Payload, nil
}

const repairHint = "give the repaired event with --payload or --payload-file"

func (a *app) retryOne(c *cli.Context, d *sql.DeadLetter, payload []byte, r *retrier) error {
	name := formatOrigin(d.Origin())
	if d.Retried {
		return fmt.Errorf("dead letter %s was retried before, and its event is stored", name)
	}
	if d.Kind == toll.RejectRetried {
		return fmt.Errorf("dead letter %s is a second retry, whose event is stored: %s", name,
			text.Escape(d.Reason))
	}
	if d.RetryOf != nil {
		of := formatOrigin(*d.RetryOf)
		return hint.With(
			fmt.Errorf("dead letter %s is itself a retry, of %s, and only that is sent again",
				name, of),
			fmt.Sprintf(
				"tollstream dead-letters show --raw %s > payload; tollstream dead-letters retry %s --payload-file payload", name, of))
	}
	if err := r.decode(payload); err != nil {
		return hint.With(fmt.Errorf("not sent, since it still is no event: %w", err), repairHint)
	}
	if err := r.open(c.Context); err != nil {
		return err
	}
	err := r.send(c.Context, d.Origin(), payload)
	if err = r.close(c.Context, err); err != nil {
		return err
	}
	if c.Bool("json") {
		return text.WriteJSON(a.stdout, retryJSON{Sent: 1})
	}
	e := r.event
	_, err = fmt.Fprintf(a.stdout, "sent %s again: %s %s %d at plaza %d; process stores it once\n",
		name, e.Time, text.Escape(e.Type), e.Vehicle, e.Plaza)
	return err
}

// retryJSON is what retry --json prints.
type retryJSON struct {
	Sent      int64 `json:"sent"`
	Malformed int64 `json:"malformed"` // still no events
	Refused   int64 `json:"refused"`   // by the database, and so left alone
}

func (a *app) retryAll(c *cli.Context, store *sql.Store, r *retrier) error {
	var result retryJSON
	var sendErr error
	open := false
	no := false
	err := store.EachDeadLetter(c.Context, sql.DeadLetterFilter{Retried: &no},
		func(d *sql.DeadLetter) error {
			switch {
			case d.Kind == toll.RejectRetried, d.RetryOf != nil:
				// Its event is stored, or is that of the dead letter that it was to repair. Both of them sent
				// would be two rows.
				return nil
			case d.Kind == toll.RejectRefused && !c.Bool("refused"):
				result.Refused++
				return nil
			case int64(len(d.Payload)) < d.PayloadBytes || r.decode(d.Payload) != nil:
				result.Malformed++
				return nil
			}
			if !open {
				open = true
				if err := r.open(c.Context); err != nil {
					return err
				}
			}
			result.Sent++
			return r.send(c.Context, d.Origin(), d.Payload)
		})
	if r.emitter != nil {
		sendErr = r.close(c.Context, err)
		result.Sent = r.emitter.Stats().Acknowledged
	} else {
		sendErr = err
	}
	if sendErr != nil {
		return sendErr
	}
	if c.Bool("json") {
		return text.WriteJSON(a.stdout, result)
	}
	line := fmt.Sprintf("sent %s again", text.Count(result.Sent, "dead letter"))
	if result.Sent == 0 {
		line = "nothing to send"
	}
	if result.Malformed > 0 {
		line += fmt.Sprintf("; %s still no event", text.Count(result.Malformed, "is", "are"))
	}
	if result.Refused > 0 {
		line += fmt.Sprintf("; %s refused by the database: --refused sends them too",
			text.Count(result.Refused, "was", "were"))
	}
	_, err = fmt.Fprintln(a.stdout, line)
	return err
}

// retrier sends dead letters again.
type retrier struct {
	con     endpoint.Connection
	format  codecs.Format
	decoder *codecs.Decoder
	event   toll.Event // decoded last
	emitter *topology.Emitter
}

// decode reads a payload as process will.
func (r *retrier) decode(payload []byte) error {
	if payload == nil {
		return toll.Malformed(toll.RejectTombstone, "no value (a tombstone)")
	}
	return r.decoder.Decode(payload, r.contentType(payload), &r.event)
}

// contentType names the format of a payload, so that process reads it as it was read here, whatever
// its own --format.
func (r *retrier) contentType(payload []byte) string {
	format := r.format
	if format == codecs.Auto {
		format = codecs.CSV
		if text := bytes.TrimSpace(payload); len(text) > 0 && (text[0] == '{' || text[0] == '[') {
			format = codecs.JSON
		}
	}
	return format.ContentType()
}

func (r *retrier) open(ctx context.Context) (err error) {
	r.emitter, err = topology.NewEmitter(ctx,
		topology.EmitterConfig{Cluster: r.con.Cluster, Topic: r.con.Topic, Location: r.con.Location})
	return err
}

// send sends the payload that was decoded last.
func (r *retrier) send(ctx context.Context, origin toll.Origin, payload []byte) error {
	return r.emitter.EmitRaw(ctx, r.emitter.Key(r.event.Plaza), payload, goka.Headers{
		codecs.ContentTypeHeader: []byte(r.contentType(payload)),
		topology.RetryHeader:     []byte(topology.FormatOrigin(origin)),
	})
}

// retryGrace is how long an interrupted retry waits for acknowledgements.
const retryGrace = 5 * time.Second

// close waits until all is acknowledged and returns the first failure.
func (r *retrier) close(ctx context.Context, err error) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryGrace)
	defer cancel()
	if closeErr := r.emitter.Close(grace); err == nil {
		err = closeErr
	}
	return err
}
