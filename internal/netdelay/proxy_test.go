package netdelay

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// echo is a server that sends back what it gets, and ends when its client has ended.
func echo(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

func connect(t *testing.T, roundTrip time.Duration, upstream string) net.Conn {
	t.Helper()
	p, err := Listen(roundTrip)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	p.Forward(upstream)
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestProxyDelaysEachAnswerByARoundTrip(t *testing.T) {
	const roundTrip = 30 * time.Millisecond
	c := connect(t, roundTrip, echo(t))
	for i := range 4 {
		sent := time.Now()
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != byte(i) {
			t.Fatalf("answer %v, %v", b, err)
		}
		least := roundTrip
		if i == 0 {
			least = 2 * roundTrip // the connection's own
		}
		if took := time.Since(sent); took < least {
			t.Errorf("answer %d came after %v, less than %v", i, took, least)
		}
	}
}

// More than is on the way at a time comes back whole and in order, and so does the end.
func TestProxyKeepsOrderAndEnd(t *testing.T) {
	c := connect(t, 2*time.Millisecond, echo(t))
	want := make([]byte, chunkBytes*chunksOnTheWay+1)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(want)
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := c.Write(want); err != nil {
			t.Error(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(c)
	sending.Wait()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came back of %d, %v", len(got), len(want), err)
	}
}

func TestProxyCutsConnectionsWhenItIsClosed(t *testing.T) {
	p, err := Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	p.Forward(echo(t))
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection still answers")
	}
}
