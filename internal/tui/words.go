package tui

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// severity lists the states, the most severe first.
var severity = []traffic.State{traffic.Saturated, traffic.BelowUsual, traffic.Busy, traffic.Free,
	traffic.NoData}

// nullPlaza stands for rows without a plaza, which only others insert.
const nullPlaza = toll.MinPlaza - 1

func plazaName(id int) string {
	if id == nullPlaza {
		return "NULL"
	}
	return strconv.Itoa(id)
}

// clockTime writes a time as a clock shows it, with the date if that is not the one of today.
func clockTime(clock *time.Location, at time.Time, today toll.Minute) string {
	at = at.In(clock)
	if at.Format(time.DateOnly) != today.Time().In(clock).Format(time.DateOnly) {
		return at.Format("2006-01-02 15:04")
	}
	return at.Format("15:04")
}

// clockSpan writes a window as a clock shows it: 07:00–08:00, 2026-03-23 23:00–24:00. A whole date
// is 2026-03-23.
func clockSpan(clock *time.Location, from, until time.Time, today toll.Minute) string {
	start, end := clockTime(clock, from, today), until.In(clock).Format("15:04")
	if end == "00:00" && until.After(from) {
		end = "24:00"
	}
	if date, ok := strings.CutSuffix(start, " 00:00"); ok && end == "24:00" {
		return date
	}
	return start + "–" + end
}

// writeTypes prints the vehicles by type, the most frequent first.
func writeTypes(t *strings.Builder, types []toll.TypeCount, width int) {
	sorted := slices.Clone(types)
	slices.SortStableFunc(sorted, func(a, b toll.TypeCount) int {
		return int(min(max(b.Count-a.Count, -1), 1))
	})
	total := toll.SumTypes(types)
	nameWidth, numberWidth := 0, len(text.Number(sorted[0].Count))
	for _, c := range sorted {
		nameWidth = max(nameWidth, cells(c.Type))
	}
	bar := max(min(40, width-nameWidth-numberWidth-12), 1)
	for _, c := range sorted {
		length := math.Ceil(float64(c.Count) / float64(max(sorted[0].Count, 1)) * float64(bar))
		fmt.Fprintf(t, "%s  %*s  %5.1f %%  %s\n", fill(c.Type, nameWidth, false), numberWidth,
			text.Number(c.Count),
			100*float64(c.Count)/float64(max(total, 1)), strings.Repeat("█", int(length)))
	}
}
