package sql

import (
	"context"
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

// What tests look at; each is a pointer to what the package holds.
var (
	Queries    = &queries
	QueryFiles = &queryFiles
	Schema     = &schema
	Settings   = &settings
)

// ConnectEachTime lets each call make a connection.
func (s *Store) ConnectEachTime() { s.db.SetMaxIdleConns(-1) }
