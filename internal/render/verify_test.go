package render

import (
	"strings"
	"testing"

	"github.com/tollstream/tollstream/sql/verify"
)

// TestVerifyText holds the report to its exact form.
func TestVerifyText(t *testing.T) {
	r := &verify.Report{Status: verify.Exact, Events: 1_234_567, Records: 1_234_567, Rows: 1_234_567,
		Merged: 1_234_567, Batches: 12, BatchRows: 12, Windows: 29_930, WindowsWaiting: 63,
		TookSeconds: 1.67}
	text := func() string {
		var b strings.Builder
		if err := Verification(&b, r); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	holds := func(parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(text(), part) {
				t.Errorf("%q is not in\n%s", part, text())
			}
		}
	}
	const want = `exact: each of 1,234,567 events is one row and counted once

events     1,234,567  stored, by 12 batches
rows       1,234,567  in livetolldata
rejected           0  dead letters
skipped            0  offsets that held no record
merged     1,234,567  counted in the group table
in flight          0  stored and not yet counted
windows       29,930  checked, of the last two days; 63 are open, or in flight

took 1.67 s; checksums of the rows not compared (--deep does)
`
	if got := text(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	r.Deep, r.WindowsWaiting = true, 0
	holds("windows       29,930  checked, which are all\n")
	r.WindowsFolded, r.BatchRows, r.Pruned, r.Rows, r.Records = 1200, 3, 567, 1_234_000, 200_000
	holds(
		"exact: each of 1,234,567 events is one row, or was until it was pruned, and counted once\n",
		"events     1,234,567  stored, by 12 batches, compacted into 3 rows, of 200,000 records\n",
		"pruned           567  rows deleted by tollstream prune\n",
		"windows       29,930  checked; 1,200 older ones can't be, their minutes were rolled up\n")
	r.Windows = 0 // no process has set them
	if strings.Contains(text(), "windows") {
		t.Error(text())
	}
}

// TestReportSaysWhatToDo: each step once, after all problems.
func TestReportSaysWhatToDo(t *testing.T) {
	var b strings.Builder
	r := &verify.Report{Status: verify.Mismatch,
		Problems: []verify.Problem{{Text: "one", Next: "rebuild it"}, {Text: "two", Next: "rebuild it"},
			{Text: "three", Next: "restore it"}}}
	if err := Verification(&b, r); err != nil {
		t.Fatal(err)
	}
	if want := "Problems:\n  one\n  two\n  three\n\n" +
		"What to do:\n  rebuild it\n  restore it\n\n"; !strings.Contains(b.String(), want) {
		t.Errorf("got\n%s", b.String())
	}
}
