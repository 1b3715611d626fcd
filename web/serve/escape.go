package serve

import (
	"bytes"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// EscapeUnseen writes characters of JSON that a terminal or a page does not show, or that turn the
// direction of what is around them, as \uXXXX: to who parses it the same, and to who reads it no
// trap. C0 controls and HTML's characters are escaped already by encoding/json.
func EscapeUnseen(text []byte) []byte {
	if !bytes.ContainsFunc(text, Unseen) {
		return text
	}
	var b []byte
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case !Unseen(r):
			b = append(b, rest[:size]...)
		case r <= 0xFFFF:
			b = appendEscape(b, r)
		default:
			high, low := utf16.EncodeRune(r)
			b = appendEscape(appendEscape(b, high), low)
		}
		rest = rest[size:]
	}
	return b
}

func Unseen(r rune) bool { return r >= 0x7F && unicode.In(r, unicode.Cc, unicode.Cf) }

func appendEscape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
