package devstack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// Free ports are taken from below the range that systems use for outgoing connections. Inside of
// it, a client that dials a killed server again and again is given the server's own port for its
// end one day, connects to itself, and the server can't come back.
const (
	firstFreePort = 20000
	lastFreePort  = 32000
)

// splitAddr returns host and port of addr. An empty host is 127.0.0.1, an empty addr a free port
// there.
func splitAddr(addr string) (host string, port int, err error) {
	if addr == "" {
		return "127.0.0.1", 0, nil
	}
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: want host:port: %w", addr, err)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("address %q: port %q is not a number from 0 to 65535", addr, p)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil && ip.IsUnspecified() {
		return "", 0,
			fmt.Errorf("address %q: this host is advertised to clients, so they must be able to reach it",
				addr)
	}
	return host, port, nil
}

// listen listens on host and port; port 0 takes a free one.
func listen(host string, port int) (net.Listener, error) {
	if port != 0 {
		l, err := net.Listen("tcp", joinAddr(host, port))
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("%s is taken by another program: %w", joinAddr(host, port), err)
		}
		return l, err
	}
	var err error
	for range 100 {
		var l net.Listener
		l, err = net.Listen("tcp", joinAddr(host, firstFreePort+rand.IntN(lastFreePort-firstFreePort)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

// probePort returns port if nothing listens on it, and a free one for 0. Another program may still
// take it before the server that is meant to have it does.
func probePort(host string, port int) (int, error) {
	l, err := listen(host, port)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// isTaken reports whether another program listens on the port.
func isTaken(host string, port int) bool {
	_, err := probePort(host, port)
	return errors.Is(err, syscall.EADDRINUSE)
}

func joinAddr(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
