package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
)

// healthLimit is how long an answer may take: it is ready at once, or something is wrong.
const healthLimit = 5 * time.Second

func (a *app) healthCommand() *cli.Command {
	return &cli.Command{
		Name:      "health",
		Usage:     "asks a running process or view whether it is ready",
		ArgsUsage: "[URL]",
		Description: "For health checks where there is no curl, as in the container. Without a URL it asks /readyz where process or view listen by the settings: " +
			"at --metrics-listen, else at --listen. The exit status is 0 if it is ready, 1 if it is not or does not answer.",
		UsageText: "tollstream health\ntollstream health http://127.0.0.1:9464/healthz",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "metrics-listen", EnvVars: command.Env("metrics-listen"),
				Usage: "`HOST:PORT` that process or view was given"},
			&cli.StringFlag{Name: "listen", EnvVars: command.Env("listen"),
				Usage: "`HOST:PORT` that view was given"},
			&cli.StringFlag{Name: "tls-cert", EnvVars: command.Env("tls-cert"),
				Usage: "PEM `FILE` of its certificate, for HTTPS: that one is trusted, whatever its names"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return hint.Usagef("unexpected argument %q", c.Args().Get(1))
			}
			target, err := healthTarget(c)
			if err != nil {
				return err
			}
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			if file := command.Setting(c, "tls-cert", ""); file != "" && target.Scheme == "https" {
				if client, err = trusting(file); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(c.Context, healthLimit)
			defer cancel()
			return a.health(ctx, client, target)
		},
	}
}

// healthTarget returns what is to be asked.
func healthTarget(c *cli.Context) (*url.URL, error) {
	if c.NArg() == 1 {
		u, err := url.Parse(c.Args().First())
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, hint.Usagef("%q is no URL such as http://%s/readyz", c.Args().First(),
				defaultMetricsListen)
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/readyz"
		}
		return u, nil
	}
	listen := command.Setting(c, "metrics-listen", command.Setting(c, "listen", ""))
	if listen == "" {
		return nil, hint.With(hint.Usagef("it is not known where to ask"),
			"give a URL, or set --metrics-listen or --listen as for process or view")
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return nil, hint.Usagef("listen address %q, want HOST:PORT, as in %s", listen,
			defaultMetricsListen)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if command.Setting(c, "tls-cert", "") != "" {
		scheme = "https"
	}
	return &url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port), Path: "/readyz"}, nil
}

// trusting returns a client that trusts a server which shows the first certificate of a file. It is
// asked by this machine's own name, which such a certificate need not have.
func trusting(file string) (*http.Client, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --tls-cert: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, hint.Usagef("--tls-cert: %s holds no certificate", file)
	}
	known, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read --tls-cert: %w", err)
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, // of names and issuers, for the comparison below
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) == 0 || !s.PeerCertificates[0].Equal(known) {
					return errors.New("the server shows another certificate than that of --tls-cert")
				}
				return nil
			},
		}}}, nil
}

// health asks, and prints what a person wants to know.
func (a *app) health(ctx context.Context, client *http.Client, target *url.URL) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v", healthLimit)
		}
		return fmt.Errorf("ask %s: %w", target.Redacted(), err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("ask %s: %w", target.Redacted(), err)
	}
	if answer.StatusCode == http.StatusOK {
		_, err := fmt.Fprintln(a.stdout, "ready")
		return err
	}
	var problem struct{ Detail string }
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		problem.Detail = answer.Status
	}
	return fmt.Errorf("not ready: %s", strings.TrimSpace(problem.Detail))
}
