package monitor

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestOutage has three partitions notice one outage: it is logged once, and its end once, when the
// last of them has recovered. A server that does not answer is logged, too.
func TestOutage(t *testing.T) {
	var log strings.Builder
	tr := NewOutage(slog.New(slog.NewTextHandler(&log, nil)), "it failed", "it works")
	lines := func(want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSpace(log.String()), "\n")
		for i := range want {
			if i >= len(got) || !strings.Contains(got[i], want[i]) {
				t.Fatalf("got\n%s\nwant %q", &log, want)
			}
		}
		if len(got) > len(want) {
			t.Fatalf("got\n%s\nwant %q", &log, want)
		}
	}
	tr.Up(1) // which noticed none
	for partition := range int32(3) {
		tr.Down(partition, errors.New("gone away"))
		tr.Down(partition, errors.New("gone away"))
	}
	lines("gone away")
	tr.Up(0)
	tr.Leave(1)
	lines("gone away")
	tr.Up(2)
	lines("gone away", "it works")
	tr.Up(2)
	tr.Down(2, errors.New("again"))
	tr.Leave(2)
	lines("gone away", "it works", "again")
	synctest.Test(t, func(t *testing.T) {
		tr := NewOutage(tr.log, "it failed", "it works")
		answered := tr.Await(0)
		time.Sleep(slowAnswer*time.Second - 1)
		answered()
		time.Sleep(slowAnswer * time.Second)
		lines("gone away", "it works", "again")
		answered = tr.Await(0)
		time.Sleep(slowAnswer*time.Second + 1)
		answered()
		tr.Up(0)
		lines("gone away", "it works", "again", "no answer for 10s", "it works")
	})
	var none *Outage
	none.Await(0)()
	none.Down(0, errors.New("told to nobody"))
	none.Up(0)
}

// TestOutageRace has partitions notice an outage and its end at the same time: for the race
// detector.
func TestOutageRace(t *testing.T) {
	tr := NewOutage(slog.New(slog.DiscardHandler), "", "")
	var wg sync.WaitGroup
	for partition := range int32(4) {
		wg.Go(func() {
			for range 200 {
				tr.Down(partition, errors.New("gone away"))
				tr.Up(partition)
			}
		})
	}
	wg.Wait()
	if tr.Lasts() {
		t.Error("it lasts")
	}
	tr.Down(0, context.Canceled)
	tr.Down(0, &net.OpError{Op: "read", Err: context.Canceled})
	if tr.Lasts() {
		t.Error("a call that was cancelled counts as an outage")
	}
}
