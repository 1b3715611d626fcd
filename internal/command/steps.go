package command

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// When a command that prints nothing reports its step: a stalled server looks like one with much to
// read.
const (
	firstReport = 10 * time.Second
	moreReports = 30 * time.Second
)

// Steps reports the step of a command that takes long.
type Steps struct {
	at    atomic.Pointer[string]
	ended chan struct{}
	done  chan struct{} // closed when the reports have ended
}

// NewSteps begins with a step, and reports on out at which step the command is until End is called.
func NewSteps(out io.Writer, first string) *Steps {
	s := &Steps{ended: make(chan struct{}), done: make(chan struct{})}
	s.Begin(first)
	began := time.Now()
	go func() {
		defer close(s.done)
		pause := firstReport
		for {
			select {
			case <-time.After(pause):
			case <-s.ended:
				return
			}
			pause = moreReports
			fmt.Fprintf(out, "tollstream: %s (%v so far)\n", *s.at.Load(),
				time.Since(began).Round(time.Second))
		}
	}()
	return s
}

// Begin begins another step, such as "reading the rows".
func (s *Steps) Begin(what string) { s.at.Store(&what) }

// End ends the reports. It is called once.
func (s *Steps) End() {
	close(s.ended)
	<-s.done
}
