// Package devstack starts a Kafka broker and a MySQL on a machine that has neither.
//
// Broker runs inside this process. Database runs a private MariaDB where the machine has one,
// MySQL 8 where that is asked for, and otherwise the embedded database, an in-memory server that
// is a command of its own (module embedded, whose comment lists its limits). Kafka runs a real
// Apache Kafka from a folder of jars. All of them listen on loopback unless configured otherwise,
// keep everything that they write inside the folder that they are given, and end with this
// process, even where it is killed (on Linux). A folder serves one server at a time; a second
// start on it is an error.
package devstack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// Free ports are taken from below the range that systems use for outgoing connections. Inside of
// it, a client that dials a killed server again and again is given the server's own port for its
// end one day, connects to itself, and the server can't come back.
const (
	firstFreePort = 20000
	lastFreePort  = 32000
)

// splitAddr returns host and port of addr. An empty host is 127.0.0.1, an empty addr a free port
// there.
func splitAddr(addr string) (host string, port int, err error) {
	if addr == "" {
		return "127.0.0.1", 0, nil
	}
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: want host:port: %w", addr, err)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("address %q: port %q is not a number from 0 to 65535", addr, p)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil && ip.IsUnspecified() {
		return "", 0,
			fmt.Errorf("address %q: this host is advertised to clients, so they must be able to reach it",
				addr)
	}
	return host, port, nil
}

// listen listens on host and port; port 0 takes a free one.
func listen(host string, port int) (net.Listener, error) {
	if port != 0 {
		l, err := net.Listen("tcp", joinAddr(host, port))
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("%s is taken by another program: %w", joinAddr(host, port), err)
		}
		return l, err
	}
	var err error
	for range 100 {
		var l net.Listener
		l, err = net.Listen("tcp", joinAddr(host, firstFreePort+rand.IntN(lastFreePort-firstFreePort)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

// probePort returns port if nothing listens on it, and a free one for 0. Another program may still
// take it before the server that is meant to have it does.
func probePort(host string, port int) (int, error) {
	l, err := listen(host, port)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// isTaken reports whether another program listens on the port.
func isTaken(host string, port int) bool {
	_, err := probePort(host, port)
	return errors.Is(err, syscall.EADDRINUSE)
}

func joinAddr(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// folder is a server's place on disk, locked against a second server.
type folder struct {
	path      string
	temporary bool
	lock      *flock.Flock
}

// openFolder creates the folder if need be and locks it. An empty path makes a temporary folder
// that close removes.
func openFolder(path, what string) (*folder, error) {
	f := &folder{path: path}
	if path == "" {
		var err error
		if f.path, err = os.MkdirTemp("", "devstack-"+what+"-"); err != nil {
			return nil, err
		}
		f.temporary = true
	} else {
		var err error
		if f.path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(f.path, 0o700); err != nil {
			return nil, err
		}
	}
	f.lock = flock.New(filepath.Join(f.path, "lock"))
	ok, err := f.lock.TryLock()
	if err == nil && !ok {
		err = fmt.Errorf("folder %s is in use by another running %s", f.path, what)
	}
	if err != nil {
		f.lock.Close()
		return nil, err
	}
	return f, nil
}

func (f *folder) join(elem ...string) string {
	return filepath.Join(append([]string{f.path}, elem...)...)
}

// errClosed is what a restart of a closed server returns.
var errClosed = errors.New("already closed")

// locked reports whether the folder is still ours.
func (f *folder) locked() bool { return f.lock.Locked() }

// close unlocks the folder, and removes it if it is temporary.
func (f *folder) close() error {
	err := f.lock.Close()
	if f.temporary {
		if e := os.RemoveAll(f.path); err == nil {
			err = e
		}
	}
	return err
}

// child is a server process that belongs to this process and must not outlive it.
type child struct {
	process *os.Process
	done    chan struct{} // closed when the process is gone and reaped
}

// startChild starts cmd in a process group of its own, so that an interrupt typed at the terminal
// reaches only us and we decide how the child ends. Where the system can, the child is killed when
// this process dies.
func startChild(cmd *exec.Cmd) (*child, error) {
	setProcAttr(cmd)
	c := &child{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux delivers the parent-death signal when the thread that started the child ends, not the
		// process: a goroutine that moved on would leave that thread to be retired, and the child would
		// die for nothing.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		c.process = cmd.Process
		started <- nil
		_ = cmd.Wait() // how it ended is in its log; we only need to know that it did
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

func (c *child) pid() int { return c.process.Pid }

// exited reports whether the process is gone.
func (c *child) exited() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// stop ends the process cleanly, or with SIGKILL after grace. It returns when the process is gone.
func (c *child) stop(grace time.Duration) error {
	if c.exited() {
		return nil
	}
	_ = resumeProcess(c.process) // a paused process would not see the signal
	if err := c.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return c.wait(grace)
}

// wait waits for a process that is about to end, and ends it with SIGKILL after grace. It returns
// when the process is gone.
func (c *child) wait(grace time.Duration) error {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		if err := c.kill(); err != nil {
			return err
		}
		return fmt.Errorf("did not stop within %v and was killed", grace)
	}
}

// kill ends the process at once and returns when it is gone.
func (c *child) kill() error {
	if err := c.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-c.done
	return nil
}

// logTail returns on one line what a server's log says at its end, from the byte offset from on:
// its errors, or where it has none its last lines.
func logTail(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return "no log"
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return "no log"
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return "no log"
	}
	var all, bad []string
	for line := range bytes.Lines(data) {
		s := strings.TrimSpace(string(line))
		// SLF4J's lines say that Kafka has no logging library, a stack trace says nothing that its head
		// doesn't.
		if s == "" || strings.HasPrefix(s, "SLF4J:") || strings.HasPrefix(s, "at ") {
			continue
		}
		all = append(all, s)
		if strings.Contains(s, "ERROR") || strings.Contains(s, "FATAL") ||
			strings.Contains(s, "Exception") {
			bad = append(bad, s)
		}
	}
	if n := len(bad); n > 4 {
		// the first ones name the cause, the last ones what came of it
		bad = append(bad[:2:2], bad[n-2:]...)
	}
	if len(bad) > 0 {
		all = bad
	}
	if len(all) == 0 {
		return "its log is empty"
	}
	return strings.Join(all[max(0, len(all)-4):], " | ")
}

// openLog opens a server's log for appending and returns its present size, where this run's lines
// begin.
func openLog(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}
