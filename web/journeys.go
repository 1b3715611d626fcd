package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/web/serve"
)

// serveJourneys responds with how long vehicles take from plaza to plaza.
func (s *Server) serveJourneys(w http.ResponseWriter, r *http.Request) {
	askFor(s, w, r, nil, "journeys", s.source.Journeys,
		func(j *board.Journeys) (*serve.Representation, error) {
			j.Sections = list(j.Sections)
			return serve.JSON(j)
		})
}

// serveJourneysCSV responds with the sections as CSV (RFC 4180) in UTF-8.
func (s *Server) serveJourneysCSV(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Disposition", `attachment; filename="journeys.csv"`)
	askFor(s, w, r, nil, "journeys.csv", s.source.Journeys,
		func(j *board.Journeys) (*serve.Representation, error) {
			var b bytes.Buffer
			err := board.WriteSections(&b, j.Sections)
			return serve.NewRepresentation("text/csv; charset=utf-8; header=present", b.Bytes()), err
		})
}

// serveThrough responds with where the vehicles of a plaza come from and go to.
func (s *Server) serveThrough(w http.ResponseWriter, r *http.Request) {
	id, errs := plazaID(r)
	askFor(s, w, r, errs, fmt.Sprintf("through %d", id),
		func(ctx context.Context) (*board.Through, error) { return s.source.Through(ctx, id) },
		func(t *board.Through) (*serve.Representation, error) {
			t.Origins, t.Destinations = list(t.Origins), list(t.Destinations)
			return serve.JSON(t)
		})
}
