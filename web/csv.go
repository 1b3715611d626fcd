package web

import (
	"github.com/tollstream/tollstream/web/serve"

	"bytes"
	"encoding/csv"
	"net/http"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
)

// csvColumns are the columns of the CSV, with their names and cells. An unknown value is empty.
// Units and meanings are those of [board.Plaza].
var csvColumns = []struct {
	name string
	cell func(*board.Plaza) string
}{
	{"id", func(p *board.Plaza) string { return strconv.Itoa(int(p.ID)) }},
	{"name", func(p *board.Plaza) string { return plain(p.Name) }},
	{"road", func(p *board.Plaza) string { return plain(p.Road) }},
	{"position_km", func(p *board.Plaza) string { return decimal(p.PositionKm) }},
	{"lanes", func(p *board.Plaza) string { return strconv.Itoa(p.Lanes) }},
	{"timezone", func(p *board.Plaza) string { return plain(p.Timezone) }},
	{"state", func(p *board.Plaza) string {
		text, err := p.State.MarshalText()
		if err != nil {
			return "" // normalized, so there is none
		}
		return string(text)
	}},
	{"since", func(p *board.Plaza) string { return clock(p.Since) }},
	{"why", func(p *board.Plaza) string { return plain(p.Why) }},
	{"total", func(p *board.Plaza) string { return whole(&p.Total) }},
	{"flow_per_hour", func(p *board.Plaza) string {
		if !p.FlowPerHour.Known() {
			return ""
		}
		return decimal((*float64)(&p.FlowPerHour))
	}},
	{"vc", func(p *board.Plaza) string { return decimal(p.VC) }},
	{"phf", func(p *board.Plaza) string { return decimal(p.PHF) }},
	{"heavy_share", func(p *board.Plaza) string { return decimal(p.HeavyShare) }},
	{"z", func(p *board.Plaza) string { return decimal(p.Z) }},
	{"usual_median", func(p *board.Plaza) string {
		if p.Usual == nil {
			return ""
		}
		return decimal(&p.Usual.Median)
	}},
	{"usual_mad", func(p *board.Plaza) string {
		if p.Usual == nil {
			return ""
		}
		return decimal(&p.Usual.MAD)
	}},
	{"headway_seconds", func(p *board.Plaza) string { return decimal(p.HeadwaySeconds) }},
	{"demand", func(p *board.Plaza) string { return decimal(p.Throughput) }},
	{"capacity", func(p *board.Plaza) string { return decimal(p.Capacity) }},
	{"capacity_wrong", func(p *board.Plaza) string { return strconv.FormatBool(p.CapacityWrong) }},
	{"last_event", func(p *board.Plaza) string { return clock(p.LastEvent) }},
	{"late", func(p *board.Plaza) string { return whole(&p.Late) }},
	{"late_quarter", func(p *board.Plaza) string { return whole(&p.LateQuarter) }},
	{"too_late", func(p *board.Plaza) string { return whole(&p.TooLate) }},
	{"ahead", func(p *board.Plaza) string { return whole(&p.Ahead) }},
	{"verification", func(p *board.Plaza) string { return plain(string(p.Verification.Status)) }},
	{"table_count", func(p *board.Plaza) string { return whole(&p.Verification.TableCount) }},
	{"stored_rows", func(p *board.Plaza) string { return whole(p.Verification.StoredRows) }},
	{"in_flight", func(p *board.Plaza) string { return whole(&p.Verification.InFlight) }},
}

// serveCSV responds with the plazas as CSV (RFC 4180) in UTF-8.
func (s *Server) serveCSV(w http.ResponseWriter, r *http.Request) {
	m, rows, ok := s.selected(w, r)
	if !ok {
		return
	}
	var b bytes.Buffer
	c := csv.NewWriter(&b)
	c.UseCRLF = true
	record := make([]string, len(csvColumns))
	for i := range csvColumns {
		record[i] = csvColumns[i].name
	}
	_ = c.Write(record) // a buffer takes everything
	for _, row := range rows {
		for i := range csvColumns {
			record[i] = csvColumns[i].cell(&row.Plaza)
		}
		_ = c.Write(record)
	}
	c.Flush()
	s.setAge(w, m)
	w.Header().Set("Content-Disposition",
		`attachment; filename="plazas-`+m.at.UTC().Format("20060102T150405Z")+`.csv"`)
	serve.NewRepresentation("text/csv; charset=utf-8; header=present", b.Bytes()).Serve(w, r)
}

// plain returns one line of valid UTF-8 that a spreadsheet does not evaluate as a formula.
func plain(cell string) string { return text.CSVCell(cell) }

func decimal(x *float64) string {
	if x == nil {
		return ""
	}
	return strconv.FormatFloat(*x, 'f', -1, 64)
}

func whole(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

func clock(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}
