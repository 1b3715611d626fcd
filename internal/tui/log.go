package tui

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"sync"

	"github.com/tollstream/tollstream/internal/text"
)

// HeldLog holds back log lines while the screen is shown, which they would overwrite.
type HeldLog struct {
	To io.Writer

	mu      sync.Mutex
	keeping bool
	lines   [][]byte // the last ones
	dropped int
}

// maxKept is how many lines are held back: the last ones.
const maxKept = 20

// Hold holds back what we and libraries log until release is called, which writes it.
func (k *HeldLog) Hold() (release func()) {
	k.mu.Lock()
	k.keeping = true
	k.mu.Unlock()
	before := log.Writer()
	log.SetOutput(k)
	return func() {
		log.SetOutput(before)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.keeping = false
		if k.dropped > 0 {
			fmt.Fprintf(k.To, "… %s of the log before\n", text.Count(k.dropped, "line"))
		}
		_, _ = k.To.Write(bytes.Join(k.lines, nil))
		k.lines, k.dropped = nil, 0
	}
}

// Write takes a line of the log.
func (k *HeldLog) Write(text []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.keeping {
		return k.To.Write(text)
	}
	if len(k.lines) == maxKept {
		k.lines = k.lines[1:]
		k.dropped++
	}
	k.lines = append(k.lines, bytes.Clone(text))
	return len(text), nil
}
