package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hostileTypes are vehicle types that mean something to SQL, to terminals, to spreadsheets, to
// pages or to formats.
var hostileTypes = []string{
	`'; DROP TABLE`, `' OR ''='`, `x') -- `[:6], `\`, `\'`, `"`, "`", `%s%n`, `\N`, `NULL`, `${HOME}`,
	`$(id)`,
	"\x1b[2J", "\x1b]0;owned\x07", "\u009b31m", "\x08\x08\x08car", "car\rtruck", "a\nb", "a\tb",
	"a\x00b", "\x00", "\x7f",
	"\u202ekcurt", "\u2066x\u2069", "a\u200bb", "\ufeffcar", "e\u0301", "\u05d0\u05d1",
	"\u0634\u0627\u062d\u0646\u0629", "\U0001f69b", "\U000e0041tag", "a\u2028b", "a\u2029b",
	"a\u0085b", "\ufffd", "\ufff9x\ufffb",
	"=1+1", "+1", "-1", "@SUM(1)", "=cmd|' /C x'!A", "\t=1", "<script>", "<img src=x>", "&amp;", "]]>",
	"{{7*7}}", "(other)", "constructor", "__proto__",
	"Car", "CAR", "\uff23ar", strings.Repeat("\U0001f69b", 15), strings.Repeat("x", 15),
}

// hostileCSV reports whether CSV holds a vehicle type without quotes around it.
func hostileCSV(typ string) bool {
	return !strings.ContainsAny(typ, ",\n\r") && strings.TrimSpace(typ) == typ &&
		!strings.HasPrefix(typ, `"`)
}

// TestHostileText sends texts that mean something to what they pass through, in every field and
// format. Each is a row, letter by letter, or a dead letter, and nothing that shows them lets them
// act.
func TestHostileText(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	truth := newTruth()
	s := w.sender(truth)
	vehicle := 0
	event := func(payload []byte, typ string, headers ...kgo.RecordHeader) {
		t.Helper()
		r := &kgo.Record{Value: payload, Headers: headers, Key: []byte(typ)}
		if err := s.client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		truth.sent(fmt.Sprintf("2022-02-10 10:23:02,%d,%s,4001", vehicle, typ))
	}
	rows := 0
	for _, typ := range hostileTypes {
		if strings.TrimSpace(typ) != typ {
			continue // trimmed on the way, see below
		}
		if hostileCSV(typ) {
			vehicle++
			event(fmt.Appendf(nil, "Thu Feb 10 10:23:02 2022,%d,%s,4001", vehicle, typ), typ)
			rows++
		}
		vehicle++
		text, err := json.Marshal(map[string]any{"timestamp": "2022-02-10T10:23:02Z",
			"vehicle_id": vehicle, "vehicle_type": typ, "toll_plaza_id": 4001})
		if err != nil {
			t.Fatal(err)
		}
		event(text, typ, kgo.RecordHeader{Key: "content-type", Value: []byte("application/json")})
		rows++
	}
	garbage := [][]byte{
		// half a surrogate pair
		[]byte(
			`{"timestamp":"2022-02-10T10:23:02Z","vehicle_id":1,"vehicle_type":"\ud83d","toll_plaza_id":4001}`),
		[]byte(
			`{"timestamp":"2022-02-10T10:23:02Z","vehicle_id":1,"vehicle_type":"\udc00\ud800","toll_plaza_id":4001}`),
		[]byte(
			`{"timestamp":"2022-02-10T10:23:02Z","vehicle_id":1,"vehicle_type":"car\ud800x","toll_plaza_id":4001}`),
		[]byte(
			"{\"timestamp\":\"2022-02-10T10:23:02Z\",\"vehicle_id\":1," +
				"\"vehicle_type\":\"\x1b[2J\xff\",\"toll_plaza_id\":4001}"),
		// a NUL as it is
		[]byte(
			"{\"timestamp\":\"2022-02-10T10:23:02Z\",\"vehicle_id\":1," +
				"\"vehicle_type\":\"a\x00b\",\"toll_plaza_id\":4001}"),
		[]byte("\u2028\u2029\u0085\ufeff\u202d"),
		[]byte("Thu Feb 10 10:23:02 2022,1,\xff\xfe,4001"),
		[]byte("Thu Feb 10 10:23:02 2022,1,\xed\xa0\xbd,4001"), // a surrogate in UTF-8
		[]byte("Thu Feb 10 10:23:02 2022,1,\xc0\x80,4001"),     // a longer form of NUL
		[]byte("Thu Feb 10 10:23:02 2022,1,car,4001; DROP TABLE livetolldata"),
		[]byte("\x1b[2J\x1b]52;c;cm0gLXJm\x07,\u202e,,"),
		[]byte("\x1b[31m' OR 1=1 --\x00\u009b\r\n=1+1"),
		[]byte("=HYPERLINK(\"http://example.org\")\x1b[8m"),
		bytes.Repeat([]byte("\x1b[5m"), 1000),
		bytes.Repeat([]byte(`{"a":`), 50_000),
		bytes.Repeat([]byte(`[`), 200_000),
	}
	s.sendRaw(garbage...)
	for _, r := range []*kgo.Record{ // what decides about the reading of a record is hostile too
		{Value: []byte("x"),
			Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("\x1b[2J; charset=\x00")}}},
		{Value: []byte("x"), Key: []byte("\x1b[2J\u202e\xff"),
			Headers: []kgo.RecordHeader{{Key: "tollstream-retry-of", Value: []byte("1:2:3\x1b")}}},
	} {
		if err := s.client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		truth.rejects++
	}
	w.must("process", "--until-end")
	w.exact(truth)
	if got := w.count("SELECT COUNT(*) FROM livetolldata"); got != int64(rows) {
		t.Errorf("%d rows, want %d", got, rows)
	}

	outputs := map[string]string{}
	for _, args := range [][]string{
		{"view"}, {"view", "--plaza", "4001"}, {"view", "--json"}, {"view", "--plaza", "4001",
			"--json"}, {"verify", "--deep"}, {"verify", "--json"},
		{"dead-letters"}, {"dead-letters", "--json"}, {"sql", "by_type"}, {"sql", "by_type",
			"--json"}, {"sql", "top10"}, {"sql", "last_hour"}, {"sql", "late"},
	} {
		name := strings.Join(args, " ")
		outputs[name] = w.must(args...)
		if strings.Contains(name, "json") && !json.Valid([]byte(outputs[name])) {
			t.Errorf("%s prints no JSON:\n%s", name, outputs[name])
		}
	}
	letters, err := w.sql.Query("SELECT partition_id, record_offset FROM toll_dead_letter")
	if err != nil {
		t.Fatal(err)
	}
	defer letters.Close()
	for letters.Next() {
		var partition, offset int64
		if err := letters.Scan(&partition, &offset); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%d:%d", partition, offset)
		outputs["dead-letters show "+name] = w.must("dead-letters", "show", name)
		outputs["dead-letters show --json "+name] = w.must("dead-letters", "show", "--json", name)
	}
	p := w.start("view", "--listen", "127.0.0.1:0")
	base := ""
	w.eventually("an address", time.Minute, func() bool {
		base = regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(p.log.String())
		return base != "" || !p.running()
	})
	for _, path := range []string{"/api/v1/plazas", "/api/v1/plazas/4001",
		"/api/v1/plazas/4001/windows", "/api/v1/dead-letters", "/api/v1/verification", "/metrics", "/",
		"/plazas/4001", "/readyz"} {
		outputs["GET "+path] = httpGet(t, base+path)
	}
	outputs["GET /api/v1/plazas.csv"] = strings.ReplaceAll(httpGet(t, base+"/api/v1/plazas.csv"),
		"\r\n", "\n")
	outputs["GET /api/v1/events"] = httpFirst(t, base+"/api/v1/events")
	outputs["the log of view"] = p.log.String()
	for name, text := range outputs {
		if at := strings.IndexFunc(text, acts); at >= 0 || !utf8.ValidString(text) {
			t.Errorf("%s prints %q", name, text[max(0, at-20):min(len(text), max(0, at)+20)])
		}
	}

	// What JSON holds is what was sent.
	var plaza struct {
		ByType map[string]int64 `json:"by_type"`
		Total  int64            `json:"total"`
	}
	if err := json.Unmarshal([]byte(outputs["view --plaza 4001 --json"]), &plaza); err != nil ||
		plaza.Total != int64(rows) {
		t.Errorf("view: %v, %d", err, plaza.Total)
	}
	apart := 0
	for typ := range plaza.ByType {
		if strings.Contains(strings.Join(hostileTypes, "\x01"), typ) {
			apart++
		}
	}
	if apart != len(plaza.ByType) || len(plaza.ByType) > maxTypes {
		t.Errorf("view counts %d types by name, of which %d were sent: %v", len(plaza.ByType), apart,
			plaza.ByType)
	}
	var listed struct {
		DeadLetters []struct {
			Payload       *string `json:"payload"`
			PayloadBase64 string  `json:"payload_base64"`
			Bytes         int     `json:"payload_bytes"`
		} `json:"dead_letters"`
	}
	if err := json.Unmarshal([]byte(outputs["dead-letters --json"]), &listed); err != nil ||
		len(listed.DeadLetters) != len(garbage)+2 {
		t.Fatalf("%v, %d dead letters", err, len(listed.DeadLetters))
	}
	got := map[string]bool{}
	for _, l := range listed.DeadLetters {
		if l.Payload != nil {
			got[*l.Payload] = true
		} else if raw, err := base64.StdEncoding.DecodeString(l.PayloadBase64); err == nil {
			got[string(raw)] = true
		}
	}
	for _, g := range garbage {
		if !got[string(g)] {
			t.Errorf("the dead letter %q is not as it was sent", g[:min(len(g), 60)])
		}
	}
	// The CSV for spreadsheets holds no formula.
	records, err := csv.NewReader(strings.NewReader(httpGet(t, base+"/api/v1/plazas.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		for _, cell := range record {
			if _, err := strconv.ParseFloat(cell, 64); err != nil && cell != "" &&
				strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				t.Errorf("a cell of the CSV is a formula: %q", cell)
			}
		}
	}
}

// maxTypes is how many vehicle types are counted by name per plaza, the rest being one of them.
const maxTypes = 32

// acts reports whether a terminal or a page does anything but show a character.
func acts(r rune) bool {
	return r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// TestHostileTypes sends very many distinct vehicle types. The rows keep them all; a plaza's count
// keeps some by name and the rest as (other), in a state that stays small.
func TestHostileTypes(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	truth := newTruth()
	s := w.sender(truth)
	const events = 200_000
	for i := range events {
		at := s.clock.Add(time.Duration(i) * time.Second / 20)
		r := &kgo.Record{Value: fmt.Appendf(nil, "%s,%d,type-%d,%d", at.Format(time.ANSIC), i, i,
			4000+i%3)}
		s.client.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
		truth.sent(fmt.Sprintf("%s,%d,type-%d,%d", at.Format(time.DateTime), i, i, 4000+i%3))
	}
	if err := s.client.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if peak := w.peakOf(t, "process", "--until-end"); peak > 400<<20 {
		t.Errorf("process took %d MiB", peak>>20)
	}
	w.exact(truth)
	for _, v := range w.tableValues(t) {
		if len(v) > 4096 {
			t.Errorf("a plaza's state takes %d bytes", len(v))
		}
	}
	if out := w.must("view"); len(out) > 10_000 {
		t.Errorf("view prints %d bytes", len(out))
	}
	if out := w.must("view", "--plaza", "4001", "--json"); len(out) > 200_000 ||
		strings.Count(out, "type-") == 0 {
		t.Errorf("view --plaza prints %d bytes", len(out))
	}
}

// TestHostileBatches sends compressed batches that inflate to many times their size, between
// events. Each becomes one dead letter, and the memory stays within bounds.
func TestHostileBatches(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "2")
	truth := newTruth()
	s := w.sender(truth)
	s.send(1000)
	for _, codec := range []sarama.CompressionCodec{sarama.CompressionGZIP, sarama.CompressionZSTD,
		sarama.CompressionLZ4} {
		w.sendBomb(t, codec, 90<<20)
		truth.rejects++
		s.send(500)
	}
	if peak := w.peakOf(t, "process", "--until-end"); peak > 400<<20 {
		t.Errorf("process took %d MiB", peak>>20)
	} else {
		t.Logf("peak memory %d MiB", peak>>20)
	}
	w.exact(truth)
	if got := w.count(
		"SELECT COUNT(*) FROM toll_dead_letter WHERE reason LIKE 'batch: %inflate%' AND payload_bytes " +
			"BETWEEN 61 AND 1048576"); got != 3 {
		t.Errorf("%d batches are dead letters, want 3:\n%s", got, w.must("dead-letters"))
	}
	w.must("process", "--until-end") // and it does not come again
	w.exact(truth)
}

// TestHostileSizes sends payloads as large as a broker may be configured to take.
func TestHostileSizes(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "1")
	limit := strconv.Itoa(12 << 20)
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin([]string{w.brokers}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.AlterConfig(sarama.TopicResource, w.topic,
		map[string]*string{"max.message.bytes": &limit}, false); err != nil {
		t.Fatal(err)
	}
	truth := newTruth()
	s := w.sender(truth, kgo.ProducerBatchMaxBytes(12<<20), kgo.BrokerMaxWriteBytes(100<<20))
	s.send(100)
	for _, size := range []int{999_000, 1 << 20, 8 << 20, 11 << 20} {
		s.sendRaw(bytes.Repeat([]byte("x"), size))
	}
	s.send(100)
	if peak := w.peakOf(t, "process", "--until-end"); peak > 600<<20 {
		t.Errorf("process took %d MiB", peak>>20)
	} else {
		t.Logf("peak memory %d MiB", peak>>20)
	}
	w.exact(truth)
	if out := w.must("dead-letters"); len(out) > 4000 {
		t.Errorf("dead-letters prints %d bytes", len(out))
	}
}

// httpBody asks for a page; its body is closed when the test ends.
func httpBody(t *testing.T, url string) io.Reader {
	t.Helper()
	client := &http.Client{Timeout: 30 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = answer.Body.Close()
		client.CloseIdleConnections()
	})
	return answer.Body
}

func httpGet(t *testing.T, url string) string {
	t.Helper()
	body, err := io.ReadAll(httpBody(t, url))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// httpFirst returns a stream of events up to the first one that shows the plazas.
func httpFirst(t *testing.T, url string) string {
	t.Helper()
	var said strings.Builder
	for in := bufio.NewReader(httpBody(t, url)); !strings.Contains(said.String(), "event: board\n") ||
		!strings.HasSuffix(said.String(), "\n\n"); {
		line, err := in.ReadString('\n')
		if said.WriteString(line); err != nil {
			t.Fatalf("read the events of %s: %v: %q", url, err, said.String())
		}
	}
	return said.String()
}

// sendBomb sends one compressed batch with one record of so many zeros, which takes a thousandth of
// that on the wire.
func (w *world) sendBomb(t *testing.T, codec sarama.CompressionCodec, size int) {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	cfg.Producer.Return.Successes = true
	cfg.Producer.Compression = codec
	cfg.Producer.MaxMessageBytes = size + 1<<20
	producer, err := sarama.NewSyncProducer([]string{w.brokers}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: w.topic,
		Value: sarama.ByteEncoder(make([]byte, size))}); err != nil {
		t.Fatalf("send a batch compressed by %v: %v", codec, err)
	}
}

// peakOf runs a command that has to succeed and returns the most memory that it had, in bytes.
func (w *world) peakOf(t *testing.T, args ...string) int64 {
	t.Helper()
	p := w.start(args...)
	var peak int64
	for deadline := time.Now().Add(commandTimeout); p.running(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v does not end:\n%s", args, p.log)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			continue // it has ended, or there is no /proc
		}
		if m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status); m != nil {
			kilobytes, _ := strconv.ParseInt(string(m[1]), 10, 64)
			peak = max(peak, kilobytes<<10)
		}
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("%v: exit status %d\n%s", args, code, p.log)
	}
	if testing.Verbose() {
		t.Logf("%s", p.log)
	}
	return peak
}

// tableValues returns all values in the group table's topic.
func (w *world) tableValues(t *testing.T) [][]byte {
	t.Helper()
	topic := w.group + "-table"
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	offsets, err := sarama.NewClient([]string{w.brokers}, sarama.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer offsets.Close()
	partitions, err := offsets.Partitions(topic)
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	for _, p := range partitions {
		end, err := offsets.GetOffset(topic, p, sarama.OffsetNewest)
		if err != nil {
			t.Fatal(err)
		}
		if end > 0 {
			left[p] = end
		}
	}
	var values [][]byte
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			values = append(values, r.Value)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return values
}
