package sql

import (
	"context"
	dbsql "database/sql"
	"database/sql/driver"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/toll"
)

//go:embed *.sql
var queryFiles embed.FS

// Query is one of the .sql files, a script that also runs in the mysql and mariadb clients as it
// is.
type Query struct {
	Name        string   // the file's, without its ending
	Description string   // the file's first line
	Settings    []string // user variables that it reads, without the @
	SQL         string
}

// Queries returns the queries that [Store.Run] knows, ascending by name. schema.sql is none: Init
// runs it.
func (s *Store) Queries() []Query { return slices.Clone(queries) }

var queries = loadQueries()

// setting matches a user variable that a query lets its caller set: coalesce(@plaza, …).
var setting = regexp.MustCompile(`coalesce\(@(\w+),`)

func loadQueries() []Query {
	names, err := fs.Glob(queryFiles, "*.sql")
	if err != nil {
		panic(err)
	}
	var all []Query
	for _, name := range names {
		text, err := queryFiles.ReadFile(name)
		if err != nil {
			panic(err)
		}
		if name == "schema.sql" {
			continue
		}
		first, _, _ := strings.Cut(string(text), "\n")
		q := Query{Name: strings.TrimSuffix(name, ".sql"),
			Description: strings.TrimSpace(strings.TrimLeft(first, "- ")), SQL: string(text)}
		for _, m := range setting.FindAllStringSubmatch(q.SQL, -1) {
			if !slices.Contains(q.Settings, m[1]) {
				q.Settings = append(q.Settings, m[1])
			}
		}
		all = append(all, q)
	}
	return all
}

// settings are what the queries' settings may be.
var settings = map[string]struct {
	want string
	ok   func(value string) bool
}{
	"plaza":   {"a plaza's number, -32768 to 32767", isPlaza},
	"through": {"a plaza's number, -32768 to 32767", isPlaza},
	"until":   {"a time such as 2022-02-10 18:00", isTime},
	"changed": {"when an hour begins that clocks show twice or skip: 2022-10-30 02:00", isTime},
	"minutes": {"1 to 1440", func(v string) bool {
		n, err := strconv.ParseUint(v, 10, 16)
		return err == nil && n >= 1 && n <= 1440
	}},
	"day": {"a date such as 2022-02-10", func(v string) bool {
		_, err := time.Parse(time.DateOnly, v)
		return err == nil
	}},
}

func isPlaza(v string) bool {
	_, err := strconv.ParseInt(v, 10, 16)
	return err == nil
}

func isTime(v string) bool {
	_, err := time.Parse("2006-01-02 15:04", v)
	if err != nil {
		_, err = time.Parse(time.DateTime, v)
	}
	return err == nil
}

// CheckSetting returns an error for a value that a setting of the queries can't have.
func CheckSetting(name, value string) error {
	if s, ok := settings[name]; !ok || s.ok(value) {
		return nil
	}
	return fmt.Errorf("%s=%s: want %s", name, value, settings[name].want)
}

// Run runs a query and returns what its last statement that has a result returned, as text; NULL is
// "NULL". Each argument, name=value, sets one of the query's settings. A name that does not exist
// is a [toll.PermanentError].
func (s *Store) Run(ctx context.Context, name string, args []string) (columns []string,
	rows [][]string, err error) {
	i := slices.IndexFunc(queries, func(q Query) bool { return q.Name == name })
	if i < 0 {
		var names []string
		for _, q := range queries {
			names = append(names, q.Name)
		}
		return nil, nil, toll.Permanent("the queries are "+strings.Join(names, ", "),
			"no query is named %q", name)
	}
	columns, rows, err = s.runQuery(ctx, queries[i], args)
	return columns, rows, s.db.Wrap("run "+name+".sql", err)
}

func (s *Store) runQuery(ctx context.Context, q Query, args []string) (columns []string,
	rows [][]string, err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	// The connection keeps its user variables, so it does not go back to the pool.
	defer func() { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }()
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		if !slices.Contains(q.Settings, name) {
			hint := "it has none"
			if len(q.Settings) > 0 {
				hint = "it has " + strings.Join(q.Settings, ", ") + ", as in " + q.Settings[0] + "=1"
			}
			return nil, nil, toll.Permanent(hint, "%s.sql has no setting %q", q.Name, name)
		}
		if err := CheckSetting(name, value); err != nil {
			return nil, nil, toll.Permanent("", "%w", err)
		}
		if _, err := conn.ExecContext(ctx, "SET @"+name+" = ?", value); err != nil {
			return nil, nil, err
		}
	}
	for _, statement := range splitStatements(q.SQL) {
		c, r, err := readAll(ctx, conn, statement)
		if err != nil {
			return nil, nil, err
		}
		if len(c) > 0 {
			columns, rows = c, r
		}
	}
	return columns, rows, nil
}

func readAll(ctx context.Context, conn *dbsql.Conn, statement string) (columns []string,
	all [][]string, err error) {
	rows, err := conn.QueryContext(ctx, statement)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	if columns, err = rows.Columns(); err != nil {
		return nil, nil, err
	}
	values := make([]dbsql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	all = [][]string{}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, nil, err
		}
		row := make([]string, len(columns))
		for i, v := range values {
			row[i] = "NULL"
			if v.Valid {
				row[i] = v.String
			}
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("read the result: %w", err)
	}
	return columns, all, nil
}

// StoredWindows returns the kinds of windows that a database has results of, and the zones that
// plazas' windows align to: nil as long as no process has fixed them.
func (s *Store) StoredWindows(ctx context.Context,
	database *time.Location) ([]toll.WindowKind, *toll.ZoneSet, error) {
	meta, err := s.Meta(ctx)
	if err != nil || meta.Windows == "" {
		return nil, nil, err
	}
	kinds, err := toll.ParseWindows(meta.Windows)
	if err != nil {
		return nil, nil, fmt.Errorf("read the windows that the database has: %w", err)
	}
	plazas, err := s.ConfiguredPlazas(ctx)
	if err != nil {
		return nil, nil, err
	}
	zones, err := PlazaZones(plazas, database)
	if err != nil {
		return nil, nil, err
	}
	return kinds, toll.NewZoneSet(toll.NewZone(database), zones), nil
}

// PlazaZones returns the zones of the plazas that have another than the database's.
func PlazaZones(plazas []toll.Plaza, database *time.Location) (map[int16]*toll.Zone, error) {
	zones := map[int16]*toll.Zone{}
	for _, p := range plazas {
		if p.Timezone == "" || p.Timezone == database.String() {
			continue
		}
		location, err := time.LoadLocation(p.Timezone)
		if err != nil {
			return nil, toll.Permanent("correct its timezone in the plazas file", "plaza %d: %w", p.ID, err)
		}
		zones[p.ID] = toll.NewZone(location)
	}
	return zones, nil
}
