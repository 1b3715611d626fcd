package web

import (
	"context"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/web/incidents"
)

// Source gives what the pages show. Its methods are called from several goroutines at once. They
// must return soon after their context ends. What they return belongs to the server, which changes
// it.
type Source interface {
	// Board returns all plazas, as of now. One goroutine calls it, about once a second while there are
	// clients, and never while the call before is still under way.
	Board(ctx context.Context) (*board.Board, error)
	// Plaza returns one plaza with its history, or [board.ErrNotFound].
	Plaza(ctx context.Context, id int16) (*board.Detail, error)
	// Windows returns a plaza's closed windows, the newest first: descending by start, then ascending
	// by kind. It returns [board.ErrNotFound] for a plaza that is not known, and a
	// [board.UnknownKindError] for a kind that is not counted.
	Windows(ctx context.Context, id int16, q board.WindowQuery) (board.WindowPage, error)
	// Series returns what passed a plaza by quarters of an hour. Without one end of the range, it is
	// of the plaza's date of the other, and without both of today; it is [board.LongestSeries] at
	// most. It returns [board.ErrNotFound] for a plaza that is not known, as Changes does.
	Series(ctx context.Context, id int16, r board.Range) (*board.Series, error)
	// Changes returns a plaza's changes of congestion, the one that was detected last first.
	Changes(ctx context.Context, id int16, q board.ChangeQuery) (board.ChangePage, error)
	// DeadLetters returns what was rejected, ascending by partition and offset.
	DeadLetters(ctx context.Context, q board.PageQuery) (board.DeadLetterPage, error)
	incidents.Source
}
