package devstack

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Engines of a Database.
const (
	engineMariaDB  = "mariadb"
	engineMySQL    = "mysql"
	engineTiDB     = "tidb"
	engineEmbedded = "embedded"
)

// DatabaseConfig sets where a private database server listens, what it keeps and who may use it.
type DatabaseConfig struct {
	// Addr is the host:port to listen on. Port 0 takes a free one, "" is 127.0.0.1:0.
	Addr string
	// DataDir keeps the data over restarts, with an external server only. "" is a temporary folder
	// that Close removes.
	DataDir string
	// Name of the database, and the one user who may use it, with all rights on it and none beyond.
	// Default: tolldata, toll, toll.
	Name, User, Password string
	// Engine is "mariadb" (mariadbd, or mysqld where there is no mariadbd), "mysql" (see FindMySQL),
	// "tidb" (see FindTiDB), "embedded" (in memory, see FindEmbedded), or "" for mariadb where this
	// machine has it, else embedded.
	Engine string
	// TLS of an external server; nil for plain connections.
	TLS *DatabaseTLS
	// Options are added to an external server's command line and win over ours, such as
	// --innodb-file-per-table=0.
	Options []string
	// Logf reports that the server runs; nil drops it. An
	// external server's own log is the file server.log in DataDir.
	Logf func(format string, args ...any)
}

// Database is a private MySQL-compatible server.
type Database struct {
	*server
	cfg      DatabaseConfig
	kind     string
	external *mariaDB // nil for TiDB and the embedded one
	socket   string   // by which root logs in, "" for the embedded one
}

// plainName keeps names out of the ways in which SQL and folders could misread them.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// StartDatabase starts a server and returns when the user can log in and use the database.
func StartDatabase(ctx context.Context, cfg DatabaseConfig) (*Database, error) {
	d, err := startDatabase(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start private database: %w", err)
	}
	return d, nil
}

func startDatabase(ctx context.Context, cfg DatabaseConfig) (*Database, error) {
	setDefault(&cfg.Name, "tolldata")
	setDefault(&cfg.User, "toll")
	setDefault(&cfg.Password, "toll")
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	for what, name := range map[string]string{"database": cfg.Name, "user": cfg.User} {
		if !plainName.MatchString(name) {
			return nil, fmt.Errorf("%s name %q: want 1 to 32 letters, digits, _ or -", what, name)
		}
	}
	d := &Database{cfg: cfg, kind: cfg.Engine}
	binary, found := FindMariaDB()
	if d.kind == "" {
		d.kind = engineEmbedded
		if found {
			d.kind = engineMariaDB
		} else if _, ok := FindEmbedded(); !ok {
			return nil, fmt.Errorf("no mariadbd and no mysqld is installed, and %w, "+
				"or install mariadb-server", errNoEmbedded)
		}
	}
	var err error
	switch d.kind {
	case engineMariaDB:
		if !found {
			return nil,
				errors.New(
					"neither mariadbd nor mysqld is on PATH or in the usual folders: install mariadb-server")
		}
		d.external, err = startMariaDB(ctx, cfg, binary)
	case engineMySQL:
		if binary, found = FindMySQL(); !found {
			return nil, errors.New("no mysqld of MySQL found: run scripts/fetch/fetch.sh mysql")
		}
		d.external, err = startMariaDB(ctx, cfg, binary)
	case engineTiDB:
		if binary, found = FindTiDB(); !found {
			return nil, errors.New("no tidb-server found: run make tidb")
		}
		var t *tiDB
		if t, err = startTiDB(ctx, cfg, binary); err == nil {
			d.server, d.socket = t.server, t.socket
		}
	case engineEmbedded:
		d.server, err = startEmbedded(ctx, cfg)
	default:
		err = fmt.Errorf("engine %q: want %q, %q, %q, %q or none",
			cfg.Engine, engineMariaDB, engineMySQL, engineTiDB, engineEmbedded)
	}
	if err != nil {
		return nil, err
	}
	if d.external != nil {
		d.server, d.socket = d.external.server, d.external.socket
	}
	cfg.Logf("%s serves %s on %s", d.kind, cfg.Name, d.Addr())
	return d, nil
}

// HasDatabase reports whether this machine has an engine of [DatabaseConfig.Engine].
func HasDatabase(engine string) (ok bool) {
	switch engine {
	case engineMariaDB:
		_, ok = FindMariaDB()
	case engineMySQL:
		_, ok = FindMySQL()
	case engineTiDB:
		_, ok = FindTiDB()
	default:
		_, ok = FindEmbedded()
	}
	return ok
}

// DSN returns a data source name for go-sql-driver: user:password@tcp(host:port)/name.
func (d *Database) DSN() string {
	return dsn(d.cfg, "tcp", d.Addr()).FormatDSN()
}

// AdminDSN returns how this machine's user reaches an external server as its administrator, without
// a database, and "" for the embedded server.
func (d *Database) AdminDSN() string {
	if d.socket == "" {
		return ""
	}
	return "root@unix(" + d.socket + ")/"
}

// Engine returns "mariadb", "mysql" or "tidb" for an external server and "embedded" for
// go-mysql-server.
func (d *Database) Engine() string { return d.kind }

// Persistent reports whether a next start on the same DataDir finds the data again.
func (d *Database) Persistent() bool { return d.kind != engineEmbedded && d.cfg.DataDir != "" }

// SetOptions replaces [DatabaseConfig.Options] from the next start of an external server on.
func (d *Database) SetOptions(options ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.external.cfg.Options = options
}

// dsn returns how cfg's user reaches the database. go-sql-driver prints lost connections by itself,
// which is noise while a server starts.
func dsn(cfg DatabaseConfig, network, addr string) *mysql.Config {
	c := mysql.NewConfig()
	c.Net, c.Addr = network, addr
	c.User, c.Passwd, c.DBName = cfg.User, cfg.Password, cfg.Name
	c.Logger = &mysql.NopLogger{}
	if cfg.TLS != nil && cfg.TLS.Required && network == "tcp" {
		c.TLSConfig = "skip-verify" // it is our own child
	}
	return c
}

// admits returns when cfg's user can log in and use the database.
func (s *server) admits(ctx context.Context, cfg DatabaseConfig) error {
	connector, err := mysql.NewConnector(dsn(cfg, "tcp", s.Addr()))
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	return s.await(ctx, pollReady, db.PingContext)
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// DatabaseTLS sets how an external database server encrypts connections. The files are read when it
// starts, and again at FLUSH SSL, or MySQL's ALTER INSTANCE RELOAD TLS.
type DatabaseTLS struct {
	// PEM files: the authority of clients' certificates, the server's certificate and its key
	CA, Cert, Key string
	// Required refuses connections by TCP without TLS.
	Required bool
}

// options returns the server's options.
func (t *DatabaseTLS) options() []string {
	if t == nil {
		return nil
	}
	options := []string{"--ssl-ca=" + t.CA, "--ssl-cert=" + t.Cert, "--ssl-key=" + t.Key}
	if t.Required {
		options = append(options, "--require-secure-transport=ON")
	}
	return options
}

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

// startEmbedded starts a tollstream-embedded-mysql. It ends when its standard input does, so also
// with this process.
func startEmbedded(ctx context.Context, cfg DatabaseConfig) (_ *server, err error) {
	binary, ok := FindEmbedded()
	if !ok {
		return nil, errNoEmbedded
	}
	s, port, err := newServer("database", cfg.Addr, "", embeddedStop)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.folder.close())
		}
	}()
	s.command = func() (*exec.Cmd, error) {
		cmd := exec.Command(binary)
		stdin, err := cmd.StdinPipe() // open as long as the command runs
		if err != nil {
			return nil, err
		}
		return cmd, json.NewEncoder(stdin).Encode(map[string]string{
			"addr": s.Addr(), "database": cfg.Name, "user": cfg.User, "password": cfg.Password,
		})
	}
	s.ready = func(ctx context.Context) error { return s.admits(ctx, cfg) }
	return s, s.startOn(ctx, port)
}
