package text

import "testing"

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain ~":                "plain ~",
		"Lastwagen groß":         "Lastwagen groß",
		"日本":                     "日本",
		"\x1b[31mred":            `\x1b[31mred`,
		"a\nb\tc\rd":             `a\nb\tc\rd`,
		"\u202eevil":             `\u202eevil`,
		"zero\u200bwidth":        `zero\u200bwidth`,
		"bad\xffutf8":            `bad\xffutf8`,
		"\u0085":                 `\u0085`,
		"\u2028":                 `\u2028`,
		"\x7f":                   `\x7f`,
		"non\u00a0breaking":      `non\u00a0breaking`,
		"\ufffd is a character":  "\ufffd is a character",
		"\U0001f697 drives past": "\U0001f697 drives past",
	} {
		if got := Escape(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
