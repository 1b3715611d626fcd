package sql

import (
	"context"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/sql/internal/tables"
)

// Migration is what brings the tables from one version to the next.
type Migration = migration

// NewMigration returns one.
func NewMigration(to int, statements ...string) Migration { return migration{to, statements} }

// Migrate migrates the tables.
func (s *Store) Migrate(ctx context.Context, from int, all []Migration) ([]string, error) {
	return s.migrate(ctx, from, all)
}

// MigrationStatements returns the statements of all migrations.
func MigrationStatements() (all []string) {
	for _, m := range migrations {
		all = append(all, m.statements...)
	}
	return all
}

// WithoutKeys returns a statement, and one that creates a table without its secondary keys.
func WithoutKeys(statement string) string {
	for _, t := range parseSchema(statement + ";") {
		return t.withoutKeys()
	}
	return statement
}

// SplitStatements splits a script into its statements.
func SplitStatements(text string) []string { return splitStatements(text) }

// What tests look at; each is a pointer to what the package holds.
var (
	Queries    = &queries
	QueryFiles = &queryFiles
	Schema     = &schema
	Settings   = &settings
)

// ConnectEachTime lets each call make a connection.
func (s *Store) ConnectEachTime() { s.db.SetMaxIdleConns(-1) }

func TestSchemaIsRead(t *testing.T) {
	if len(schema) < 15 || schema[0].name != tables.EventTable || len(schema[0].columns) != 4 {
		t.Fatalf("got %+v", schema)
	}
	for _, table := range schema {
		for _, c := range table.columns {
			if strings.ContainsAny(c.kind, "\n'") || c.kind == "" {
				t.Errorf("%s.%s: kind %q", table.name, c.name, c.kind)
			}
		}
	}
}
