package db

import "context"

// engineKind is what server the store talks to, as far as that matters.
type engineKind int32

const (
	engineUnknown  engineKind = iota
	engineServer              // MySQL, MariaDB and what stems from them
	engineEmbedded            // go-mysql-server
)

// Embedded reports whether the server is go-mysql-server, which it shows by not knowing
// @@warning_count.
func (d *DB) Embedded(ctx context.Context) bool {
	if k := engineKind(d.engine.Load()); k != engineUnknown {
		return k == engineEmbedded
	}
	var n int
	err := d.QueryRowContext(ctx, `SELECT @@warning_count`).Scan(&n)
	switch {
	case err == nil:
		d.engine.Store(int32(engineServer))
	case Number(err) == ErrUnknownVariable || Number(err) == ErrUnknown:
		d.engine.Store(int32(engineEmbedded))
		return true
	}
	return false
}

// KnownEmbedded is embedded for where nothing can be asked: within a transaction that server would
// not answer. The caller has asked embedded before.
func (d *DB) KnownEmbedded() bool { return engineKind(d.engine.Load()) == engineEmbedded }

// Many returns a condition on many rows in a form that the server finds them by. The embedded one
// reads the whole table in any case, and by way of an index compares every row with every range; so
// there the columns are hidden from it.
// See KnownEmbedded.
func (d *DB) Many(condition string) string {
	if d.KnownEmbedded() {
		return "IF(" + condition + ", 1, 0) = 1"
	}
	return "(" + condition + ")"
}

// ForceIndex returns the hint to use an index, where there is one: see KnownEmbedded.
func (d *DB) ForceIndex(name string) string {
	if d.KnownEmbedded() {
		return ""
	}
	return "FORCE INDEX (" + name + ") "
}
