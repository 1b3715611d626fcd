package text

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// integer is a count of things.
type integer interface{ ~int | ~int32 | ~int64 }

// Number writes a count with thousands separators: 1,234,567.
func Number[N integer](n N) string { return humanize.Comma(int64(n)) }

// Count writes a count with its noun: 1 event, 2,000 events. A noun whose plural is irregular comes
// with it.
func Count[N integer](n N, noun string, plural ...string) string {
	return english.Plural(int(n), noun, strings.Join(plural, ""))
}

// Seconds rounds a duration for reading: 4 ms, 0.52 s, 12.3 s, 4m10s.
func Seconds(d time.Duration) string {
	switch s := d.Seconds(); {
	case s < 0.01:
		return strconv.FormatFloat(s*1000, 'f', 0, 64) + " ms"
	case s < 9.995:
		return strconv.FormatFloat(s, 'f', 2, 64) + " s"
	case s < 99.95:
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	}
	return d.Round(time.Second).String()
}

// Rate writes a rate in figures worth reading: 213,000, 48.2, 0.5.
func Rate(n int64, d time.Duration) string {
	if d <= 0 {
		return "0"
	}
	rate := float64(n) / d.Seconds()
	switch {
	case rate >= 10_000:
		return Round(math.Round(rate/1000) * 1000)
	case rate >= 100:
		return Round(rate)
	}
	return strconv.FormatFloat(math.Round(rate*10)/10, 'f', -1, 64)
}

// Percent writes a share of a total in whole percents: 33%, <1%.
func Percent(n, total int64) string {
	if total == 0 {
		return "0%"
	}
	p := 100 * float64(n) / float64(total)
	if n > 0 && p < 0.5 {
		return "<1%"
	}
	return fmt.Sprintf("%.0f%%", p)
}

// Round writes a figure without decimals: 3,080.
func Round(x float64) string { return Number(int64(math.Round(x))) }

// Rounded returns x with so many decimals. It is never −0.
func Rounded(x float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(x*scale)/scale + 0
}

// Signed writes a z-score: +1.3, −7.4, 0.0.
func Signed(x float64) string {
	text := fmt.Sprintf("%.1f", math.Abs(x))
	switch {
	case text == "0.0":
		return text
	case x < 0:
		return "−" + text
	}
	return "+" + text
}

// Minutes writes a length in words: 9 min, 1 h 19 min, 2 days 3 h. What is left after the second
// word is dropped.
func Minutes(n int64) string {
	type unit struct {
		length   int64
		one, two string
	}
	units := []unit{{24 * 60, "day", "days"}, {60, "h", "h"}, {1, "min", "min"}}
	for i, u := range units {
		count := n / u.length
		if count == 0 && i < len(units)-1 {
			continue
		}
		text := Count(count, u.one, u.two)
		if i+1 < len(units) {
			if rest := n % u.length / units[i+1].length; rest > 0 {
				text += " " + Count(rest, units[i+1].one, units[i+1].two)
			}
		}
		return text
	}
	return ""
}

// Sparkline draws counts as columns, the highest for most, and nothing as a dot. A negative count
// is not known, and a gap.
func Sparkline(counts []int64, most int64) string {
	levels := []rune("▁▂▃▄▅▆▇█")
	line := make([]rune, 0, len(counts))
	for _, n := range counts {
		switch {
		case n < 0:
			line = append(line, ' ')
			continue
		case n == 0:
			line = append(line, '·')
			continue
		}
		level := int(math.Ceil(float64(n)/float64(most)*float64(len(levels)))) - 1
		line = append(line, levels[min(max(level, 0), len(levels)-1)])
	}
	return string(line)
}

// Completeness writes the share of a window's events that it has counted, rounded down: 99.9 % lack
// some.
func Completeness(events, tooLate int64) string {
	if tooLate <= 0 {
		return "100 %"
	}
	return fmt.Sprintf("%.1f %%", math.Floor(1000*float64(events)/float64(events+tooLate))/10)
}
