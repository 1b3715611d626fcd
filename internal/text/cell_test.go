package text

import "testing"

func TestCell(t *testing.T) {
	for out, want := range map[string]string{
		"car": "car", "": "", "Østerbro": "Østerbro", "e\u0301": "é", "横浜": "横浜", "ｶﾅ": "ｶﾅ", "한국": "한국",
		"\x1b[2J": `\x1b[2J`, "a\u0301\u0302": `á\u0302`, "\u202eevil": `\u202eevil`,
		"שלום": `\u05e9\u05dc\u05d5\u05dd`, "مر": `\u0645\u0631`,
		"😀": `\U0001f600`, "🇩🇪": `\U0001f1e9\U0001f1ea`, "a\tb\n": `a\tb\n`, "\xff": `\xff`,
		"\u200bx": `\u200bx`, "ᄒ": `\u1112`, "\u00a0": `\u00a0`, "ा": `\u093e`,
	} {
		if got := Cell(out); got != want {
			t.Errorf("%q is shown as %q, want %q", out, got, want)
		}
	}
}
