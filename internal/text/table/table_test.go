package table

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	table := New(&b, Left("Plaza"), Right("Events"))
	table.AppendRow([]any{"4856", "1,234"})
	table.AppendRow([]any{"4000", 5})
	if err := table.Render(); err != nil {
		t.Fatal(err)
	}
	want := "Plaza  Events\n───────────────\n4856    1,234\n4000        5\n"
	if got := b.String(); strings.ReplaceAll(got, " \n", "\n") != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// TestNarrow breaks the longest texts at spaces where a terminal is narrow, and leaves numbers
// whole.
func TestNarrow(t *testing.T) {
	var b strings.Builder
	table := New(&b, Left("query"), Right("rows"), Left("what it does"))
	table.AppendRow([]any{"busiest", "1,234", "The ten plazas that most vehicles passed."})
	table.narrow(41)
	if err := table.Render(); err != nil {
		t.Fatal(err)
	}
	want := "query     rows  what it does\n" + strings.Repeat("─", 41) + "\n" +
		"busiest  1,234  The ten plazas that\n                most vehicles passed.\n"
	if got := b.String(); strings.ReplaceAll(got, " \n", "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFitting(t *testing.T) {
	fields := []Field{
		{Column: Left("a"), Rank: 0, Cells: []string{"12345"}}, // 7 with the gap
		{Column: Left("b"), Rank: 3, Cells: []string{"1"}},     // 3
		{Column: Left("c"), Rank: 1, Cells: []string{"1234"}},  // 6
		{Column: Left("d"), Rank: 2, Cells: []string{"12"}},    // 4
		{Column: Left("e"), Rank: 2, Cells: []string{"1"}},     // 3
	}
	for width, want := range map[int]string{0: "a", 12: "a", 13: "ac", 19: "ac", 20: "acde",
		22: "acde", 23: "abcde", 99: "abcde"} {
		got := ""
		for _, f := range Fitting(fields, width) {
			got += f.Name
		}
		if got != want {
			t.Errorf("%d columns: %s, want %s", width, got, want)
		}
	}
}
