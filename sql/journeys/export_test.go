package journeys

import (
	"context"

	"github.com/tollstream/tollstream/sql/internal/db"
)

// Ask runs a statement as scans run theirs.
func (s *Surveyor) Ask(ctx context.Context, query string) error {
	return s.snapshot(ctx, "ask", func(q db.Reader) error {
		var answer int
		return q.QueryRowContext(ctx, query).Scan(&answer)
	})
}

// SetMaxCells bounds what a scan returns, until the function that it returns is called.
func SetMaxCells(n int) (restore func()) {
	before := maxCells
	maxCells = n
	return func() { maxCells = before }
}

// SetMaxTrack bounds the list of a vehicle's passages, until what it returns is called.
func SetMaxTrack(bytes int) (restore func()) {
	before := maxTrack
	maxTrack = bytes
	return func() { maxTrack = before }
}
