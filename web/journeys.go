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
	s.askJourneys(w, r, "journeys", func(j *board.Journeys) (*serve.Representation, error) {
		j.Sections = list(j.Sections)
		return serve.JSON(j)
	})
}

// serveJourneysCSV responds with the sections as CSV (RFC 4180) in UTF-8.
func (s *Server) serveJourneysCSV(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Disposition", `attachment; filename="journeys.csv"`)
	s.askJourneys(w, r, "journeys.csv", func(j *board.Journeys) (*serve.Representation, error) {
		var b bytes.Buffer
		err := board.WriteSections(&b, j.Sections)
		return serve.NewRepresentation("text/csv; charset=utf-8; header=present", b.Bytes()), err
	})
}

func (s *Server) askJourneys(w http.ResponseWriter, r *http.Request, question string,
	write func(*board.Journeys) (*serve.Representation, error)) {
	if errs := serve.NoParameters(r); len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	s.ask(w, r, question, func(ctx context.Context) (*serve.Representation, error) {
		j, err := s.source.Journeys(ctx)
		if err != nil {
			return nil, err
		}
		return write(j)
	})
}

// serveThrough responds with where the vehicles of a plaza come from and go to.
func (s *Server) serveThrough(w http.ResponseWriter, r *http.Request) {
	id, errs := plazaID(r)
	errs = append(errs, serve.NoParameters(r)...)
	if len(errs) > 0 {
		serve.FailParameters(w, r, errs)
		return
	}
	s.ask(w, r, fmt.Sprintf("through %d", id),
		func(ctx context.Context) (*serve.Representation, error) {
			t, err := s.source.Through(ctx, id)
			if err != nil {
				return nil, err
			}
			t.Origins, t.Destinations = list(t.Origins), list(t.Destinations)
			return serve.JSON(t)
		})
}
