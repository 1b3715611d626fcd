package text

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/corpus"
)

// FuzzOutput: whatever text is stored, what shows it in a table, in JSON or on the screen lets
// nothing of it act, loses nothing, and takes memory by its size.
func FuzzOutput(f *testing.F) {
	corpus.Add(f)
	for _, text := range []string{
		"car", "\x1b[2J\x1b]52;c;cm0=\x07", "\u009b31m", "a\x00b\r\n", "\u202ekcurt\u2066x\u2069",
		"\xed\xa0\xbd", "\xff\xfe", "\xc0\x80", `\ud800`, "\u2028\u2029",
		"\U000e0041tag", "e\u0301", "\u05d0\u05d1", "<script>&amp;", "\U0001f69b", "\x7f\x85",
	} {
		f.Add(text)
	}
	acts := func(r rune) bool {
		return r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	}
	f.Fuzz(func(t *testing.T, stored string) {
		for name, shown := range map[string]string{"escaped": Escape(stored),
			"in a cell": Cell(stored)} {
			if !utf8.ValidString(shown) || strings.ContainsFunc(shown, func(r rune) bool {
				return r == '\n' || acts(r)
			}) {
				t.Fatalf("%q is %s %q", stored, name, shown)
			}
			if len(shown) > 10*len(stored)+10 {
				t.Fatalf("%d bytes are %s %d", len(stored), name, len(shown))
			}
		}
		var b bytes.Buffer
		value := map[string]string{stored: stored}
		if err := WriteJSON(&b, value); err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(b.Bytes()) || bytes.ContainsFunc(b.Bytes(), acts) {
			t.Fatalf("%q is the JSON %q", stored, b.Bytes())
		}
		var again map[string]string
		if err := json.Unmarshal(b.Bytes(), &again); err != nil || len(again) != 1 {
			t.Fatalf("%q is the JSON %q: %v", stored, b.Bytes(), err)
		}
		for key, got := range again {
			if valid := strings.ToValidUTF8(stored, ""); utf8.ValidString(stored) &&
				(got != stored || key != stored) ||
				strings.ReplaceAll(got, "\ufffd", "") != strings.ReplaceAll(valid, "\ufffd", "") {
				t.Fatalf("%q became %q: %q", stored, key, got)
			}
		}
	})
}
