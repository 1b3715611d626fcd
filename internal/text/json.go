package text

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// WriteJSON writes a value as indented JSON and a newline.
func WriteJSON(w io.Writer, v any) error { return encodeJSON(w, v, "  ") }

// encodeJSON writes a value as JSON that is safe for a terminal as well: what [Escape] would not
// let through stands as \u202e in it, which means the same to whoever reads the JSON.
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

// EscapeJSON escapes what [Escape] would not let through in JSON as encoding/json writes it: other
// control characters than the newlines between its parts, and invalid UTF-8, are escaped already.
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
