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
	"context"
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
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
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
	outside   string // another folder that close removes, "" for none
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
		err = errors.Join(err, os.RemoveAll(f.path))
	}
	return errors.Join(err, os.RemoveAll(f.outside))
}

// pollReady is how often a starting server is asked whether it is ready.
const pollReady = 20 * time.Millisecond

// server is a server in a process of its own, with one folder and one port for all of its starts.
type server struct {
	what    string // for errors
	folder  *folder
	host    string
	port    int
	grace   time.Duration // far more than a clean stop takes, on a busy machine too
	command func() (*exec.Cmd, error)
	ready   func(context.Context) error // returns when the server answers

	mu    sync.Mutex // guards child and tail, held while it starts and stops
	child *child
	tail  func() string // the end of what it logged

	once     sync.Once
	closeErr error
}

// newServer returns a server that is not started, with its folder locked, and the port to take; 0
// is a free one.
func newServer(what, addr, dir string, grace time.Duration) (s *server, port int, err error) {
	s = &server{what: what, grace: grace}
	if s.host, port, err = splitAddr(addr); err != nil {
		return nil, 0, err
	}
	s.folder, err = openFolder(dir, what)
	return s, port, err
}

// startOn starts the server on port. Between our look at a free port and the server's use of it
// another program may take it: then it tries another one.
func (s *server) startOn(ctx context.Context, port int) (err error) {
	for try := 0; ; try++ {
		if s.port, err = probePort(s.host, port); err != nil {
			return err
		}
		err = s.start(ctx)
		if err == nil || port != 0 || try == 5 || !isTaken(s.host, s.port) {
			return err
		}
	}
}

// start runs the server and returns when it is ready.
func (s *server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd, err := s.command()
	if err != nil {
		return err
	}
	child, tail, err := s.launch(cmd)
	if err != nil {
		return err
	}
	s.child, s.tail = child, tail
	if err := s.ready(ctx); err != nil {
		if s.child.exited() {
			return fmt.Errorf("%s ended: %s", filepath.Base(cmd.Path), tail())
		}
		return errors.Join(err, s.child.kill())
	}
	return nil
}

// await asks until the server answers, ends, or ctx does. A server with much to recover takes as
// long as it takes.
func (s *server) await(ctx context.Context, every time.Duration,
	ask func(context.Context) error) error {
	for {
		err := ask(ctx)
		var refused *mysql.MySQLError
		if err == nil || errors.As(err, &refused) {
			return err
		}
		select {
		case <-s.child.done:
			return errors.New("server ended")
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		case <-time.After(every):
		}
	}
}

// launch starts a command with the server's log, of which tail returns the end.
func (s *server) launch(cmd *exec.Cmd) (c *child, tail func() string, err error) {
	log, from, err := openLog(s.folder.join("server.log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close() // the command has its own handle
	cmd.Stdout, cmd.Stderr = log, log
	c, err = startChild(cmd)
	return c, func() string { return logTail(log.Name(), from) }, err
}

// finish runs a command to its end, which prepares the server's folder.
func (s *server) finish(ctx context.Context, cmd *exec.Cmd) error {
	c, tail, err := s.launch(cmd)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		_ = c.kill()
		return ctx.Err()
	}
	if !cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %s: %s", filepath.Base(cmd.Path), cmd.ProcessState, tail())
	}
	return nil
}

// Addr returns the server's host:port.
func (s *server) Addr() string { return joinAddr(s.host, s.port) }

// Pid returns the id of the server's process as last started.
func (s *server) Pid() (pid int) {
	_ = s.do(func(c *child) error {
		pid = c.process.Pid
		return nil
	})
	return pid
}

// Ended reports whether the server's process has ended, and what it logged last.
func (s *server) Ended() (ended bool, last string) {
	_ = s.do(func(c *child) error {
		if ended = c.exited(); ended {
			last = s.tail()
		}
		return nil
	})
	return ended, last
}

// Kill ends the server with SIGKILL, for tests of faults.
func (s *server) Kill() error { return s.do((*child).kill) }

// Pause stops the server's process without ending it (SIGSTOP): its connections stay open and
// nothing answers. Linux only.
func (s *server) Pause() error {
	return s.do(func(c *child) error { return pauseProcess(c.process) })
}

// Resume lets a paused server go on.
func (s *server) Resume() error {
	return s.do(func(c *child) error { return resumeProcess(c.process) })
}

func (s *server) do(act func(*child) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return act(s.child)
}

// Restart starts a killed server again on the same port and data, or stops a running one cleanly
// first.
func (s *server) Restart(ctx context.Context) error {
	err := s.do(func(c *child) error {
		if !s.folder.locked() {
			return errClosed
		}
		return c.stop(s.grace)
	})
	if err == nil {
		_, err = probePort(s.host, s.port)
	}
	if err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		return fmt.Errorf("restart %s: %w", s.what, err)
	}
	return nil
}

// Close stops the server cleanly.
func (s *server) Close() error {
	s.once.Do(func() {
		err := s.do(func(c *child) error { return errors.Join(c.stop(s.grace), s.folder.close()) })
		if err != nil {
			s.closeErr = fmt.Errorf("close %s: %w", s.what, err)
		}
	})
	return s.closeErr
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
