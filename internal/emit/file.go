package emit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/events"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// maxReported is how many bad lines are reported one by one.
const maxReported = 10

// fileFeed is the feed of a file's lines.
type fileFeed struct {
	cfg     *Config
	con     *console
	file    io.Closer // nil for standard input
	counted *countingReader
	size    int64 // of the file; 0 for unknown
	rows    *events.Reader
	event   toll.Event
	bad     int64 // lines that are no events, and are sent with --raw
	long    int64 // lines beyond the limit, which are never sent
}

// countingReader counts what was read, and calls before each read, which may block.
type countingReader struct {
	io.Reader
	before func()
	n      int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	r.before()
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	return n, err
}

func openFile(ctx context.Context, cfg *Config, con *console) (*fileFeed, error) {
	f := &fileFeed{cfg: cfg, con: con}
	source := cfg.Stdin
	if cfg.From != "-" {
		file, err := os.Open(cfg.From)
		if err != nil {
			return nil, fmt.Errorf("read --from: %w", err)
		}
		info, err := file.Stat()
		if err == nil && info.IsDir() {
			err = fmt.Errorf("%s is a folder", cfg.From)
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("read --from: %w", err)
		}
		if info.Mode().IsRegular() {
			f.size = info.Size()
		}
		f.file, source = file, file
	}
	if f.size == 0 {
		source = interruptible(ctx, source)
	}
	f.counted = &countingReader{Reader: source, before: func() {}}
	var err error
	f.rows, err = events.NewReader(f.counted, toll.NewZone(cfg.Location), cfg.Mapping)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read --from %s: %w", cfg.From, err)
	}
	return f, nil
}

// format returns the format in which the emitter writes: the one asked for, else the file's own.
func (f *fileFeed) format() codecs.Format {
	switch {
	case f.cfg.Format != codecs.Auto:
		return f.cfg.Format
	case f.rows.JSON():
		return codecs.JSON
	}
	return codecs.CSV
}

func (f *fileFeed) next(_ context.Context, beforeWait func()) (item, error) {
	f.counted.before = beforeWait
	for {
		record, err := f.rows.Next(&f.event)
		var long *events.LongError
		switch {
		case errors.As(err, &long):
			f.long++
			f.report(err)
			continue
		case errors.Is(err, io.EOF):
			return item{}, io.EOF
		case errors.Is(err, toll.ErrMalformed):
			f.bad++
			f.report(err)
			if !f.cfg.Raw {
				continue
			}
			return item{payload: record, headers: f.headers(record)}, nil
		case err != nil && f.rows.Line() == 0:
			return item{}, fmt.Errorf("read --from %s: %w", f.cfg.From, err)
		case err != nil:
			return item{}, fmt.Errorf("read --from %s after line %d: %w", f.cfg.From, f.rows.Line(), err)
		}
		if f.cfg.Format != codecs.Auto || f.rows.Mapping() != nil {
			return item{event: &f.event}, nil // in the emitter's form, which process reads
		}
		return item{event: &f.event, payload: record, headers: f.headers(record)}, nil
	}
}

// leftOut returns an error where lines were not sent, nil for none.
func (f *fileFeed) leftOut() error {
	bad := f.bad
	if f.cfg.Raw {
		bad = 0
	}
	var what []string
	if bad > 0 {
		what = append(what, badLines(bad))
	}
	if f.long > 0 {
		what = append(what, fmt.Sprintf("%s longer than %d MiB", text.Count(f.long, "line"),
			events.MaxRecord>>20))
	}
	if len(what) == 0 {
		return nil
	}
	hint := "--skip-bad leaves them out with exit status 0"
	if bad > 0 {
		hint = "--raw sends lines that are no events as they are; " + hint
	}
	return toll.Permanent(hint, "left out %s", strings.Join(what, " and "))
}

// headers returns the headers of a line that is sent as it is: nil for those of the emitter's
// format, if that is what the line is in.
func (f *fileFeed) headers(line []byte) goka.Headers {
	json := events.IsJSON(line)
	switch {
	case json == (f.format() == codecs.JSON) && f.format() != codecs.Protobuf:
		return nil
	case json:
		return goka.Headers{codecs.ContentTypeHeader: []byte(codecs.JSON.ContentType())}
	}
	return goka.Headers{}
}

func (f *fileFeed) report(err error) {
	n := f.bad + f.long
	if n <= maxReported {
		f.con.warn("line %d: %v", f.rows.Line(), err)
	}
	if n == maxReported {
		f.con.warn("further bad lines are counted only")
	}
}

func (f *fileFeed) done() (at, length int64) { return f.counted.n, f.size }

// Close closes the file.
func (f *fileFeed) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// interruptible returns a reader that fails when ctx ends, also within a read of a terminal or pipe
// that nothing else can end. One read of the source may be left behind.
func interruptible(ctx context.Context, source io.Reader) io.Reader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(w, source)
		w.CloseWithError(err) // nil is the end of the file
	}()
	return r
}
