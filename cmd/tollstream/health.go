package main

import (
	"fmt"
	"net"
	"net/url"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/admin"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
)

func healthCommand() *cli.Command {
	return &cli.Command{
		Name:      "health",
		Usage:     "asks a running process or view whether it is ready",
		ArgsUsage: "[URL]",
		Description: "For health checks where there is no curl, as in the container. Without a URL it " +
			"asks /readyz where process or view listen by the settings: " +
			"at --metrics-listen, else at --listen. The exit status is 0 if it is ready, 1 if it is not " +
			"or does not answer.",
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
			if err := admin.Ready(c.Context, target, command.Setting(c, "tls-cert", "")); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.App.Writer, "ready")
			return err
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
