package text

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tollstream/tollstream/internal/corpus"
)

func TestFigures(t *testing.T) {
	for got, want := range map[string]string{
		Number(1234567):                     "1,234,567",
		Count(1, "event"):                   "1 event",
		Count(2000, "event"):                "2,000 events",
		Seconds(4 * time.Millisecond):       "4 ms",
		Seconds(520 * time.Millisecond):     "0.52 s",
		Seconds(12345 * time.Millisecond):   "12.3 s",
		Seconds(250 * time.Second):          "4m10s",
		Rate(212_640, time.Second):          "213,000",
		Rate(1234, time.Second):             "1,234",
		Rate(101, 10*time.Second):           "10.1",
		Rate(5, 0):                          "0",
		Rate(1_000_000, 2*time.Second) + "": "500,000",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSparkline(t *testing.T) {
	if got := Sparkline([]int64{-1, 0, 1, 2, 4, 8, 7, 800}, 800); got != " ·▁▁▁▁▁█" {
		t.Error(got)
	}
	if got := Sparkline([]int64{1, 2, 3, 4, 5, 6, 7, 8}, 8); got != "▁▂▃▄▅▆▇█" {
		t.Error(got)
	}
}

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		n, total int64
		want     string
	}{{0, 0, "0%"}, {0, 9, "0%"}, {1, 1000, "<1%"}, {1, 3, "33%"}, {3, 3, "100%"}} {
		if got := Percent(c.n, c.total); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.n, c.total, got, c.want)
		}
	}
}

func TestMinutes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 min", 9: "9 min", 60: "1 h", 79: "1 h 19 min", 1439: "23 h 59 min", 1440: "1 day",
		1441: "1 day", 1500: "1 day 1 h", 2880: "2 days", 527_040: "366 days",
	} {
		if got := Minutes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestRounding(t *testing.T) {
	for x, want := range map[float64]string{0: "0.0", -0.04: "0.0", 0.05: "+0.1", -7.44: "−7.4",
		12: "+12.0"} {
		if got := Signed(x); got != want {
			t.Errorf("%v: %s, want %s", x, got, want)
		}
	}
	for _, c := range []struct {
		events, tooLate int64
		want            string
	}{{0, 0, "100 %"}, {5, 0, "100 %"}, {99_999, 1, "99.9 %"}, {1, 2, "33.3 %"}, {0, 2, "0.0 %"}} {
		if got := Completeness(c.events, c.tooLate); got != c.want {
			t.Errorf("%d, %d: %s, want %s", c.events, c.tooLate, got, c.want)
		}
	}
}

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

func TestWriteJSON(t *testing.T) {
	var b strings.Builder
	if err := WriteJSON(&b, map[string]any{"a": "<&>"}); err != nil ||
		b.String() != "{\n  \"a\": \"<&>\"\n}\n" {
		t.Errorf("%q %v", b.String(), err)
	}
}

// TestStatusLine writes lines while a status is shown: they never share a line of the terminal.
func TestStatusLine(t *testing.T) {
	var out bytes.Buffer
	s := &StatusLine{out: &out, shown: true}
	s.Set("10 events")
	for _, lines := range []string{"log\n", "begun ", "and ended\n"} {
		if n, err := s.Write([]byte(lines)); n != len(lines) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	s.Set("20 events")
	s.Set("20 events") // as it was
	s.Set("")
	const clear = "\r\x1b[K"
	if got, want := out.String(), "10 events"+clear+"log\n10 events"+clear+
		"begun and ended\n10 events"+clear+"20 events"+clear; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}

	out.Reset()
	s = NewStatusLine(&out) // no terminal
	s.Set("10 events")
	if _, err := s.Write([]byte("log\n")); err != nil || out.String() != "log\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
