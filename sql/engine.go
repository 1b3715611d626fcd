package sql

import "context"

// engineKind is what server the store talks to, as far as that matters.
type engineKind int32

const (
	engineUnknown  engineKind = iota
	engineServer              // MySQL, MariaDB and what stems from them
	engineEmbedded            // go-mysql-server
)

// embedded reports whether the server is go-mysql-server, which is told by its not knowing
// @@warning_count.
func (s *Store) embedded(ctx context.Context) bool {
	if k := engineKind(s.engine.Load()); k != engineUnknown {
		return k == engineEmbedded
	}
	var n int
	err := s.db.QueryRowContext(ctx, `SELECT @@warning_count`).Scan(&n)
	switch {
	case err == nil:
		s.engine.Store(int32(engineServer))
	case number(err) == errUnknownVariable || number(err) == errUnknown:
		s.engine.Store(int32(engineEmbedded))
		return true
	}
	return false
}

// many returns a condition on many rows in a form that the server finds them by. The embedded one
// reads the whole table in any case, and by way of an index compares every row with every range; so
// there the columns are hidden from it.
//
// The caller has asked [Store.embedded] before it began a transaction: that server would not answer
// within one.
func (s *Store) many(condition string) string {
	if engineKind(s.engine.Load()) == engineEmbedded {
		return "IF(" + condition + ", 1, 0) = 1"
	}
	return "(" + condition + ")"
}

// forceIndex returns the hint to use an index, where there is one: see [table.withoutKeys]. The
// caller has asked [Store.embedded] as for many.
func (s *Store) forceIndex(name string) string {
	if engineKind(s.engine.Load()) == engineEmbedded {
		return ""
	}
	return "FORCE INDEX (" + name + ") "
}
