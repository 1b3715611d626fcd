package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	table := newTable(&b, leftAligned("Plaza"), rightAligned("Events"))
	table.AppendRow([]any{"4856", "1,234"})
	table.AppendRow([]any{"4000", 5})
	table.Render()
	want := "Plaza  Events\n───────────────\n4856    1,234\n4000        5\n"
	if got := b.String(); strings.ReplaceAll(got, " \n", "\n") != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestFitting(t *testing.T) {
	fields := []field{
		{column: leftAligned("a"), rank: 0, cells: []string{"12345"}}, // 7 with the gap
		{column: leftAligned("b"), rank: 3, cells: []string{"1"}},     // 3
		{column: leftAligned("c"), rank: 1, cells: []string{"1234"}},  // 6
		{column: leftAligned("d"), rank: 2, cells: []string{"12"}},    // 4
		{column: leftAligned("e"), rank: 2, cells: []string{"1"}},     // 3
	}
	for width, want := range map[int]string{0: "a", 12: "a", 13: "ac", 19: "ac", 20: "acde",
		22: "acde", 23: "abcde", 99: "abcde"} {
		got := ""
		for _, f := range fitting(fields, width) {
			got += f.name
		}
		if got != want {
			t.Errorf("%d columns: %s, want %s", width, got, want)
		}
	}
}
