package main

import (
	"net"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/testkit"
)

func TestPprofSetting(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:6060", ":x", "192.0.2.1:6060", "6060"} {
		var stdout, stderr testkit.Buffer
		code := run(t.Context(), []string{"tollstream", "process", "--pprof", addr},
			strings.NewReader(""), &stdout, &stderr)
		if text := stderr.String(); code != 2 || !strings.Contains(text, "--pprof") {
			t.Errorf("--pprof %s: exit status %d: %s", addr, code, text)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var stdout, stderr testkit.Buffer
	code := run(t.Context(), []string{"tollstream", "process", "--pprof", taken.Addr().String()},
		strings.NewReader(""), &stdout, &stderr)
	if text := stderr.String(); code != 1 || !strings.Contains(text, "hint: ") ||
		!strings.Contains(text, "--pprof") {
		t.Errorf("a port in use: exit status %d: %s", code, text)
	}
}
