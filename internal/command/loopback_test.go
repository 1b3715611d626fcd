package command

import "testing"

func TestLoopbackAddr(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:9092": "127.0.0.1:9092", ":0": "127.0.0.1:0", "localhost:1": "127.0.0.1:1",
		"[::1]:7":   "[::1]:7",
		"0.0.0.0:1": "", "10.0.0.1:1": "", "example.org:1": "", "9092": "", "127.0.0.1:": "",
		"127.0.0.1:x": "", "127.0.0.1:70000": "", "": "",
	} {
		got, err := LoopbackAddr("kafka-listen", addr, "use 127.0.0.1")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", addr, got, err, want)
		}
	}
}
