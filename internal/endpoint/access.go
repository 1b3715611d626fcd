package endpoint

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"github.com/go-sql-driver/mysql"
	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/trust"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/registry"
)

// kafkaPassword is the variable of Kafka's password. It has no flag, since every user of a machine
// can read the command lines of all.
const kafkaPassword = "TOLLSTREAM_KAFKA_PASSWORD"

// accessFlags returns the flags that say how the servers are trusted, and who we are to them.
func accessFlags() []cli.Flag {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, EnvVars: command.Env(name), Category: connectionCategory,
			Usage: usage}
	}
	yes := func(name, usage string) cli.Flag {
		return &cli.BoolFlag{Name: name, EnvVars: command.Env(name), Category: connectionCategory,
			Usage: usage}
	}
	return []cli.Flag{
		yes("kafka-tls", "encrypt connections to Kafka; set by each of the next four as well"),
		text("kafka-ca",
			"PEM `FILE` of the authorities that sign the brokers' certificates, in place of the system's"),
		text("kafka-cert", "PEM `FILE` of our own certificate, for brokers that want one"),
		text("kafka-key", "PEM `FILE` of its key"),
		text("kafka-server-name",
			"`NAME` in the brokers' certificates, where it is not the host of --brokers"),
		command.ChoiceFlag("kafka-sasl", connectionCategory, "",
			"`MECHANISM` of authentication: plain, scram-sha-256 or scram-sha-512",
			"plain", "scram-sha-256", "scram-sha-512"),
		text("kafka-user", "`NAME` of the user; the password comes from "+kafkaPassword+
			" or the next one"),
		text("kafka-password-file", "`FILE` that holds the password"),
		yes("kafka-plaintext",
			"authenticate without TLS to other hosts too, across a network that can read the password"),
		text("mysql-password-file", "`FILE` that holds the password of a DSN without one"),
		command.ChoiceFlag("mysql-tls", connectionCategory, "",
			"`MODE` of encryption: off, required, verify-ca or verify-full; verify-full where one of the "+
				"next four is set, else the DSN's tls",
			tlsOff, tlsRequired, tlsVerifyCA, tlsVerifyFull),
		text("mysql-ca",
			"PEM `FILE` of the authorities that sign the database's certificate, in place of the system's"),
		text("mysql-cert", "PEM `FILE` of our own certificate, for a database that wants one"),
		text("mysql-key", "PEM `FILE` of its key"),
		text("mysql-server-name", "`NAME` in the database's certificate, where it is not the DSN's host"),
		yes("mysql-plaintext",
			"send a password without TLS to other hosts too, across a network that can read it"),
	}
}

// kafkaSecurity reads how brokers are trusted, and who we are to them.
func kafkaSecurity(c *cli.Context, brokers []string) (kafka.Security, error) {
	var s kafka.Security
	var err error
	if s.TLS, err = TLSFrom(c, "kafka", c.Bool("kafka-tls")); err != nil {
		return s, err
	}
	if s.Mechanism, err = kafka.ParseMechanism(command.Setting(c, "kafka-sasl", "")); err != nil {
		return s, hint.Usagef("--kafka-sasl: %v", err)
	}
	s.User = command.Setting(c, "kafka-user", "")
	file := command.Setting(c, "kafka-password-file", "")
	s.Password = trust.Secret(os.Getenv(kafkaPassword))
	switch {
	case file != "" && s.Password != "" && !command.Given(c, "kafka-password-file"):
		return s, hint.Usagef("%s and TOLLSTREAM_KAFKA_PASSWORD_FILE are both set", kafkaPassword)
	case file != "":
		if s.Password, err = trust.ReadSecret(file); err != nil {
			return s, fmt.Errorf("read --kafka-password-file: %w", err)
		}
	}
	if s.Mechanism == kafka.NoSASL {
		if s.User != "" || file != "" {
			return s, hint.With(hint.Usagef("a Kafka user or password is set, and no mechanism"),
				"add --kafka-sasl scram-sha-512, or what the brokers use")
		}
		s.Password = ""
		return s, nil
	}
	switch {
	case s.User == "":
		return s, hint.Usagef("--kafka-sasl %s needs --kafka-user", s.Mechanism)
	case s.Password == "":
		return s, hint.With(hint.Usagef("--kafka-sasl %s needs a password", s.Mechanism),
			"set "+kafkaPassword+", or name a file with --kafka-password-file")
	case s.TLS == nil:
		for _, b := range brokers {
			if err := CheckPlaintext(c, "kafka", passwordOf(s.User), b, "add --kafka-tls"); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// CheckPlaintext refuses a connection without TLS to HOST:PORT, which would carry a secret, unless
// it stays on this machine or --WHAT-plaintext allows it. instead is how to encrypt it.
func CheckPlaintext(c *cli.Context, what, secret, addr, instead string) error {
	if isLoopback(addr) || c.Bool(what+"-plaintext") {
		return nil
	}
	return hint.With(hint.Usagef("%s would go to %s without encryption", secret, addr),
		fmt.Sprintf("%s; --%s-plaintext allows it all the same", instead, what))
}

func passwordOf(user string) string { return "the password of " + user }

// isLoopback reports whether what is sent to HOST or HOST:PORT stays on this machine.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// TLSFrom reads --WHAT-ca, -cert, -key and -server-name. It returns nil for a plain connection:
// where wanted is false and none of them is set.
func TLSFrom(c *cli.Context, what string, wanted bool) (*tls.Config, error) {
	files := trust.Files{
		CA: command.Setting(c, what+"-ca", ""), Cert: command.Setting(c, what+"-cert",
			""), Key: command.Setting(c, what+"-key",
			""),
		ServerName: command.Setting(c, what+"-server-name", ""),
	}
	if (files.Cert == "") != (files.Key == "") {
		return nil, hint.Usagef("--%s-cert and --%s-key go together", what, what)
	}
	if files == (trust.Files{}) && !wanted {
		return nil, nil
	}
	cfg, err := files.Config()
	if err != nil {
		return nil, fmt.Errorf("read the files of --%s-ca, -cert and -key: %w", what, err)
	}
	return cfg, nil
}

// mysqlAccess completes a DSN by the password file and returns it with the TLS of the flags, nil
// for that of the DSN.
func mysqlAccess(c *cli.Context, dsn string) (string, *tls.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return "", nil, err // was parsed before
	}
	encryption, err := mysqlTLS(c, cfg)
	if err != nil {
		return "", nil, err
	}
	if file := command.Setting(c, "mysql-password-file", ""); file != "" {
		if cfg.Passwd != "" && dsn != DefaultMySQL {
			return "", nil,
				hint.With(hint.Usagef("the MySQL DSN holds a password, and --mysql-password-file is set too"),
					"leave the password out of the DSN: USER@tcp(HOST:PORT)/NAME")
		}
		password, err := trust.ReadSecret(file)
		if err != nil {
			return "", nil, fmt.Errorf("read --mysql-password-file: %w", err)
		}
		cfg.Passwd = string(password)
		dsn = cfg.FormatDSN()
	}
	return dsn, encryption, checkExposure(c, cfg, encryption)
}

// Modes of --mysql-tls, as MySQL's own clients name them.
const (
	tlsOff        = "off"
	tlsRequired   = "required"    // encrypts, to whoever answers
	tlsVerifyCA   = "verify-ca"   // and the certificate is signed by an authority that we trust
	tlsVerifyFull = "verify-full" // and it is for the server's host
)

// mysqlTLS reads --mysql-tls and the flags that go with it. It returns nil for that of the DSN.
func mysqlTLS(c *cli.Context, dsn *mysql.Config) (*tls.Config, error) {
	mode := strings.ToLower(command.Setting(c, "mysql-tls", ""))
	cfg, err := TLSFrom(c, "mysql", mode != "" && mode != tlsOff)
	if err != nil {
		return nil, err
	}
	if dsn.TLSConfig != "" && (mode != "" || cfg != nil) {
		return nil,
			hint.With(
				hint.Usagef("the MySQL DSN sets tls=%s, and --mysql-tls, -ca, -cert or -server-name is set too",
					dsn.TLSConfig),
				"leave tls out of the DSN")
	}
	if cfg == nil {
		return nil, nil
	}
	if dsn.Net != "tcp" {
		return nil,
			hint.Usagef(
				"--mysql-tls, -ca, -cert and -server-name are for TCP, and the MySQL DSN names a %s socket",
				dsn.Net)
	}
	unused := map[string][]string{
		tlsOff:      {"mysql-ca", "mysql-cert", "mysql-server-name"},
		tlsRequired: {"mysql-ca", "mysql-server-name"},
		tlsVerifyCA: {"mysql-server-name"},
	}
	for _, name := range unused[mode] {
		if command.Setting(c, name, "") != "" {
			return nil, hint.Usagef("--%s has no use with --mysql-tls %s", name, mode)
		}
	}
	switch mode {
	case tlsRequired:
		cfg.InsecureSkipVerify = true
	case tlsVerifyCA:
		trust.AnyName(cfg)
	}
	return cfg, nil
}

// checkExposure refuses a DSN by which others could get at the password, or the server at our
// files.
func checkExposure(c *cli.Context, dsn *mysql.Config, encryption *tls.Config) error {
	if dsn.AllowAllFiles {
		return hint.With(
			hint.Usagef(
				"the MySQL DSN sets allowAllFiles, by which the server may read every file of this machine "+
					"that we can"),
			"leave it out: rows are loaded from memory")
	}
	if encryption != nil && dsn.AllowFallbackToPlaintext {
		return hint.With(
			hint.Usagef("the MySQL DSN sets allowFallbackToPlaintext, and --mysql-tls asks for encryption"),
			"leave it out of the DSN")
	}
	if dsn.Net != "tcp" || isLoopback(dsn.Addr) || dsn.Passwd == "" {
		return nil
	}
	encrypted := encryption != nil || dsn.TLS != nil && !dsn.AllowFallbackToPlaintext
	if !encrypted {
		if err := CheckPlaintext(c, "mysql", passwordOf(dsn.User), dsn.Addr,
			"add --mysql-tls required, or better verify-ca with --mysql-ca"); err != nil {
			return err
		}
	}
	verified := dsn.TLS != nil && !dsn.TLS.InsecureSkipVerify
	if encryption != nil {
		verified = !encryption.InsecureSkipVerify || encryption.VerifyConnection != nil
	}
	if (dsn.AllowCleartextPasswords || dsn.AllowOldPasswords) && !verified &&
		!c.Bool("mysql-plaintext") {
		return hint.With(
			hint.Usagef(
				"the MySQL DSN lets whoever answers at %s ask for the password itself, or a weak hash of it",
				dsn.Addr),
			"add --mysql-tls verify-ca or verify-full, or leave allowCleartextPasswords and "+
				"allowOldPasswords out of the DSN")
	}
	return nil
}

// warnOfPassword warns of a password on the command line. The default one is no secret.
func warnOfPassword(c *cli.Context, dsn *mysql.Config) {
	if command.Given(c, "mysql") && dsn.Passwd != "" && dsn.Passwd != defaultMySQLPassword {
		fmt.Fprintln(c.App.ErrWriter,
			"tollstream: a password on the command line stays in the shell's history; TOLLSTREAM_MYSQL or "+
				"--mysql-password-file keep it to yourself")
	}
}

// defaultMySQLPassword is the password of [DefaultMySQL].
const defaultMySQLPassword = "toll"

// passwordIn returns where the password of a DSN stands on a command line: [from, to) of the
// argument. The rest of a DSN may be malformed. It reports false where there is none.
func passwordIn(argument string) (from, to int, ok bool) {
	at := strings.LastIndexByte(argument, '@')
	if at < 0 {
		return 0, 0, false
	}
	start := 0
	if strings.HasPrefix(argument, "-") {
		start = strings.IndexByte(argument[:at], '=') + 1 // --mysql=DSN
	}
	colon := strings.IndexByte(argument[start:at], ':')
	if colon < 0 {
		return 0, 0, false
	}
	return start + colon + 1, at, true
}

// HidePasswords returns a copy of the command line, after it made the password of a DSN on it
// unreadable for those who list the machine's processes.
func HidePasswords(args []string) []string {
	line := make([]string, len(args))
	for i, arg := range args {
		line[i] = strings.Clone(arg)
	}
	for i, arg := range line {
		inline := strings.HasPrefix(arg, "--mysql=") || strings.HasPrefix(arg, "-mysql=")
		if !inline && (i == 0 || line[i-1] != "--mysql" && line[i-1] != "-mysql") {
			continue
		}
		if from, to, ok := passwordIn(arg); ok && arg[from:to] != defaultMySQLPassword {
			hide(args[i], from, to)
		}
	}
	return line
}

// hide overwrites a part of a command-line argument where the system keeps it, so that ps shows x
// for it, as MySQL's own client does. The argument's own text changes with it, so callers have
// taken a copy.
//
// On Linux the strings of os.Args are that memory itself, which is writable. Elsewhere it does
// nothing.
func hide(argument string, from, to int) {
	if runtime.GOOS != "linux" {
		return
	}
	memory := unsafe.Slice(unsafe.StringData(argument), len(argument))
	for i := from; i < to; i++ {
		memory[i] = 'x'
	}
}

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
