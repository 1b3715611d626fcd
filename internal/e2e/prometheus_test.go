package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/tollstream/tollstream/internal/testkit"
)

// TestPrometheus has Debian's Prometheus scrape two processes and a view, with the configuration
// of docs/observability.md. It asks each query of the dashboard, and provokes what alerts are for,
// as far as that takes seconds: docs/alerts_test.yaml has a case of every rule.
func TestPrometheus(t *testing.T) {
	inParallel(t)
	program, err := exec.LookPath("prometheus")
	testkit.NeedService(t, "Prometheus (Debian's package prometheus)", err == nil)
	w := newWorld(t)
	dir := t.TempDir()
	write := func(name, text string) (file string) {
		t.Helper()
		file = filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	token := write("token", scrapeToken+"\n")
	w.must("init", "--partitions", "2")
	plazas := write("plazas.csv", "id,name,lanes,capacity_per_lane\n4010,Forest,2,\n4011,Lake,2,\n"+
		"4012,Bridge,1,300\n")
	var targets []string
	start := func(args ...string) (restart func() *process) {
		t.Helper()
		addr := freeAddr(t)
		targets = append(targets, addr)
		return func() *process {
			return w.start(append(args, "--metrics-listen", addr, "--token-file", token)...)
		}
	}
	process := func(instance string) *process {
		return start("process", "--load", "insert", "--instance", instance, "--plazas-file", plazas,
			"--state-dir", filepath.Join(dir, instance), "--maintenance-every", "50ms", "--notify-url",
			"http://127.0.0.1:1/")()
	}
	one, two := process("one"), process("two")
	viewed := start("view", "--listen", "127.0.0.1:0")
	view := viewed()
	write("alerts.yaml", quickAlerts(t))
	q := &prometheus{w: w, addr: freeAddr(t)}
	cmd := exec.CommandContext(t.Context(), program,
		"--config.file="+write("prometheus.yaml", scrapeConfig(t, token, targets)),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+q.addr)
	var log testkit.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // the context of the test has ended
		if t.Failed() {
			t.Logf("Prometheus: %s\none: %s\nview: %s", log.Bytes(), one.log, view.log)
		}
	})
	q.has("up == 1", len(targets))
	q.has("tollstream_partitions_owned == 1", 2)
	checkMetrics(t, targets)

	// Forty minutes in which the bridge saturates, and from then on as it happens.
	var lines strings.Builder
	now := time.Now().UTC()
	for at := now.Add(-40 * time.Minute); at.Before(now); at = at.Add(10 * time.Second) {
		for plaza := 4010; plaza <= 4012; plaza++ {
			fmt.Fprintf(&lines, "%s,%d,car,%d\n", at.Format(time.ANSIC), at.Unix()%1e6, plaza)
		}
	}
	w.must("emit", "--from", write("events.csv", lines.String()))
	feed := w.start("emit", "--rate", "30", "--plazas", "4010-4012")
	scraped(t, pageOf(w, view)+"api/v1/verification") // for the panel of requests
	q.dashboard()
	q.fires("InsertMode", "NotificationsNotSent")
	if firing := q.firing(); len(firing) > 5 { // what is rare may still be young
		t.Errorf("so much fires in a sound pipeline: %v", slices.Sorted(maps.Keys(firing)))
	}

	// Records that are no events, rows that MySQL refuses, and a plaza that sends what it kept.
	feed.kill()
	w.exec("ALTER TABLE livetolldata ADD CHECK (vehicle_type <> 'tank')")
	late := now.AddDate(0, 0, -3).Format(time.ANSIC)
	w.must("emit", "--raw", "--from", write("bad", strings.Repeat("no event\n", 500)+
		now.Format(time.ANSIC)+",7,tank,4010\n"))
	kept := w.start("emit", "--rate", "40", "--from", write("late.csv",
		strings.Repeat(late+",7,car,4010\n"+late+",7,car,4011\n", 1000)))
	q.fires("Rejects", "RejectsRising", "RowsRefused", "TooLate", "WatermarkStalled")
	kept.kill()

	// Someone deletes a row.
	w.exec("DELETE FROM livetolldata WHERE toll_plaza_id = 4010 LIMIT 1")
	view.kill()
	view = viewed()
	q.fires("Mismatch")

	// The database is unavailable while events arrive.
	if err := w.db.Kill(); err != nil {
		t.Fatal(err)
	}
	ahead := w.start("emit", "--rate", "4000", "--plazas", "4010-4012", "--start",
		now.AddDate(5, 0, 0).Format(time.DateTime))
	q.fires("NotReady", "Retrying", "LagGrowing")
	ahead.kill()
	if err := w.db.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	q.fires("CommitsSlow", "ClocksDisagree")

	two.kill()
	q.fires("Down", "PartitionsUnowned")
	one.kill()
	q.fires("NoProcess")
}

const scrapeToken = "a-token-of-some-length"

// freeAddr returns a loopback address that nobody listens at.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// pageOf waits until a view serves its page.
func pageOf(w *world, view *process) (url string) {
	w.t.Helper()
	w.eventually("the page", caughtUpWithin, func() bool {
		if found := viewURL.FindStringSubmatch(view.log.String()); found != nil {
			url = found[1]
		}
		return url != ""
	})
	return url
}

// scraped returns what is served to who has the token.
func scraped(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+scrapeToken)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d: %v\n%s", url, answer.StatusCode, err, body)
	}
	return string(body)
}

// checkMetrics has Prometheus' own tool look for what breaks its conventions.
func checkMetrics(t *testing.T, targets []string) {
	t.Helper()
	for _, target := range targets {
		cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
		cmd.Stdin = strings.NewReader(scraped(t, "http://"+target+"/metrics"))
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	}
}

// scrapeConfig returns the configuration of Prometheus in docs/observability.md, for some targets,
// and every half second.
func scrapeConfig(t *testing.T, token string, targets []string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	var config struct {
		Global        map[string]string `yaml:"global"`
		ScrapeConfigs []struct {
			JobName       string                `yaml:"job_name"`
			Authorization map[string]string     `yaml:"authorization"`
			StaticConfigs []map[string][]string `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
		RuleFiles []string `yaml:"rule_files"`
	}
	if err := yaml.Unmarshal([]byte(block), &config); err != nil {
		t.Fatal(err)
	}
	job := &config.ScrapeConfigs[0]
	job.Authorization["credentials_file"] = token
	job.StaticConfigs[0]["targets"] = targets
	config.Global = map[string]string{"scrape_interval": "500ms", "evaluation_interval": "500ms"}
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	alertFor    = regexp.MustCompile(`(?m)^( +for:) \w+$`)
	alertRanges = regexp.MustCompile(`\[(\w+)\]`)
)

// quickAlerts returns the rules of docs/alerts.yaml, with a second in place of each "for", and
// ranges that are 100 times shorter, but of 4 s at least.
func quickAlerts(t *testing.T) string {
	t.Helper()
	rules, err := os.ReadFile("../../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := alertFor.ReplaceAllString(string(rules), "$1 1s")
	return alertRanges.ReplaceAllStringFunc(text, func(r string) string {
		d, err := model.ParseDuration(strings.Trim(r, "[]"))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("[%s]", max(d/100, model.Duration(4*time.Second)))
	})
}

// prometheus is a server that is asked.
type prometheus struct {
	w    *world
	addr string
}

// get asks its API, false where it does not answer.
func (q *prometheus) get(path string, data any) bool {
	q.w.t.Helper()
	answer, err := http.Get("http://" + q.addr + "/api/v1/" + path)
	if err != nil {
		return false // it starts
	}
	defer answer.Body.Close()
	got := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || got.Error != "" {
		if answer.StatusCode == http.StatusServiceUnavailable {
			return false
		}
		q.w.t.Fatalf("%s: %v %s", path, err, got.Error)
	}
	return true
}

// values returns the values of a query that are numbers.
func (q *prometheus) values(expr string) (values []string) {
	q.w.t.Helper()
	var data struct{ Result []struct{ Value [2]any } }
	q.get("query?query="+url.QueryEscape(expr), &data)
	for _, r := range data.Result {
		if v := fmt.Sprint(r.Value[1]); v != "NaN" {
			values = append(values, v)
		}
	}
	return values
}

// has waits until a query has some number of results.
func (q *prometheus) has(expr string, results int) {
	q.w.t.Helper()
	q.w.eventually(expr, caughtUpWithin, func() bool { return len(q.values(expr)) == results })
}

// firing returns the alerts that fire.
func (q *prometheus) firing() map[string]bool {
	q.w.t.Helper()
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	q.get("alerts", &data)
	firing := map[string]bool{}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			firing[strings.TrimPrefix(a.Labels["alertname"], "Tollstream")] = true
		}
	}
	return firing
}

// fires waits until alerts have fired, each at some moment.
func (q *prometheus) fires(alerts ...string) {
	q.w.t.Helper()
	for deadline := time.Now().Add(time.Minute); len(alerts) > 0; time.Sleep(200 * time.Millisecond) {
		firing := q.firing()
		alerts = slices.DeleteFunc(alerts, func(a string) bool { return firing[a] })
		if time.Now().After(deadline) {
			q.w.t.Fatalf("%v do not fire within a minute; others do: %v", alerts,
				slices.Sorted(maps.Keys(firing)))
		}
	}
}

// dashboard waits until each query of the dashboard has a result.
func (q *prometheus) dashboard() {
	q.w.t.Helper()
	text, err := os.ReadFile("../../docs/grafana/tollstream.json")
	if err != nil {
		q.w.t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		q.w.t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$job", "tollstream", "$instance", ".*")
	queries := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries++
			q.w.eventually(panel.Title+": "+target.Expr, caughtUpWithin,
				func() bool { return len(q.values(variables.Replace(target.Expr))) > 0 })
		}
	}
	if queries < 60 {
		q.w.t.Errorf("the dashboard has %d queries", queries)
	}
}
