package devstack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

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
