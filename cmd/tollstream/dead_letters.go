package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

const (
	defaultLetters = 20
	// Characters of a payload and a reason in the list.
	payloadWidth, reasonWidth = 40, 60
)

func (a *app) deadLettersCommand() *cli.Command {
	const listing = "For the list"
	return &cli.Command{
		Name:  "dead-letters",
		Usage: "shows what was rejected and why, and sends it again repaired",
		Description: `A record that can't be a row is kept with the reason, its partition and offset, and its bytes. Without a
			subcommand this lists them.`,
		UsageText: `tollstream dead-letters
			tollstream dead-letters --partition 0 --limit 100
			tollstream dead-letters show 0:1234
			tollstream dead-letters retry 0:1234 --payload 'Thu Feb 10 10:23:02 2022,3728373,car,4856'`,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "limit", Category: listing, Value: defaultLetters,
				Usage: "list at most `N`, 0 for all"},
			&cli.IntFlag{Name: "partition", Category: listing, Usage: "list those of partition `P`"},
			&cli.StringFlag{Name: "after", Category: listing, Usage: "list those behind `PARTITION:OFFSET`"},
			&cli.StringFlag{Name: "kind", Category: listing, Usage: "list those of `KIND`: " + kindNames()},
			&cli.StringFlag{Name: "reason", Category: listing,
				Usage: "list those whose reason holds `TEXT`"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		}, endpoint.Flags()...),
		Action: a.withStore(a.listDeadLetters),
		Subcommands: []*cli.Command{
			{
				Name:      "list",
				Usage:     "lists them, which is also what happens without a subcommand",
				UsageText: "tollstream dead-letters list --limit 100",
				Action:    a.withStore(a.listDeadLetters),
			},
			{
				Name:        "show",
				Usage:       "shows one, with its payload",
				ArgsUsage:   "PARTITION:OFFSET",
				Description: "A payload that is no text comes as a hex dump. With --raw only the payload is written, byte for byte: into a file, to be repaired.",
				UsageText:   "tollstream dead-letters show 0:1234\ntollstream dead-letters show 0:1234 --raw > payload",
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "raw", Usage: "write the payload alone, as it is"}},
				Action:      a.withStore(a.showDeadLetter),
			},
			a.retryCommand(),
		},
	}
}

// withStore returns an action that has a database.
func (a *app) withStore(do func(*cli.Context, endpoint.Connection,
	*sql.Store) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Command.Name != "list" && c.Command.Name != "dead-letters" {
			for _, name := range []string{"limit", "partition", "after", "kind", "reason"} {
				if command.Given(c, name) {
					return hint.Usagef("--%s is for the list, not for %s", name, c.Command.Name)
				}
			}
		}
		con, err := endpoint.From(c)
		if err != nil {
			return err
		}
		log, err := command.NewLogger(a.stderr, command.LogText, "warn")
		if err != nil {
			return err
		}
		store, err := con.OpenStore(sql.LoadAuto, log)
		if err != nil {
			return err
		}
		defer store.Close()
		return endpoint.WithHint(do(c, con, store))
	}
}

// letterJSON is a dead letter as --json prints it.
type letterJSON struct {
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Reason    string    `json:"reason"`
	SQLState  string    `json:"sql_state,omitempty"`
	Number    uint16    `json:"error_number,omitempty"` // of the database's error
	RetryOf   string    `json:"retry_of,omitempty"`     // the dead letter that it was to repair
	Key       *string   `json:"key"`
	// null for a tombstone, and where it is no text
	Payload       *string `json:"payload"`
	PayloadBase64 string  `json:"payload_base64,omitempty"` // where it is no text
	// as received; more than are kept where the database could not take them
	PayloadBytes int64     `json:"payload_bytes"`
	RejectedAt   time.Time `json:"rejected_at"`
	Retried      bool      `json:"retried"`
}

func letterReport(d *sql.DeadLetter) letterJSON {
	r := letterJSON{
		Partition: d.Partition, Offset: d.Offset, Time: d.Time,
		Kind: string(d.Kind), Reason: d.Reason, SQLState: d.SQLState, Number: d.Number,
		PayloadBytes: d.PayloadBytes, RejectedAt: d.RejectedAt, Retried: d.Retried,
	}
	if d.RetryOf != nil {
		r.RetryOf = formatOrigin(*d.RetryOf)
	}
	if d.Key != nil {
		key := strings.ToValidUTF8(string(d.Key), "\uFFFD")
		r.Key = &key
	}
	switch text := string(d.Payload); {
	case d.Payload == nil:
	case utf8.ValidString(text):
		r.Payload = &text
	default:
		r.PayloadBase64 = base64.StdEncoding.EncodeToString(d.Payload)
	}
	return r
}

func (a *app) listDeadLetters(c *cli.Context, _ endpoint.Connection, store *sql.Store) error {
	filter, err := letterFilter(c)
	if err != nil {
		return err
	}
	limit := c.Int("limit")
	if limit < 0 {
		return hint.Usagef("--limit: %d is not 0 or more", limit)
	}
	all := filter
	all.After = nil
	total, err := store.CountDeadLetters(c.Context, all)
	if err != nil {
		return err
	}
	filter.Limit = limit
	if c.Bool("json") {
		return writeLetters(a.stdout, total, func(do func(*sql.DeadLetter) error) error {
			return store.EachDeadLetter(c.Context, filter, do)
		})
	}
	filter.PayloadLimit = payloadWidth * utf8.UTFMax
	var last toll.Origin
	var shown int64
	t := table.New(a.stdout, table.Left("record"), table.Left("time (UTC)"), table.Left("kind"),
		table.Left("reason"),
		table.Right("bytes"), table.Left("payload"), table.Left("retried"))
	err = store.EachDeadLetter(c.Context, filter, func(d *sql.DeadLetter) error {
		last = d.Origin()
		shown++
		retried := ""
		if d.Retried {
			retried = "stored"
		}
		t.AppendRow([]any{formatOrigin(d.Origin()), d.Time.Format(time.DateTime), string(d.Kind),
			shorten(text.Escape(d.Reason), reasonWidth),
			text.Number(d.PayloadBytes), payloadHead(d.Payload), retried})
		return nil
	})
	if err != nil {
		return err
	}
	if shown > 0 {
		t.Render()
		fmt.Fprintln(a.stdout)
	}
	_, err = fmt.Fprintln(a.stdout, listSummary(shown, total, filter, last))
	return err
}

// writeLetters writes the list as JSON, one dead letter after the other: all of them may be more
// than fit the memory.
func writeLetters(w io.Writer, total int64, each func(func(*sql.DeadLetter) error) error) error {
	if _, err := fmt.Fprintf(w, "{\n  \"total\": %d,\n  \"dead_letters\": [", total); err != nil {
		return err
	}
	separator, end := "\n", "]\n}\n"
	err := each(func(d *sql.DeadLetter) error {
		text, err := text.IndentJSON(letterReport(d), "    ", "  ")
		if err != nil {
			return err
		}
		text = append([]byte(separator+"    "), bytes.TrimSuffix(text, []byte("\n"))...)
		separator, end = ",\n", "\n  ]\n}\n"
		_, err = w.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, end)
	return err
}

// kindNames lists the kinds of rejects.
func kindNames() string {
	names := make([]string, len(toll.RejectKinds))
	for i, k := range toll.RejectKinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

// listSummary says how many dead letters there are beside those that were listed.
func listSummary(shown, total int64, f sql.DeadLetterFilter, last toll.Origin) string {
	what := text.Count(total, "dead letter")
	if f.Partition != nil {
		what += fmt.Sprintf(" in partition %d", *f.Partition)
	}
	if f.Kind != "" {
		what += " of this kind"
	}
	if f.Reason != "" {
		what += " with this reason"
	}
	switch {
	case total == 0 && f.Partition == nil && f.Kind == "" && f.Reason == "":
		return "no dead letters: every record is a row"
	case shown == total:
		return what
	case shown == 0 || f.After != nil:
		return fmt.Sprintf("%s of %s", text.Number(shown), what)
	}
	return fmt.Sprintf("%s of %s; the next ones: --after %s", text.Number(shown), what,
		formatOrigin(last))
}

func letterFilter(c *cli.Context) (sql.DeadLetterFilter, error) {
	f := sql.DeadLetterFilter{Kind: toll.RejectKind(c.String("kind")), Reason: c.String("reason")}
	if f.Kind != "" && !f.Kind.Known() {
		return f, hint.Usagef("--kind: %q is none of %s", string(f.Kind), kindNames())
	}
	if command.Given(c, "partition") {
		p := c.Int("partition")
		if p < 0 || p > 1<<31-1 {
			return f, hint.Usagef("--partition: %d is not a partition", p)
		}
		partition := int32(p)
		f.Partition = &partition
	}
	if command.Given(c, "after") {
		o, err := parseOrigin("--after", c.String("after"))
		if err != nil {
			return f, err
		}
		f.After = &o
	}
	return f, nil
}

func (a *app) showDeadLetter(c *cli.Context, _ endpoint.Connection, store *sql.Store) error {
	d, err := letterOf(c, store)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("raw") && c.Bool("json"):
		return hint.Usagef("--raw and --json exclude each other")
	case c.Bool("raw"):
		if n := int64(len(d.Payload)); n < d.PayloadBytes {
			fmt.Fprintf(a.stderr, "tollstream: only the first %s of %s were kept\n", text.Number(n),
				text.Count(d.PayloadBytes, "byte"))
		}
		_, err := a.stdout.Write(d.Payload)
		return err
	case c.Bool("json"):
		return text.WriteJSON(a.stdout, letterReport(d))
	}
	return writeLetter(a.stdout, d)
}

func writeLetter(w io.Writer, d *sql.DeadLetter) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s%s\n", name, fmt.Sprintf(format, args...))
	}
	const at = "2006-01-02 15:04:05.000 UTC"
	line("record", "%s (partition %d, offset %d)", formatOrigin(d.Origin()), d.Partition, d.Offset)
	line("time", "%s", d.Time.Format(at))
	line("rejected", "%s", d.RejectedAt.Format(at))
	line("kind", "%s", d.Kind)
	line("reason", "%s", text.Escape(d.Reason))
	if d.Kind == toll.RejectRefused {
		line("refused", "by the database, with error %d and SQLSTATE %s", d.Number,
			text.Escape(d.SQLState))
	}
	if d.RetryOf != nil {
		line("retry of", "%s", formatOrigin(*d.RetryOf))
	}
	if d.Key != nil {
		line("key", "%s", text.Escape(string(d.Key)))
	}
	if d.Retried {
		line("retried", "yes, its repaired event is stored")
	} else {
		line("retried", "no")
	}
	switch kept := int64(len(d.Payload)); {
	case d.Payload == nil:
		line("payload", "none: a tombstone")
	case kept == 0:
		line("payload", "empty")
	case kept < d.PayloadBytes:
		line("payload", "%s, of which the first %s are kept", text.Count(d.PayloadBytes, "byte"),
			text.Number(kept))
	default:
		line("payload", "%s", text.Count(kept, "byte"))
	}
	if len(d.Payload) > 0 {
		b.WriteByte('\n')
		writePayload(&b, d.Payload)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writePayload writes text as text, and all else as a hex dump.
func writePayload(b *strings.Builder, payload []byte) {
	out := strings.TrimSuffix(string(payload), "\n")
	for line := range strings.SplitSeq(out, "\n") {
		line = strings.ReplaceAll(strings.TrimSuffix(line, "\r"), "\t", " ")
		if text.Escape(line) != line {
			b.WriteString(hex.Dump(payload))
			return
		}
	}
	b.WriteString(strings.NewReplacer("\r", "").Replace(out))
	b.WriteByte('\n')
}

// letterOf reads the dead letter that the one argument names.
func letterOf(c *cli.Context, store *sql.Store) (*sql.DeadLetter, error) {
	if c.NArg() != 1 {
		return nil, hint.With(hint.Usagef("%s needs one PARTITION:OFFSET", c.Command.Name),
			"tollstream dead-letters lists them")
	}
	origin, err := parseOrigin(c.Command.Name, c.Args().First())
	if err != nil {
		return nil, err
	}
	d, err := store.DeadLetter(c.Context, origin)
	if errors.Is(err, sql.ErrNoDeadLetter) {
		return nil, hint.With(fmt.Errorf("there is no dead letter %s", formatOrigin(origin)),
			"tollstream dead-letters lists them")
	}
	return d, err
}

func parseOrigin(where, text string) (toll.Origin, error) {
	p, o, ok := strings.Cut(text, ":")
	partition, err1 := strconv.ParseUint(p, 10, 31)
	offset, err2 := strconv.ParseUint(o, 10, 63)
	if !ok || err1 != nil || err2 != nil {
		return toll.Origin{}, hint.Usagef("%s: %q is not PARTITION:OFFSET, such as 0:1234", where, text)
	}
	return toll.Origin{Partition: int32(partition), Offset: int64(offset)}, nil
}

func formatOrigin(o toll.Origin) string { return fmt.Sprintf("%d:%d", o.Partition, o.Offset) }

// payloadHead returns the beginning of a payload, safe for a terminal.
func payloadHead(payload []byte) string {
	switch {
	case payload == nil:
		return "(tombstone)"
	case len(payload) == 0:
		return "(empty)"
	}
	head := payload[:min(len(payload), payloadWidth*utf8.UTFMax)]
	return shorten(text.Escape(string(head)), payloadWidth)
}

// shorten cuts a text to a number of characters.
func shorten(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}
