//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"golang.org/x/term"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/internal/sandbox"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/internal/tui"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
)

// terminal is a pseudo-terminal, with what a person would see there.
type terminal struct {
	t             *testing.T
	control, tty  *os.File
	before        *term.State
	width, height int

	mu      sync.Mutex
	screen  *vt.Emulator
	raw     bytes.Buffer // all that was written
	changed chan struct{}
}

// terminalPatience is how long something may take to be seen, on a loaded machine.
const terminalPatience = 90 * time.Second

func openTerminal(t *testing.T, width, height int) *terminal {
	t.Helper()
	control, tty, err := pty.Open()
	testkit.NeedService(t, "a pseudo-terminal", err == nil)
	x := &terminal{t: t, control: control, tty: tty, screen: vt.NewEmulator(width, height),
		changed: make(chan struct{}, 1)}
	x.resize(width, height)
	if x.before, err = term.GetState(int(tty.Fd())); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // what a terminal answers when it is asked
		_, _ = io.Copy(control, x.screen)
	})
	wg.Go(func() {
		chunk := make([]byte, 64<<10)
		for {
			n, err := control.Read(chunk)
			x.mu.Lock()
			x.raw.Write(chunk[:n])
			_, _ = x.screen.Write(chunk[:n])
			x.mu.Unlock()
			select {
			case x.changed <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = tty.Close()
		_ = x.screen.InputPipe().(io.Closer).Close()
		_ = control.Close()
		wg.Wait()
	})
	return x
}

func (x *terminal) resize(width, height int) {
	x.t.Helper()
	x.mu.Lock()
	x.screen.Resize(width, height)
	x.width, x.height = width, height
	x.mu.Unlock()
	if err := pty.Setsize(x.control,
		&pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := io.WriteString(x.control, keys); err != nil {
		x.t.Fatal(err)
	}
}

// text returns what is to be seen, a line of the screen each.
func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var b strings.Builder
	for row := range x.height {
		var l strings.Builder
		for column := 0; column < x.width; column++ {
			cell := x.screen.CellAt(column, row)
			if cell == nil || cell.Content == "" {
				l.WriteByte(' ')
				continue
			}
			l.WriteString(cell.Content)
			column += max(cell.Width, 1) - 1
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	return b.String()
}

// until waits until the screen is as wanted, and returns it.
func (x *terminal) until(what string, wanted func(text string) bool) string {
	x.t.Helper()
	deadline := time.After(terminalPatience)
	for {
		text := x.text()
		if wanted(text) {
			return text
		}
		select {
		case <-x.changed:
		case <-deadline:
			x.t.Fatalf("%s is not to be seen:\n%s", what, text)
		}
	}
}

func (x *terminal) untilShows(texts ...string) string {
	x.t.Helper()
	return x.until(strings.Join(texts, ", "), func(text string) bool {
		return !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(text, s) })
	})
}

func (x *terminal) written() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.raw.String()
}

// restored checks that the terminal is as it was before.
func (x *terminal) restored() {
	x.t.Helper()
	x.until("the screen of before", func(string) bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return !x.screen.IsAltScreen() && !x.screen.CursorHidden()
	})
	written := x.written()
	entered, left := strings.LastIndex(written, "\x1b[?1049h"), strings.LastIndex(written,
		"\x1b[?1049l")
	if entered < 0 || left < entered {
		x.t.Errorf("alternate screen: entered at %d, left at %d", entered, left)
	}
	if hidden, shows := strings.LastIndex(written, "\x1b[?25l"), strings.LastIndex(written,
		"\x1b[?25h"); shows < hidden {
		x.t.Error("the cursor stays hidden")
	}
	after, err := term.GetState(int(x.tty.Fd()))
	if err != nil {
		x.t.Fatal(err)
	}
	if !reflect.DeepEqual(after, x.before) {
		x.t.Errorf("the terminal's settings are %+v, and were %+v", after, x.before)
	}
}

// running is a command on a terminal.
type running struct {
	*terminal
	cmd   *exec.Cmd
	ended chan error
}

// onTerminal starts the command on a terminal of a size, for a pipeline.
func (p *testbed) onTerminal(t *testing.T, width, height int, change func(*exec.Cmd),
	args ...string) *running {
	t.Helper()
	x := openTerminal(t, width, height)
	con := p.Connection()
	r := &running{terminal: x, ended: make(chan error, 1)}
	r.cmd = exec.Command("tollstream", append(args, "--brokers", con.Cluster.Brokers[0], "--mysql",
		con.DSN)...)
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = x.tty, x.tty, x.tty
	r.cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=", "COLORTERM=")
	// so that it gets the signal of a new size
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2}
	if change != nil {
		change(r.cmd)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait(); close(r.ended) }()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
	})
	return r
}

// ends waits for the command's end, which must be with exit status 0, and checks the terminal.
func (r *running) ends() {
	r.t.Helper()
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("%v\n%s", err, r.text())
		}
	case <-time.After(terminalPatience):
		r.t.Fatalf("it does not end:\n%s", r.text())
	}
	r.restored()
}

// listed returns the plazas in the order in which a screen lists them.
func listed(text string) (plazas []string) {
	for _, m := range regexp.MustCompile(`(?m)^ (4\d{3})  `).FindAllStringSubmatch(text, -1) {
		plazas = append(plazas, m[1])
	}
	return plazas
}

// vehicles are lines of events: so many of each plaza, in a quarter of an hour.
func vehicles(counts map[int]int) string {
	start := time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	var lines strings.Builder
	for minute := range 20 { // by time, so that none is late
		for plaza := 4010; plaza < 4020; plaza++ {
			for n := range counts[plaza] {
				typ := []string{"car", "truck"}[n%2]
				fmt.Fprintf(&lines, "%s,%d,%s,%d\n",
					start.Add(time.Duration(minute)*time.Minute).Format(time.ANSIC), n, typ, plaza)
			}
		}
	}
	return lines.String()
}

// TestScreenTerminal runs the full-screen view as a person does.
func TestScreenTerminal(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, time.UTC)
	p.windows.Plazas = []toll.Plaza{{ID: 4010, Name: "Forest", Road: "M1", Lanes: 1,
		CapacityPerLane: 850}, {ID: 4011, Name: "Lake\u202e\u0301😀"}}
	p.events(vehicles(map[int]int{4010: 10, 4011: 4, 4012: 7}))
	order := func(plazas ...string) func(string) bool {
		return func(text string) bool { return slices.Equal(listed(text), plazas) }
	}

	t.Run("keys", func(t *testing.T) {
		r := p.onTerminal(t, 100, 24, nil, "view", "--watch")
		text := r.untilShows(
			"✓ exact: 420 vehicles at 3 plazas, each one row and counted once · checked ", "▲ saturated",
			"event time Mon 2026-03-02 07:19 UTC, ", "newest event ", "1–3 of 3")
		if !order("4010", "4012", "4011")(text) || !strings.Contains(text, `Lake\u202e\u0301`) {
			t.Errorf("the table is\n%s", text)
		}
		r.press("f")
		r.until("flow/h↓", func(text string) bool {
			return strings.Contains(text, "flow/h↓") && order("4010", "4012", "4011")(text)
		})
		r.press("f")
		r.until("flow/h↑", func(text string) bool {
			return strings.Contains(text, "flow/h↑") && order("4011", "4012", "4010")(text)
		})
		r.press("\x1b[B\x1b[B\r") // down twice, Enter
		r.untilShows("plaza 4010  Forest, M1, 1 lane", "FLOW TODAY", "╌ capacity, about ",
			"✓ exact: 200 counted, 200 rows")
		r.press("G")
		r.untilShows("every vehicle came on time")
		r.press("\x1b[H") // Home
		r.untilShows("plaza 4010")
		r.press("\x1b[D") // left
		r.untilShows("plaza 4012")
		r.resize(60, 12)
		r.until("the page in 60 columns", func(text string) bool {
			lines := strings.Split(text, "\n")
			return strings.HasPrefix(lines[3], "plaza 4012") && strings.HasPrefix(lines[11], "Esc: back")
		})
		r.press("\x1b")
		r.until("the table in 12 lines", func(text string) bool {
			return strings.Contains(text, "flow/h↑") &&
				strings.Contains(strings.Split(text, "\n")[11], "q: quit")
		})
		r.resize(39, 9)
		r.untilShows("too small: 39×9,", "✓ exact")
		r.resize(120, 30)
		r.press("/4012")
		r.until("the filter", order("4012"))
		r.press("q\r") // which is a letter here
		r.untilShows("no plaza matches the filter")
		r.press("\x1b")
		r.until("all plazas", order("4011", "4012", "4010"))
		r.press("?")
		r.untilShows("KEYS", "once more turns it round")
		r.press("?")
		r.until("the table after the help", order("4011", "4012", "4010"))
		r.press(" ")
		r.untilShows("PAUSED, figures of ")
		r.press(" ")
		r.untilShows("newest event ")

		p.execute(`DELETE FROM livetolldata WHERE toll_plaza_id = 4012 LIMIT 1`)
		r.untilShows("✗ MISMATCH at 1 plaza: 4012 · checked ")
		p.execute(`INSERT INTO livetolldata VALUES ('2026-03-02 07:00:00', 0, 'car', 4012)`)
		r.untilShows("✓ exact: 420 vehicles")
		r.press("q")
		r.ends()
		if strings.Contains(r.text(), "plaza") {
			t.Errorf("what is left on the terminal:\n%s", r.text())
		}
	})

	t.Run("plaza, Ctrl-C", func(t *testing.T) {
		r := p.onTerminal(t, 80, 24, nil, "view", "--watch", "--plaza", "4010")
		r.untilShows("plaza 4010  Forest", "FLOW TODAY")
		r.press("\x03")
		r.ends()
	})

	t.Run("unknown plaza, SIGTERM", func(t *testing.T) {
		r := p.onTerminal(t, 80, 24, nil, "view", "--watch", "--plaza", "4999")
		r.untilShows("no vehicle has passed plaza 4999 yet", "✓ exact")
		if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		r.ends()
	})

	t.Run("Ctrl-Z, SIGTSTP", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "pid")
		r := p.onTerminal(t, 80, 24, func(c *exec.Cmd) { // a shell with job control
			const script = `set -m; file=$1; n=0; shift
				sh -c 'echo $$ >"$0"; exec "$@"' "$file" "$@"
				while [ $? -gt 128 ]; do n=$((n+1)); echo "stop $n"; read -r _; fg; done`
			sh, err := exec.LookPath("sh")
			if err != nil {
				t.Fatal(err)
			}
			c.Path, c.Args = sh, append([]string{"sh", "-c", script, "sh", file}, c.Args...)
		}, "view", "--watch")
		for i, suspend := range []func(){
			func() { r.press("\x1a") },
			func() {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
				if err != nil {
					t.Fatal(err)
				}
				if err := syscall.Kill(pid, syscall.SIGTSTP); err != nil {
					t.Fatal(err)
				}
			},
			func() { r.press("\x1a") },
		} {
			r.untilShows("✓ exact", "newest event ")
			suspend()
			r.untilShows(fmt.Sprintf("stop %d\n", i+1))
			r.restored()
			r.press("\r")
		}
		r.untilShows("✓ exact", "newest event ")
		r.press("q")
		r.ends()
	})

	t.Run("without colour", func(t *testing.T) {
		r := p.onTerminal(t, 80, 24, func(c *exec.Cmd) { c.Env = append(c.Env, "NO_COLOR=1") }, "view",
			"--watch")
		r.untilShows("▲ saturated", "✓ exact")
		r.press("q")
		r.ends()
		if m := regexp.MustCompile(`\x1b\[[0-9;]*\b(3[0-8]|4[0-8]|9[0-7])[0-9;]*m`).FindString(
			r.written()); m != "" {
			t.Errorf("with NO_COLOR it wrote %q", m)
		}
	})

	t.Run("lines", func(t *testing.T) {
		for name, c := range map[string]struct {
			args   []string
			change func(*exec.Cmd)
		}{
			"--plain":     {args: []string{"--plain"}},
			"TERM=dumb":   {change: func(c *exec.Cmd) { c.Env = append(c.Env, "TERM=dumb") }},
			"no keyboard": {change: func(c *exec.Cmd) { c.Stdin = nil }},
		} {
			t.Run(name, func(t *testing.T) {
				r := p.onTerminal(t, 80, 24, c.change, append([]string{"view", "--watch"}, c.args...)...)
				r.until("two tables", func(string) bool {
					return strings.Count(r.written(), "exact: 420 vehicles") >= 2
				})
				if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
				if err := <-r.ended; err != nil {
					t.Error(err)
				}
				if written := r.written(); strings.Contains(written, "\x1b") {
					t.Errorf("%q", written)
				}
			})
		}
		t.Run("a pipe", func(t *testing.T) {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			r := p.onTerminal(t, 80, 24, func(c *exec.Cmd) { c.Stdout = writer }, "view", "--watch")
			_ = writer.Close()
			lines := bufio.NewScanner(reader)
			for tables := 0; tables < 2 && lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "exact: 420 vehicles") {
					tables++
				}
				if strings.Contains(lines.Text(), "\x1b") {
					t.Errorf("%q", lines.Text())
				}
			}
			if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, reader)
			if err := <-r.ended; err != nil {
				t.Error(err)
			}
		})
	})
}

// TestScreenOutage takes broker and database away, and gives them back.
func TestScreenOutage(t *testing.T) {
	t.Parallel()
	quietLibraries()
	dir := t.TempDir()
	s, err := sandbox.Start(t.Context(), sandbox.Config{
		KafkaListen: "127.0.0.1:0", MySQLListen: "127.0.0.1:0", Location: time.UTC,
		Log: slog.New(slog.DiscardHandler), DataDir: dir,
		Topics: kafka.Topics{Topic: "toll", Group: "tollstream", Partitions: 2, Replication: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	p := &testbed{s, t, t.TempDir(), pipeline.DefaultWindows()}
	p.events(vehicles(map[int]int{4010: 10, 4011: 4}))
	r := p.onTerminal(t, 100, 24, nil, "view", "--watch")
	exact := "✓ exact: 280 vehicles"
	began := time.Now()
	step := func(what string) {
		t.Logf("%v: %s", time.Since(began).Round(10*time.Millisecond), what)
		began = time.Now()
	}
	r.untilShows(exact, "newest event ")

	if err := s.Broker.Close(); err != nil {
		t.Fatal(err)
	}
	r.untilShows("STALE for ", "waiting for the servers: no answer from Kafka", "not verified since",
		" 4010  ")
	step("the broker is missed")
	r.press("t")
	r.untilShows("total↓") // keys work meanwhile
	if s.Broker, err = devstack.StartBroker(devstack.BrokerConfig{Addr: s.Broker.Addr(),
		DataDir: filepath.Join(dir, "broker")}); err != nil {
		t.Fatal(err)
	}
	r.untilShows(exact, "newest event ")
	step("the broker is back")

	if !s.InMemory() {
		if err := s.Database.Kill(); err != nil {
			t.Fatal(err)
		}
		text := r.untilShows("STALE for ", "waiting for the servers: ", "not verified since")
		step("the database is missed")
		if strings.Contains(text, "toll:toll@") {
			t.Errorf("a password is on the screen:\n%s", text)
		}
		if err := s.Database.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.untilShows(exact, "newest event ")
		step("the database is back")
	}
	if err := s.Broker.Close(); err != nil {
		t.Fatal(err)
	}
	step("the broker is closed")
	r.untilShows("STALE for ")
	step("the broker is missed again")
	r.press("q")
	r.ends()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to quit", took)
	}
	step("quit")
	text := r.text()
	if strings.Contains(text, "error") {
		t.Errorf("it left on the terminal:\n%s", text)
	}
}

// sourceFunc is a source that answers by a func.
type sourceFunc func(ctx context.Context) (*board.Board, error)

func (f sourceFunc) Board(ctx context.Context) (*board.Board, error) { return f(ctx) }
func (f sourceFunc) Plaza(context.Context, int16) (*board.Detail, error) {
	return nil, board.ErrNotFound
}

func (f sourceFunc) Incidents(context.Context, board.IncidentQuery) (board.IncidentPage, error) {
	return board.IncidentPage{}, nil
}

// runOn runs the view on a terminal, with a source that answers when it is to be seen. It returns
// what it panicked with, and how it ended.
func (x *terminal) runOn(source sourceFunc, o tui.Options) (panicked any, err error) {
	x.t.Helper()
	seen := make(chan struct{})
	type end struct {
		err      error
		panicked any
	}
	ended := make(chan end, 1)
	go func() {
		var e end
		defer func() {
			e.panicked = recover()
			ended <- e
		}()
		e.err = tui.Run(x.t.Context(), x.tty, x.tty,
			sourceFunc(func(ctx context.Context) (*board.Board, error) { <-seen; return source(ctx) }), o)
	}()
	x.untilShows("reading")
	close(seen)
	select {
	case e := <-ended:
		return e.panicked, e.err
	case <-time.After(terminalPatience):
		x.t.Fatal("it does not end")
	}
	return nil, nil
}

// TestScreenPanics restores the terminal where something panics, and lets the panic go on.
func TestScreenPanics(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for name, c := range map[string]struct {
		source sourceFunc
		brief  func(error) string
		want   string
	}{
		"of what reads": {source: func(context.Context) (*board.Board, error) { panic("no figures") },
			want: "panic: no figures"},
		"of what shows": {
			source: func(context.Context) (*board.Board, error) { return nil, errors.New("no answer") },
			brief:  func(error) string { panic("no words") },
			want:   "panic: no words",
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := openTerminal(t, 80, 24)
			if panicked, _ := x.runOn(c.source, tui.Options{Brief: c.brief}); !strings.Contains(
				fmt.Sprint(panicked), c.want) {
				t.Errorf("it panicked with %v", panicked)
			}
			x.restored()
		})
	}
}

// TestScreenEndsWithItsSource ends the view where there is nothing left to read.
func TestScreenEndsWithItsSource(t *testing.T) {
	t.Setenv("TERM", "xterm")
	x := openTerminal(t, 80, 24)
	if _, err := x.runOn(func(context.Context) (*board.Board, error) { return nil, board.ErrEnded },
		tui.Options{}); !errors.Is(err, board.ErrEnded) {
		t.Errorf("it ended with %v", err)
	}
	x.restored()
}
