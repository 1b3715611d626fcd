package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/text"
)

// fullScreen reports whether view --watch fills the terminal: where a person sees it and has keys.
func (a *app) fullScreen(s viewSettings) bool {
	if s.plain || s.json || !text.IsTerminal(a.stdin) || !text.IsTerminal(a.stdout) {
		return false
	}
	name, named := os.LookupEnv("TERM")
	return name != "dumb" && (named && name != "" || runtime.GOOS == "windows")
}

// watchScreen shows the view on the whole terminal until it is quit.
func (a *app) watchScreen(c *cli.Context, s viewSettings) error {
	con, err := connectionFrom(c)
	if err != nil {
		return err
	}
	kept := &keptLog{to: a.stderr}
	if text.IsTerminal(a.stderr) {
		defer kept.keep()()
	}
	logger, err := command.NewLogger(kept, command.LogText, "warn")
	if err != nil {
		return err
	}
	r, err := openReader(c.Context, con, fixesTimezone(c), logger,
		live.Config{Silent: true, Deep: s.deep, Repeated: true, Relaxed: true})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(c.Context)
	defer stop(nil)
	source := live.NewSource(stop)
	defer r.Close()
	r.Start()
	defer context.AfterFunc(ctx, r.Stop)()
	source.Open(r)
	timeout := screenTimeout
	if s.deep {
		timeout = live.DeepLimit
	}
	err = a.runScreen(ctx, source, newScreenModel(s, time.Now()), timeout)
	if cause := context.Cause(ctx); err == nil && errors.Is(cause, board.ErrEnded) {
		return cause
	}
	return err
}

// frameRate is how often the screen is drawn at most, a second. A key is seen within 50 ms.
const frameRate = 20

// runScreen shows what a source gives until it is quit, or ctx ends. The terminal is then as it was
// before, after a panic too. timeout bounds a read.
func (a *app) runScreen(ctx context.Context, source screenSource, model *screenModel,
	timeout time.Duration) error {
	ctx, stop := context.WithCancel(ctx)
	feed := newScreenFeed(source, nil, timeout)
	shown := &screenProgram{model: model, want: feed.want}
	program := tea.NewProgram(shown,
		tea.WithInput(a.stdin), tea.WithOutput(a.stdout), tea.WithFPS(frameRate),
		tea.WithoutSignalHandler(), // main has one, which ends ctx
		// screenProgram does, and the panic goes on once the terminal is restored
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
	defer context.AfterFunc(ctx, program.Quit)()
	if _, err := program.Run(); err != nil {
		return fmt.Errorf("show the view on the terminal: %w", err)
	}
	if p := (*panicError)(nil); errors.As(model.fatal, &p) {
		panic(p)
	}
	return model.fatal
}

// screenProgram joins the model to the terminal.
type screenProgram struct {
	model  *screenModel
	want   func(wish)
	told   wish
	quit   func() // ends the program, once it takes a message
	broken bool   // whether the model has panicked
}

// caught ends the program in good order where the model has panicked. Deferred, it is told what was
// recovered.
func (p *screenProgram) caught(r any) {
	if r != nil {
		p.broken = true
		p.model.end(&panicError{r, debug.Stack()})
		go p.quit()
	}
}

func (p *screenProgram) Init() tea.Cmd {
	p.told = p.model.wish()
	p.want(p.told)
	return nil
}

func (p *screenProgram) Update(msg tea.Msg) (same tea.Model, _ tea.Cmd) {
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
			return p, tea.Suspend
		case m.typing && msg.Text != "":
			m.text(msg.Text)
		default:
			m.press(key)
		}
	case tea.PasteMsg:
		m.text(msg.Content)
	case tickMsg:
		m.tick(msg.now, msg.reading)
	case boardMsg:
		m.show(msg.board, msg.err, msg.now)
	case detailMsg:
		m.showDetail(msg.plaza, msg.detail, msg.err)
	case endMsg:
		m.end(msg.err)
	}
	if w := m.wish(); w != p.told {
		p.told = w
		p.want(w)
	}
	if m.quit {
		return p, tea.Quit
	}
	return p, nil
}

func (p *screenProgram) View() (v tea.View) {
	v.AltScreen = true
	defer func() { p.caught(recover()) }()
	if !p.broken {
		v.SetContent(styled(p.model.frame()))
	}
	return v
}

// keptLog holds back what is logged while the screen is shown, where it would be written over it.
type keptLog struct {
	to io.Writer

	mu      sync.Mutex
	keeping bool
	lines   [][]byte // the last ones
	dropped int
}

// maxKept is how many lines are held back; who reads them reads the last.
const maxKept = 20

// keep holds back what is logged, by us and by libraries, until the returned func is called, which
// writes it.
func (k *keptLog) keep() (release func()) {
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
			fmt.Fprintf(k.to, "… %s of the log before\n", text.Count(k.dropped, "line"))
		}
		_, _ = k.to.Write(bytes.Join(k.lines, nil))
		k.lines, k.dropped = nil, 0
	}
}

// Write takes a line of the log.
func (k *keptLog) Write(text []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.keeping {
		return k.to.Write(text)
	}
	if len(k.lines) == maxKept {
		k.lines = k.lines[1:]
		k.dropped++
	}
	k.lines = append(k.lines, bytes.Clone(text))
	return len(text), nil
}
