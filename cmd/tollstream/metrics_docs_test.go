package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	grafana "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/tollstream/tollstream/internal/testkit"
)

var update = flag.Bool("update", false, "write the table of docs/observability.md again")

const docs = "../../docs/"

// scrape is what process and view served.
type scrape struct{ process, view map[string]*dto.MetricFamily }

// known returns what is known of a metric as PromQL names it: a histogram has three names.
func (s *scrape) known(name string) *dto.MetricFamily {
	for _, families := range []map[string]*dto.MetricFamily{s.process, s.view} {
		if f := families[name]; f != nil {
			if f.GetType() == dto.MetricType_HISTOGRAM {
				return nil // it has no series of that name
			}
			return f
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base, ok := strings.CutSuffix(name, suffix)
			if f := families[base]; ok && f.GetType() == dto.MetricType_HISTOGRAM {
				return f
			}
		}
	}
	return nil
}

// labelsOf returns the labels of a metric, ascending.
func labelsOf(f *dto.MetricFamily) []string {
	found := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			found[l.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// targetLabels are those that Prometheus adds.
var targetLabels = []string{"job", "instance"}

// synthetic are metrics that Prometheus makes itself.
var synthetic = []string{"up"}

// checkExpr returns what is wrong with a PromQL expression, given what is served, and adds the
// metrics that it uses.
func checkExpr(s *scrape, expr string, used map[string]bool) (problems []string) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	labels := map[string]bool{}
	for _, l := range targetLabels {
		labels[l] = true
	}
	var grouped []string
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			own := map[string]bool{"__name__": true}
			for _, l := range targetLabels {
				own[l] = true
			}
			if !slices.Contains(synthetic, n.Name) {
				f := s.known(n.Name)
				if f == nil {
					problems = append(problems, fmt.Sprintf("no metric is named %q", n.Name))
					return nil
				}
				used[f.GetName()] = true
				for _, l := range labelsOf(f) {
					own[l], labels[l] = true, true
				}
				if strings.HasSuffix(n.Name, "_bucket") {
					own["le"], labels["le"] = true, true
				}
				for _, m := range n.LabelMatchers {
					if m.Name != "__name__" && m.Type.String() == "=" && !slices.Contains(targetLabels, m.Name) &&
						own[m.Name] && !hasValue(f, m.Name, m.Value) {
						problems = append(problems, fmt.Sprintf("%s has no %s=%q", n.Name, m.Name, m.Value))
					}
				}
			}
			for _, m := range n.LabelMatchers {
				if !own[m.Name] {
					problems = append(problems, fmt.Sprintf("%s has no label %s", n.Name, m.Name))
				}
			}
		case *parser.AggregateExpr:
			grouped = append(grouped, n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				grouped = append(grouped, n.VectorMatching.MatchingLabels...)
			}
		}
		return nil
	})
	for _, l := range grouped {
		if !labels[l] {
			problems = append(problems, fmt.Sprintf("nothing in it has a label %s", l))
		}
	}
	return problems
}

// hasValue reports whether a metric has a label with a value.
func hasValue(f *dto.MetricFamily, name, value string) bool {
	return slices.ContainsFunc(f.GetMetric(), func(m *dto.Metric) bool {
		for _, b := range m.GetHistogram().GetBucket() {
			if name == "le" && (value == "+Inf" || value == fmt.Sprint(b.GetUpperBound())) {
				return true
			}
		}
		return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
			return l.GetName() == name && l.GetValue() == value
		})
	})
}

// TestCheckExpr holds the check itself to expressions that are wrong.
func TestCheckExpr(t *testing.T) {
	pointer := func(s string) *string { return &s }
	family := func(name string, typ dto.MetricType, label, value string) *dto.MetricFamily {
		m := &dto.Metric{}
		if label != "" {
			m.Label = []*dto.LabelPair{{Name: pointer(label), Value: pointer(value)}}
		}
		return &dto.MetricFamily{Name: pointer(name), Type: &typ, Metric: []*dto.Metric{m}}
	}
	s := &scrape{process: map[string]*dto.MetricFamily{
		"a_total": family("a_total", dto.MetricType_COUNTER, "kind",
			"x"), "b_seconds": family("b_seconds", dto.MetricType_HISTOGRAM, "", ""),
	}}
	for expr, want := range map[string]string{
		`sum by (job, kind) (rate(a_total{kind="x", instance="i"}[5m]))`:   "",
		`histogram_quantile(.5, sum by (le) (rate(b_seconds_bucket[5m])))`: "",
		`a_total / on (job) b_seconds_count`:                               "",
		`up == 0`:                                                          "",
		`a_total{kind=~"y.*"}`:                                             "",
		`sum(`:                                                             "parse error",
		`c_total`:                                                          `no metric is named "c_total"`,
		`b_seconds`:                                                        `no metric is named "b_seconds"`,
		`a_bucket`:                                                         `no metric is named "a_bucket"`,
		`a_total{kind="y"}`:                                                `a_total has no kind="y"`,
		`a_total{sort="x"}`:                                                "a_total has no label sort",
		`sum by (le) (a_total)`:                                            "nothing in it has a label le",
		`a_total and on (place) b_seconds_sum`:                             "nothing in it has a label place",
		`sum without (color) (a_total)`:                                    "nothing in it has a label color",
		`up{kind="x"}`:                                                     "up has no label kind",
		`{job="x"}`:                                                        `no metric is named ""`,
		`sum(rate(a_total[5m])) > 1 and sum by (plaza) (increase(b_seconds_bucket[5m])) > 0`: "" +
			"nothing in it has a label plaza",
	} {
		used := map[string]bool{}
		got := strings.Join(checkExpr(s, expr, used), "; ")
		if got != want && (want != "parse error" || !strings.Contains(got, want)) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

// testMetricsDocs holds docs/observability.md, the dashboard and the alerts to what is served.
func testMetricsDocs(t *testing.T, s *scrape) {
	used := map[string]bool{}
	t.Run("table", func(t *testing.T) { checkTable(t, s) })
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, s, used) })
	t.Run("alerts", func(t *testing.T) { checkAlerts(t, s, used) })
	t.Run("used", func(t *testing.T) {
		for _, families := range []map[string]*dto.MetricFamily{s.process, s.view} {
			for name := range families {
				if ours(name) && !used[name] {
					t.Errorf("%s is in neither the dashboard nor the alerts", name)
				}
			}
		}
	})
}

func ours(name string) bool { return strings.HasPrefix(name, "tollstream_") }

var metricsTable = regexp.MustCompile(`(?s)(<!-- This table is written by:[^\n]*-->\n)(.*?)(\n## )`)

// checkTable compares the table of all metrics with those that are served, or writes it.
func checkTable(t *testing.T, s *scrape) {
	var b strings.Builder
	b.WriteString("\n| metric | type | labels | of | meaning |\n|---|---|---|---|---|\n")
	names := map[string]bool{}
	for _, families := range []map[string]*dto.MetricFamily{s.process, s.view} {
		for name := range families {
			names[name] = names[name] || ours(name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !names[name] {
			continue
		}
		var of []string
		var f *dto.MetricFamily
		for _, from := range []struct {
			name     string
			families map[string]*dto.MetricFamily
		}{{"process", s.process}, {"view", s.view}} {
			if found := from.families[name]; found != nil {
				of, f = append(of, from.name), found
			}
		}
		var labels []string
		for _, l := range labelsOf(f) {
			labels = append(labels, "`"+l+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()),
			strings.Join(labels, ", "), strings.Join(of, ", "), f.GetHelp())
	}
	text, err := os.ReadFile(docs + "observability.md")
	if err != nil {
		t.Fatal(err)
	}
	found := metricsTable.FindSubmatch(text)
	if found == nil {
		t.Fatal("docs/observability.md has no place for the table")
	}
	if string(found[2]) == b.String() {
		return
	}
	if *update {
		text = metricsTable.ReplaceAll(text,
			[]byte("${1}"+strings.ReplaceAll(b.String(), "$", "$$")+"${3}"))
		if err := os.WriteFile(docs+"observability.md", text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf(
		"docs/observability.md is not what is served; run: go test ./cmd/tollstream -run "+
			"TestProcessMetrics -update\nis\n%s\nwant\n%s", found[2], b.String())
}

// checkDashboard looks at each query of the dashboard, wherever it stands.
func checkDashboard(t *testing.T, s *scrape, used map[string]bool) {
	text, err := os.ReadFile(docs + "grafana/tollstream.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard map[string]any
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	// What Grafana puts in.
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", "tollstream", "$instance", ".*")
	queries := 0
	ids := map[float64]bool{}
	var visit func(where string, v any)
	visit = func(where string, v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				visit(where, e)
			}
		case map[string]any:
			if title, ok := v["title"].(string); ok {
				where = title
				if id, ok := v["id"].(float64); ok {
					if ids[id] {
						t.Errorf("%s: the id %v is taken", where, id)
					}
					ids[id] = true
				}
			}
			if expr, ok := v["expr"].(string); ok {
				queries++
				for _, problem := range checkExpr(s, variables.Replace(expr), used) {
					t.Errorf("%s: %s: %s", where, expr, problem)
				}
			}
			if query, ok := v["definition"].(string); ok {
				inner := regexp.MustCompile(`^label_values\((.*), \w+\)$`).FindStringSubmatch(query)
				if inner == nil {
					t.Errorf("%s: %q", where, query)
				} else if problems := checkExpr(s, variables.Replace(inner[1]), used); len(problems) > 0 {
					t.Errorf("%s: %v", query, problems)
				}
			}
			for _, e := range v {
				visit(where, e)
			}
		}
	}
	visit("", dashboard)
	if queries < 40 {
		t.Errorf("%d queries were found", queries)
	}
}

// TestDashboard decodes the dashboard with Grafana's own types, which know what it requires.
func TestDashboard(t *testing.T) {
	for _, panel := range []variants.PanelcfgConfig{stat.VariantConfig(), table.VariantConfig(),
		statetimeline.VariantConfig(), timeseries.VariantConfig()} {
		cog.NewRuntime().RegisterPanelcfgVariant(panel)
	}
	cog.NewRuntime().RegisterDataqueryVariant(grafana.VariantConfig())
	text, err := os.ReadFile(docs + "grafana/tollstream.json")
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 the schema of files that Grafana imports; the new one is of its API
	var d dashboard.Dashboard
	// Without a problem it returns an empty list of errors, which is not nil.
	for _, err := range []error{d.UnmarshalJSONStrict(text), d.Validate()} {
		if err != nil && err.Error() != "" {
			t.Error(err)
		}
	}
}

// alertRules is a file of alert rules as Prometheus reads it. promtool checks the templates, too.
type alertRules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr         string
			For                 model.Duration
			Labels, Annotations map[string]string
		}
	}
}

func readAlertRules(t *testing.T) (groups alertRules) {
	t.Helper()
	text, err := os.Open(docs + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	decoder := yaml.NewDecoder(text)
	decoder.KnownFields(true)
	if err := decoder.Decode(&groups); err != nil {
		t.Fatal(err)
	}
	return groups
}

// checkAlerts looks at each rule.
func checkAlerts(t *testing.T, s *scrape, used map[string]bool) {
	rules := map[string]bool{}
	for _, group := range readAlertRules(t).Groups {
		for _, rule := range group.Rules {
			if rules[rule.Alert] || !strings.HasPrefix(rule.Alert, "Tollstream") {
				t.Errorf("alert %q", rule.Alert)
			}
			rules[rule.Alert] = true
			for _, name := range []string{"summary", "description", "runbook"} {
				if rule.Annotations[name] == "" {
					t.Errorf("%s has no %s", rule.Alert, name)
				}
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]) {
				t.Errorf("%s has severity %q", rule.Alert, rule.Labels["severity"])
			}
			for _, problem := range checkExpr(s, rule.Expr, used) {
				t.Errorf("%s: %s", rule.Alert, problem)
			}
		}
	}
	if len(rules) < 15 {
		t.Errorf("%d alerts", len(rules))
	}
	for _, test := range readAlertTests(t).Tests {
		for _, series := range test.InputSeries {
			for _, problem := range checkExpr(s, series.Series, map[string]bool{}) {
				t.Errorf("docs/alerts_test.yaml: %s: %s: %s", test.Name, series.Series, problem)
			}
		}
	}
}

// alertTests is a file of tests of alert rules, as far as we read it.
type alertTests struct {
	Tests []struct {
		Name        string
		InputSeries []struct{ Series string } `yaml:"input_series"`
		ExprTests   []struct {
			Expr    string
			Samples []any `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
	}
}

func readAlertTests(t *testing.T) (tests alertTests) {
	t.Helper()
	text, err := os.ReadFile(docs + "alerts_test.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &tests)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// TestAlertRules has Prometheus' own tool run the tests of the alert rules: each fires in one, and
// does not in another.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range readAlertTests(t).Tests {
		for _, e := range test.ExprTests {
			for _, name := range regexp.MustCompile(`Tollstream\w+`).FindAllString(e.Expr, -1) {
				fires[name] = fires[name] || len(e.Samples) > 0
				silent[name] = silent[name] || len(e.Samples) == 0
			}
		}
	}
	for _, group := range readAlertRules(t).Groups {
		for _, rule := range group.Rules {
			if !fires[rule.Alert] || !silent[rule.Alert] {
				t.Errorf("docs/alerts_test.yaml: %s fires %v, and is silent %v, want a case of each",
					rule.Alert, fires[rule.Alert], silent[rule.Alert])
			}
		}
	}
	promtool, err := exec.LookPath("promtool")
	testkit.NeedService(t, "promtool (Debian's package prometheus has it)", err == nil)
	for _, args := range [][]string{{"check", "rules", docs + "alerts.yaml"},
		{"test", "rules", docs + "alerts_test.yaml"}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
