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
	"strings"

	"time"
)

// Bounds of an external database server's life.
const (
	// databaseStop is far more than a clean stop takes (below a second when idle), on a busy machine
	// too.
	databaseStop = 45 * time.Second
	// maxSocketPath is what a Unix socket's address holds.
	maxSocketPath = 107
)

// FindMariaDB returns the path of mariadbd, or of mysqld where there is none: on PATH, else where
// packages put it, because a user's PATH often lacks the sbin folders.
func FindMariaDB() (path string, ok bool) {
	for _, name := range []string{"mariadbd", "mysqld"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, true
		}
		for _, dir := range []string{"/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin",
			"/opt/homebrew/bin"} {
			if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return p, true
			}
		}
	}
	return "", false
}

// FindMySQL returns the path of a mysqld that is MySQL's: what TOLLSTREAM_MYSQLD names, else where
// scripts/fetch puts it, else one on PATH. MariaDB packages install a mysqld as well.
func FindMySQL() (path string, ok bool) {
	if path = os.Getenv("TOLLSTREAM_MYSQLD"); path != "" {
		_, err := os.Stat(path)
		return path, err == nil
	}
	if path, ok = cached("mysql", "bin", "mysqld"); ok {
		if _, err := os.Stat(path); err == nil {
			return path, true
		}
	}
	path, err := exec.LookPath("mysqld")
	if err != nil {
		return "", false
	}
	version, err := exec.Command(path, "--no-defaults", "--version").Output()
	return path, err == nil && !isMariaDB(version)
}

func isMariaDB(version []byte) bool { return strings.Contains(string(version), "MariaDB") }

// mariaDB is a mariadbd or a mysqld with a data folder of its own.
type mariaDB struct {
	*server
	cfg     DatabaseConfig
	binary  string
	isMySQL bool
	base    string // the folder of MySQL's unpacked archive, "" where it is installed
	socket  string
}

func startMariaDB(ctx context.Context, cfg DatabaseConfig, binary string) (_ *mariaDB, err error) {
	m := &mariaDB{cfg: cfg, binary: binary}
	version, err := exec.CommandContext(ctx, binary, "--no-defaults", "--version").CombinedOutput()
	if ctx.Err() != nil {
		err = context.Cause(ctx) // by which it was killed
	}
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", binary, err)
	}
	if m.isMySQL = !isMariaDB(version); m.isMySQL {
		// An unpacked archive does not find its own files; a package's server knows where they are.
		real, err := filepath.EvalSymlinks(binary)
		if err != nil {
			return nil, err
		}
		base := filepath.Dir(filepath.Dir(real))
		if _, err := os.Stat(filepath.Join(base, "share", "charsets")); err == nil {
			m.base = base
		}
	}
	var port int
	m.server, port, err = newServer("database", cfg.Addr, cfg.DataDir, databaseStop)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.folder.close())
		}
	}()
	m.command, m.ready = m.serve, m.setUp
	if m.socket, err = m.folder.socket(); err != nil {
		return nil, err
	}
	if err = m.clearTmp(); err != nil {
		return nil, err
	}
	if err := m.initialize(ctx); err != nil {
		return nil, fmt.Errorf("create system tables: %w", err)
	}
	return m, m.startOn(ctx, port)
}

// clearTmp makes an empty folder for temporary tables.
func (m *mariaDB) clearTmp() error {
	if err := os.RemoveAll(m.folder.join("tmp")); err != nil {
		return err
	}
	return os.Mkdir(m.folder.join("tmp"), 0o700)
}

// settings returns the options that the first and all later starts share.
func (m *mariaDB) settings(dataDir string) []string {
	args := []string{
		"--no-defaults", // the settings of the machine's own server are not for us
		"--datadir=" + dataDir,
		"--tmpdir=" + m.folder.join("tmp"), // a killed server leaves files there
		"--skip-log-bin",
		"--skip-name-resolve",
		"--character-set-server=utf8mb4",
		"--max-allowed-packet=64M",
	}
	if m.isMySQL {
		args = append(args, "--loose-innodb-redo-log-capacity=256M")
	} else { // must be the same from the first start on, or it is resized
		args = append(args, "--innodb-log-file-size=256M")
	}
	if m.folder.temporary { // nobody misses it after a power cut, so it never waits for the disk
		args = append(args, "--innodb-flush-method=nosync", "--loose-sync-frm=0")
	}
	if m.base != "" {
		share := filepath.Join(m.base, "share")
		args = append(args, "--basedir="+m.base, "--lc-messages-dir="+share,
			"--character-sets-dir="+filepath.Join(share, "charsets"))
	}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root") // both refuse to run as root without it
	}
	return append(args, m.cfg.Options...)
}

// initialize creates the system tables, once. They are created next to their place and moved there,
// so that an interrupted first start leaves nothing that looks whole.
func (m *mariaDB) initialize(ctx context.Context) error {
	dataDir, unfinished := m.folder.join("data"), m.folder.join("data.new")
	if _, err := os.Stat(dataDir); err == nil {
		return nil
	}
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if template := m.template(); template != "" {
		// cp keeps modes, and holes in files.
		if out, err := exec.CommandContext(ctx, "cp", "-a", template,
			unfinished).CombinedOutput(); err != nil {
			return fmt.Errorf("copy %s: %w: %s", template, err, out)
		}
		return os.Rename(unfinished, dataDir)
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return err
	}
	cmd, err := m.initCommand(unfinished)
	if err != nil {
		return err
	}
	if err := m.finish(ctx, cmd); err != nil {
		return err
	}
	return os.Rename(unfinished, dataDir)
}

// template returns the folder with the system tables that scripts/fetch created, which saves
// seconds, or "" where there is none or an option matters to their creation.
func (m *mariaDB) template() string {
	path := filepath.Join(m.base, "template")
	for _, option := range m.cfg.Options {
		if strings.HasPrefix(option, "--lower-case-table-names") {
			return ""
		}
	}
	if _, err := os.Stat(path); m.base == "" || err != nil {
		return ""
	}
	return path
}

// initCommand returns the command that creates the system tables in dataDir.
//
// MariaDB's own mariadb-install-db is used only where its SQL isn't found: run as root it also
// changes the owner of files in the system's plugin folder, and it fills help tables and a sys
// schema that nobody asks for here.
func (m *mariaDB) initCommand(dataDir string) (*exec.Cmd, error) {
	if m.isMySQL {
		return exec.Command(m.binary, append(m.settings(dataDir), "--initialize-insecure")...), nil
	}
	if script, ok := systemTables(m.binary); ok {
		args := append(m.settings(dataDir), "--bootstrap", "--silent-startup", "--log-warnings=0",
			"--innodb-flush-log-at-trx-commit=0")
		cmd := exec.Command(m.binary, args...)
		cmd.Stdin = strings.NewReader(script)
		return cmd, nil
	}
	install, err := exec.LookPath("mariadb-install-db")
	if err != nil {
		return nil, errors.New("neither MariaDB's system tables nor mariadb-install-db found")
	}
	args := append(m.settings(dataDir), "--auth-root-authentication-method=normal", "--skip-test-db")
	return exec.Command(install, args...), nil
}

// systemTables returns the SQL that MariaDB ships with the server to create its system tables,
// with a root who may log in without a password (setUp takes away all of it but the socket).
func systemTables(binary string) (script string, ok bool) {
	if real, err := filepath.EvalSymlinks(binary); err == nil {
		binary = real
	}
	prefix := filepath.Dir(filepath.Dir(binary))
	for _, dir := range []string{prefix + "/share/mysql", prefix + "/share/mariadb",
		"/usr/share/mysql", "/usr/share/mariadb"} {
		var b strings.Builder
		b.WriteString("create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n")
		complete := true
		for _, name := range []string{"system_tables", "performance_tables", "system_tables_data"} {
			data, err := os.ReadFile(filepath.Join(dir, "mysql_"+name+".sql"))
			if err != nil { // from MariaDB 11 on the files are named after it
				data, err = os.ReadFile(filepath.Join(dir, "mariadb_"+name+".sql"))
			}
			if err != nil {
				complete = false
				break
			}
			b.Write(data)
			b.WriteByte('\n')
		}
		if complete {
			return b.String(), true
		}
	}
	return "", false
}

// serve returns the command that runs the server on m.port.
func (m *mariaDB) serve() (*exec.Cmd, error) {
	return exec.Command(m.binary, slices.Concat(m.settings(m.folder.join("data")),
		m.cfg.TLS.options(), []string{
			"--bind-address=" + m.host,
			fmt.Sprintf("--port=%d", m.port),
			"--socket=" + m.socket,
			"--pid-file=" + m.folder.join("pid"),
			"--loose-mysqlx=OFF", // MySQL's second port
			"--local-infile=1",
			"--innodb-buffer-pool-size=256M",
			"--innodb-flush-log-at-trx-commit=1", // what is committed survives a power cut
		}, m.cfg.Options)...), nil
}

// setUp waits for the server and makes database and user as cfg sets them.
func (m *mariaDB) setUp(ctx context.Context) error {
	db, err := openRoot(m.socket)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := m.await(ctx, pollReady, db.PingContext); err != nil {
		return err
	}
	// Leave no way in without a password but the socket, which is in a folder that only we can enter.
	rows, err := db.QueryContext(ctx,
		"SELECT host FROM mysql.user WHERE user = 'root' AND host <> 'localhost'")
	if err != nil {
		return err
	}
	defer rows.Close()
	var hosts []string
	for rows.Next() {
		var host string
		if err := rows.Scan(&host); err != nil {
			return err
		}
		hosts = append(hosts, host)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, host := range hosts {
		if _, err := db.ExecContext(ctx, "DROP USER 'root'@?", host); err != nil {
			return fmt.Errorf("drop root@%s: %w", host, err)
		}
	}
	if err := createUser(ctx, db, m.cfg); err != nil {
		return err
	}
	return m.server.admits(ctx, m.cfg)
}

// createUser makes database and user as cfg sets them.
func createUser(ctx context.Context, db *sql.DB, cfg DatabaseConfig) error {
	name := strings.ReplaceAll(cfg.Name, "_", `\_`) // GRANT takes a pattern
	for _, step := range []struct {
		what, query string
		args        []any
	}{
		{"create database", "CREATE DATABASE IF NOT EXISTS `" + cfg.Name + "` CHARACTER SET utf8mb4",
			nil},
		{"create user", "CREATE USER IF NOT EXISTS ?@'%' IDENTIFIED BY ?",
			[]any{cfg.User, cfg.Password}},
		{"set password", "ALTER USER ?@'%' IDENTIFIED BY ?", []any{cfg.User, cfg.Password}},
		{"grant", "GRANT ALL ON `" + name + "`.* TO ?@'%'", []any{cfg.User}},
	} {
		if _, err := db.ExecContext(ctx, step.query, step.args...); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}
