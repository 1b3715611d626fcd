package pagetest

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkViewClients measures what the command `view` spends while 1,000 plazas get 1,000 events
// a second and many clients look: percent of one core, and bytes a second that each client is sent,
// compressed as browsers ask for it. An operation is a second.
func BenchmarkViewClients(b *testing.B) {
	p := newPipeline(b)
	p.run("init", "--partitions", "4")
	p.run("emit", "--count", "60000", "--rate", "0", "--seed", "1", "--start", "2026-03-02 07:00:00",
		"--plazas", "1000-1999")
	p.start("process")
	p.eventually("rows", func() bool {
		return p.number("SELECT COUNT(*) FROM livetolldata") == 60_000
	})
	p.start("emit", "--rate", "1000", "--seed", "2", "--start", "2026-03-02 08:40:00", "--plazas",
		"1000-1999")
	url, _ := p.view("127.0.0.1:0")
	pid := p.last.Pid
	for _, clients := range []int{0, 50} {
		b.Run(fmt.Sprintf("clients=%d", clients),
			func(b *testing.B) { benchmarkView(b, url, pid, clients) })
	}
}

func benchmarkView(b *testing.B, url string, pid, clients int) {
	var received atomic.Int64
	var wg sync.WaitGroup
	transport := &http.Transport{DisableCompression: true} // bytes are to be counted as they come
	var streams []io.Closer
	for range clients {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url+"/api/v1/events", nil)
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("Accept-Encoding", "gzip")
		response, err := transport.RoundTrip(request)
		if err != nil || response.StatusCode != http.StatusOK {
			b.Fatal(response, err)
		}
		streams = append(streams, response.Body)
		wg.Go(func() {
			r := bufio.NewReader(response.Body)
			buffer := make([]byte, 64<<10)
			for {
				n, err := r.Read(buffer)
				received.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	defer wg.Wait()
	defer func() {
		for _, s := range streams {
			_ = s.Close()
		}
	}()
	time.Sleep(3 * time.Second) // the first figures, all of them, are not what goes on
	before, at := cpuTime(b, pid), received.Load()
	began := time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	took := time.Since(began).Seconds()
	b.ReportMetric((cpuTime(b, pid)-before).Seconds()/took*100, "%core")
	if clients > 0 {
		b.ReportMetric(float64(received.Load()-at)/took/float64(clients), "B/s/client")
	}
	b.ReportMetric(0, "ns/op")
}

// cpuTime returns what a process has computed so far. The kernel counts in hundredths of a second.
func cpuTime(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		tb.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime, see proc(5)
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
