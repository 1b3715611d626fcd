package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/topology"
)

// showStatus writes one line about a processor to a terminal and keeps it up to date until the
// returned func is called, which ends it and takes the line away.
func showStatus(w io.Writer, stats *topology.Stats) (stop func()) {
	if w == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(statusEvery)
		defer ticker.Stop()
		before, at := stats.Read(), time.Now()
		for {
			select {
			case <-done:
				fmt.Fprint(w, "\r\x1b[K")
				return
			case now := <-ticker.C:
				s := stats.Read()
				last := "never"
				if !s.LastStored.IsZero() {
					last = text.Seconds(now.Sub(s.LastStored)) + " ago"
				}
				fmt.Fprintf(w, "\r\x1b[K%s rows/s · %s stored · lag %s · last commit %s",
					text.Rate(s.Events-before.Events, now.Sub(at)), text.Number(s.Events), text.Number(s.Lag),
					last)
				before, at = s, now
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
