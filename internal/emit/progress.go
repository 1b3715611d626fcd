package emit

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/topology/emitter"
)

// Progress is what other goroutines may know of a run: what it has sent, and what it waits for. A
// nil Progress is of no use to anyone, and does no harm.
type Progress struct {
	emitter atomic.Pointer[emitter.Emitter] // nil until Kafka has answered
	outage  atomic.Pointer[error]           // nil for none
}

func (p *Progress) connected(e *emitter.Emitter) {
	if p != nil {
		p.emitter.Store(e)
	}
}

// away notes an outage of Kafka, and with nil its end.
func (p *Progress) away(err error) {
	switch {
	case p == nil:
	case err == nil:
		p.outage.Store(nil)
	default:
		p.outage.Store(&err)
	}
}

// waits returns an error while the run waits for Kafka.
func (p *Progress) waits() error {
	if err := p.outage.Load(); err != nil {
		return fmt.Errorf("no answer from Kafka: %w", *err)
	}
	if p.emitter.Load() == nil {
		return errors.New("no answer from Kafka yet")
	}
	return nil
}

// Status returns a func that describes what was sent, at the rate since the last call, or what the
// run waits for.
func (p *Progress) Status(topic string, start time.Time) func(now time.Time) string {
	before, at := int64(0), start
	return func(now time.Time) string {
		sent := int64(0)
		if e := p.emitter.Load(); e != nil {
			sent = e.Stats().Acknowledged
		}
		rate := text.Rate(sent-before, now.Sub(at))
		before, at = sent, now
		if err := p.waits(); err != nil {
			return fmt.Sprintf("waiting: %v · %s sent", err, text.Number(sent))
		}
		return fmt.Sprintf("%s events/s · %s sent to topic %s", rate, text.Number(sent), topic)
	}
}
