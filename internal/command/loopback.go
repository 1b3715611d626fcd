package command

import (
	"net"
	"strconv"

	"github.com/tollstream/tollstream/internal/hint"
)

// LoopbackAddr reads an address to listen on, which must not be reachable from other machines;
// advice says why.
func LoopbackAddr(flag, addr, advice string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", hint.Usagef("--%s: %q is not HOST:PORT", flag, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", hint.Usagef("--%s: %q is not a port", flag, port)
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", hint.With(hint.Usagef("--%s: %q is not a loopback address", flag, host),
			advice)
	}
	return net.JoinHostPort(host, port), nil
}
