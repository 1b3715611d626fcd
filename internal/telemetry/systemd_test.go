package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/web/serve"
)

// TestSystemdWatchdog leaves the watchdog out only where a restart helps, and waits for servers
// no longer than a start may take.
func TestSystemdWatchdog(t *testing.T) {
	var sent []string
	var ready, healthy error
	start := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	s := &systemd{watchdog: true, started: start, log: slog.New(slog.DiscardHandler),
		send:   func(state string) { sent = append(sent, state) },
		status: func(time.Time) string { return "12 rows/s" },
		probes: serve.Probes{Ready: func() error { return ready },
			Healthy: func() error { return healthy }}}
	for _, c := range []struct {
		what           string
		after          time.Duration
		ready, healthy error
		want           []string
	}{
		{"MySQL is down at the start", 0, errors.New("mysql: no\nanswer"), nil,
			[]string{"STATUS=waiting: mysql: no; answer", "WATCHDOG=1"}},
		{"and still is", 30 * time.Second, errors.New("mysql: no\nanswer"), nil,
			[]string{"READY=1", "WATCHDOG=1"}},
		{"it answers", time.Minute, nil, nil, []string{"STATUS=12 rows/s", "WATCHDOG=1"}},
		{"a loop stalls", 2 * time.Minute, nil, errors.New("stalled"), nil},
		{"it goes on", 3 * time.Minute, nil, nil, []string{"WATCHDOG=1"}},
	} {
		sent, ready, healthy = nil, c.ready, c.healthy
		s.report(start.Add(c.after))
		if !slices.Equal(sent, c.want) {
			t.Errorf("%s: sent %q, want %q", c.what, sent, c.want)
		}
	}
}

// TestNotifySystemd sends to a socket as systemd opens it.
func TestNotifySystemd(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	status := func(time.Time) string { return "view at http://localhost:8080/" }
	t.Setenv("NOTIFY_SOCKET", "")
	NotifySystemd(t.Context(), serve.Probes{}, status, log)() // nobody listens

	name := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Skipf("no sockets as systemd's: %v", err)
	}
	defer socket.Close()
	if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "60000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := NotifySystemd(ctx, serve.Probes{}, status, log)
	defer stop()
	var got []string
	buf := make([]byte, 4096)
	for {
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("%v, after %q", err, got)
		}
		got = append(got, strings.Split(string(buf[:n]), "\n")...)
		beats := strings.Count(strings.Join(got, " "), "WATCHDOG=1")
		if beats == 3 {
			cancel()
		}
		if slices.Contains(got, "STOPPING=1") {
			break
		}
	}
	for _, want := range []string{"READY=1", "STATUS=view at http://localhost:8080/"} {
		if !slices.Contains(got, want) {
			t.Errorf("systemd got %q, want %q in it", got, want)
		}
	}
}
