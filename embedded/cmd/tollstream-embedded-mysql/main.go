// Command tollstream-embedded-mysql serves a MySQL-compatible database from memory, for tollstream
// up and demo on a machine without MariaDB.
//
// It reads one line of JSON from its standard input, see [embedded.Config], and prints the address
// that it listens on. It ends when its standard input does, so that it never outlives the program
// that started it, and forgets all rows.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/tollstream/tollstream/embedded"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tollstream-embedded-mysql:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	in := bufio.NewReader(stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the settings from standard input: %w", err)
	}
	var cfg embedded.Config
	if err := json.Unmarshal(line, &cfg); err != nil {
		return fmt.Errorf("the settings are one line of JSON: %w", err)
	}
	s, err := embedded.Start(cfg)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, s.Addr()); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { // until the process ends, where a signal comes first
		_, _ = io.Copy(io.Discard, in)
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return s.Close()
}
