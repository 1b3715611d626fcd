package e2e

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var metricsURL = regexp.MustCompile(`serving metrics url=(http\S+/)metrics`)

// asked is the metrics and probes of a process.
type asked struct {
	t   *testing.T
	url string
}

// metricsOf returns where a process serves its metrics.
func (w *world) metricsOf(p *process) *asked {
	w.t.Helper()
	a := &asked{t: w.t}
	w.eventually("address of the metrics", caughtUpWithin, func() bool {
		found := metricsURL.FindStringSubmatch(p.log.String())
		if found != nil {
			a.url = found[1]
		}
		return found != nil
	})
	return a
}

func (a *asked) get(path string) (status int, body string) {
	a.t.Helper()
	answer, err := http.Get(a.url + path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// value returns the sum of a metric over all of its labels.
func (a *asked) value(name string) float64 {
	a.t.Helper()
	_, text := a.get("metrics")
	sum := 0.
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			if err != nil {
				a.t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// TestOutageMetrics asks a process for its metrics and probes while each of its servers is down and
// comes back.
func TestOutageMetrics(t *testing.T) {
	inParallel(t)
	k := startKafka(t)
	t.Cleanup(func() { _ = k.Close() })
	w := newWorldOn(t, k.Addr(), engine)
	w.must("init")
	truth := newTruth()
	s := w.sender(truth)
	p := w.start("process", "--batch-rows", "500", "--metrics-listen", "127.0.0.1:0")
	a := w.metricsOf(p)
	readiness := func(what string, status int, part string) {
		t.Helper()
		w.eventually(what, 2*time.Minute, func() bool {
			got, body := a.get("readyz")
			return got == status && strings.Contains(body, part)
		})
		if got, body := a.get("healthz"); got != http.StatusOK {
			t.Fatalf("%s: /healthz answers %d: %s", what, got, body)
		}
	}
	done := func(what string) {
		t.Helper()
		w.eventually(what, 2*time.Minute, func() bool {
			return a.value("tollstream_rows_stored_total") == float64(truth.total()) &&
				a.value("tollstream_partition_lag_records") == 0 &&
				a.value("tollstream_unpublished_events") == 0 && a.value("tollstream_unmerged_deltas") == 0
		})
	}
	readiness("readiness", http.StatusOK, "ok")
	s.send(2000)
	done("all rows")

	if err := w.db.Kill(); err != nil {
		t.Fatal(err)
	}
	readiness("notice of the dead database", http.StatusServiceUnavailable, "mysql: ")
	const waiting = 30_000 // more than fits into memory
	s.send(waiting)
	w.eventually(fmt.Sprintf("lag of %d records", waiting), 2*time.Minute, func() bool {
		return a.value("tollstream_partition_lag_records") == waiting
	})
	if err := w.db.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	readiness("recovery of the database", http.StatusOK, "ok")
	done("all rows after the database was killed")
	if a.value("tollstream_retries_total") == 0 {
		t.Error("no retry was counted")
	}

	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	readiness("notice of the dead broker", http.StatusServiceUnavailable, "kafka: ")
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	readiness("recovery of the broker", http.StatusOK, "ok")
	s.send(2000)
	done("all rows after the broker was killed")
	w.must("health", a.url)
	if took, code := p.interrupt(); code != 0 || took > stopsWithin {
		t.Fatalf("an interrupt took %v, exit status %d", took, code)
	}
	w.exact(truth)
}
