//go:build unix

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/devstack"
)

// volume is the folder of a topic's first partition, on a broker of its own.
type volume struct {
	*world
	kafka  *devstack.Kafka
	folder string
}

// newVolume returns a world whose topic has one partition, of which a test can put back an older
// copy.
func newVolume(t *testing.T) *volume {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "kafka")
	k, err := devstack.StartKafka(context.Background(),
		devstack.KafkaConfig{Jars: kafkaJars(t), Addr: "127.0.0.1:0", Dir: dir})
	if err != nil {
		t.Fatalf("start Kafka: %v", err)
	}
	t.Cleanup(func() { _ = k.Close() })
	w := newWorldOn(t, k.Addr(), engine)
	w.must("init", "--partitions", "1")
	return &volume{w, k, filepath.Join(dir, "data", w.topic+"-0")}
}

// copied stops the broker, copies the partition and starts the broker.
func (v *volume) copied() (dir string) {
	v.t.Helper()
	dir = filepath.Join(v.t.TempDir(), "copy")
	v.whileStopped(func() error { return os.CopyFS(dir, os.DirFS(v.folder)) })
	return dir
}

// restored puts a copy in the place of the partition: its log loses its end.
func (v *volume) restored(dir string) {
	v.t.Helper()
	v.whileStopped(func() error { return v.replace(dir) })
}

func (v *volume) replace(dir string) error {
	if err := os.RemoveAll(v.folder); err != nil {
		return err
	}
	return os.CopyFS(v.folder, os.DirFS(dir))
}

func (v *volume) whileStopped(do func() error) {
	v.t.Helper()
	if err := v.kafka.Kill(); err != nil {
		v.t.Fatal(err)
	}
	if err := do(); err != nil {
		v.t.Fatal(err)
	}
	if err := v.kafka.Restart(v.t.Context()); err != nil {
		v.t.Fatal(err)
	}
}

// shortened stores 800 records and takes the log back to the first 500.
func (v *volume) shortened() {
	v.t.Helper()
	v.sender(newTruth()).send(500)
	older := v.copied()
	v.sender(newTruth()).send(300)
	v.untilEnd()
	if n := v.count(`SELECT COUNT(*) FROM livetolldata`); n != 800 {
		v.t.Fatalf("%d rows, want 800", n)
	}
	v.restored(older)
}

// refusesLog checks that processes refuse the log and store nothing.
func (v *volume) refusesLog(texts ...string) {
	v.t.Helper()
	for range 2 {
		v.refuses([]string{"process", "--until-end"},
			append([]string{"the log was replaced, or lost its end", "tollstream accept-log"}, texts...)...)
	}
	if n := v.count(`SELECT COUNT(*) FROM livetolldata`); n != 800 {
		v.t.Fatalf("%d rows, want 800", n)
	}
}

// TestLogReplaced restores the topic's volume to 500 of the 800 records that were stored, and lets
// it grow beyond the cursor: by the offset alone it looks as if nothing had happened. verify sees
// it before any process has run in that log, and after one has.
func TestLogReplaced(t *testing.T) {
	inParallel(t)
	v := newVolume(t)
	v.shortened()
	replaced := func(what string) {
		t.Helper()
		if r := v.verify(); r.Status != "mismatch" ||
			!slices.ContainsFunc(r.Problems, func(p problem) bool { return p.Kind == "log_replaced" }) {
			t.Errorf("%s: verify: %+v", what, r)
		}
	}
	replaced("a shorter log")
	v.sender(newTruth()).send(900)
	replaced("a log that has grown")
	v.refusesLog("the record at offset 799 is not the one that was stored")
	replaced("a log that was refused")
	if why := v.text(`SELECT log_replaced FROM toll_cursor`); !strings.Contains(why,
		"partition 0 of topic "+v.topic) {
		t.Errorf("toll_cursor.log_replaced is %q", why)
	}
	r := v.run("accept-log")
	for _, text := range []string{"--yes is missing", "the record at offset 799 is not the one",
		"at most 800 rows below offset 800 have no record in it", "tollstream accept-log --yes"} {
		if r.code != 2 || !strings.Contains(r.stderr, text) {
			t.Errorf("accept-log: exit status %d, stderr lacks %q:\n%s", r.code, text, r.stderr)
		}
	}
	v.refusesLog()
	v.must("accept-log", "--yes")
	v.untilEnd()
	if n := v.count(`SELECT COUNT(*) FROM livetolldata`); n != 1400 {
		t.Errorf("%d rows, want 1400", n)
	}
	if r := v.verify("--deep"); r.Status != "exact" {
		t.Errorf("after accept-log: %+v", r)
	}
	if text := v.must("verify"); !strings.Contains(text,
		"exact but for a log that was replaced and accepted") ||
		!strings.Contains(text, "note: partition 0 continues in a replaced log") {
		t.Errorf("verify does not name the accepted log:\n%s", text)
	}
	if text := v.must("accept-log"); !strings.Contains(text, "nothing to accept") {
		t.Errorf("accept-log again: %s", text)
	}
}

// TestLogRetention deletes all that was stored from the topic: that is no other log, and it is
// reported as not checked.
func TestLogRetention(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "1")
	s := w.sender(newTruth())
	s.send(800)
	w.untilEnd()
	if err := w.admin().DeleteRecords(w.topic, map[int32]int64{0: 800}); err != nil {
		t.Fatal(err)
	}
	if text := w.must("verify"); !strings.Contains(text,
		"it was not checked whether the log is still the one that was stored") ||
		!strings.Contains(text, "retention deleted the record at offset 799") {
		t.Errorf("verify:\n%s", text)
	}
	s.send(100)
	if log := w.untilEnd(); !strings.Contains(log,
		"it was not checked whether the log is still the one that was stored") {
		t.Errorf("process:\n%s", log)
	}
	if text := w.must("verify"); strings.Contains(text, "not checked whether") {
		t.Errorf("verify after another batch:\n%s", text)
	}
}

// TestLogShorter refuses a log that ends below the cursor, and refuses it still when it has grown
// beyond.
func TestLogShorter(t *testing.T) {
	inParallel(t)
	v := newVolume(t)
	v.shortened()
	v.refusesLog("the log ends at offset 500, and up to 800 was stored of it")
	v.sender(newTruth()).send(900)
	v.refusesLog("the log ends at offset 500, and up to 800 was stored of it")
}

// TestLogReplacedWhileRunning kills the broker under a running process, restores the volume and
// fills it beyond the cursor before the process may talk to it again.
func TestLogReplacedWhileRunning(t *testing.T) {
	inParallel(t)
	v := newVolume(t)
	v.sender(newTruth()).send(500)
	older := v.copied()
	v.sender(newTruth()).send(300)
	p := v.start("process", "--reconcile", "1s", "--session-timeout", "1m")
	v.eventually("800 rows", caughtUpWithin, func() bool {
		return v.count(`SELECT COUNT(*) FROM livetolldata`) == 800
	})
	if err := v.kafka.Kill(); err != nil {
		t.Fatal(err)
	}
	p.suspend() // so that it reads the log only once that is longer
	if err := v.replace(older); err != nil {
		t.Fatal(err)
	}
	if err := v.kafka.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.sender(newTruth()).send(900)
	p.resume()
	v.eventually("the end of process", caughtUpWithin, func() bool { return !p.running() })
	for _, text := range []string{"the log was replaced, or lost its end", "tollstream accept-log"} {
		if !strings.Contains(p.log.String(), text) {
			t.Errorf("process does not say %q:\n%s", text, p.log)
		}
	}
	v.refusesLog()
}

// TestResetLosesRows: what retention deleted from the topic can't be replayed, so reset demands to
// be told.
func TestResetLosesRows(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "1")
	s := w.sender(newTruth())
	s.send(500)
	w.untilEnd()
	s.send(300)
	w.untilEnd()
	if err := w.admin().DeleteRecords(w.topic, map[int32]int64{0: 500}); err != nil {
		t.Fatal(err)
	}
	const lost = "500 rows of livetolldata can't be replayed, since the topic no longer holds " +
		"their records"
	if r := w.run("reset"); r.code != 2 || !strings.Contains(r.stderr, lost) ||
		!strings.Contains(r.stderr, "tollstream reset --yes --lose-rows") {
		t.Errorf("reset: exit status %d:\n%s", r.code, r.stderr)
	}
	w.refuses([]string{"reset", "--yes"}, lost, "tollstream reset --yes --lose-rows")
	if n := w.count(`SELECT COUNT(*) FROM livetolldata`); n != 800 {
		t.Fatalf("%d rows, want 800", n)
	}
	if err := w.admin().DeleteRecords(w.topic, map[int32]int64{0: 510}); err != nil {
		t.Fatal(err)
	}
	// a batch holds offsets below and above
	w.refuses([]string{"reset", "--yes"}, "at most ", " rows of livetolldata can't be replayed")
	w.must("reset", "--yes", "--lose-rows")
	w.untilEnd()
	if n := w.count(`SELECT COUNT(*) FROM livetolldata`); n != 290 {
		t.Errorf("after the replay: %d rows, want 290", n)
	}
}

// TestSkipGone: records that retention deleted before they were stored are not called offsets
// without a record.
func TestSkipGone(t *testing.T) {
	inParallel(t)
	w := newWorld(t)
	w.must("init", "--partitions", "1")
	s := w.sender(newTruth())
	s.send(100)
	w.untilEnd()
	s.send(80)
	if err := w.admin().DeleteRecords(w.topic, map[int32]int64{0: 150}); err != nil {
		t.Fatal(err)
	}
	w.refuses([]string{"process", "--until-end"}, "offsets 100 to 149 of partition 0", "--skip-gone")
	w.untilEnd("--skip-gone")
	w.untilEnd()
	text := w.must("verify")
	if !regexp.MustCompile(
		`(?m)^gone +50  records deleted by the topic's retention before they were stored`).MatchString(
		text) ||
		!regexp.MustCompile(`(?m)^skipped +0 `).MatchString(text) {
		t.Errorf("verify:\n%s", text)
	}
}

// text runs a query that gives one text.
func (w *world) text(query string, args ...any) string {
	w.t.Helper()
	var s string
	if err := w.sql.QueryRow(query, args...).Scan(&s); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	return s
}
