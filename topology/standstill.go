package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/tollstream/tollstream/topology/kafka"
)

// standstill notices that this process did not run for so long that the group may have given its
// partitions to others: it was stopped, swapped out, or on a machine that slept.
//
// An owner that wakes up finds messages in its queues, and would write states to the changelog that
// are older than those of its successor, until its next heartbeat is refused. So nothing is sent
// there any more after a standstill: each write to the socket asks first, and the whole run begins
// anew. (What a standstill between that question and the write lets through, and what an owner
// sends that is cut off from the coordinator alone, is mended by reconcile.)
type standstill struct {
	limit time.Duration
	now   func() time.Time
	beat  atomic.Pointer[time.Time] // when this process was last seen to run
	stood atomic.Int64              // how long the standstill took, in nanoseconds; 0 for none
}

// standstillLimit returns how long a process may stand still and is surely in the group still: the
// coordinator's patience, less the age that the last heartbeat may have had.
func standstillLimit(sessionTimeout time.Duration) time.Duration {
	return sessionTimeout - heartbeatInterval(sessionTimeout)
}

func newStandstill(limit time.Duration, now func() time.Time) *standstill {
	s := &standstill{limit: limit, now: now}
	s.renew()
	return s
}

// errStalled is what the error about a standstill is.
var errStalled = errors.New("this process stalled")

// renew notes that this process runs.
func (s *standstill) renew() {
	t := s.now()
	s.beat.Store(&t)
}

// watch looks at the time often, until ctx ends, and calls fail with the standstill that it
// notices.
func (s *standstill) watch(ctx context.Context, fail func(error)) {
	ticker := time.NewTicker(s.limit / 10)
	defer ticker.Stop()
	for {
		if err := s.check(); err != nil {
			fail(err)
			return
		}
		s.renew()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// check returns an error from the first standstill on.
func (s *standstill) check() error {
	if s.stood.Load() == 0 {
		beat, now := *s.beat.Load(), s.now()
		// The clock of the process stands still with a sleeping machine, the wall clock does not.
		if stood := max(now.Sub(beat), now.Round(0).Sub(beat.Round(0))); stood > s.limit {
			s.stood.CompareAndSwap(0, int64(stood))
		}
	}
	if stood := time.Duration(s.stood.Load()); stood > 0 {
		return fmt.Errorf("%w for %v, and others may have taken its place in the group", errStalled,
			stood.Round(100*time.Millisecond))
	}
	return nil
}

// dial returns a function that dials as another one does, with connections that send nothing after
// a standstill.
func (s *standstill) dial(inner kafka.DialFunc) kafka.DialFunc {
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
	lease *standstill
}

// Write implements net.Conn.
func (c *leasedConn) Write(b []byte) (int, error) {
	if err := c.lease.check(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
