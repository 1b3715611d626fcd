package emit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

const (
	// maxLine bounds a line of a file.
	maxLine = 4 << 20
	// maxReported is how many bad lines are reported one by one.
	maxReported = 10
)

// fileFeed is the feed of a file's lines.
type fileFeed struct {
	cfg     *Config
	con     *console
	file    io.Closer // nil for standard input
	counted *countingReader
	size    int64 // of the file; 0 for unknown
	lines   *lineReader
	decoder *codecs.Decoder
	json    bool // the file's first line is JSON
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
	f := &fileFeed{cfg: cfg, con: con,
		decoder: codecs.NewDecoder(codecs.Auto, toll.NewZone(cfg.Location))}
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
	if err := f.open(); err != nil {
		f.Close()
		return nil, fmt.Errorf("read --from %s: %w", cfg.From, err)
	}
	return f, nil
}

// open detects what the file is: gzip, a byte order mark, JSON or CSV.
func (f *fileFeed) open() error {
	plain := bufio.NewReaderSize(f.counted, 1<<18)
	if magic, _ := plain.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(plain)
		if err != nil {
			return err
		}
		plain = bufio.NewReaderSize(unzipped, 1<<18)
	}
	if mark, _ := plain.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = plain.Discard(3)
	}
	head, _ := plain.Peek(512)
	f.json = isJSON(head)
	f.lines = &lineReader{r: plain, limit: maxLine}
	return nil
}

func isJSON(line []byte) bool {
	line = bytes.TrimLeft(line, " \t\r\n")
	return len(line) > 0 && (line[0] == '{' || line[0] == '[')
}

// format returns the format in which the emitter writes: the one asked for, else the file's own.
func (f *fileFeed) format() codecs.Format {
	switch {
	case f.cfg.Format != codecs.Auto:
		return f.cfg.Format
	case f.json:
		return codecs.JSON
	}
	return codecs.CSV
}

func (f *fileFeed) next(_ context.Context, beforeWait func()) (item, error) {
	f.counted.before = beforeWait
	for {
		line, err := f.lines.next()
		var long *longLineError
		switch {
		case errors.As(err, &long):
			f.long++
			f.report(err)
			continue
		case errors.Is(err, io.EOF):
			return item{}, io.EOF
		case err != nil:
			return item{}, fmt.Errorf("read --from %s after line %d: %w", f.cfg.From, f.lines.n, err)
		case len(bytes.TrimSpace(line)) == 0:
			continue
		}
		if err := f.decoder.Decode(line, "", &f.event); err != nil {
			f.bad++
			f.report(err)
			if !f.cfg.Raw {
				continue
			}
			return item{payload: line, headers: f.headers(line)}, nil
		}
		if f.cfg.Format != codecs.Auto {
			return item{event: &f.event}, nil
		}
		return item{event: &f.event, payload: line, headers: f.headers(line)}, nil
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
			f.lines.limit>>20))
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
	json := isJSON(line)
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
		f.con.warn("line %d: %v", f.lines.n, err)
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

// longLineError is a line beyond the limit, which was skipped.
type longLineError struct{ limit int }

func (e *longLineError) Error() string { return fmt.Sprintf("longer than %d bytes", e.limit) }

// lineReader reads lines up to a limit and skips longer ones.
type lineReader struct {
	r     *bufio.Reader
	limit int
	long  []byte // of a line that doesn't fit the reader's buffer
	n     int64  // number of the last line, from 1
}

// next returns a line without its end, valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		l.long = append(l.long[:0], line...)
		line, err = l.rest()
	}
	if err != nil && !(errors.Is(err, io.EOF) && len(line) > 0) {
		var long *longLineError
		if errors.As(err, &long) {
			l.n++
		}
		return nil, err
	}
	l.n++
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if len(line) > l.limit {
		return nil, &longLineError{l.limit}
	}
	return line, nil
}

// rest reads on after a piece that filled the reader's buffer.
func (l *lineReader) rest() ([]byte, error) {
	tooLong := false
	for {
		piece, err := l.r.ReadSlice('\n')
		if len(l.long)+len(piece) > l.limit+len("\r\n") {
			tooLong, l.long = true, l.long[:0]
		}
		if !tooLong {
			l.long = append(l.long, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case tooLong:
			return nil, &longLineError{l.limit}
		default:
			return l.long, err
		}
	}
}
