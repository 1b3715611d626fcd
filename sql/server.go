package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// checkServer returns a [toll.PermanentError] where the server can't keep the promise of exactly
// once with its settings or the storage engines of our tables.
func (s *Store) checkServer(ctx context.Context) error {
	if s.db.Embedded(ctx) {
		return nil // it has one engine, and writes no log
	}
	if err := s.checkBinaryLog(ctx); err != nil {
		return err
	}
	if _, err := s.db.MaxPacket(ctx, s.db); err != nil {
		return s.db.Wrap("look at the server's settings", err)
	}
	return s.checkEngines(ctx, s.db)
}

// checkBinaryLog refuses a server that logs statements, before the first such transaction fails.
func (s *Store) checkBinaryLog(ctx context.Context) error {
	var enabled bool
	var format string
	err := s.db.QueryRowContext(ctx, `SELECT @@log_bin, @@binlog_format`).Scan(&enabled, &format)
	if db.Number(err) == db.ErrUnknownVariable {
		return nil // a server that logs rows only
	}
	if err != nil {
		return s.db.Wrap("read the format of the binary log", err)
	}
	if enabled && format == "STATEMENT" {
		return toll.Permanent(db.BinlogHint, "MySQL at %s has binlog_format = STATEMENT, "+
			"which does not take transactions with READ COMMITTED", s.db.Address)
	}
	return nil
}

// checkEngines returns a [toll.PermanentError] where a table of ours is not of InnoDB. Another
// engine keeps the rows of a transaction that is rolled back, and loses those of one that is
// committed, or has not been tried.
func (s *Store) checkEngines(ctx context.Context, q db.Reader) error {
	if s.db.Embedded(ctx) {
		return nil // it has one engine, and no other
	}
	rows, err := q.QueryContext(ctx, `SELECT table_name, COALESCE(engine, ''), table_type
		FROM information_schema.tables
		WHERE table_schema = ? ORDER BY table_name`, s.db.Name)
	if err != nil {
		return s.db.Wrap("read the engines of the tables", err)
	}
	defer rows.Close()
	var wrong, convert []string
	for rows.Next() {
		var name, engine, kind string
		if err := rows.Scan(&name, &engine, &kind); err != nil {
			return s.db.Wrap("read the engines of the tables", err)
		}
		if kind != "BASE TABLE" {
			engine = "a " + strings.ToLower(kind)
		}
		ours := slices.ContainsFunc(schema, func(t table) bool { return t.name == strings.ToLower(name) })
		if ours && engine != "InnoDB" {
			wrong = append(wrong, name+" is "+engine)
			if kind == "BASE TABLE" {
				convert = append(convert, "ALTER TABLE "+db.QuoteName(s.db.Name)+"."+db.QuoteName(name)+
					" ENGINE=InnoDB;")
			} else {
				convert = append(convert, "RENAME TABLE "+db.QuoteName(name)+" TO another name;")
			}
		}
	}
	if err := rows.Err(); err != nil {
		return s.db.Wrap("read the engines of the tables", err)
	}
	if len(wrong) == 0 {
		return nil
	}
	return toll.Permanent("stop all processes and run: "+strings.Join(convert, " ")+
		" then look at what was stored so far: tollstream verify --deep",
		"exactly once needs tables of the storage engine InnoDB, and in %s %s", s.db.Address,
		strings.Join(wrong, ", "))
}
