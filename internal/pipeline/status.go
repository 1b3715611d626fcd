package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/topology/monitor"
)

// statusEvery is how often the status line is written.
const statusEvery = 2 * time.Second

// showStatus keeps one line about a processor on a terminal until ctx ends, and clears it then.
func showStatus(ctx context.Context, line *text.StatusLine, stats *monitor.Stats) {
	defer line.Set("")
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	before, at := stats.Read(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s := stats.Read()
			last := "never"
			if !s.LastStored.IsZero() {
				last = text.Seconds(now.Sub(s.LastStored)) + " ago"
			}
			line.Set(fmt.Sprintf("%s rows/s · %s stored · lag %s · last commit %s",
				text.Rate(s.Events-before.Events, now.Sub(at)), text.Number(s.Events),
				text.Number(s.Lag), last))
			before, at = s, now
		}
	}
}
