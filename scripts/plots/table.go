package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// row is a figure of docs/performance.md; those that are wanted come in the order of what was asked for.
type row struct {
	name  string // in the report
	title string
}

var rows = []row{
	{"load_data_1_connection_rows_per_second", "`LOAD DATA LOCAL`, 1 connection, rows"},
	{"load_data_4_connections_rows_per_second", "`LOAD DATA LOCAL`, 4 connections, rows"},
	{"process_rows_per_second", "`process`, first fetch to last commit, rows"},
	{"process_over_load_data", "`process` over the better `LOAD DATA`"},
	{"process_over_insert", "`process` with INSERT over the better bare INSERT"},
	{"process_cpu_seconds_per_million", "`process`, CPU"},
	{"process_peak_memory_mb", "`process`, peak memory, highest round"},
	{"merged_behind_stored_seconds", "merged behind stored in a backlog, longest"},
	{"kgo_events_per_second", "franz-go's producer, events"},
	{"emit_events_per_second", "`emit` as fast as it goes, events"},
	{"emit_over_kgo", "`emit` over franz-go's producer"},
	{"produced_to_merged_p50_ms", "produced → merged, p50"},
	{"produced_to_merged_p99_ms", "produced → merged, p99"},
	{"produced_to_visible_p50_ms", "produced → visible in a view, p50"},
	{"produced_to_visible_p99_ms", "produced → visible in a view, p99"},
	{"view_plaza_beyond_count_seconds", "`view --plaza` beyond the count of its rows"},
	{"view_plaza_beyond_count_seconds_indexed", "the same with the optional indexes"},
	{"verify_over_bare", "`verify` over the bare count by plaza"},
	{"verify_over_bare_indexed", "the same with the optional indexes"},
	{"verify_deep_over_bare", "`verify --deep` over the bare scan with checksum"},
	{"verify_deep_over_bare_indexed", "the same with the optional indexes"},
	{"start_to_processing_seconds", "start of `process` until goka has recovered"},
	{"start_to_first_row_seconds", "start of `process` to the first row"},
	{"start_without_state_to_processing_seconds", "the same without local state, until goka has recovered"},
	{"start_without_state_to_first_row_seconds", "the same without local state, to the first row"},
}

// writeTable writes the figures of reports, separated by commas, as a Markdown table; where several have a figure, the
// first counts.
func writeTable(files, into string, stdout io.Writer) error {
	var reports []*report
	for file := range strings.SplitSeq(files, ",") {
		r, err := readReport(file)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	if into == "" {
		_, err := io.WriteString(stdout, table(reports))
		return err
	}
	page, err := os.ReadFile(into)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	text, err := replaceTable(string(page), table(reports))
	if err != nil {
		return fmt.Errorf("%s: %w", into, err)
	}
	return os.WriteFile(into, []byte(text), 0o644)
}

// What stands between these marks of a page is made by writeTable.
const (
	tableBegin = "<!-- figures, written by scripts/plots -table -into -->\n"
	tableEnd   = "<!-- end of figures -->\n"
)

func replaceTable(page, table string) (string, error) {
	before, rest, ok := strings.Cut(page, tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return "", errors.New("the page lacks the marks between which the figures go")
	}
	return before + tableBegin + table + tableEnd + after, nil
}

func table(reports []*report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s, with %s.\n\n", reports[0].Machine, reports[0].Servers)
	b.WriteString("| figure | wanted | measured | lowest – highest | reached | run |\n|---|---|---|---|---|---|\n")
	for _, row := range rows {
		for i, r := range reports {
			f, ok := r.Figures[row.name]
			if !ok {
				continue
			}
			wanted, reached := "", ""
			switch {
			case f.AtLeast != nil:
				wanted = "≥ " + f.withUnit(*f.AtLeast)
			case f.AtMost != nil:
				wanted = "≤ " + f.withUnit(*f.AtMost)
			}
			if f.Reached != nil {
				if reached = "**no**"; *f.Reached {
					reached = "yes"
				}
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s – %s | %s | %d |\n", row.title, wanted, f.withUnit(f.Value), f.text(f.Min), f.text(f.Max), reached, i+1)
			break
		}
	}
	b.WriteString("\nThe runs:\n\n")
	for i, r := range reports {
		fmt.Fprintf(&b, "%d. `%s`", i+1, r.command())
		if r.Verified != "" {
			fmt.Fprintf(&b, "; `verify --deep` at its end: %s", r.Verified)
		}
		b.WriteString("\n")
	}
	return b.String()
}
