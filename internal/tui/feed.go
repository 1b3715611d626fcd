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
}

// Messages from the feed to the model.
type (
	tickMsg struct {
		now     time.Time
		reading time.Time // since when a read is under way, zero for none
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
	// endMsg ends the view: there is nothing left to read, or reading has panicked.
	endMsg struct{ err error }
)

// feed reads what the model wishes. One goroutine, run, decides; a second one reads, so that
// a server that does not answer keeps nothing else waiting.
type feed struct {
	source  Source
	send    func(any)     // to the model; returns soon
	timeout time.Duration // of one read
	ends    func(error) bool
	now     func() time.Time
	every   time.Duration // between boards; up to quietest times that where nothing happens
	detail  time.Duration // between reads of the page of one plaza
	wishes  chan wish     // holds the last one
}

// detailEvery is how often a plaza's page is read again: it takes some queries, and shows quarters
// of an hour.
const detailEvery = 5 * time.Second

// quietest is how many times as long the next board is waited for where nothing has changed for a
// while: at a thousand plazas reading one costs some 30 ms of a core.
const quietest = 3

// pulse is what changes with every event, and with every window that closes.
type pulse struct {
	status            board.Status
	plazas            int
	total, inFlight   int64
	stream, watermark time.Time
}

func pulseOf(b *board.Board) pulse {
	p := pulse{status: b.Verification.Status, plazas: len(b.Plazas), inFlight: b.Verification.InFlight}
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
	return &feed{source: source, timeout: cmp.Or(o.Timeout, defaultTimeout), ends: o.Ends,
		now: time.Now, every: time.Second, detail: detailEvery, wishes: make(chan wish, 1)}
}

// want takes what the model wishes. One goroutine calls it.
func (f *feed) want(w wish) {
	select {
	case <-f.wishes:
	default:
	}
	f.wishes <- w
}

// run reads until ctx ends, and returns once the last read has.
func (f *feed) run(ctx context.Context) {
	ticker := time.NewTicker(f.every)
	defer ticker.Stop()
	var under chan []any // the read under way, nil for none
	var wished wish
	var began, boardAt, detailAt time.Time
	var has int16 // the plaza whose page was read last, at detailAt
	var last pulse
	quiet := time.Duration(1) // times every until the next board
	read := func() {
		now := f.now()
		if under != nil {
			return
		}
		// a tick may come early
		due := boardAt.IsZero() || !wished.paused && now.Sub(boardAt) >= quiet*f.every*9/10
		detail := wished.detail && (detailAt.IsZero() || has != wished.plaza || !wished.paused &&
			now.Sub(detailAt) >= f.detail)
		if !due && !detail {
			return
		}
		if due {
			boardAt = now
		}
		if detail {
			has, detailAt = wished.plaza, now
		}
		began, under = now, make(chan []any, 1)
		go f.read(ctx, due, detail, wished.plaza, under)
	}
	read()
	for {
		select {
		case <-ctx.Done():
			if under != nil {
				<-under
			}
			return
		case <-ticker.C:
			read()
			tick := tickMsg{now: f.now()}
			if under != nil {
				tick.reading = began
			}
			f.send(tick)
		case wished = <-f.wishes:
			read()
		case messages := <-under:
			under = nil
			for _, m := range messages {
				if b, ok := m.(boardMsg); ok && b.board != nil {
					if now := pulseOf(b.board); now == last {
						quiet = min(quiet+1, quietest)
					} else {
						last, quiet = now, 1
					}
				}
				f.send(m)
			}
			if wished.detail && has != wished.plaza {
				read()
			}
		}
	}
}

// read reads the board, or the page of a plaza, or both.
func (f *feed) read(ctx context.Context, all, detail bool, plaza int16, done chan<- []any) {
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
		if toll.IsPermanent(err) || f.ends != nil && f.ends(err) {
			messages = append(messages, endMsg{err})
			return
		}
		messages = append(messages, boardMsg{b, f.explain(ctx, err), f.now()})
		if err != nil {
			return
		}
	}
	if detail {
		d, err := f.source.Plaza(ctx, plaza)
		if errors.Is(err, board.ErrNotFound) {
			err = fmt.Errorf("no vehicle has passed plaza %d yet", plaza)
		}
		messages = append(messages, detailMsg{plaza, d, f.explain(ctx, err)})
	}
}

// explain adds to an error that the read timed out.
func (f *feed) explain(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", text.Seconds(f.timeout))
	}
	return err
}

// panicError is a panic of a goroutine that reads, which goes on where the terminal is restored.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n\n%s", e.value, e.stack) }
