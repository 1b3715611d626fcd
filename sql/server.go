package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/toll"
)

// checkServer returns a [toll.PermanentError] where the server can't keep the promise of exactly
// once with its settings or the storage engines of our tables.
func (s *Store) checkServer(ctx context.Context) error {
	if s.db.embedded(ctx) {
		return nil // it has one engine, and writes no log
	}
	if err := s.checkBinaryLog(ctx); err != nil {
		return err
	}
	if _, err := s.db.maxPacket(ctx, s.db); err != nil {
		return s.db.wrap("look at the server's settings", err)
	}
	return s.checkEngines(ctx, s.db)
}

// checkBinaryLog refuses a server that logs statements, before the first such transaction fails.
func (s *Store) checkBinaryLog(ctx context.Context) error {
	var enabled bool
	var format string
	err := s.db.QueryRowContext(ctx, `SELECT @@log_bin, @@binlog_format`).Scan(&enabled, &format)
	if number(err) == errUnknownVariable {
		return nil // a server that logs rows only
	}
	if err != nil {
		return s.db.wrap("read the format of the binary log", err)
	}
	if enabled && format == "STATEMENT" {
		return toll.Permanent(binlogHint, "MySQL at %s has binlog_format = STATEMENT, "+
			"which does not take transactions with READ COMMITTED", s.db.address)
	}
	return nil
}

// checkEngines returns a [toll.PermanentError] where a table of ours is not of InnoDB. Another
// engine keeps the rows of a transaction that is rolled back, and loses those of one that is
// committed, or has not been tried.
func (s *Store) checkEngines(ctx context.Context, q reader) error {
	if s.db.embedded(ctx) {
		return nil // it has one engine, and no other
	}
	rows, err := q.QueryContext(ctx, `SELECT table_name, COALESCE(engine, ''), table_type FROM information_schema.tables
		WHERE table_schema = ? ORDER BY table_name`, s.db.name)
	if err != nil {
		return s.db.wrap("read the engines of the tables", err)
	}
	defer rows.Close()
	var wrong, convert []string
	for rows.Next() {
		var name, engine, kind string
		if err := rows.Scan(&name, &engine, &kind); err != nil {
			return s.db.wrap("read the engines of the tables", err)
		}
		if kind != "BASE TABLE" {
			engine = "a " + strings.ToLower(kind)
		}
		ours := slices.ContainsFunc(schema, func(t table) bool { return t.name == strings.ToLower(name) })
		if ours && engine != "InnoDB" {
			wrong = append(wrong, name+" is "+engine)
			if kind == "BASE TABLE" {
				convert = append(convert, "ALTER TABLE "+quoteName(s.db.name)+"."+quoteName(name)+
					" ENGINE=InnoDB;")
			} else {
				convert = append(convert, "RENAME TABLE "+quoteName(name)+" TO another name;")
			}
		}
	}
	if err := rows.Err(); err != nil {
		return s.db.wrap("read the engines of the tables", err)
	}
	if len(wrong) == 0 {
		return nil
	}
	return toll.Permanent("stop all processes and run: "+strings.Join(convert, " ")+
		" then look at what was stored so far: tollstream verify --deep",
		"exactly once needs tables of the storage engine InnoDB, and in %s %s", s.db.address,
		strings.Join(wrong, ", "))
}
