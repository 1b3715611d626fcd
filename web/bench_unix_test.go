//go:build unix

package web

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/board"
)

// BenchmarkStreams is what one second costs: 1,000 plazas that all change, read, encoded,
// compressed and sent over loopback to so many live clients, until the last has it. cpu-ms is the
// processor time of it, that of the clients, which read the compressed bytes, included.
func BenchmarkStreams(b *testing.B) {
	for _, clients := range []int{1, 50} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			network := newNetwork(1000)
			boards := make([]board.Board, 16)
			for i := range boards {
				boards[i] = *network.step(1000)
			}
			turn := 0
			source := network.source()
			source.next = func() (*board.Board, error) {
				turn++
				next := boards[turn%len(boards)]
				next.At = epoch.Add(time.Duration(turn) * time.Second)
				next.Plazas = append([]board.Plaza(nil), next.Plazas...)
				return &next, nil
			}
			r := start(b, source, func(_ *Config, tune *tuning) { tune.streamBytes = 1 << 40 })
			r.awaitBoard()
			streams := make([]*rawStream, clients)
			for i := range streams {
				streams[i] = &rawStream{eventStream: r.tryStream("Accept-Encoding", "gzip"),
					came: make(chan struct{}, 1)}
				go streams[i].read()
			}
			var before int64
			for _, s := range streams {
				s.quiet()
				s.seen = s.bytes.Load()
				before += s.seen
			}
			cpu := processorTime(b)
			for b.Loop() {
				m := r.nextBoard()
				size := int64(len(m.boardEvent(r.Server.run, m.number-1).squeezed()))
				for _, s := range streams {
					s.wait(size)
				}
			}
			var after int64
			for _, s := range streams {
				after += s.bytes.Load()
			}
			b.ReportMetric(float64(processorTime(b)-cpu)/1e6/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(after-before)/float64(clients)/float64(b.N), "B/client")
		})
	}
}

// rawStream is a client that reads and counts.
type rawStream struct {
	*eventStream
	came chan struct{} // signalled when something has come
	seen int64
}

func (s *rawStream) read() {
	buffer := make([]byte, 64<<10)
	for {
		if _, err := s.Read(buffer); err != nil {
			return
		}
		select {
		case s.came <- struct{}{}:
		default:
		}
	}
}

// wait waits until so many bytes more have come than when it last returned.
func (s *rawStream) wait(size int64) {
	for s.bytes.Load() < s.seen+size {
		<-s.came
	}
	s.seen += size
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBoard is what it takes to answer with a board that was read just now.
func BenchmarkBoard(b *testing.B) {
	network := newNetwork(1000)
	r := start(b, network.source(), nil)
	m := r.awaitBoard()
	b.Run("document", func(b *testing.B) {
		for b.Loop() {
			m.boardDocument(nil)
		}
	})
	b.Run("compress", func(b *testing.B) {
		for b.Loop() {
			m.boardDocument(nil).Zipped()
		}
	})
	var s selection
	s.by, s.descending = "name", true
	b.Run("sorted", func(b *testing.B) {
		for b.Loop() {
			s.of(m.rows)
		}
	})
}

// BenchmarkSnapshot is what a board of 1,000 plazas costs that have all changed.
func BenchmarkSnapshot(b *testing.B) {
	network := newNetwork(1000)
	var normal normalizer
	var s *snapshot
	var err error
	for b.Loop() {
		next := network.step(1000)
		normal.board(next)
		if s, err = nextSnapshot(s, next); err != nil {
			b.Fatal(err)
		}
	}
}
