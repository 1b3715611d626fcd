package sql

import (
	"context"

	"github.com/tollstream/tollstream/toll"
)

// Migration is what brings the tables from one version to the next.
type Migration = migration

// NewMigration returns one.
func NewMigration(to int, statements []string,
	fill func(context.Context, *Store) (string, error)) Migration {
	return migration{to, statements, fill}
}

// Migrate migrates the tables.
func (s *Store) Migrate(ctx context.Context, from int, all []Migration) ([]string, error) {
	return s.migrate(ctx, from, all)
}

// WithoutKeys returns a statement that creates a table without its secondary keys.
func WithoutKeys(statement string) string {
	t := parseSchema(statement + ";")[0]
	return t.withoutKeys()
}

// SetDecode sets how outboxes are read.
func (s *Store) SetDecode(decode func([]byte) ([]toll.PlazaDelta, error)) { s.cfg.Decode = decode }

var Queries = &queries
var QueryFiles = &queryFiles
var Schema = &schema
var Settings = &settings
var SplitStatements = splitStatements

// ConnectEachTime lets each call make a connection.
func (s *Store) ConnectEachTime() { s.db.SetMaxIdleConns(-1) }
