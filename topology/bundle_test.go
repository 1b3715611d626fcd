package topology

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/IBM/sarama"
)

// fakeClaim is a claim of records that a test sends.
type fakeClaim struct {
	sarama.ConsumerGroupClaim
	records chan *sarama.ConsumerMessage
}

func (c *fakeClaim) Messages() <-chan *sarama.ConsumerMessage { return c.records }

// startBundling starts the bundling of a claim.
func startBundling(t *testing.T, s *source, queue int) (in chan<- *sarama.ConsumerMessage, out <-chan *sarama.ConsumerMessage, end func()) {
	t.Helper()
	s.bundles = make(chan []*sarama.ConsumerMessage, bundleQueue)
	claim := &fakeClaim{records: make(chan *sarama.ConsumerMessage, queue)}
	bundled := &bundledClaim{ConsumerGroupClaim: claim, messages: make(chan *sarama.ConsumerMessage, bundleQueue)}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.bundle(ctx, bundled) })
	end = func() { cancel(); wg.Wait() }
	t.Cleanup(end)
	return claim.records, bundled.messages, end
}

// TestBundle sends records in all ways in which they come, and takes them as goka does.
func TestBundle(t *testing.T) {
	for _, queue := range []int{0, 1, 7, 1000} {
		t.Run(fmt.Sprint("queue=", queue), func(t *testing.T) {
			const n = 3000
			s := new(source)
			in, out, _ := startBundling(t, s, queue)
			go func() {
				defer close(in)
				for i := range int64(n) {
					size := 10
					if i%500 == 0 {
						size = bundleBytes
					}
					in <- &sarama.ConsumerMessage{Topic: "toll", Partition: 3, Offset: 2 * i, Value: make([]byte, size)} // offsets have gaps
				}
			}()
			next := int64(0)
			for mark := range out {
				records := <-s.bundles
				if len(records) == 0 || len(records) > bundleRecords {
					t.Fatalf("a bundle of %d records", len(records))
				}
				size := 0
				for _, m := range records {
					if m.Offset != next {
						t.Fatalf("offset %d instead of %d", m.Offset, next)
					}
					next += 2
					size += len(m.Value)
				}
				if size >= bundleBytes+bundleBytes {
					t.Fatalf("a bundle of %d bytes", size)
				}
				if mark.Topic != "toll" || mark.Partition != 3 || mark.Offset != next-2 || mark.Value == nil {
					t.Fatalf("the mark %+v does not stand for the bundle up to %d", mark, next-2)
				}
			}
			if next != 2*n {
				t.Fatalf("the records end at %d instead of %d", next, 2*n)
			}
		})
	}
}

// TestBundleEnds ends a session whose records nobody takes.
func TestBundleEnds(t *testing.T) {
	for _, sent := range []int{0, 1, 5000} {
		s := new(source)
		in, out, end := startBundling(t, s, 5000)
		for i := range sent {
			in <- &sarama.ConsumerMessage{Offset: int64(i)}
		}
		end()
		if n := len(s.bundles); n > bundleQueue {
			t.Errorf("%d bundles wait", n)
		}
		n := 0
		for range out { // it is closed
			n++
		}
		if n > len(s.bundles) {
			t.Errorf("%d marks of %d bundles", n, len(s.bundles))
		}
	}
}

// TestBundleOutOfOrder has goka pass on another mark than the next one.
func TestBundleOutOfOrder(t *testing.T) {
	s := &source{bundles: make(chan []*sarama.ConsumerMessage, bundleQueue)} // that has no batch: adding would panic
	if err := s.addBundle(7); !errors.Is(err, errBundle) {
		t.Errorf("without a bundle: %v", err)
	}
	s.bundles <- []*sarama.ConsumerMessage{{Offset: 6}, {Offset: 8}}
	if err := s.addBundle(7); !errors.Is(err, errBundle) {
		t.Errorf("with another one: %v", err)
	}
}
