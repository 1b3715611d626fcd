package events

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/toll"
)

func TestLineReader(t *testing.T) {
	const limit = 40
	// Sizes around the reader's buffer (16, bufio's smallest) and around the limit.
	var text strings.Builder
	var want []string
	for _, n := range []int{0, 1, 14, 15, 16, 17, 31, 32, 33, 39, 40, 41, 42, 100, 3} {
		line := strings.Repeat("x", n)
		text.WriteString(line + "\r\n")
		if n > limit {
			line = "long"
		}
		want = append(want, line)
	}
	text.WriteString("last")
	want = append(want, "last")
	for name, source := range map[string]io.Reader{
		"whole":  strings.NewReader(text.String()),
		"1 byte": iotest.OneByteReader(strings.NewReader(text.String())),
	} {
		r := &lineReader{r: bufio.NewReaderSize(source, 16), limit: limit}
		for i, w := range want {
			line, err := r.next()
			got := string(line)
			if _, ok := errors.AsType[*LongError](err); ok {
				got = "long"
			} else if err != nil {
				t.Fatalf("%s: line %d: %v", name, i+1, err)
			}
			if got != w || r.n != int64(i+1) {
				t.Fatalf("%s: line %d is %q, want %q as line %d", name, r.n, got, w, i+1)
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Fatalf("%s: %v at the end", name, err)
		}
	}
}

func TestLineReaderLongAtEnd(t *testing.T) {
	r := &lineReader{r: bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 50)), 16), limit: 40}
	var long *LongError
	if _, err := r.next(); !errors.As(err, &long) || r.n != 1 {
		t.Fatalf("%v, line %d", err, r.n)
	}
	if _, err := r.next(); err != io.EOF {
		t.Fatal(err)
	}
}

// utf16 encodes ASCII in little-endian UTF-16 with its mark.
func utf16(text string) string {
	out := "\xff\xfe"
	for _, c := range []byte(text) {
		out += string([]byte{c, 0})
	}
	return out
}

func TestReader(t *testing.T) {
	const (
		plain  = "Thu Feb 10 10:23:02 2022,1,car,4856"
		json1  = `{"timestamp":"2022-02-10T10:23:02Z","vehicle_id":1,"vehicle_type":"car","toll_plaza_id":4856}`
		json2  = `{"timestamp":"2022-02-10T10:23:02Z","vehicle_id":2,"vehicle_type":"car","toll_plaza_id":4856}`
		pretty = "{\r\n  \"timestamp\": \"2022-02-10T10:23:02Z\",\n  \"vehicle_id\": 3,\n" +
			"  \"vehicle_type\": \"car\",\n  \"toll_plaza_id\": 4856\n}"
		header = "Plaza,Vehicle ID,Note,Vehicle Type,Timestamp\n"
	)
	for _, c := range []struct{ name, mapping, text, want string }{
		{"lines", "", plain + "\n\n" + plain + "\r\n", "1:1 3:1"},
		{"header row", "", header + "4856,1,,car,2022-02-10 10:23:02\n", "2:1"},
		{"header row, semicolons", "", strings.ReplaceAll(header, ",", ";") +
			"4856;1;a,b;car;2022-02-10 10:23:02\nx;1;;car;2022-02-10 10:23:02\n",
			`2:1 3:toll_plaza_id: "x" is not a whole number`},
		{"header row in UTF-16", "", utf16(header + "4856,1,,car,2022-02-10 10:23:02\n"), "2:1"},
		{"header row behind a byte order mark", "", "\xef\xbb\xbf" + header +
			"4856,1,,car,2022-02-10 10:23:02\n", "2:1"},
		{"header row that is given", "time=When",
			"When,vehicle_id,class,Plaza\n2022-02-10 10:23:02,1,car,4856", "2:1"},
		{"header row without a column", "time=When", plain, `header row: time: no column "When"`},
		{"header row to skip", "header=yes", "a,b,c,d\n" + plain, "2:1"},
		{"quoted lines", "", header +
			"4856,1,\"two\nlines, and a \"\"quote\"\"\",car,2022-02-10 10:23:02\n" +
			"4856,2,,car,2022-02-10 10:23:02\n", "3:1 4:2"},
		{"quote that does not end", "", `Thu Feb 10 10:23:02 2022,1,"car,4856` + "\n" + plain + "\n" + plain,
			"1:event: a quoted field does not end 2:1 3:1"},
		{"JSON lines", "", json1 + "\n" + json2 + "\n", "1:1 2:2"},
		{"lists in lines", "", "[" + json1 + "," + json2 + "]\n[" + json2 + "]\n", "1:1 1:2 2:2"},
		{"values in lines", "", json1 + json2 + "\n" + json1 + " x\n",
			"1:1 1:2 2:event: not JSON: invalid character 'x' after top-level value"},
		{"a bad event in a list", "", "[" + json1 + ",{}," + json2 + "]\n", "1:1 1:time: missing 1:2"},
		{"an envelope", "events=rows toll_plaza_id=$.toll_plaza_id",
			`{"toll_plaza_id":4856,"rows":[` + json1 + "," + json2 + "]}\n" + `{"rows":[` + json1 + "]}",
			`1:1 1:2 2:toll_plaza_id: no value at "$.toll_plaza_id"`},
		{"a list", "", "[\n" + json1 + ",\n" + pretty + "]\n", "1:1 2:3"},
		{"two lists", "", " [\n" + json1 + "]\n[" + json2 + "\n]\n", "1:1 2:2"},
		{"objects over lines", "", pretty + "\n" + pretty + json1, "1:3 2:3 3:1"},
		{"a list that ends early", "", "[\n" + json1 + ",\n", "1:1 unexpected EOF"},
		{"rubbish in a list", "", "[\n" + json1 + ",\nx]",
			"1:1 invalid character 'x' looking for beginning of value"},
		{"a bad line of JSON", "", json1[:20] + "\n" + json1 + "\n",
			"1:event: not JSON: unexpected end of JSON input 2:1"},
		{"mixed", "", plain + "\n" + json2 + "\n", "1:1 2:2"},
		{"nothing", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m *mapping.Mapping
			if c.mapping != "" {
				var err error
				if m, err = mapping.Parse(c.mapping); err != nil {
					t.Fatal(err)
				}
			}
			r, err := NewReader(strings.NewReader(c.text), toll.NewZone(time.UTC), m)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for {
				var e toll.Event
				_, err := r.Next(&e)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil && !errors.Is(err, toll.ErrMalformed) {
					got = append(got, err.Error())
					break
				}
				what := strconv.Itoa(int(e.Vehicle))
				if err != nil {
					what = err.Error()
				}
				got = append(got, strconv.FormatInt(r.Line(), 10)+":"+what)
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
		})
	}
}

func TestReaderBoundsValues(t *testing.T) {
	text := "[\n\"" + strings.Repeat("x", 3*MaxRecord) + "\"]"
	r, err := NewReader(strings.NewReader(text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var e toll.Event
	if _, err := r.Next(&e); err == nil || err.Error() != "value 1 is longer than 4194304 bytes" {
		t.Error(err)
	}
}
