package devstack

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/go-sql-driver/mysql"
)

// FindTiDB returns the path of a tidb-server: what TOLLSTREAM_TIDB names, else where make tidb puts
// it.
func FindTiDB() (path string, ok bool) {
	if path = os.Getenv("TOLLSTREAM_TIDB"); path == "" {
		if path, ok = cached("tidb", "tidb-server"); !ok {
			return "", false
		}
	}
	_, err := os.Stat(path)
	return path, err == nil
}

// tiDB is a tidb-server with unistore, its storage for tests: one process, without TiKV and PD.
type tiDB struct {
	*server
	cfg    DatabaseConfig
	binary string
	socket string
}

func startTiDB(ctx context.Context, cfg DatabaseConfig, binary string) (_ *tiDB, err error) {
	if cfg.TLS != nil {
		return nil, errors.New("a private TiDB has no TLS")
	}
	t := &tiDB{cfg: cfg, binary: binary}
	var port int
	if t.server, port, err = newServer("database", cfg.Addr, cfg.DataDir, databaseStop); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.folder.close())
		}
	}()
	if t.socket, err = t.folder.socket(); err != nil {
		return nil, err
	}
	t.command, t.ready = t.serve, t.setUp
	return t, t.startOn(ctx, port)
}

// config are the settings that no flag has. Temporary files stay in the server's folder.
const tiDBConfig = `enable-telemetry = false
tmp-storage-path = %q
[log.file]
max-size = 100
`

// serve returns the command that runs the server on t.port. The first start makes a root who may
// log in by the socket alone.
func (t *tiDB) serve() (*exec.Cmd, error) {
	file, tmp := t.folder.join("tidb.toml"), t.folder.join("tmp")
	if err := os.WriteFile(file, fmt.Appendf(nil, tiDBConfig, tmp), 0o600); err != nil {
		return nil, err
	}
	return exec.Command(t.binary, slices.Concat([]string{
		"-store", "unistore", "-path", t.folder.join("data"), "-temp-dir", tmp, "-config", file,
		"-host", t.host, "-P", fmt.Sprint(t.port), "-socket", t.socket,
		"-report-status=false", "-initialize-secure", "-L", "warn",
		"-log-slow-query", t.folder.join("slow.log"), // by default it is where we are
	}, t.cfg.Options)...), nil
}

// setUp waits for the server and makes database and user as cfg sets them.
func (t *tiDB) setUp(ctx context.Context) error {
	db, err := openRoot(t.socket)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := t.await(ctx, pollReady, db.PingContext); err != nil {
		return err
	}
	if err := createUser(ctx, db, t.cfg); err != nil {
		return err
	}
	return t.admits(ctx, t.cfg)
}

// openRoot returns a pool for the administrator of the server at a Unix socket.
func openRoot(socket string) (*sql.DB, error) {
	root := mysql.NewConfig()
	root.Net, root.Addr, root.User = "unix", socket, "root"
	root.InterpolateParams = true // users and passwords can't be parameters of a prepared statement
	root.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(root)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// socket returns where a server's Unix socket goes: into the folder, or where its path is too long
// into another.
func (f *folder) socket() (path string, err error) {
	if path = f.join("sock"); len(path) <= maxSocketPath {
		return path, nil
	}
	if f.outside, err = os.MkdirTemp("", "devstack-"); err != nil {
		return "", err
	}
	return filepath.Join(f.outside, "sock"), nil
}
