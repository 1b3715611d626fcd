package deadletters

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
)

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
