package main

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

// steps says what a command is at once that takes long.
type steps struct {
	at    atomic.Pointer[string]
	ended chan struct{}
	told  chan struct{} // closed once nothing more is said
}

// newSteps begins with a step, and says on out what the command is at until end is called.
func newSteps(out io.Writer, first string) *steps {
	s := &steps{ended: make(chan struct{}), told: make(chan struct{})}
	s.begin(first)
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

// begin notes that the command is at another step, said as "reading the rows".
func (s *steps) begin(what string) { s.at.Store(&what) }

// end says nothing more. It is called once.
func (s *steps) end() {
	close(s.ended)
	<-s.told
}
