package tui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/toll"
)

// Source is what the view reads. Its methods are called one at a time.
type Source interface {
	Board(ctx context.Context) (*board.Board, error)
	Plaza(ctx context.Context, id int16) (*board.Detail, error)
	Incidents(ctx context.Context, q board.IncidentQuery) (board.IncidentPage, error)
}

// Messages from the feed to the model.
type (
	tickMsg struct {
		now     time.Time
		reading time.Time // since when a read is in progress, zero for none
	}
	boardMsg struct {
		board *board.Board
		err   error
		now   time.Time
	}
	detailMsg struct {
		plaza  int16
		detail *board.Detail
		err    error
	}
	incidentsMsg struct {
		page board.IncidentPage
		err  error
	}
	// endMsg ends the view: there is nothing left to read, or reading has panicked.
	endMsg struct{ err error }
)

// feed reads what the model requests. One goroutine, run, decides; a second one reads, so that
// a server that does not answer keeps nothing else waiting.
type feed struct {
	source   Source
	send     func(any)     // to the model; returns soon
	timeout  time.Duration // of one read
	now      func() time.Time
	every    time.Duration // between boards; up to maxIdle times that while nothing happens
	detail   time.Duration // between reads of the page of one plaza
	requests chan request  // holds the last one
}

// detailEvery is how often a plaza's page is read again: it takes some queries, and shows quarters
// of an hour.
const detailEvery = 5 * time.Second

// maxIdle bounds how many times every the feed waits for the next board while nothing changes: at a
// thousand plazas reading one costs some 30 ms of a core.
const maxIdle = 3

// activity is what changes with every event, and with every window that closes.
type activity struct {
	status            board.Status
	plazas            int
	total, inFlight   int64
	stream, watermark time.Time
}

func activityOf(b *board.Board) activity {
	p := activity{status: b.Verification.Status, plazas: len(b.Plazas),
		inFlight: b.Verification.InFlight}
	for i := range b.Plazas {
		p.total += b.Plazas[i].Total
	}
	if b.StreamTime != nil {
		p.stream = *b.StreamTime
	}
	if b.Watermark != nil {
		p.watermark = *b.Watermark
	}
	return p
}

func newFeed(source Source, o Options) *feed {
	return &feed{source: source, timeout: cmp.Or(o.Timeout, defaultTimeout),
		now: time.Now, every: time.Second, detail: detailEvery, requests: make(chan request, 1)}
}

// want takes a request. One goroutine calls it.
func (f *feed) want(w request) {
	select {
	case <-f.requests:
	default:
	}
	f.requests <- w
}

// run reads until ctx ends, and returns once the last read has.
func (f *feed) run(ctx context.Context) {
	ticker := time.NewTicker(f.every)
	defer ticker.Stop()
	var reading chan []any // the read in progress, nil for none
	var requested request
	var began, boardAt, detailAt, incidentsAt time.Time
	var has int16 // the plaza whose page was read last, at detailAt
	var last activity
	idle := time.Duration(1) // times every until the next board
	read := func() {
		now := f.now()
		if reading != nil {
			return
		}
		// a tick may come early
		due := boardAt.IsZero() || !requested.paused && now.Sub(boardAt) >= idle*f.every*9/10
		detail := requested.detail && (detailAt.IsZero() || has != requested.plaza || !requested.paused &&
			now.Sub(detailAt) >= f.detail)
		incidents := requested.incidents && (incidentsAt.IsZero() || !requested.paused &&
			now.Sub(incidentsAt) >= f.detail)
		if !due && !detail && !incidents {
			return
		}
		if incidents {
			incidentsAt = now
		}
		if due {
			boardAt = now
		}
		if detail {
			has, detailAt = requested.plaza, now
		}
		began, reading = now, make(chan []any, 1)
		go f.read(ctx, due, request{plaza: requested.plaza, detail: detail, incidents: incidents},
			reading)
	}
	read()
	for {
		select {
		case <-ctx.Done():
			if reading != nil {
				<-reading
			}
			return
		case <-ticker.C:
			read()
			tick := tickMsg{now: f.now()}
			if reading != nil {
				tick.reading = began
			}
			f.send(tick)
		case requested = <-f.requests:
			if !requested.incidents {
				incidentsAt = time.Time{} // to be read when it is opened again
			}
			read()
		case messages := <-reading:
			reading = nil
			for _, m := range messages {
				if b, ok := m.(boardMsg); ok && b.board != nil {
					if now := activityOf(b.board); now == last {
						idle = min(idle+1, maxIdle)
					} else {
						last, idle = now, 1
					}
				}
				f.send(m)
			}
			if requested.detail && has != requested.plaza ||
				requested.incidents && incidentsAt.IsZero() {
				read()
			}
		}
	}
}

// read reads the board, the page of a plaza or the incidents, or several of them.
func (f *feed) read(ctx context.Context, all bool, w request, done chan<- []any) {
	var messages []any
	defer func() {
		if r := recover(); r != nil {
			messages = append(messages, endMsg{&panicError{r, debug.Stack()}})
		}
		done <- messages
	}()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if all {
		b, err := f.source.Board(ctx)
		if err == nil && b == nil {
			err = errors.New("there is nothing to show")
		}
		if toll.IsPermanent(err) || errors.Is(err, board.ErrEnded) {
			messages = append(messages, endMsg{err})
			return
		}
		messages = append(messages, boardMsg{b, f.explain(ctx, err), f.now()})
		if err != nil {
			return
		}
	}
	if w.detail {
		d, err := f.source.Plaza(ctx, w.plaza)
		if errors.Is(err, board.ErrNotFound) {
			err = fmt.Errorf("no vehicle has passed plaza %d yet", w.plaza)
		}
		messages = append(messages, detailMsg{w.plaza, d, f.explain(ctx, err)})
	}
	if w.incidents {
		page, err := f.source.Incidents(ctx, board.IncidentQuery{Limit: mostIncidents})
		messages = append(messages, incidentsMsg{page, f.explain(ctx, err)})
	}
}

// explain adds to an error that the read timed out.
func (f *feed) explain(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", text.Seconds(f.timeout))
	}
	return err
}

// panicError is a panic of the goroutine that reads; run panics with it once the terminal is
// restored.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n\n%s", e.value, e.stack) }
