//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package pagetest

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"

	"github.com/tollstream/tollstream/internal/board"
	boards "github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/sandbox"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/internal/tui"
	"github.com/tollstream/tollstream/topology/kafka"
)

// watched is the full-screen view on a pseudo-terminal.
type watched struct {
	t *testing.T

	mu      sync.Mutex
	screen  *vt.Emulator
	changed chan struct{}
}

// watch shows a source on a pseudo-terminal until the test ends.
func watch(t *testing.T, source tui.Source) *watched {
	t.Helper()
	const width, height = 120, 20
	control, tty, err := pty.Open()
	testkit.NeedService(t, "a pseudo-terminal", err == nil)
	if err := pty.Setsize(control, &pty.Winsize{Cols: width, Rows: height}); err != nil {
		t.Fatal(err)
	}
	x := &watched{t: t, screen: vt.NewEmulator(width, height), changed: make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(control, x.screen) }) // what a terminal answers
	wg.Go(func() {
		chunk := make([]byte, 64<<10)
		for {
			n, err := control.Read(chunk)
			x.mu.Lock()
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
	ended := make(chan error, 1)
	go func() { ended <- tui.Run(ctx, tty, tty, source, tui.Options{}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the full-screen view ends with %v", err)
		}
		_ = tty.Close()
		_ = x.screen.InputPipe().(io.Closer).Close()
		_ = control.Close()
		wg.Wait()
	})
	return x
}

// shows waits until a text is to be seen, or is not any more.
func (x *watched) shows(text string, yes bool) {
	x.t.Helper()
	deadline := time.After(patience)
	for {
		x.mu.Lock()
		screen := x.screen.String()
		x.mu.Unlock()
		if strings.Contains(screen, text) == yes {
			return
		}
		select {
		case <-x.changed:
		case <-deadline:
			x.t.Fatalf("%q on the terminal: want %v\n%s", text, yes, screen)
		}
	}
}

// TestWhatStops stops the feed, the process, Kafka and MySQL one by one, and reads what the page,
// the terminal, the text and the API say.
func TestWhatStops(t *testing.T) {
	t.Parallel()
	w := open(t, desk)
	needDatabase(t)
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
	con := s.Connection()
	p := &pipeline{t: t, binary: built(t), env: append(os.Environ(),
		"TOLLSTREAM_BROKERS="+con.Cluster.Brokers[0], "TOLLSTREAM_MYSQL="+con.DSN,
		"TOLLSTREAM_STATE_DIR="+t.TempDir(), "TOLLSTREAM_INSTANCE=one")}
	feed := func() (stop func()) {
		_, stop = p.start("emit", "--rate", "50", "--plazas", "4000-4003")
		return stop
	}
	limits := board.DefaultLimits()
	limits.Slot, limits.Silence, limits.Frozen = 500*time.Millisecond, 4*time.Second, 4*time.Second
	r, err := boards.Open(t.Context(), boards.Config{Connection: con,
		Log: slog.New(slog.DiscardHandler), Repeated: true, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	source := boards.NewSource(func(err error) { t.Errorf("the source ends: %v", err) })
	source.Open(r)
	l := serve(t, source)
	x := watch(t, source)
	api := func() (b board.Board) { return get[board.Board](l, "/api/v1/plazas") }
	says := func(id, words string) {
		t.Helper()
		w.wait("(s => !s.hidden && s.innerText.includes(" + quoted(words) +
			"))(document.getElementById(" + quoted(id) + "))")
	}
	hidden := func(id string) {
		t.Helper()
		w.wait("document.getElementById(" + quoted(id) + ").hidden")
	}

	// Nothing has run.
	w.visit(l.url+"/", "[data-f=plazas]")
	says("notices", "No process has run yet")
	x.shows("no process has run yet", true)

	_, stopProcess := p.start("process")
	stopFeed := feed()
	hidden("notices")
	w.wait("document.querySelectorAll('tr.row').length == 4 && " +
		"document.getElementById('fresh').innerText.includes('newest event')")
	x.shows("newest event ", true)
	if b := api(); b.Feed.Silent || b.Processing.State != board.Running ||
		!b.Summary.FlowPerHour.Known() || len(b.Processing.Instances) != 1 {
		t.Errorf("while all runs: %+v, %+v, flow %v", b.Feed, b.Processing, b.Summary.FlowPerHour)
	}

	// The feed.
	stopFeed()
	says("notices", "No event has arrived for ")
	w.wait("document.querySelector('.tile.no_data b').innerText == '4' && " +
		"document.querySelector('[data-f=flow]').innerText == '–'")
	x.shows("NO FEED: no event has arrived for ", true)
	if b := api(); !b.Feed.Silent || b.Processing.State != board.Running ||
		b.Summary.States.NoData != 4 {
		t.Errorf("without a feed: %+v, %+v, %+v", b.Feed, b.Processing, b.Summary)
	}
	if text := render.Plazas(source.Last(), render.Options{Width: 200}); !strings.Contains(text,
		"NO FEED: no event has arrived for ") {
		t.Errorf("without a feed, the text is\n%s", text)
	}
	if ready := string(l.body("/readyz")); !strings.Contains(ready,
		`"status":"ok","notes":["no event`) {
		t.Errorf("without a feed, /readyz answers %s", ready)
	}
	stopFeed = feed()
	hidden("notices")
	x.shows("NO FEED", false)

	// The process.
	stopProcess()
	says("notices", "Process stopped ")
	x.shows("NO PROCESS: process stopped ", true)
	w.wait("document.querySelector('.tile.no_data b').innerText == '4'")
	if b := api(); b.Processing.State != board.Stopped || b.Feed.Silent {
		t.Errorf("without a process: %+v, %+v", b.Processing, b.Feed)
	}
	_, stopProcess = p.start("process")
	hidden("notices")
	x.shows("NO PROCESS", false)
	stopFeed()

	// Kafka, and then MySQL.
	if err := s.Broker.Close(); err != nil {
		t.Fatal(err)
	}
	says("stale", "Kafka does not answer the view")
	x.shows("no answer from Kafka", true)
	if s.Broker, err = devstack.StartBroker(devstack.BrokerConfig{Addr: s.Broker.Addr(),
		DataDir: filepath.Join(dir, "broker")}); err != nil {
		t.Fatal(err)
	}
	hidden("stale")
	x.shows("STALE", false)
	if !s.InMemory() {
		if err := s.Database.Kill(); err != nil {
			t.Fatal(err)
		}
		says("stale", "MySQL does not answer the view")
		x.shows("STALE for ", true)
		if err := s.Database.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		hidden("stale")
	}
	stopProcess()
}
