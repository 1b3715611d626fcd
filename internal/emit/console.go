package emit

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/tollstream/tollstream/internal/text"
)

// console is stderr of a command that prints lines while a bar shows its progress. Several
// goroutines may use it.
type console struct {
	mu  sync.Mutex
	w   io.Writer
	bar *progressbar.ProgressBar // nil: none
}

// warn prints a line about something that is wrong.
func (c *console) warn(format string, args ...any) { c.print("tollstream: "+format, args...) }

// print prints a line.
func (c *console) print(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar != nil {
		_ = c.bar.Clear()
	}
	fmt.Fprintf(c.w, "%s\n", text.OneLine(fmt.Sprintf(format, args...)))
}

// startBar shows a bar on a terminal.
func (c *console) startBar(length int64) {
	if !text.IsTerminal(c.w) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bar = progressbar.NewOptions64(length,
		progressbar.OptionSetWriter(c.w),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetDescription("emit"))
}

func (c *console) moveBar(at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar != nil {
		_ = c.bar.Set64(at)
	}
}

func (c *console) stopBar() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar != nil {
		_ = c.bar.Clear()
		c.bar = nil
	}
}
