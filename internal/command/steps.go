package command

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// When a command that gives no sign of life says what it is at: servers that stand still look like
// ones with much to read.
const (
	firstSign = 10 * time.Second
	moreSigns = 30 * time.Second
)

// Steps says what a command is at once that takes long.
type Steps struct {
	at    atomic.Pointer[string]
	ended chan struct{}
	told  chan struct{} // closed once nothing more is said
}

// NewSteps begins with a step, and says on out what the command is at until end is called.
func NewSteps(out io.Writer, first string) *Steps {
	s := &Steps{ended: make(chan struct{}), told: make(chan struct{})}
	s.Begin(first)
	began := time.Now()
	go func() {
		defer close(s.told)
		pause := firstSign
		for {
			select {
			case <-time.After(pause):
			case <-s.ended:
				return
			}
			pause = moreSigns
			fmt.Fprintf(out, "tollstream: %s (%v so far)\n", *s.at.Load(),
				time.Since(began).Round(time.Second))
		}
	}()
	return s
}

// Begin notes that the command is at another step, said as "reading the rows".
func (s *Steps) Begin(what string) { s.at.Store(&what) }

// End says nothing more. It is called once.
func (s *Steps) End() {
	close(s.ended)
	<-s.told
}
