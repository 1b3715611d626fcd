package tui

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
)

var (
	pictureFile = flag.String("picture", "", "write the picture of the full-screen view to `FILE`")
	pictured    = flag.String("pictured", "", "show the board and the plaza of `FILE`, in JSON")
)

// TestPicture makes the picture of the README, of days as the demo simulates them:
//
//	go test ./cmd/tollstream -run SimulatedDays -days /tmp/days.json
//	go test ./internal/tui -run Picture -pictured /tmp/days.json -picture ../../docs/img/watch.svg
//
// Without the flags it draws the board of the other tests.
func TestPicture(t *testing.T) {
	const width, tableHeight, plazaHeight = 112, 17, 41
	var days struct {
		Board  *board.Board
		Detail *board.Detail
	}
	days.Board = testBoard(12)
	days.Detail = testDetail(days.Board, 4007)
	if *pictured != "" {
		text, err := os.ReadFile(*pictured)
		if err == nil {
			err = json.Unmarshal(text, &days)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b := days.Board
	for i := range b.Plazas { // which JSON does not hold
		b.Location, _ = time.LoadLocation(b.Timezone)
		b.Plazas[i].Location, _ = time.LoadLocation(b.Plazas[i].Timezone)
	}
	m := newModel(Options{}, b.At.Add(time.Second))
	m.resize(width, tableHeight)
	m.show(b, nil, m.now)
	table := m.frame()
	m.open(4007)
	m.resize(width, plazaHeight)
	m.showDetail(4007, days.Detail, nil)
	picture := pictureOf("tollstream view --watch: all plazas, and one of them", table, m.frame())

	var text strings.Builder
	for d := xml.NewDecoder(bytes.NewReader(picture)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if chars, ok := token.(xml.CharData); ok {
			text.Write(chars)
		}
	}
	for _, want := range []string{"plaza", "saturated", "exact", "Tunnel", "FLOW TODAY, vehicles/h",
		"passed"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the picture does not show %q", want)
		}
	}
	if *pictureFile != "" {
		if err := os.WriteFile(*pictureFile, picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Of the picture, in pixels.
const (
	pictureCell   = 8.4
	pictureLine   = 17.0
	pictureMargin = 16.0
)

// pictureOf draws screens as SVG, one below the other, in the colours of a dark terminal.
func pictureOf(title string, screens ...[]line) []byte {
	const background, text = "#16181d", "#d7dae0"
	ink := map[style]string{plain: text, strong: "#ffffff", faint: "#8b919c", good: "#81c995",
		alarm: "#f28b82", notice: "#d7aefb", marked: text, chosen: background, critical: background}
	paper := map[style]string{chosen: text, critical: "#f28b82"}
	words := regexp.MustCompile(`[^ ]+( [^ ]+)*`)
	var b strings.Builder
	y := 0.0
	columns := 0
	for _, lines := range screens {
		columns = max(columns, lines[0].width())
		fmt.Fprintf(&b, `<rect y="%.0f" width="%%[1]d" height="%.0f" rx="8" fill="%s"/>`+"\n", y,
			float64(len(lines))*pictureLine+2*pictureMargin, background)
		y += pictureMargin
		for _, l := range lines {
			x := pictureMargin
			for _, p := range l {
				wide := float64(cells(p.text)) * pictureCell
				if paper[p.style] != "" {
					fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y,
						wide, pictureLine, paper[p.style])
				}
				for _, run := range runsOf(p.text) {
					n := float64(cells(run)) * pictureCell
					switch eighths := strings.Index("▁▂▃▄▅▆▇█", run[:min(len(run), 3)]); {
					case strings.Trim(run, " ") == "":
					case len(run) >= 3 && eighths >= 0:
						high := float64(eighths/3+1) / 8 * pictureLine
						fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x,
							y+pictureLine-high, n, high, ink[p.style])
					case strings.HasPrefix(run, "░"):
						fmt.Fprintf(&b,
							`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" opacity="0.35"/>`+
								"\n", x, y, n, pictureLine, ink[p.style])
					default:
						more := ""
						if slices.Contains([]style{strong, alarm, notice, critical}, p.style) {
							more = ` font-weight="bold"`
						}
						if p.style == marked {
							more = ` text-decoration="underline"`
						}
						// what draws SVG makes one blank of several
						for _, at := range words.FindAllStringIndex(run, -1) {
							before, word := float64(cells(run[:at[0]]))*pictureCell, run[at[0]:at[1]]
							fmt.Fprintf(&b,
								`<text x="%.1f" y="%.1f" textLength="%.1f" lengthAdjust="spacingAndGlyphs" fill="%s"%s>%s</text>`+"\n",
								x+before, y+pictureLine*0.76, float64(cells(word))*pictureCell, ink[p.style], more,
								strings.ReplaceAll(html.EscapeString(word), "%", "%%"))
						}
					}
					x += n
				}
			}
			y += pictureLine
		}
		y += 2 * pictureMargin
	}
	width, height := int(float64(columns)*pictureCell+2*pictureMargin), int(y-pictureMargin)
	head := fmt.Sprintf(
		`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`, width, height, width, height, html.EscapeString(title))
	return []byte(head + "\n" +
		`<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14">` + "\n" +
		fmt.Sprintf(b.String(), width) + "</g>\n</svg>\n")
}

// runsOf cuts a text into runs of words, and runs of one character that is drawn.
func runsOf(s string) []string {
	const drawn = "▁▂▃▄▅▆▇█░"
	var runs []string
	for _, r := range s {
		c := string(r)
		n := len(runs)
		switch {
		case n == 0:
		case strings.Contains(drawn, c):
			if strings.HasPrefix(runs[n-1], c) {
				runs[n-1] += c
				continue
			}
		case !strings.ContainsAny(runs[n-1][:min(len(runs[n-1]), 3)], drawn):
			runs[n-1] += c
			continue
		}
		runs = append(runs, c)
	}
	return runs
}
