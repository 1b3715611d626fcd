package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/web/serve"
)

// guardNames are the names of the flags of [guardFlags].
var guardNames = []string{"token-file", "allow-anyone", "tls-cert", "tls-key", "allowed-host"}

// guardFlags returns the flags that [guardedFrom] reads: authentication and TLS of a server.
func guardFlags(category, what string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "token-file", EnvVars: command.Env("token-file"), Category: category,
			Usage: fmt.Sprintf(
				"`FILE` with a bearer token, %d characters or more, that clients must present",
				serve.MinToken)},
		&cli.BoolFlag{Name: "allow-anyone", EnvVars: command.Env("allow-anyone"), Category: category,
			Usage: "serve without authentication: everyone who reaches the address may read"},
		&cli.StringFlag{Name: "tls-cert", EnvVars: command.Env("tls-cert"), Category: category,
			Usage: "PEM `FILE` of a certificate, for HTTPS; with --tls-key"},
		&cli.StringFlag{Name: "tls-key", EnvVars: command.Env("tls-key"), Category: category,
			Usage: "PEM `FILE` of its key"},
		&cli.StringSliceFlag{Name: "allowed-host", EnvVars: command.Env("allowed-host"),
			Category: category,
			Usage: "`NAME` that browsers may call the " + what +
				" by in addition to localhost and addresses, such as that of a proxy; several, " +
				"separated by commas"},
	}
}

// proxyNames are the names of the flags of [proxyFlags].
var proxyNames = []string{"base-path", "trusted-proxies"}

// proxyFlags returns the flags of a page behind a proxy, which [guardedFrom] reads for --listen.
func proxyFlags(category string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "base-path", EnvVars: command.Env("base-path"), Category: category,
			Usage: "`PATH` that the page is below, as /toll/, behind a proxy that passes it on"},
		&cli.StringSliceFlag{Name: "trusted-proxies", EnvVars: command.Env("trusted-proxies"),
			Category: category,
			Usage: "`ADDRESS` or network of proxies whose X-Forwarded-Prefix, -Proto, -Host and -For are " +
				"believed, as 127.0.0.1 or 10.0.0.0/8; several, separated by commas; none by default"},
	}
}

// guardedFrom returns the configuration of a server at the address that a flag names, nil for none.
func guardedFrom(c *cli.Context, flag string) (*serve.Config, error) {
	cfg := serve.Config{
		Listen: command.Setting(c, flag, ""), NoAuth: c.Bool("allow-anyone"),
		TLSCert: command.Setting(c, "tls-cert", ""), TLSKey: command.Setting(c, "tls-key", ""),
	}
	if cfg.Listen == "" {
		return nil, nil
	}
	cfg.Hosts = wordsOf(c, "allowed-host")
	if flag == "listen" {
		cfg.BasePath = command.Setting(c, "base-path", "")
		cfg.TrustedProxies = wordsOf(c, "trusted-proxies")
	}
	if name := command.Setting(c, "token-file", ""); name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read --token-file: %w", err)
		}
		// it must not mean that there is none
		if cfg.Token = strings.TrimSpace(string(text)); cfg.Token == "" {
			return nil, hint.With(hint.Usagef("--token-file: %s is empty", name), tokenHint)
		}
	}
	err := cfg.Validate()
	if err == nil {
		return &cfg, nil
	}
	advice := ""
	if open := cfg; open.Token == "" && !open.NoAuth {
		open.NoAuth = true
		if open.Validate() == nil {
			advice =
				"--token-file names a file with a bearer token; --allow-anyone serves without authentication"
		}
	} else if open.Token != "" {
		advice = tokenHint
	}
	return nil, hint.With(hint.Usagef("--%s: %v", flag, err), advice)
}

// wordsOf returns the values of a flag that may be set several times, without blanks around them.
func wordsOf(c *cli.Context, flag string) (words []string) {
	for _, word := range c.StringSlice(flag) {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words
}

const tokenHint = "generate a token: openssl rand -hex 16"

// hintPort adds what to do about a port in use.
func hintPort(err error, flag string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return hint.With(err, fmt.Sprintf(
		"the port is in use: set another one with --%s, or 0 for a free one", flag))
}
