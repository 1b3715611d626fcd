//go:build unix

package tui

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// suspend stops the process group, as Ctrl-Z does, until a shell continues it. It is not SIGTSTP,
// which Run hears. Where no shell could continue it, as in a container, it does nothing.
func suspend() error {
	session, err := unix.Getsid(0)
	if err != nil || session == unix.Getpgrp() {
		return err
	}
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	if err := unix.Kill(0, unix.SIGSTOP); err != nil {
		return err
	}
	<-continued // this thread may run on for a while before all stop
	return nil
}

// hearStops hears that others than a key ask to suspend the process.
func hearStops(stops chan<- os.Signal) { signal.Notify(stops, syscall.SIGTSTP) }
