package e2e

import (
	"bufio"
	wire "encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// verdict is what becomes of a frame that a client sends.
type verdict int

const (
	passOn    verdict = iota
	cutBefore         // the connection is cut, and the server never sees the frame
	// the server gets the frame, and the connection is cut before its answer reaches the client
	cutAfter
	// the server gets ROLLBACK in place of a COMMIT, and the client proxy.refusal as the answer
	refuseCommit
)

// proxy passes connections on to a server, and knows where the client's frames begin, so that it
// can cut in between.
type proxy struct {
	listener net.Listener
	frames   func(r *bufio.Reader) ([]byte, error) // reads one frame of a client, its head included

	gate  sync.RWMutex // held for writing while nothing passes
	delay atomic.Int64 // of answers, in nanoseconds
	wg    sync.WaitGroup

	mu       sync.Mutex
	upstream string
	judge    func(link int, frame []byte) verdict // nil passes all on
	refusal  []byte                               // the answer to a commit that is refused
	links    map[int]func()                       // cuts each connection
	n        int
	closed   bool
}

// startProxy starts a proxy for a server.
func startProxy(t *testing.T, upstream string, frames func(*bufio.Reader) ([]byte, error)) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, frames: frames, upstream: upstream, links: map[int]func(){}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cutAll()
	p.wg.Wait()
}

// cutAll cuts every connection that there is.
func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cut := range p.links {
		cut()
	}
}

// setUpstream lets new connections lead to another server, and cuts those that there are.
func (p *proxy) setUpstream(addr string) {
	p.mu.Lock()
	p.upstream = addr
	p.mu.Unlock()
	p.cutAll()
}

// setJudge lets judge decide about each frame from now on. It is called by one connection at a
// time.
func (p *proxy) setJudge(judge func(link int, frame []byte) verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge = judge
}

// setRefusal sets how commits are answered that are refused from now on.
func (p *proxy) setRefusal(answer []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusal = answer
}

// block lets nothing pass in either direction until the function that it returns is called;
// connections stay open.
func (p *proxy) block() (unblock func()) {
	p.gate.Lock()
	return sync.OnceFunc(p.gate.Unlock)
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		upstream := p.upstream
		p.mu.Unlock()
		server, err := net.DialTimeout("tcp", upstream, 5*time.Second)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.n++
		id := p.n
		cut := sync.OnceFunc(func() { _, _ = client.Close(), server.Close() })
		p.links[id] = cut
		if p.closed {
			cut()
		}
		p.mu.Unlock()
		var dropAnswer atomic.Bool
		var otherAnswer atomic.Pointer[[]byte]
		answered := make(chan struct{}, 1)
		p.wg.Go(func() {
			defer cut()
			p.toServer(id, client, server, &dropAnswer, &otherAnswer, answered)
			p.mu.Lock()
			delete(p.links, id)
			p.mu.Unlock()
		})
		p.wg.Go(func() {
			defer cut()
			p.toClient(client, server, &dropAnswer, &otherAnswer, answered)
		})
	}
}

// answerPatience is how long a frame whose answer is to be dropped may take to be answered; some
// are not answered at all.
const answerPatience = 200 * time.Millisecond

func (p *proxy) toServer(id int, client, server net.Conn, dropAnswer *atomic.Bool,
	otherAnswer *atomic.Pointer[[]byte], answered chan struct{}) {
	r := bufio.NewReaderSize(client, 64<<10)
	for {
		frame, err := p.frames(r)
		if err != nil {
			return
		}
		p.mu.Lock()
		fate := passOn
		if p.judge != nil {
			fate = p.judge(id, frame)
		}
		refusal := p.refusal
		p.mu.Unlock()
		if fate == cutBefore {
			return
		}
		if fate == cutAfter {
			dropAnswer.Store(true)
		}
		if fate == refuseCommit {
			frame = mysqlPacket(0, "\x03ROLLBACK")
			otherAnswer.Store(&refusal)
		}
		p.gate.RLock()
		_, err = server.Write(frame)
		p.gate.RUnlock()
		if err != nil {
			return
		}
		if fate == cutAfter {
			select {
			case <-answered:
			case <-time.After(answerPatience):
			}
			return
		}
	}
}

func (p *proxy) toClient(client, server net.Conn, dropAnswer *atomic.Bool,
	otherAnswer *atomic.Pointer[[]byte], answered chan struct{}) {
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if dropAnswer.Load() {
			answered <- struct{}{}
			return
		}
		if other := otherAnswer.Swap(nil); other != nil {
			n = copy(buf, *other)
		}
		if delay := time.Duration(p.delay.Load()); delay > 0 {
			time.Sleep(delay)
		}
		p.gate.RLock()
		_, err = client.Write(buf[:n])
		p.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

// mysqlPacket returns a packet of MySQL's protocol.
func mysqlPacket(sequence byte, text string) []byte {
	return append([]byte{byte(len(text)), byte(len(text) >> 8), 0, sequence}, text...)
}

// mysqlFrames reads a packet of MySQL's protocol: three bytes of length, one of sequence.
func mysqlFrames(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	frame := make([]byte, 4+(int(head[0])|int(head[1])<<8|int(head[2])<<16))
	_, err = io.ReadFull(r, frame)
	return frame, err
}

// kafkaFrames reads a request of Kafka's protocol: four bytes of length, two of the kind of
// request.
func kafkaFrames(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	frame := make([]byte, 4+int(wire.BigEndian.Uint32(head)))
	_, err = io.ReadFull(r, frame)
	return frame, err
}

// isProduce reports whether a frame of Kafka's is a produce request.
func isProduce(frame []byte) bool { return len(frame) > 6 && wire.BigEndian.Uint16(frame[4:]) == 0 }

// statement returns the SQL of a packet, "" for a packet that is none.
func statement(frame []byte) string {
	if len(frame) < 6 || frame[4] != 3 { // COM_QUERY
		return ""
	}
	return string(frame[5:min(len(frame), 120)])
}

// batchCutter cuts a batch's transaction at one of its packets: the statements, and the rows that
// LOAD DATA sends.
type batchCutter struct {
	mu      sync.Mutex
	step    int // to cut at, from 1, or atCommit; 0 cuts nowhere
	fate    verdict
	steps   map[int]int // per connection that is in a transaction: packets seen
	what    string      // the packet that was cut at, "" for not yet
	beyond  int         // transactions of batches that ended before the step
	commits int         // transactions of batches that came to their commit
}

// atCommit is the step at which a transaction is committed, whichever that is in it.
const atCommit = -1

// movesCursor begins a batch's first statement, which follows on START TRANSACTION or is sent with
// it.
const movesCursor = "UPDATE toll_cursor SET next_offset"

// arm makes the cutter cut once, at a step.
func (c *batchCutter) arm(step int, fate verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step, c.fate, c.what, c.beyond = step, fate, "", 0
}

// cut reports what the cutter cut at, and how many transactions had no such step.
func (c *batchCutter) cut() (what string, beyond int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.what, c.beyond
}

func (c *batchCutter) judge(link int, frame []byte) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.steps == nil {
		c.steps = map[int]int{}
	}
	sql := statement(frame)
	switch {
	case sql == "START TRANSACTION" || strings.HasPrefix(sql, "START TRANSACTION; "+movesCursor):
		c.steps[link] = 0
	case c.steps[link] == 1 && sql != "" && !strings.HasPrefix(sql, movesCursor):
		delete(c.steps, link) // it is no batch's
	}
	seen, ours := c.steps[link]
	if !ours {
		return passOn
	}
	seen++
	c.steps[link] = seen
	ends := sql == "COMMIT" || sql == "ROLLBACK"
	if ends {
		delete(c.steps, link)
	}
	if sql == "COMMIT" {
		c.commits++
	}
	// The first step of any transaction is the same. Cut there, it is not known to be a batch's.
	if (seen == c.step || c.step == atCommit && sql == "COMMIT") && c.what == "" {
		c.what = describeFrame(sql, frame)
		delete(c.steps, link)
		return c.fate
	}
	if ends && seen < c.step {
		c.beyond++
	}
	return passOn
}

func describeFrame(sql string, frame []byte) string {
	if sql == "" {
		return fmt.Sprintf("%d bytes of rows", len(frame)-4)
	}
	return strings.Join(strings.Fields(sql)[:min(3, len(strings.Fields(sql)))], " ")
}

// commitJudge calls meet with each commit of a batch, which decides about it.
func commitJudge(meet func() verdict) func(link int, frame []byte) verdict {
	var c batchCutter
	return func(link int, frame []byte) verdict {
		before := c.commits
		c.judge(link, frame)
		if c.commits > before {
			return meet()
		}
		return passOn
	}
}

// sometimes returns a judge of produce requests that cuts one of n, half of them before the broker
// sees them.
func sometimes(n int, cuts *atomic.Int64) func(link int, frame []byte) verdict {
	return func(_ int, frame []byte) verdict {
		if !isProduce(frame) || rand.IntN(n) > 0 {
			return passOn
		}
		cuts.Add(1)
		if rand.IntN(2) == 0 {
			return cutBefore
		}
		return cutAfter
	}
}
