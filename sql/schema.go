package sql

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

//go:embed schema.sql
var schemaSQL string

// table is a table as schema.sql declares it, or as the database has it.
type table struct {
	name    string
	create  string
	columns []column
}

type column struct {
	name, kind string
	hidden     bool // left out of SELECT * and of an INSERT that names no columns
}

// schema is what schema.sql declares, in its order.
var schema = parseSchema(schemaSQL)

// columns reads the columns of our tables that exist.
func (s *Store) columns(ctx context.Context, q db.Reader) (map[string][]column, error) {
	found := map[string][]column{}
	var table string
	var c column
	var extra string
	rows, err := q.QueryContext(ctx, `SELECT table_name, column_name, column_type, extra
		FROM information_schema.columns
		WHERE table_schema = ? ORDER BY table_name, ordinal_position`, s.db.Name)
	err = db.Each(rows, err, []any{&table, &c.name, &c.kind, &extra}, func() error {
		table = strings.ToLower(table)
		hidden := strings.Contains(strings.ToUpper(extra), "INVISIBLE")
		found[table] = append(found[table], column{strings.ToLower(c.name), plainKind(c.kind), hidden})
		return nil
	})
	return found, err
}

// displayWidth is what older servers write behind integer types: int(11). It says nothing about
// values.
var displayWidth = regexp.MustCompile(`^((?:tiny|small|big)?int)\(\d+\)`)

func plainKind(kind string) string {
	return displayWidth.ReplaceAllString(strings.ToLower(strings.TrimSpace(kind)), "$1")
}

// missingTables returns the tables that the database lacks.
func missingTables(found map[string][]column) []table {
	var missing []table
	for _, t := range schema {
		if len(found[t.name]) == 0 {
			missing = append(missing, t)
		}
	}
	return missing
}

// differences returns how the columns of an existing table differ from those that are expected, one
// sentence each.
func (t *table) differences(found []column) []string {
	var diffs []string
	find := func(in []column, name string) int {
		return slices.IndexFunc(in, func(c column) bool { return c.name == name })
	}
	for _, want := range t.columns {
		i := find(found, want.name)
		switch {
		case i < 0:
			diffs = append(diffs, fmt.Sprintf("column %s: expected %s, got none", want.name, want.kind))
		case found[i].kind != want.kind:
			diffs = append(diffs, fmt.Sprintf("column %s: expected %s, got %s", want.name, want.kind,
				found[i].kind))
		}
	}
	for _, got := range found {
		if !got.hidden && find(t.columns, got.name) < 0 {
			diffs = append(diffs, fmt.Sprintf("column %s: expected none, got %s", got.name, got.kind))
		}
	}
	return diffs
}

// withoutKeys returns the statement that creates the table with its primary key as the only one.
//
// The embedded server moves the places that a secondary index points to, in what is committed, when
// a transaction deletes or changes rows, and does not move them back when that is rolled back. From
// then on the index leads to other rows.
func (t *table) withoutKeys() string {
	open, end := strings.IndexByte(t.create, '('), strings.LastIndexByte(t.create, ')')
	parts := slices.DeleteFunc(splitTop(t.create[open+1:end], ','), func(part string) bool {
		return strings.HasPrefix(strings.TrimSpace(part), "key ")
	})
	return t.create[:open+1] + strings.Join(parts, ",") + t.create[end:]
}

// withHiddenKey returns the statement that creates the table with a primary key that neither SELECT
// * nor an INSERT without columns has to do with, for servers that demand a key of each table.
func (t *table) withHiddenKey() string {
	end := strings.LastIndexByte(t.create, ')')
	return t.create[:end] +
		", my_row_id bigint unsigned not null auto_increment invisible primary key" + t.create[end:]
}

// checkColumns returns a [toll.PermanentError] that names every difference of the tables that
// exist.
func (s *Store) checkColumns(found map[string][]column) error {
	for _, t := range schema {
		if len(found[t.name]) == 0 {
			continue
		}
		diffs := t.differences(found[t.name])
		if len(diffs) == 0 {
			continue
		}
		hint :=
			"rename the table, or use another database with --mysql; tollstream init creates the right one"
		if t.name != tables.EventTable {
			hint = "run the tollstream that set the database up, or use another database with --mysql"
		}
		return toll.Permanent(hint, "the table %s in %s is not as expected: %s", t.name, s.db.Address,
			strings.Join(diffs, "; "))
	}
	return nil
}

// parseSchema reads the statements of schema.sql.
func parseSchema(text string) []table {
	var tables []table
	for _, statement := range splitStatements(text) {
		if strings.HasPrefix(statement, "set ") {
			continue // for the client; see sessionSettings
		}
		head, body, found := strings.Cut(statement, "(")
		if !found {
			panic("schema.sql: no table: " + statement)
		}
		words := strings.Fields(head)
		t := table{name: words[len(words)-1], create: statement}
		for _, part := range splitTop(body[:strings.LastIndexByte(body, ')')], ',') {
			name, kind, _ := strings.Cut(strings.TrimSpace(part), " ")
			if name == "primary" || name == "key" {
				continue
			}
			kind = plainKind(columnEnd.ReplaceAllString(kind, ""))
			t.columns = append(t.columns, column{name: name, kind: kind})
		}
		tables = append(tables, t)
	}
	return tables
}

// columnEnd is what follows the type in the declaration of a column.
var columnEnd = regexp.MustCompile(`(?s)\s+(not null|null|default|primary key|comment)\b.*`)

// splitStatements splits a script into its statements, without their comments.
func splitStatements(text string) []string {
	var code strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			code.WriteString(line)
		}
	}
	var statements []string
	for _, statement := range splitTop(code.String(), ';') {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements
}

// splitTop splits at a separator that is neither within quotes nor parentheses.
func splitTop(text string, separator byte) []string {
	var parts []string
	start, depth := 0, 0
	var quote byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0 // a doubled quote opens again at once
			}
		case c == '\'' || c == '"' || c == '`':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == separator && depth == 0:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// migration brings the tables from the version before to version to. Each of its statements must be
// harmless when it is run again, or fail with one of the errors in alreadyDone: DDL can't be rolled
// back. New tables are not among the statements: Init creates what is missing.
type migration struct {
	to         int
	statements []string
}

// migrations are in ascending order. The first one starts from FirstSchemaVersion.
var migrations = []migration{
	{
		to: 6, // incidents; toll_process, whose rows hold what toll_stalled did
		statements: []string{
			`ALTER TABLE toll_transition ADD INDEX began (since_minute, toll_plaza_id)`,
			`DROP TABLE IF EXISTS toll_stalled`,
		},
	},
	{
		to: 7, // records of several events
		statements: []string{
			`ALTER TABLE toll_batch ADD COLUMN extra_events bigint not null default 0
				comment 'of the events: those beyond the first of their record'`,
		},
	},
}

// alreadyDone are the numbers of errors by which a server reports that a migration's step was made
// before.
var alreadyDone = []uint16{
	1050, // the table exists
	1060, // the column exists
	1061, // the index exists
	1091, // what is to be dropped does not
}

// migrate brings the tables from version from up to that of the last migration, and returns what it
// did.
func (s *Store) migrate(ctx context.Context, from int, all []migration) ([]string, error) {
	var done []string
	for _, m := range all {
		if m.to <= from {
			continue
		}
		for _, statement := range m.statements {
			if _, err := s.db.ExecContext(ctx, statement); err != nil &&
				!slices.Contains(alreadyDone, db.Number(err)) && !embeddedAlreadyDone(err) {
				return done, s.db.Wrap(fmt.Sprintf("migrate the tables to version %d", m.to), err)
			}
		}
		if _, err := s.db.ExecContext(ctx, `UPDATE toll_meta SET schema_version = ? WHERE id = 1`,
			m.to); err != nil {
			return done, s.db.Wrap("record the version of the tables", err)
		}
		done = append(done, fmt.Sprintf("migrated the tables from version %d to %d", from, m.to))
		from = m.to
	}
	return done, nil
}

// embeddedAlreadyDone does for the embedded server, whose errors have no number of their own, what
// alreadyDone does.
func embeddedAlreadyDone(err error) bool {
	var my *mysql.MySQLError
	return errors.As(err, &my) && my.Number == db.ErrUnknown &&
		(strings.Contains(my.Message, "already exists") || strings.HasPrefix(my.Message, "Duplicate"))
}
