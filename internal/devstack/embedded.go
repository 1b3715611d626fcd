package devstack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// EmbeddedCommand is the name of the command that serves the embedded database.
const EmbeddedCommand = "tollstream-embedded-mysql"

// embeddedStop is far more than the embedded database takes to end.
const embeddedStop = 15 * time.Second

var errNoEmbedded = errors.New(EmbeddedCommand +
	" is neither next to this command nor on PATH: run make build in tollstream's source")

// FindEmbedded returns the path of the command that serves the embedded database: what
// TOLLSTREAM_EMBEDDED names, else the one next to this process's own, else one on PATH.
func FindEmbedded() (path string, ok bool) {
	if path = os.Getenv("TOLLSTREAM_EMBEDDED"); path == "" {
		if self, err := os.Executable(); err == nil {
			path, err = exec.LookPath(filepath.Join(filepath.Dir(self), EmbeddedCommand))
			if err == nil {
				return path, true
			}
		}
		path = EmbeddedCommand
	}
	path, err := exec.LookPath(path)
	return path, err == nil
}

// embedded is a tollstream-embedded-mysql.
type embedded struct {
	address string
	child   *child
	stdin   io.Closer     // the server ends when it closes
	stderr  *bytes.Buffer // complete when child is done
}

func startEmbedded(ctx context.Context, cfg DatabaseConfig) (*embedded, error) {
	binary, ok := FindEmbedded()
	if !ok {
		return nil, errNoEmbedded
	}
	host, port, err := splitAddr(cfg.Addr)
	if err != nil {
		return nil, err
	}
	// As with MariaDB, another program may take a free port before the server does.
	for try := 0; ; try++ {
		free, err := probePort(host, port)
		if err != nil {
			return nil, err
		}
		e, err := runEmbedded(ctx, binary, joinAddr(host, free), cfg)
		if err == nil || port != 0 || try == 5 || !isTaken(host, free) {
			return e, err
		}
	}
}

// runEmbedded starts the command and returns when it listens.
func runEmbedded(ctx context.Context, binary, addr string, cfg DatabaseConfig) (*embedded, error) {
	settings, err := json.Marshal(map[string]string{
		"addr": addr, "database": cfg.Name, "user": cfg.User, "password": cfg.Password,
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary)
	e := &embedded{stderr: new(bytes.Buffer)}
	cmd.Stderr = e.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	e.stdin = stdin
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout = stdout
	e.child, err = startChild(cmd)
	stdout.Close() // the server has its own handle
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = e.child.kill() })
	_, err = stdin.Write(append(settings, '\n'))
	var line string
	if err == nil {
		line, err = bufio.NewReader(out).ReadString('\n')
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		e.address = strings.TrimSpace(line)
		return e, nil
	}
	err = errors.Join(err, e.child.kill())
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, e.explain(err)
}

// explain returns err with the first line that the server printed about its end.
func (e *embedded) explain(err error) error {
	if line, _, _ := strings.Cut(e.stderr.String(), "\n"); line != "" {
		return fmt.Errorf("%s ended: %s", EmbeddedCommand, line)
	}
	return fmt.Errorf("%s ended: %w", EmbeddedCommand, err)
}

func (e *embedded) addr() string { return e.address }

func (e *embedded) pid() int { return e.child.pid() }

func (e *embedded) close() error {
	_ = e.stdin.Close()
	if err := e.child.wait(embeddedStop); err != nil {
		return err
	}
	if e.stderr.Len() > 0 {
		return e.explain(nil)
	}
	return nil
}
