package endpoint

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/trust"
	"github.com/tollstream/tollstream/topology/registry"
)

// registryPassword is the variable of the schema registry's password, which has no flag.
const registryPassword = "TOLLSTREAM_SCHEMA_REGISTRY_PASSWORD"

// SchemaFlags returns the flags that say where the schema registry is, and who we are to it.
func SchemaFlags() []cli.Flag {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, EnvVars: command.Env(name), Category: connectionCategory,
			Usage: usage}
	}
	return []cli.Flag{
		text("schema-registry", "`URL,…` of a schema registry, for records in its framing"),
		text("schema-registry-user", "`NAME` of the user; the password comes from "+registryPassword+
			" or the next one"),
		text("schema-registry-password-file", "`FILE` that holds the password"),
		text("schema-registry-ca", "PEM `FILE` of the authorities that sign the registry's certificate, "+
			"in place of the system's"),
		text("schema-registry-cert", "PEM `FILE` of our own certificate, for a registry that wants one"),
		text("schema-registry-key", "PEM `FILE` of its key"),
		text("schema-registry-server-name",
			"`NAME` in the registry's certificate, where it is not the host of --schema-registry"),
		&cli.BoolFlag{Name: "schema-registry-plaintext",
			EnvVars: command.Env("schema-registry-plaintext"), Category: connectionCategory,
			Usage: "authenticate without TLS to other hosts too, across a network that can read the " +
				"password"},
	}
}

// SchemasFrom returns the schema registry of --schema-registry, nil for none.
func SchemasFrom(c *cli.Context) (*registry.Registry, error) {
	urls := command.Setting(c, "schema-registry", "")
	if urls == "" {
		return nil, nil
	}
	cfg := registry.Config{User: command.Setting(c, "schema-registry-user", ""),
		Password: trust.Secret(os.Getenv(registryPassword))}
	var err error
	if cfg.TLS, err = TLSFrom(c, "schema-registry", false); err != nil {
		return nil, err
	}
	file := command.Setting(c, "schema-registry-password-file", "")
	switch {
	case file != "" && cfg.Password != "" && !command.Given(c, "schema-registry-password-file"):
		return nil, hint.Usagef("%s and %s_FILE are both set", registryPassword, registryPassword)
	case file != "":
		if cfg.Password, err = trust.ReadSecret(file); err != nil {
			return nil, fmt.Errorf("read --schema-registry-password-file: %w", err)
		}
	}
	if (cfg.User == "") != (cfg.Password == "") {
		return nil, hint.With(hint.Usagef("--schema-registry-user and its password go together"),
			"set "+registryPassword+", or name a file with --schema-registry-password-file")
	}
	for text := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		switch {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			return nil, hint.Usagef("--schema-registry is no URL such as https://registry:8081")
		case u.User != nil:
			return nil, hint.With(hint.Usagef("--schema-registry holds a user or a password"),
				"name the user with --schema-registry-user, and set "+registryPassword)
		case u.Scheme == "http" && cfg.TLS != nil:
			return nil, hint.Usagef("--schema-registry is http, and its TLS is set too")
		}
		if cfg.User != "" && u.Scheme == "http" {
			if err := CheckPlaintext(c, "schema-registry", passwordOf(cfg.User), u.Host,
				"use https"); err != nil {
				return nil, err
			}
		}
		cfg.URLs = append(cfg.URLs, u.String())
	}
	return registry.New(cfg)
}
