// Package events reads files of events as people have them: plain or gzipped, in UTF-8 or UTF-16,
// as CSV with or without a header row, as lines, lists and a sequence of JSON. It says what of a
// file or a topic would be rows, and proposes a mapping for the rest.
package events

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

const (
	// MaxRecord bounds one record of a file.
	MaxRecord = 4 << 20
	// maxQuoted is how many lines a row may have, in quoted fields.
	maxQuoted = 100
)

// LongError is a record beyond the limit, which was skipped.
type LongError struct{ Limit int }

func (e *LongError) Error() string { return fmt.Sprintf("longer than %d bytes", e.Limit) }

// Reader reads the events of a file one after the other.
type Reader struct {
	zone    *toll.Zone
	mapping *mapping.Mapping // nil for the course's form, or what the header row says
	decoder *codecs.Decoder
	json    bool
	lines   *lineReader
	values  *json.Decoder     // in place of lines, where values of JSON span them
	list    bool              // of values: the file is a list
	within  bool              // of the list
	begun   bool              // the header row, if there is one, was read
	names   []byte            // the header row, nil for none
	parts   []json.RawMessage // of a record, still to be read
	more    []toll.Event      // of a record that wraps several, still to be returned
	wrapped []byte            // that record
	row     []byte            // of several lines
}

// NewReader returns a reader of a file's bytes, which it waits for. Where no mapping is given, a
// header row that names all fields is one.
func NewReader(source io.Reader, zone *toll.Zone, m *mapping.Mapping) (*Reader, error) {
	if m != nil && m.Descriptor != nil {
		return nil, errors.New("the mapping is of Protobuf, which is read from the topic only")
	}
	plain := bufio.NewReaderSize(source, 1<<18)
	if magic, _ := plain.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(plain)
		if err != nil {
			return nil, err
		}
		plain = bufio.NewReaderSize(unzipped, 1<<18)
	}
	switch mark, _ := plain.Peek(3); {
	case bytes.Equal(mark, []byte("\xef\xbb\xbf")):
		_, _ = plain.Discard(3)
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		utf16 := unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewDecoder()
		plain = bufio.NewReaderSize(transform.NewReader(plain, utf16), 1<<18)
	}
	_, _ = plain.Peek(1) // reads what is there, without waiting for more
	head, _ := plain.Peek(plain.Buffered())
	head = bytes.TrimLeft(head, " \t\r\n")
	r := &Reader{zone: zone, mapping: m, decoder: codecs.NewMappedDecoder(codecs.Auto, zone, m),
		json: IsJSON(head), lines: &lineReader{r: plain, limit: MaxRecord}}
	if r.json && spansLines(head) {
		r.list = head[0] == '['
		bounded := &boundedReader{Reader: plain}
		r.values = json.NewDecoder(bounded)
		bounded.done = r.values.InputOffset
	}
	return r, nil
}

// IsJSON reports whether a text begins as JSON does, and not as CSV.
func IsJSON(text []byte) bool {
	text = bytes.TrimLeft(text, " \t\r\n")
	return len(text) > 0 && (text[0] == '{' || text[0] == '[')
}

// spansLines reports whether the first value of JSON goes on behind its first line.
func spansLines(head []byte) bool {
	line, _, more := bytes.Cut(head, []byte{'\n'})
	line = bytes.TrimRight(line, " \t\r")
	return more && !json.Valid(line) && bytes.IndexByte([]byte("[{,"), line[len(line)-1]) >= 0
}

// boundedReader fails once a value of JSON is longer than the limit.
type boundedReader struct {
	io.Reader
	n    int64
	done func() int64 // offset of the value that is read
}

func (r *boundedReader) Read(p []byte) (int, error) {
	if r.n-r.done() > MaxRecord {
		return 0, &LongError{MaxRecord}
	}
	n, err := r.Reader.Read(p[:min(len(p), 64<<10)])
	r.n += int64(n)
	return n, err
}

// JSON reports whether the file begins with JSON, and not with CSV.
func (r *Reader) JSON() bool { return r.json }

// Mapping returns what the file is read by: what was given, or what its header row says; nil for
// the course's form.
func (r *Reader) Mapping() *mapping.Mapping { return r.mapping }

// Line returns the number of the last line that was read, from 1; of the value, in JSON that spans
// lines.
func (r *Reader) Line() int64 { return r.lines.n }

// Next reads the next event, and returns it as it stands in the file, valid until the next call.
// The error is io.EOF at the end, a [toll.MalformedError] for what is no event, and a [*LongError]
// for what is too long to be read; reading goes on after these two. Any other error is the file's.
//
// Events in a list are read each by itself. Those that one record wraps, by the mapping, come with
// that record each, and only where all of them are events.
func (r *Reader) Next(e *toll.Event) ([]byte, error) {
	if len(r.more) > 0 {
		*e, r.more = r.more[0], r.more[1:]
		return r.wrapped, nil
	}
	for {
		record, err := r.next()
		if err != nil {
			return nil, err
		}
		if !r.begun && !IsJSON(record) {
			r.begun = true
			switch header, err := r.header(record); {
			case err != nil:
				return nil, err
			case header:
				continue
			}
		}
		if r.split(record) {
			continue
		}
		err = r.decode(record, e)
		if errors.Is(err, codecs.ErrOpenQuote) {
			if whole, ok := r.extend(record); ok {
				record, err = whole, r.decode(whole, e)
			}
		}
		return record, err
	}
}

// split takes a line of several values of JSON, or a list of several, apart, and reports whether it
// is one.
func (r *Reader) split(record []byte) bool {
	if len(r.parts) > 0 || !IsJSON(record) {
		return false
	}
	var parts []json.RawMessage
	if record[0] == '[' {
		if json.Unmarshal(record, &parts) != nil {
			return false
		}
	} else if !json.Valid(record) {
		for values := json.NewDecoder(bytes.NewReader(record)); values.More(); {
			var value json.RawMessage
			if values.Decode(&value) != nil || !IsJSON(value) {
				return false
			}
			parts = append(parts, value)
		}
	}
	if len(parts) < 2 {
		return false
	}
	r.parts = parts
	return true
}

func (r *Reader) decode(record []byte, e *toll.Event) (err error) {
	switch {
	case r.mapping == nil:
		return r.decoder.Decode(record, "", e)
	case !IsJSON(record):
		return r.decoder.Row(record, e)
	}
	if r.more, err = r.decoder.DecodeAll(record, "", e); err != nil {
		r.more = nil
	}
	r.wrapped = append(r.wrapped[:0], record...)
	return err
}

// next returns the next line or value that is not blank.
func (r *Reader) next() ([]byte, error) {
	if len(r.parts) > 0 {
		part := r.parts[0]
		r.parts = r.parts[1:]
		return part, nil
	}
	if r.values != nil {
		return r.value()
	}
	for {
		line, err := r.lines.next()
		if err != nil || len(bytes.TrimSpace(line)) > 0 {
			return line, err
		}
	}
}

// value returns the next value of a list, or of a sequence of values.
func (r *Reader) value() ([]byte, error) {
	for r.list && (!r.within || !r.values.More()) {
		bracket, err := r.values.Token()
		if err != nil {
			return nil, r.ended(err)
		}
		if bracket != json.Delim('[') && bracket != json.Delim(']') {
			return nil, fmt.Errorf("%v follows the list", bracket)
		}
		r.within = !r.within
	}
	var value json.RawMessage
	if err := r.values.Decode(&value); err != nil {
		if long, ok := errors.AsType[*LongError](err); ok { // where the next one begins is unknown
			return nil, fmt.Errorf("value %d is %s", r.lines.n+1, long.Error())
		}
		return nil, r.ended(err)
	}
	r.lines.n++
	if bytes.IndexByte(value, '\n') < 0 {
		return value, nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, value); err != nil {
		return nil, err
	}
	return line.Bytes(), nil
}

// ended returns the error of a file's end, which must not come within a list.
func (r *Reader) ended(err error) error {
	if errors.Is(err, io.EOF) && r.within {
		return io.ErrUnexpectedEOF
	}
	return err
}

// header reads the first row, and reports whether it is a header row.
func (r *Reader) header(row []byte) (bool, error) {
	if r.mapping == nil {
		m := codecs.HeaderMapping(row)
		if m == nil {
			return false, nil
		}
		r.mapping, r.decoder = m, codecs.NewMappedDecoder(codecs.Auto, r.zone, m)
	} else if !r.mapping.HasHeader() {
		return false, nil
	}
	_, err := r.decoder.Header(row)
	if errors.Is(err, codecs.ErrOpenQuote) {
		if whole, ok := r.extend(row); ok {
			_, err = r.decoder.Header(whole)
		}
	}
	if err != nil {
		return false, fmt.Errorf("header row: %s", err.Error())
	}
	r.names = bytes.Clone(row)
	return true, nil
}

// extend adds lines to a row until its quoted field ends, and reports whether it does. Otherwise
// the lines are read again, each by itself.
func (r *Reader) extend(row []byte) ([]byte, bool) {
	r.row = append(r.row[:0], row...)
	first := r.lines.n
	var taken []takenLine
	for len(taken) < maxQuoted && len(r.row) < MaxRecord {
		line, err := r.lines.next()
		if err != nil {
			break
		}
		taken = append(taken, takenLine{bytes.Clone(line), r.lines.n})
		r.row = append(append(r.row, '\n'), line...)
		if bytes.IndexByte(line, '"') >= 0 && codecs.QuotesEnd(r.row, r.comma()) {
			return r.row, true
		}
	}
	r.lines.again = append(taken, r.lines.again...)
	r.lines.n = first
	return r.row[:len(row)], false
}

func (r *Reader) comma() byte {
	if r.mapping == nil {
		return ','
	}
	return r.mapping.Comma()
}

// takenLine is a line that was read too early.
type takenLine struct {
	text []byte
	n    int64
}

// lineReader reads lines up to a limit and skips longer ones.
type lineReader struct {
	r     *bufio.Reader
	limit int
	long  []byte // of a line that doesn't fit the reader's buffer
	n     int64  // number of the last line, from 1
	again []takenLine
}

// next returns a line without its end, valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	if len(l.again) > 0 {
		line := l.again[0]
		l.again, l.n = l.again[1:], line.n
		return line.text, nil
	}
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		l.long = append(l.long[:0], line...)
		line, err = l.rest()
	}
	if err != nil && !(errors.Is(err, io.EOF) && len(line) > 0) {
		if _, ok := errors.AsType[*LongError](err); ok {
			l.n++
		}
		return nil, err
	}
	l.n++
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if len(line) > l.limit {
		return nil, &LongError{l.limit}
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
			return nil, &LongError{l.limit}
		default:
			return l.long, err
		}
	}
}
