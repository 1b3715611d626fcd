package sql

import (
	"strings"
	"testing"

	"github.com/tollstream/tollstream/sql/internal/tables"
)

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
