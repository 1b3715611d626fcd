package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/incidents"
	"github.com/tollstream/tollstream/internal/trust"
)

// notifyFlags returns the flags that [notifyFrom] reads.
func notifyFlags() []cli.Flag {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, EnvVars: command.Env(name), Category: "Notifications",
			Usage: usage}
	}
	return []cli.Flag{
		text("notify-url", "notify the webhook at `URL` of incidents, in the format of "+
			"Alertmanager's webhooks; where the URL is a secret, use the next one"),
		text("notify-url-file", "`FILE` that holds the URL"),
		text("notify-secret-file",
			"`FILE` with a secret, 16 characters or more, that signs what is sent"),
		text("notify-ca",
			"PEM `FILE` of the authorities that sign the webhook's certificate, in place of the system's"),
		text("notify-cert", "PEM `FILE` of our own certificate, for a webhook that wants one"),
		text("notify-key", "PEM `FILE` of its key"),
		text("notify-server-name",
			"`NAME` in the webhook's certificate, where it is not the host of the URL"),
	}
}

// minNotifySecret is the fewest characters of a secret that can't be guessed from what it signs.
const minNotifySecret = 16

// notifyFrom returns how incidents are notified of, nil where they are not.
func notifyFrom(c *cli.Context) (*incidents.Config, error) {
	address := command.Setting(c, "notify-url", "")
	if file := command.Setting(c, "notify-url-file", ""); file != "" {
		if address != "" {
			return nil, hint.Usagef("--notify-url and --notify-url-file exclude each other")
		}
		secret, err := trust.ReadSecret(file)
		if err != nil {
			return nil, fmt.Errorf("read --notify-url-file: %w", err)
		}
		address = strings.TrimSpace(string(secret))
	}
	if address == "" {
		for _, f := range notifyFlags() {
			if name := f.Names()[0]; command.Given(c, name) {
				return nil, hint.Usagef("--%s is for --notify-url", name)
			}
		}
		return nil, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
		return nil, hint.Usagef("--notify-url: want a URL such as https://alerts.example.org/toll")
	}
	cfg := &incidents.Config{URL: u, Stats: incidents.NewStats()}
	if file := command.Setting(c, "notify-secret-file", ""); file != "" {
		if cfg.Secret, err = signingSecret(file); err != nil {
			return nil, fmt.Errorf("read --notify-secret-file: %w", err)
		}
	}
	if cfg.TLS, err = endpoint.TLSFrom(c, "notify", false); err != nil {
		return nil, err
	}
	if cfg.TLS != nil && u.Scheme == "http" {
		return nil, hint.Usagef("--notify-url begins with http:, and certificates are for https:")
	}
	return cfg, nil
}

// signingSecret reads the secret of a file. As in Standard Webhooks, one that begins with whsec_ is
// in base64.
func signingSecret(file string) ([]byte, error) {
	text, err := trust.ReadSecret(file)
	if err != nil {
		return nil, err
	}
	secret := []byte(text)
	if encoded, ok := strings.CutPrefix(string(text), "whsec_"); ok {
		if secret, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, errors.New("what follows whsec_ is not base64")
		}
	}
	if len(secret) < minNotifySecret {
		return nil, hint.With(fmt.Errorf("the secret has %d bytes, want %d or more", len(secret),
			minNotifySecret), "generate one: openssl rand -hex 32")
	}
	return secret, nil
}
