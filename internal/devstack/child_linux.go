package devstack

import (
	"os"
	"os/exec"
	"syscall"
)

// setProcAttr gives the child its own process group and has the kernel kill it when we die.
// SIGKILL, because a clean stop would keep the folder locked for seconds while our successor wants
// it; both servers recover from it.
func setProcAttr(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func pauseProcess(p *os.Process) error  { return p.Signal(syscall.SIGSTOP) }
func resumeProcess(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
