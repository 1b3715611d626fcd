package tui

import (
	"slices"
	"strings"

	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text/table"
)

// mostIncidents is how many incidents the page has: the newest.
const mostIncidents = 200

// incidentsPage returns the incidents of all plazas, the newest first, of which frame shows what
// there is room for. Each has its reason below it where the table has no room for that.
func (m *model) incidentsPage() []line {
	title := line{{"incidents", strong}, {", the newest first", plain}}
	switch {
	case m.incidentsFailed != "" && m.incidents == nil:
		return []line{title, textLine("the incidents can't be read: " + m.incidentsFailed)}
	case m.incidents == nil:
		return []line{title, textLine("reading …")}
	case len(m.incidents.Incidents) == 0:
		return []line{title, textLine("no incident yet")}
	}
	lines := []line{title, nil}
	all := slices.DeleteFunc(render.IncidentFields(m.incidents.Incidents), func(f table.Field) bool {
		return f.Name == "incident" // which only commands need
	})
	fields := table.Fitting(all, m.width)
	wide := fields[len(fields)-1].Name == "why"
	var t strings.Builder
	table.Write(&t, fields, m.width)
	rows := strings.Split(strings.TrimRight(t.String(), "\n"), "\n")
	head := len(rows) - len(m.incidents.Incidents)
	for i, row := range rows {
		style := plain
		if i < head {
			style = faint
		} else if in := &m.incidents.Incidents[i-head]; in.Ended == nil {
			style = stateStyle(in.State)
		}
		lines = append(lines, line{{row, style}})
		if i >= head && !wide {
			lines = append(lines,
				line{{"  " + ellipsed(m.incidents.Incidents[i-head].Why, m.width-2), faint}})
		}
	}
	if m.incidents.More {
		lines = append(lines, textLine("older ones: tollstream incidents --limit 0"))
	}
	return lines
}
