package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/toll"
)

// maxSections is up to how many plazas a page has a section for each of them.
const maxSections = 200

//go:embed report.html
var reportHTML string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"n":       func(n int64) string { return text.Number(n) },
	"round":   text.Round,
	"percent": func(share float64) string { return fmt.Sprintf("%.1f%%", math.Floor(share*1000)/10) },
	"minutes": text.Minutes,
	"ratio":   func(x *float64) string { return fmt.Sprintf("%.2f", *x) },
	"date":    func(w toll.WallTime) string { return w.Format("Mon 2 Jan") },
	"peak":    func(h *Hour) string { return h.Wall.Format("Mon 2 Jan 15:04") },
	"hour":    func(h *Hour) string { return h.Wall.Format("15:04") },
	"moment": func(p *Plaza, m toll.Minute) string {
		return m.Time().In(p.Location).Format("2 Jan 15:04")
	},
	"lasted": func(i incidents.Incident) string {
		if i.Ended == nil {
			return "not ended"
		}
		return text.Minutes(int64(*i.Ended) - int64(i.Began))
	},
	"types": func(t Total) string {
		var all []string
		for _, c := range t.Types {
			all = append(all, fmt.Sprintf("%s %s", text.OneLine(c.Type), text.Percent(c.Count, t.Vehicles)))
		}
		return strings.Join(all, ", ")
	},
}).Parse(reportHTML))

// writeHTML writes a page for screen and paper, in one file.
func writeHTML(w io.Writer, r *Report) error {
	return page.Execute(w, &struct {
		*Report
		Total
		Incidents int
		Sections  []Plaza
		MadeAt    string
		Zone      string
		Lacks     string
	}{r, r.Total(), r.incidents(), r.sections(), r.Made.In(r.Location).Format("2 January 2006, 15:04"),
		r.Location.String(), r.Missing()})
}

// Total returns the sum of all plazas.
func (r *Report) Total() (t Total) {
	for i := range r.Plazas {
		p := &r.Plazas[i].Total
		t.Vehicles += p.Vehicles
		t.Late += p.Late
		t.TooLate += p.TooLate
		t.Hours += p.Hours
		t.Counted += p.Counted
		t.Empty += p.Empty
	}
	return t
}

func (r *Report) incidents() (n int) {
	for i := range r.Plazas {
		n += len(r.Plazas[i].Incidents)
	}
	return n
}

func (r *Report) sections() []Plaza {
	if len(r.Plazas) > maxSections {
		return nil
	}
	return r.Plazas
}

// Missing returns in a sentence what the figures lack, empty for nothing.
func (r *Report) Missing() string {
	lacks := map[Coverage]int{}
	plazas := map[Coverage]int{}
	for i := range r.Plazas {
		own := map[Coverage]bool{}
		for j := range r.Plazas[i].ByHour {
			c := r.Plazas[i].ByHour[j].Coverage
			lacks[c]++
			own[c] = true
		}
		for c := range own {
			plazas[c]++
		}
	}
	var all []string
	if lacks[NotClosed] > 0 {
		until := "before the first event"
		if r.ClosedUntil != nil {
			until = "event time is " + r.ClosedUntil.Time().In(r.Location).Format("2 January 2006, 15:04")
		}
		all = append(all, "the period has not closed: "+until)
	}
	if lacks[Deleted] > 0 {
		all = append(all, "old windows were deleted, so hours are missing at "+
			text.Count(plazas[Deleted], "plaza"))
	}
	if lacks[Before] > 0 {
		all = append(all,
			text.Count(plazas[Before], "plaza")+" reported for the first time in or after the period")
	}
	return strings.Join(all, "; ")
}

// bar is one bar of a chart, in units of the drawing.
type bar struct {
	X, Y, Width, Height float64
	Title               string
	Label               string // below it; empty for none
	Unknown             bool
}

// Chart is a plaza's bars: of the hours of a single day, else of the days.
type Chart struct {
	Bars          []bar
	Width, Height float64
	Unit          string
	Top           string // the highest value
}

// Chart returns the chart of a plaza.
func (p *Plaza) Chart() Chart {
	type value struct {
		label, title string
		vehicles     int64
		known        bool
	}
	var values []value
	c := Chart{Width: 720, Height: 120, Unit: "vehicles per day"}
	if len(p.Days) == 1 {
		c.Unit = "vehicles per hour"
		for i := range p.ByHour {
			h := &p.ByHour[i]
			v := value{title: h.Wall.Format("15:04"), vehicles: h.Vehicles, known: h.Coverage == Counted}
			if hourOf(h)%3 == 0 {
				v.label = h.Wall.Format("15:04")
			}
			values = append(values, v)
		}
	} else {
		for i := range p.Days {
			d := &p.Days[i]
			v := value{title: d.Date.Format("Mon 2 Jan"), vehicles: d.Vehicles, known: d.Counted > 0}
			if len(p.Days) <= 7 || d.Date.Format("Mon") == "Mon" || i == 0 {
				v.label = d.Date.Format("2 Jan")
			}
			values = append(values, v)
		}
	}
	most := int64(1)
	for _, v := range values {
		most = max(most, v.vehicles)
	}
	c.Top = text.Number(most)
	step := c.Width / float64(len(values))
	for i, v := range values {
		b := bar{X: float64(i) * step, Width: step * 0.8, Label: v.label, Unknown: !v.known}
		b.Height = float64(v.vehicles) / float64(most) * (c.Height - 20)
		b.Title = v.title + ": " + text.Count(v.vehicles, "vehicle")
		if !v.known {
			b.Height, b.Title = c.Height-20, v.title+": not known"
		}
		b.Y = c.Height - 20 - b.Height
		c.Bars = append(c.Bars, b)
	}
	return c
}

// Clock returns the name of a plaza's timezone where it is not the database's.
func (r *Report) Clock(p *Plaza) string {
	if p.Location.String() == r.Location.String() {
		return ""
	}
	return "times in " + p.Location.String()
}
