// Package tui is the full-screen view: it shows boards on the whole terminal, and has keys.
//
// A model, which has no clock and does no input or output, takes messages and keys and returns
// frames; a feed reads what the model requests; Run joins them to the terminal.
package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/tollstream/tollstream/internal/text"
)

// frameRate is how often the screen is drawn at most, a second. A key is seen within 50 ms.
const frameRate = 20

// Options are what the view begins with, and what it needs to know of its source.
type Options struct {
	Plaza *int16 // to open; nil for the table of all
	Top   int    // the most plazas that are listed, 0 for all
	Sort  string // a figure of [board.Figures] that a column is sorted by; empty for the state

	Timeout time.Duration      // of a read. Default 10 s
	Brief   func(error) string // an error as a person reads it. Default: its text
}

// defaultTimeout bounds a read, as on the page: a database that needs longer serves no live view.
const defaultTimeout = 10 * time.Second

// Run shows what a source reads until a person quits, or ctx ends. The terminal is then as it was
// before, after a panic too.
func Run(ctx context.Context, in io.Reader, out io.Writer, source Source, o Options) error {
	return run(ctx, in, out, newFeed(source, o), newModel(o, time.Now()))
}

func run(ctx context.Context, in io.Reader, out io.Writer, feed *feed, model *model) error {
	ctx, stop := context.WithCancel(ctx)
	shown := &teaModel{model: model, want: feed.want}
	program := tea.NewProgram(shown,
		tea.WithInput(in), tea.WithOutput(out), tea.WithFPS(frameRate),
		tea.WithoutSignalHandler(), // main has one, which ends ctx
		// teaModel does, and run panics again once the terminal is restored
		tea.WithoutCatchPanics())
	feed.send = func(m any) { program.Send(m) }
	shown.quit = program.Quit
	defer func() {
		if r := recover(); r != nil { // of the library, or of our own
			program.Kill()
			panic(r)
		}
	}()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { feed.run(ctx) })
	stops := make(chan os.Signal, 1)
	hearStops(stops)
	defer signal.Stop(stops)
	wg.Go(func() {
		for {
			select {
			case <-stops:
				program.Send(suspendMsg{})
			case <-ctx.Done():
				return
			}
		}
	})
	defer context.AfterFunc(ctx, program.Quit)()
	if _, err := program.Run(); err != nil {
		return fmt.Errorf("show the view on the terminal: %w", err)
	}
	if p := (*panicError)(nil); errors.As(model.fatal, &p) {
		panic(p)
	}
	return model.fatal
}

// teaModel joins the model to the terminal.
type teaModel struct {
	model     *model
	want      func(request)
	requested request // the last one
	quit      func()  // ends the program, once it takes a message
	broken    bool    // whether the model has panicked
}

// suspendMsg asks to suspend the process.
type suspendMsg struct{}

// suspension suspends the process while the library has restored the terminal.
type suspension struct{}

func (suspension) Run() error          { return suspend() }
func (suspension) SetStdin(io.Reader)  {}
func (suspension) SetStdout(io.Writer) {}
func (suspension) SetStderr(io.Writer) {}

// caught ends the program in good order where the model has panicked. It is deferred, with what was
// recovered.
func (p *teaModel) caught(r any) {
	if r != nil {
		p.broken = true
		p.model.end(&panicError{r, debug.Stack()})
		go p.quit()
	}
}

func (p *teaModel) Init() tea.Cmd {
	p.requested = p.model.request()
	p.want(p.requested)
	return nil
}

func (p *teaModel) Update(msg tea.Msg) (same tea.Model, _ tea.Cmd) {
	same = p // after a panic too
	defer func() { p.caught(recover()) }()
	m := p.model
	if p.broken {
		return p, nil
	}
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.resize(msg.Width, msg.Height)
	case tea.KeyPressMsg:
		switch key := msg.String(); {
		case key == "ctrl+l":
			return p, tea.ClearScreen
		case key == "ctrl+z":
			return p, tea.Exec(suspension{}, nil)
		case m.typing && msg.Text != "":
			m.text(msg.Text)
		default:
			m.press(key)
		}
	case suspendMsg:
		return p, tea.Exec(suspension{}, nil)
	case tea.PasteMsg:
		m.text(msg.Content)
	case tickMsg:
		m.tick(msg.now, msg.reading)
	case boardMsg:
		m.show(msg.board, msg.err, msg.now)
	case detailMsg:
		m.showDetail(msg.plaza, msg.detail, msg.err)
	case incidentsMsg:
		m.showIncidents(&msg.page, msg.err)
	case endMsg:
		m.end(msg.err)
	}
	if w := m.request(); w != p.requested {
		p.requested = w
		p.want(w)
	}
	if m.quit {
		return p, tea.Quit
	}
	return p, nil
}

func (p *teaModel) View() (v tea.View) {
	v.AltScreen = true
	defer func() { p.caught(recover()) }()
	if !p.broken {
		v.SetContent(styled(p.model.frame()))
	}
	return v
}

// HeldLog holds back log lines while the screen is shown, which they would overwrite.
type HeldLog struct {
	To io.Writer

	mu      sync.Mutex
	keeping bool
	lines   [][]byte // the last ones
	dropped int
}

// maxKept is how many lines are held back: the last ones.
const maxKept = 20

// Hold holds back what we and libraries log until release is called, which writes it.
func (k *HeldLog) Hold() (release func()) {
	k.mu.Lock()
	k.keeping = true
	k.mu.Unlock()
	before := log.Writer()
	log.SetOutput(k)
	return func() {
		log.SetOutput(before)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.keeping = false
		if k.dropped > 0 {
			fmt.Fprintf(k.To, "… %s of the log before\n", text.Count(k.dropped, "line"))
		}
		_, _ = k.To.Write(bytes.Join(k.lines, nil))
		k.lines, k.dropped = nil, 0
	}
}

// Write takes a line of the log.
func (k *HeldLog) Write(text []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.keeping {
		return k.To.Write(text)
	}
	if len(k.lines) == maxKept {
		k.lines = k.lines[1:]
		k.dropped++
	}
	k.lines = append(k.lines, bytes.Clone(text))
	return len(text), nil
}
