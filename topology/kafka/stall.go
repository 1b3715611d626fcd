package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/internal/wait"
)

// Stall notices that this process did not run for so long that the group may have given its
// partitions to others: it was stopped, swapped out, or on a machine that slept.
//
// An owner that wakes up finds messages in its queues, and would write states to the changelog that
// are older than those of its successor, until its next heartbeat is refused. So nothing is sent
// there any more after a stall: each write to the socket asks first, and the whole run starts
// again. (What a stall between that question and the write lets through, and what an owner
// sends that is cut off from the coordinator alone, is repaired by reconcile.)
type Stall struct {
	limit time.Duration
	now   func() time.Time
	beat  atomic.Pointer[time.Time] // when this process was last seen to run
	stood atomic.Int64              // how long the stall took, in nanoseconds; 0 for none
}

// StallLimit returns how long a process may stall and is surely in the group still: the
// coordinator's patience, less the age that the last heartbeat may have had.
func StallLimit(sessionTimeout time.Duration) time.Duration {
	return sessionTimeout - HeartbeatInterval(sessionTimeout)
}

// NewStall returns a watch for stalls longer than a limit.
func NewStall(limit time.Duration, now func() time.Time) *Stall {
	s := &Stall{limit: limit, now: now}
	s.Renew()
	return s
}

// ErrStalled is what the error about a stall is.
var ErrStalled = errors.New("this process stalled")

// Renew notes that this process runs.
func (s *Stall) Renew() {
	t := s.now()
	s.beat.Store(&t)
}

// Watch looks at the time often, until ctx ends, and calls fail with the stall that it
// notices.
func (s *Stall) Watch(ctx context.Context, fail func(error)) {
	for range wait.Every(ctx, s.limit/10) {
		if err := s.check(); err != nil {
			fail(err)
			return
		}
		s.Renew()
	}
}

// check returns an error from the first stall on.
func (s *Stall) check() error {
	if s.stood.Load() == 0 {
		beat, now := *s.beat.Load(), s.now()
		// The clock of the process stops while the machine sleeps, the wall clock does not.
		if stood := max(now.Sub(beat), now.Round(0).Sub(beat.Round(0))); stood > s.limit {
			s.stood.CompareAndSwap(0, int64(stood))
		}
	}
	if stood := time.Duration(s.stood.Load()); stood > 0 {
		return fmt.Errorf("%w for %v, and others may have taken its place in the group", ErrStalled,
			stood.Round(100*time.Millisecond))
	}
	return nil
}

// Dial returns a function that dials as another one does, with connections that send nothing after
// a stall.
func (s *Stall) Dial(inner DialFunc) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if err := s.check(); err != nil {
			return nil, err
		}
		conn, err := inner(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &leasedConn{conn, s}, nil
	}
}

type leasedConn struct {
	net.Conn
	lease *Stall
}

// Write implements net.Conn.
func (c *leasedConn) Write(b []byte) (int, error) {
	if err := c.lease.check(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// HeartbeatInterval returns how often a member of the group sends a heartbeat: two of three may
// be lost.
func HeartbeatInterval(sessionTimeout time.Duration) time.Duration {
	return sessionTimeout * 3 / 10
}

// goka and sarama retry after every error, and goka only logs them. So errors pass by a judge,
// which ends what can't go on.

// errorsKept is how many errors may wait for goka, as many as sarama keeps.
const errorsKept = 256

// TapErrors passes errors on, by judge, until their channel is closed.
func TapErrors[E error](from <-chan E, judge func(error)) <-chan E {
	passed := make(chan E, errorsKept)
	go func() {
		defer close(passed)
		for err := range from {
			judge(err)
			select {
			case passed <- err:
			default: // nobody has listened for long
			}
		}
	}()
	return passed
}

// ConsumeError says what could not be read, in one line.
func ConsumeError(err error) error {
	if of, ok := errors.AsType[*sarama.ConsumerError](err); ok {
		err = fmt.Errorf("read partition %d of topic %s: %w", of.Partition, of.Topic, of.Err)
	}
	return Explain(err)
}

// TapConsumer makes consumers whose errors pass by judge before goka sees them.
func TapConsumer(build goka.SaramaConsumerBuilder, judge func(error)) goka.SaramaConsumerBuilder {
	return func(brokers []string, clientID string) (sarama.Consumer, error) {
		c, err := build(brokers, clientID)
		if err != nil {
			return nil, err
		}
		return &tappedConsumer{c, judge}, nil
	}
}

type tappedConsumer struct {
	sarama.Consumer
	judge func(error)
}

// ConsumePartition implements sarama.Consumer.
func (c *tappedConsumer) ConsumePartition(topic string, partition int32,
	offset int64) (sarama.PartitionConsumer, error) {
	p, err := c.Consumer.ConsumePartition(topic, partition, offset)
	if err != nil {
		c.judge(&sarama.ConsumerError{Topic: topic, Partition: partition, Err: err})
		return nil, err
	}
	return &tappedPartition{p, TapErrors(p.Errors(), c.judge)}, nil
}

type tappedPartition struct {
	sarama.PartitionConsumer
	errors <-chan *sarama.ConsumerError
}

// Errors implements sarama.PartitionConsumer.
func (p *tappedPartition) Errors() <-chan *sarama.ConsumerError { return p.errors }
