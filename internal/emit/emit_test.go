package emit

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/topology/kafka"
)

func testFeed(t *testing.T, cfg *Config) *fileFeed {
	t.Helper()
	cfg.Location = time.UTC
	f, err := openFile(t.Context(), cfg, newConsole(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFileGzipAndByteOrderMark(t *testing.T) {
	name := filepath.Join(t.TempDir(), "events") // no .gz: the contents decide
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(file)
	io.WriteString(z, "\xef\xbb\xbfThu Feb 10 10:23:02 2022,3728373,car,4856\n")
	if err := errors.Join(z.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	f := testFeed(t, &Config{From: name})
	item, err := f.next(t.Context(), func() {})
	if err != nil || item.event == nil || item.event.Plaza != 4856 ||
		string(item.payload) != "Thu Feb 10 10:23:02 2022,3728373,car,4856" {
		t.Fatalf("%+v %v", item, err)
	}
	if _, err := f.next(t.Context(), func() {}); err != io.EOF {
		t.Fatal(err)
	}
	if at, length := f.done(); at != length || at == 0 {
		t.Errorf("at %d of %d", at, length)
	}
}

func TestFileFormats(t *testing.T) {
	const csv, json = "Thu Feb 10 10:23:02 2022,1,car,4856\n",
		`{"timestamp":"2022-02-10T10:23:02Z","vehicle_id":1,"vehicle_type":"car","toll_plaza_id":4856}` +
			"\n"
	for _, c := range []struct {
		name, text string
		format     codecs.Format
		want       codecs.Format // of the emitter
		headers    []bool        // whether each line has headers of its own
	}{
		{"csv", csv + csv, codecs.Auto, codecs.CSV, []bool{false, false}},
		{"json", json + json, codecs.Auto, codecs.JSON, []bool{false, false}},
		{"mixed", csv + json, codecs.Auto, codecs.CSV, []bool{false, true}},
		{"mixed the other way", json + csv, codecs.Auto, codecs.JSON, []bool{false, true}},
		{"encoded again", csv + json, codecs.Protobuf, codecs.Protobuf, []bool{false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := testFeed(t, &Config{From: "-", Format: c.format, Stdin: strings.NewReader(c.text)})
			if f.format() != c.want {
				t.Errorf("format %v", f.format())
			}
			for i, want := range c.headers {
				item, err := f.next(t.Context(), func() {})
				if err != nil || (item.headers != nil) != want ||
					(item.payload == nil) != (c.format != codecs.Auto) {
					t.Errorf("line %d: %+v %v", i+1, item, err)
				}
			}
		})
	}
}

func TestInterruptible(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	silent, w := io.Pipe()
	defer w.Close()
	r := interruptible(ctx, silent)
	cancel()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestPacer(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPacer(10)
	p.now = func() time.Time { return now }
	slept := 0
	wait := func(n int64) {
		if !p.wait(t.Context(), n, func() { slept++ }) {
			t.Fatal("ended")
		}
	}
	wait(0)
	now = now.Add(100 * time.Millisecond)
	wait(1) // due right now
	now = now.Add(250 * time.Millisecond)
	wait(2) // late
	wait(3)
	if slept != 0 {
		t.Fatalf("slept %d times", slept)
	}
	// After an outage of a minute the pacer does not catch up.
	now = now.Add(time.Minute)
	wait(4)
	if due := p.began.Add(p.offset(5)); due.Before(now) {
		t.Errorf("after an outage the next event was due %v ago", now.Sub(due))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p.wait(ctx, 5, func() {}) || newPacer(0).wait(ctx, 0, nil) {
		t.Error("continues after the end")
	}
}

func TestParseTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"2022-02-10 10:23:02":       "2022-02-10 10:23:02 +0100",
		"2022-02-10T10:23:02":       "2022-02-10 10:23:02 +0100",
		"2022-02-10T09:23:02Z":      "2022-02-10 10:23:02 +0100",
		"2022-02-10T10:23:02-05:00": "2022-02-10 16:23:02 +0100",
		"0999-01-01 00:00:00":       "error",
		"2022-02-30 00:00:00":       "error",
		"10:23":                     "error",
	} {
		got := "error"
		if at, err := ParseTime(text, berlin); err == nil {
			got = at.Format("2006-01-02 15:04:05 -0700")
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// TestLinesLeftOut: what was not sent is named and fails, unless it is allowed; --raw sends bad
// lines, but none that is too long.
func TestLinesLeftOut(t *testing.T) {
	const line = "Thu Feb 10 10:23:02 2022,3728373,car,4856\n"
	for _, c := range []struct {
		text string
		raw  bool
		sent int
		want string // error
	}{
		{text: line + line, sent: 2},
		{text: line + "rubbish\n" + line, sent: 2, want: "left out 1 line that is no event"},
		{text: line + "rubbish\n" + line, raw: true, sent: 3},
		{text: line + strings.Repeat("x", 5<<20) + "\n\n" + line, sent: 2,
			want: "left out 1 line longer than 4 MiB"},
		{text: line + strings.Repeat("x", 5<<20) + "\nrubbish\nrubbish", raw: true, sent: 3,
			want: "left out 1 line longer than 4 MiB"},
		{text: strings.Repeat("x", 5<<20) + "\nrubbish\nrubbish",
			want: "left out 2 lines that are no events and 1 line longer than 4 MiB"},
	} {
		var printed strings.Builder
		f, err := openFile(t.Context(), &Config{From: "-", Raw: c.raw, Location: time.UTC,
			Stdin: strings.NewReader(c.text)}, newConsole(&printed))
		if err != nil {
			t.Fatal(err)
		}
		sent := 0
		for {
			if _, err = f.next(t.Context(), func() {}); err != nil {
				break
			}
			sent++
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		got := ""
		if err := f.leftOut(); err != nil {
			got = err.Error()
		}
		if sent != c.sent || got != c.want {
			t.Errorf("%.60q, raw %v: sent %d, %q, want %d, %q", c.text, c.raw, sent, got, c.sent, c.want)
		}
		if strings.Contains(c.want, "longer") && !strings.Contains(printed.String(), "longer than") {
			t.Errorf("the line is not named: %s", &printed)
		}
	}
}

func TestParsePlazas(t *testing.T) {
	for list, want := range map[string]int{
		"4000-4010,4856": 12, "4856": 1, "0-32767": 32768, " 1 , 2 - 3 ": 3,
		"": -1, "1,": -1, "-1": -1, "1-": -1, "32768": -1, "2-1": -1, "1-2-3": -1, "a": -1,
	} {
		plazas, err := ParsePlazas(list)
		got := len(plazas)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d (%v), want %d", list, got, err, want)
		}
	}
}

// TestProgress reads what a run reports to systemd, from before Kafka has answered to the end.
func TestProgress(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "toll"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	var p Progress
	status := p.Status("toll", start)
	expect := func(after time.Duration, want string) {
		t.Helper()
		if got := status(start.Add(after)); got != want {
			t.Errorf("the status is %q, want %q", got, want)
		}
	}
	expect(time.Second, "waiting: no answer from Kafka yet · 0 sent")
	if err := Run(t.Context(), Config{Cluster: kafka.Cluster{Brokers: cluster.ListenAddrs()},
		Topic: "toll", Location: time.UTC, Plazas: []int16{4856}, Count: 1200, Progress: &p,
		Stdout: io.Discard, Stderr: io.Discard}); err != nil {
		t.Fatal(err)
	}
	expect(11*time.Second, "120 events/s · 1,200 sent to topic toll")
	p.away(errors.New("no broker"))
	expect(12*time.Second, "waiting: no answer from Kafka: no broker · 1,200 sent")
	p.away(nil)
	expect(13*time.Second, "0 events/s · 1,200 sent to topic toll")
}
