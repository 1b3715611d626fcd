// Package text writes numbers, durations and words for people, and makes foreign text safe to show
// on a terminal.
package text

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// OneLine makes a text safe for a terminal and puts it on one line.
func OneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return Escape(strings.Join(lines, "; "))
}

// Escape makes a text safe for a terminal: control characters, escape sequences, characters that
// turn the direction of writing or can't be seen, and bytes that are no UTF-8 come out as Go writes
// them in a string, \x1b.
func Escape(s string) string { return escapeUnless(Printable, s) }

// escapeUnless escapes bytes that are no UTF-8 and all characters but ASCII's visible ones and
// those that may be kept.
func escapeUnless(keep func(rune) bool, s string) string {
	if isPlainText(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case keep(r):
			b.WriteString(s[i : i+size])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

func isPlainText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Printable reports whether a terminal may show a character. Marks are no characters of their own
// but belong to scripts; Cf (bidi overrides, zero width) and Cc are not graphic.
func Printable(r rune) bool {
	return unicode.IsGraphic(r) && (r == ' ' || !unicode.IsSpace(r))
}

// Cell makes a text fit for a cell of a full screen, where it must take the same number of columns
// on every terminal. It is stricter than [Escape]: it also escapes characters whose width differs
// between terminals, see [Steady], unless they can be composed with the character before.
func Cell(s string) string { return escapeUnless(Steady, norm.NFC.String(s)) }

// Steady reports whether all terminals show a character in the same number of columns, where it
// stands. They differ about marks that join the character before them, scripts that are written
// from right to left, and emoji. Letters of East Asian scripts take two columns everywhere.
func Steady(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r <= '~'
	}
	if !Printable(r) || unicode.IsMark(r) {
		return false
	}
	properties, _ := bidi.LookupRune(r)
	switch properties.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return false
	}
	switch {
	case r >= 0x1100 && r <= 0x11ff, r >= 0xa960 && r <= 0xa97f, r >= 0xd7b0 && r <= 0xd7ff:
		return false // parts of Korean syllables, which some terminals join
	case r >= 0x1f000 && r <= 0x1faff: // emoji, flags and the like
		return false
	case CellWidth(string(r)) == 2:
		return unicode.IsLetter(r) || unicode.IsPunct(r) || unicode.IsDigit(r)
	}
	return true
}

// CSVCell returns one line of valid UTF-8 that a spreadsheet does not evaluate as a formula.
func CSVCell(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || unicode.In(r, unicode.Cc, unicode.Cf) {
			return ' '
		}
		return r
	}, s)
	if start := strings.TrimLeft(s, " "); start != "" &&
		strings.ContainsRune("=+-@", rune(start[0])) {
		return "'" + s
	}
	return s
}

// CSVColumn is a column of a CSV: its name, and its cell of a row.
type CSVColumn[T any] = struct {
	Name string
	Cell func(*T) string
}

// WriteStructs writes structs as CSV with the columns that their JSON has: each field's name there,
// and its value; nothing for nil. A figure has as many decimals as the field's tag says.
func WriteStructs[T any](w io.Writer, rows []T) error {
	var columns []CSVColumn[T]
	for field := range reflect.TypeFor[T]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		decimals, _ := strconv.Atoi(field.Tag.Get("decimals"))
		columns = append(columns, CSVColumn[T]{name, func(row *T) string {
			v := reflect.ValueOf(row).Elem().FieldByIndex(field.Index)
			if v.Kind() == reflect.Pointer {
				v = v.Elem()
			}
			switch v.Kind() {
			case reflect.Invalid:
				return ""
			case reflect.Float64:
				return strconv.FormatFloat(v.Float(), 'f', decimals, 64)
			case reflect.String:
				return CSVCell(v.String())
			}
			return fmt.Sprint(v)
		}})
	}
	return WriteCSV(w, columns, len(rows), func(i int) *T { return &rows[i] }, true)
}

// WriteCSV writes n rows as CSV (RFC 4180), below a line of the columns' names where head is set.
func WriteCSV[T any](w io.Writer, columns []CSVColumn[T], n int, row func(i int) *T,
	head bool) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	record := make([]string, len(columns))
	write := func(cell func(*CSVColumn[T]) string) {
		for i := range columns {
			record[i] = cell(&columns[i])
		}
		_ = c.Write(record) // Error has the first failure
	}
	if head {
		write(func(c *CSVColumn[T]) string { return c.Name })
	}
	for i := range n {
		write(func(c *CSVColumn[T]) string { return c.Cell(row(i)) })
	}
	c.Flush()
	return c.Error()
}

// WriteJSON writes a value as indented JSON and a newline.
func WriteJSON(w io.Writer, v any) error { return encodeJSON(w, v, "  ") }

// encodeJSON writes a value as JSON that is safe for a terminal as well: characters that [Escape]
// escapes are written as in \u202e, which means the same in JSON.
func encodeJSON(w io.Writer, v any, indent string) error {
	text, err := IndentJSON(v, "", indent)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// IndentJSON returns what encodeJSON writes, with a prefix before each line but the first.
func IndentJSON(v any, prefix, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent(prefix, indent)
	err := e.Encode(v)
	return EscapeJSON(b.Bytes()), err
}

// EscapeJSON escapes in the output of encoding/json the characters that [Escape] escapes. Control
// characters, but for the newlines between its parts, and invalid UTF-8 are escaped already.
func EscapeJSON(text []byte) []byte {
	suspicious := func(r rune) bool { return r >= 0x7F && !Printable(r) }
	if !bytes.ContainsFunc(text, suspicious) {
		return text
	}
	escaped := make([]byte, 0, len(text)+16)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if suspicious(r) {
			for _, unit := range utf16.AppendRune(nil, r) {
				escaped = fmt.Appendf(escaped, `\u%04x`, unit)
			}
		} else {
			escaped = append(escaped, text[:size]...)
		}
		text = text[size:]
	}
	return escaped
}

func WriteJSONLine(w io.Writer, v any) error { return encodeJSON(w, v, "") }
