//go:build !linux

package devstack

import (
	"errors"
	"os"
	"os/exec"
)

// setProcAttr can't tie the child's life to ours on this system: after a kill of this process the
// child must be ended by hand. The lock that it keeps on its own files makes the next start say so.
func setProcAttr(*exec.Cmd) {}

var errNoPause = errors.New("pausing a process is supported on Linux only")

func pauseProcess(*os.Process) error  { return errNoPause }
func resumeProcess(*os.Process) error { return errNoPause }
