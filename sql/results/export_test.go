package results

import (
	"context"
	dbsql "database/sql"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Unpublished returns what is not known to be published of some plazas.
func (r *Writer) Unpublished(ctx context.Context, plazas []int16) ([]traffic.Notice, error) {
	return r.unpublished(ctx, r.db, plazas)
}

// Cautious reports whether windows are looked for before any is inserted; SetCautious says so.
func (r *Writer) Cautious() bool { return r.cautious }

func (r *Writer) SetCautious(cautious bool) { r.cautious = cautious }

// MarkWritten marks what the last call wrote, by its time.
func (r *Writer) MarkWritten(ctx context.Context, tx *dbsql.Tx, refs []traffic.NoticeRef) (bool,
	error) {
	return r.markWritten(ctx, tx, refs)
}

// Usual returns what is usual at a plaza on a date.
func (r *Writer) Usual(ctx context.Context, plaza int16, zone *toll.Zone,
	day int64) (*traffic.UsualDay,
	error) {
	date, err := r.history.date(ctx, r.db, plaza, zone, day)
	return date.usual, err
}

// Remembered returns how many days with something usual are remembered, how many of them are
// counted, and of how many plazas something is.
func (r *Writer) Remembered() (held, days, plazas int) {
	for _, dates := range r.history.known {
		for _, d := range dates {
			if d.usual != nil {
				held++
			}
		}
	}
	return held, r.history.days, len(r.history.known)
}

var MaxHistory = &maxHistory
var MaxNotices = &maxNotices
var MaxRecountPanes = &maxRecountPanes
