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
func (d *database) embedded(ctx context.Context) bool {
	if k := engineKind(d.engine.Load()); k != engineUnknown {
		return k == engineEmbedded
	}
	var n int
	err := d.QueryRowContext(ctx, `SELECT @@warning_count`).Scan(&n)
	switch {
	case err == nil:
		d.engine.Store(int32(engineServer))
	case number(err) == errUnknownVariable || number(err) == errUnknown:
		d.engine.Store(int32(engineEmbedded))
		return true
	}
	return false
}

// knownEmbedded is embedded for where nothing can be asked: within a transaction that server would
// not answer. The caller has asked embedded before.
func (d *database) knownEmbedded() bool { return engineKind(d.engine.Load()) == engineEmbedded }

// many returns a condition on many rows in a form that the server finds them by. The embedded one
// reads the whole table in any case, and by way of an index compares every row with every range; so
// there the columns are hidden from it.
// See knownEmbedded.
func (d *database) many(condition string) string {
	if d.knownEmbedded() {
		return "IF(" + condition + ", 1, 0) = 1"
	}
	return "(" + condition + ")"
}

// forceIndex returns the hint to use an index, where there is one: see knownEmbedded.
func (d *database) forceIndex(name string) string {
	if d.knownEmbedded() {
		return ""
	}
	return "FORCE INDEX (" + name + ") "
}
