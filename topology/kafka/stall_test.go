package kafka

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// TestStall lets a connection write until the process stalled for longer than its place in
// the group lasts, and never again after.
func TestStall(t *testing.T) {
	start := time.Now()
	for _, clock := range []struct {
		name  string
		after func(d time.Duration) time.Time
	}{
		{"stopped", start.Add},
		// only the wall clock went on
		{"asleep", func(d time.Duration) time.Time { return start.Round(0).Add(d) }},
	} {
		t.Run(clock.name, func(t *testing.T) {
			now := start
			s := NewStall(StallLimit(10*time.Second), func() time.Time { return now })
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			go func() {
				b := make([]byte, 1)
				for {
					if _, err := server.Read(b); err != nil {
						return
					}
				}
			}()
			pipe := func(context.Context, string, string) (net.Conn, error) { return client, nil }
			conn, err := s.Dial(pipe)(t.Context(), "tcp", "anywhere")
			if err != nil {
				t.Fatal(err)
			}
			now = clock.after(7 * time.Second)
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatalf("after 7 s: %v", err)
			}
			now = clock.after(7*time.Second + time.Nanosecond)
			if _, err := conn.Write([]byte("x")); err == nil ||
				!strings.Contains(err.Error(), "stalled for 7s") {
				t.Fatalf("after more than 7 s: %v", err)
			}
			now = start
			s.beat.Store(&start)
			if _, err := conn.Write([]byte("x")); err == nil {
				t.Fatal("a connection is usable after a stall")
			}
			if _, err := s.Dial(pipe)(t.Context(), "tcp", "anywhere"); err == nil {
				t.Fatal("a connection was made after a stall")
			}
			var failed error
			s.Watch(t.Context(), func(err error) { failed = err })
			if failed == nil {
				t.Fatal("the watch says nothing")
			}
		})
	}
}
