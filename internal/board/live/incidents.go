package live

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/toll"
)

// Incidents returns a page of the incidents of all plazas, each in the time of its plaza.
func (s *Source) Incidents(ctx context.Context, q board.IncidentQuery) (board.IncidentPage,
	error) {
	if _, err := s.read(ctx, detailAge); err != nil {
		return board.IncidentPage{}, err
	}
	return Incidents(ctx, s.store, q)
}

// AddNote adds a note to an incident, or returns [board.ErrNoIncident].
func (s *Source) AddNote(ctx context.Context, n board.NewNote) error {
	if _, err := s.read(ctx, detailAge); err != nil {
		return err
	}
	err := s.store.AddNote(ctx, incidents.Note{IncidentID: n.Incident, Author: n.Author,
		Source: n.Source, Acknowledged: n.Acknowledged, Text: n.Note})
	if errors.Is(err, incidents.ErrNoIncident) {
		return board.ErrNoIncident
	}
	return err
}

// Incidents returns a page of the incidents that a database holds, each in the time of its plaza.
func Incidents(ctx context.Context, store *sql.Store, q board.IncidentQuery) (board.IncidentPage,
	error) {
	meta, err := store.Meta(ctx)
	if err != nil {
		return board.IncidentPage{}, err
	}
	database, err := time.LoadLocation(meta.Timezone)
	if err != nil {
		return board.IncidentPage{}, fmt.Errorf("load the database's timezone: %w", err)
	}
	configured, err := store.ConfiguredPlazas(ctx)
	if err != nil {
		return board.IncidentPage{}, err
	}
	zones, err := sql.PlazaZones(configured, database)
	if err != nil {
		return board.IncidentPage{}, err
	}
	found, more, err := store.Incidents(ctx, storedQuery(&q))
	page := board.IncidentPage{More: more}
	for i := range found {
		location := database
		if zone := zones[found[i].Plaza]; zone != nil {
			location = zone.Location()
		}
		page.Incidents = append(page.Incidents, incidentOf(&found[i], location))
	}
	return page, err
}

func storedQuery(q *board.IncidentQuery) incidents.Query {
	minute := func(t *time.Time) *toll.Minute {
		if t == nil {
			return nil
		}
		return new(toll.MinuteAt(t.Unix()))
	}
	stored := incidents.Query{ID: q.ID, Plaza: q.Plaza, Road: q.Road, State: q.State, Open: q.Open,
		From: minute(q.From), To: minute(q.Until), Limit: q.Limit}
	if q.Before != nil {
		stored.Before = &incidents.Position{Began: toll.MinuteAt(q.Before.Began.Unix()),
			Plaza: q.Before.Plaza}
	}
	return stored
}

func incidentOf(i *incidents.Incident, location *time.Location) board.Incident {
	at := func(m toll.Minute) time.Time { return m.Time().In(location) }
	b := board.Incident{
		ID: i.IncidentID.String(), Plaza: int(i.Plaza), Name: text.OneLine(i.Name),
		Road: text.OneLine(i.Road), Timezone: location.String(),
		State: i.Worst, States: i.States, Severity: i.Worst.Severity(), Why: text.OneLine(i.Why),
		Began: at(i.Began), Detected: at(i.Detected),
		PeakFlow: i.Peak.FlowPerHour, PeakAt: at(i.Peak.At), Notes: []board.IncidentNote{},
	}
	if i.Ended != nil {
		b.Ended = new(at(*i.Ended))
	}
	if i.Notified != incidents.NotNotified {
		b.Notified = new(string(i.Notified))
	}
	for _, n := range i.Notes {
		b.Acknowledged = b.Acknowledged || n.Acknowledged
		b.Notes = append(b.Notes, board.IncidentNote{At: n.At, Author: text.OneLine(n.Author),
			Acknowledged: n.Acknowledged, Note: text.OneLine(n.Text)})
	}
	return b
}
