package text

import (
	"bytes"
	"testing"
)

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
