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
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Engines of a Database.
const (
	engineMariaDB  = "mariadb"
	engineMySQL    = "mysql"
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
	// "embedded" (in memory, see FindEmbedded), or "" for mariadb where this machine has it, else
	// embedded.
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

// engine is a running database server.
type engine interface {
	addr() string
	pid() int
	close() error
}

// Database is a private MySQL-compatible server.
type Database struct {
	cfg    DatabaseConfig
	kind   string
	server engine

	once     sync.Once
	closeErr error
}

var errNotExternal = errors.New("the embedded database cannot be restarted: it keeps no data")

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
		d.server, err = startMariaDB(ctx, cfg, binary)
	case engineMySQL:
		if binary, found = FindMySQL(); !found {
			return nil, errors.New("no mysqld of MySQL found: run scripts/fetch/fetch.sh mysql")
		}
		d.server, err = startMariaDB(ctx, cfg, binary)
	case engineEmbedded:
		d.server, err = startEmbedded(ctx, cfg)
	default:
		err = fmt.Errorf("engine %q: want %q, %q, %q or none",
			cfg.Engine, engineMariaDB, engineMySQL, engineEmbedded)
	}
	if err != nil {
		return nil, err
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
	default:
		_, ok = FindEmbedded()
	}
	return ok
}

// Addr returns the server's host:port.
func (d *Database) Addr() string { return d.server.addr() }

// DSN returns a data source name for go-sql-driver: user:password@tcp(host:port)/name.
func (d *Database) DSN() string {
	return dsn(d.cfg, "tcp", d.Addr()).FormatDSN()
}

// AdminDSN returns how this machine's user reaches an external server as its administrator, without
// a database, and "" for the embedded server.
func (d *Database) AdminDSN() string {
	m, err := d.external()
	if err != nil {
		return ""
	}
	return "root@unix(" + m.socket + ")/"
}

// Engine returns "mariadb" or "mysql" for an external server and "embedded" for go-mysql-server.
func (d *Database) Engine() string { return d.kind }

// Persistent reports whether a next start on the same DataDir finds the data again.
func (d *Database) Persistent() bool { return d.kind != engineEmbedded && d.cfg.DataDir != "" }

// Close stops the server cleanly.
func (d *Database) Close() error {
	d.once.Do(func() {
		if err := d.server.close(); err != nil {
			d.closeErr = fmt.Errorf("close private database: %w", err)
		}
	})
	return d.closeErr
}

// external returns the server of an engine that keeps its data when its process ends.
func (d *Database) external() (*mariaDB, error) {
	if m, ok := d.server.(*mariaDB); ok {
		return m, nil
	}
	return nil, errNotExternal
}

// Kill ends the server with SIGKILL, for tests of faults. External servers only.
func (d *Database) Kill() error {
	m, err := d.external()
	if err != nil {
		return err
	}
	return m.kill()
}

// Pause stops an external server's process without ending it (SIGSTOP): its connections stay open
// and nothing answers. Linux only.
func (d *Database) Pause() error { return d.signal(pauseProcess) }

// Resume lets a paused server go on.
func (d *Database) Resume() error { return d.signal(resumeProcess) }

func (d *Database) signal(send func(*os.Process) error) error {
	m, err := d.external()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return send(m.child.process)
}

// SetOptions replaces [DatabaseConfig.Options] from the next start of an external server on.
func (d *Database) SetOptions(options ...string) error {
	m, err := d.external()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cfg.Options = options
	return nil
}

// Restart starts a killed server again on the same port and data, or stops a running one cleanly
// first. External servers only.
func (d *Database) Restart(ctx context.Context) error {
	m, err := d.external()
	if err != nil {
		return err
	}
	if err := m.restart(ctx); err != nil {
		return fmt.Errorf("restart private database: %w", err)
	}
	return nil
}

// Pid returns the id of the server's process.
func (d *Database) Pid() int { return d.server.pid() }

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
