package emit

import (
	"fmt"
	"io"
	"time"

	"github.com/tollstream/tollstream/internal/text"
)

// console is stderr of a command that prints lines while a status line shows its progress. Several
// goroutines may use it, all but progress.
type console struct {
	line  *text.StatusLine
	shown time.Time // when the progress was shown last
}

func newConsole(w io.Writer) *console { return &console{line: text.NewStatusLine(w)} }

// warn prints a line about something that is wrong.
func (c *console) warn(format string, args ...any) { c.print("tollstream: "+format, args...) }

// print prints a line.
func (c *console) print(format string, args ...any) {
	fmt.Fprintf(c.line, "%s\n", text.OneLine(fmt.Sprintf(format, args...)))
}

// progressEvery is how often the progress is shown.
const progressEvery = 200 * time.Millisecond

// progress shows the progress of a run on a terminal now and then.
func (c *console) progress(describe func() string) {
	if !c.line.Shown() || time.Since(c.shown) < progressEvery {
		return
	}
	c.shown = time.Now()
	c.line.Set(describe())
}

// end clears the progress.
func (c *console) end() { c.line.Set("") }
