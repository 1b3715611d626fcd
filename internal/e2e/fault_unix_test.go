//go:build unix

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// suspend stops a process without ending it.
func (p *process) suspend() { p.signal(syscall.SIGSTOP) }

// resume lets a suspended process go on.
func (p *process) resume() { p.signal(syscall.SIGCONT) }

func (p *process) signal(s os.Signal) {
	p.w.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.w.t.Fatalf("signal %v: %v", s, err)
	}
}

// stopOneOfTwo suspends one of two processes of a group for longer than its session lasts,
// and resumes it: by then the other one owns its partitions.
func stopOneOfTwo(f *injection) {
	w := newWorld(f.T)
	w.must("init")
	l := w.startLoad(newTruth())
	members := []*process{w.member("one"), w.member("two")}
	l.caughtUp("the start", caughtUpWithin, members...)
	l.forgetPauses()
	for round := range f.rounds {
		stopped := members[round%2]
		f.says(stopped, "processing partitions=2")
		l.burst(5000) // so that it stops amid its work
		stopped.suspend()
		time.Sleep(sessionTimeout + time.Second)
		l.caughtUp("while one is suspended", caughtUpWithin, members...)
		time.Sleep(time.Second) // the other one is well ahead then
		stopped.resume()
		// whichever it finds first
		f.saysOne(stopped, "stalled for", "another process moved the cursor")
		l.caughtUp("after one stalled", caughtUpWithin, members...)
		f.done()
	}
	f.finish(l, members...)
	if n := w.fallBacks(); n > 0 {
		f.Errorf("%d states in the group table are older than the one before", n)
	}
}

// fullStateFolder gives the state folder so little room that the local copies fill it.
func fullStateFolder(f *injection) {
	dir := f.TempDir()
	// A file system of our own in memory, for the process alone: without being root where the system
	// lets users have namespaces.
	script := `mount -t tmpfs -o size=200k tollstream "$1" && shift && exec "$@"`
	w := newWorld(f.T)
	w.must("init")
	mounted := func(args ...string) []string {
		return append([]string{"unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script,
			"sh", dir, binary}, args...)
	}
	probe := mounted("help")
	if out, err := exec.Command(probe[0], probe[1:]...).CombinedOutput(); err != nil {
		f.Logf("no small file system can be made here: %v\n%s", err, out)
		f.result.title += " (not possible here)"
		return
	}
	l := w.startLoad(newTruth())
	p := w.startCommand(mounted("process", "--instance", "one", "--batch-rows", "300",
		"--session-timeout", "3s", "--state-dir", filepath.Join(dir, "state")))
	f.says(p, "no space left on device")
	f.done()
	if !p.running() {
		f.Fatalf("process ended as the state folder was full:\n%s", p.log)
	}
	p.interrupt()
	if n := strings.Count(p.log.String(), "no space left"); n > 3 {
		f.Errorf("the full folder is reported %d times:\n%s", n, p.log)
	}
	l.forgetPauses()
	p = w.member("one")
	l.caughtUp("with room", caughtUpWithin, p)
	f.finish(l, p)
}
