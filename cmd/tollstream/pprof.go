package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
)

func pprofFlag() cli.Flag {
	return &cli.StringFlag{Name: "pprof", EnvVars: env("pprof"), Category: metricsCategory,
		Usage: "serve profiles for go tool pprof at `HOST:PORT`, as in 127.0.0.1:6060, to this machine alone"}
}

// pprofFrom returns where profiles are served, "" for nowhere.
func pprofFrom(c *cli.Context) (string, error) {
	addr := setting(c, "pprof", "")
	if addr == "" {
		return "", nil
	}
	return loopbackAddr("pprof", addr, "profiles tell of the memory: use 127.0.0.1")
}

// servePprof serves profiles until the func that it returns is called, which waits until that has
// ended.
func servePprof(addr string, log *slog.Logger) (stop func(), err error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = hint.With(err,
				"something else listens there: name another port with --pprof, or 0 for a free one")
		}
		return nil, fmt.Errorf("serve profiles: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler:           localOnly(mux),
		ReadHeaderTimeout: 10 * time.Second,
		// ends a profile that is being taken
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("serving profiles", "url", "http://"+listener.Addr().String()+"/debug/pprof/")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("profiles are not served any more", "error", text.OneLine(err.Error()))
		}
	}()
	return func() {
		cancel()
		_ = server.Close()
		<-ended
	}, nil
}

// localOnly refuses requests under other names than this machine's: a page in a browser here may
// have had its own name lead to 127.0.0.1.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(host, "80")
		}
		if !isLoopback(host) {
			http.Error(w, "ask by 127.0.0.1 or localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
