// Package deadletters lists the records that were rejected, shows one of them, and sends them
// again.
package deadletters

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
)

// Characters of a payload and a reason in the list.
const payloadWidth, reasonWidth = 40, 60

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
		r.RetryOf = ingest.FormatOrigin(*d.RetryOf)
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

// List prints the dead letters of a filter, the oldest first, and how many there are in all.
func List(ctx context.Context, w io.Writer, store *sql.Store, filter sql.DeadLetterFilter,
	asJSON bool) error {
	all := filter
	all.After, all.Limit = nil, 0
	total, err := store.CountDeadLetters(ctx, all)
	if err != nil {
		return err
	}
	if asJSON {
		return writeLetters(w, total, func(do func(*sql.DeadLetter) error) error {
			return store.EachDeadLetter(ctx, filter, do)
		})
	}
	filter.PayloadLimit = payloadWidth * utf8.UTFMax
	var last toll.Origin
	var shown int64
	// What a narrow terminal has no room for, dead-letters show prints.
	fields := []table.Field{{Column: table.Left("record")},
		{Column: table.Left("time (UTC)"), Rank: 1},
		{Column: table.Left("kind"), Rank: 2}, {Column: table.Left("reason")},
		{Column: table.Right("bytes"), Rank: 4}, {Column: table.Left("payload"), Rank: 3},
		{Column: table.Left("retried"), Rank: 5}}
	err = store.EachDeadLetter(ctx, filter, func(d *sql.DeadLetter) error {
		last = d.Origin()
		shown++
		retried := ""
		if d.Retried {
			retried = "stored"
		}
		for i, cell := range []string{ingest.FormatOrigin(d.Origin()), d.Time.Format(time.DateTime),
			string(d.Kind), text.Cut(text.Escape(d.Reason), reasonWidth), text.Number(d.PayloadBytes),
			payloadHead(d.Payload), retried} {
			fields[i].Cells = append(fields[i].Cells, cell)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if shown > 0 {
		width := math.MaxInt
		if text.IsTerminal(w) {
			width = text.Width(w)
		}
		if err := table.Write(w, fields, width); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	_, err = fmt.Fprintln(w, listSummary(shown, total, filter, last))
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

// listSummary writes how many dead letters there are, and how to list the next ones.
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
		ingest.FormatOrigin(last))
}

// payloadHead returns the beginning of a payload, safe for a terminal.
func payloadHead(payload []byte) string {
	switch {
	case payload == nil:
		return "(tombstone)"
	case len(payload) == 0:
		return "(empty)"
	}
	head := payload[:min(len(payload), payloadWidth*utf8.UTFMax)]
	return text.Cut(text.Escape(string(head)), payloadWidth)
}

// Find returns a dead letter.
func Find(ctx context.Context, store *sql.Store, origin toll.Origin) (*sql.DeadLetter, error) {
	d, err := store.DeadLetter(ctx, origin)
	if errors.Is(err, sql.ErrNoDeadLetter) {
		return nil, hint.With(fmt.Errorf("there is no dead letter %s", ingest.FormatOrigin(origin)),
			"tollstream dead-letters lists them")
	}
	return d, err
}

// ParseOrigin reads PARTITION:OFFSET. What it refuses is a usage error.
func ParseOrigin(where, text string) (toll.Origin, error) {
	p, o, ok := strings.Cut(text, ":")
	partition, err1 := strconv.ParseUint(p, 10, 31)
	offset, err2 := strconv.ParseUint(o, 10, 63)
	if !ok || err1 != nil || err2 != nil {
		return toll.Origin{}, hint.Usagef("%s: %q is not PARTITION:OFFSET, such as 0:1234", where, text)
	}
	return toll.Origin{Partition: int32(partition), Offset: int64(offset)}, nil
}

// WriteJSON prints a dead letter as JSON.
func WriteJSON(w io.Writer, d *sql.DeadLetter) error { return text.WriteJSON(w, letterReport(d)) }

// Write prints a dead letter for a person.
func Write(w io.Writer, d *sql.DeadLetter) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s%s\n", name, fmt.Sprintf(format, args...))
	}
	const at = "2006-01-02 15:04:05.000 UTC"
	line("record", "%s (partition %d, offset %d)", ingest.FormatOrigin(d.Origin()), d.Partition,
		d.Offset)
	line("time", "%s", d.Time.Format(at))
	line("rejected", "%s", d.RejectedAt.Format(at))
	line("kind", "%s", d.Kind)
	line("reason", "%s", text.Escape(d.Reason))
	if d.Kind == toll.RejectRefused {
		line("refused", "by the database, with error %d and SQLSTATE %s", d.Number,
			text.Escape(d.SQLState))
	}
	if d.RetryOf != nil {
		line("retry of", "%s", ingest.FormatOrigin(*d.RetryOf))
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
