package db

import (
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/trust"
	"github.com/tollstream/tollstream/toll"
)

// Numbers of MySQL's errors that the store distinguishes.
const (
	errAccessDeniedDB = 1044
	errAccessDenied   = 1045
	errNoDatabase     = 1049
	ErrDuplicateKey   = 1062
	ErrNeedsKeyMaria  = 1173 // MariaDB's innodb_force_primary_key
	ErrNeedsKey       = 3750 // MySQL's sql_require_primary_key
	errNoTable        = 1146
	ErrTableDenied    = 1142
	errColumnDenied   = 1143
	errSpecificDenied = 1227
	errUnknownColumn  = 1054
	errNoPassword     = 1698 // as errAccessDenied, where none was sent
	errInsecure       = 3159 // "Connections using insecure transport are prohibited"
	ErrLocalInfileOld = 1148 // "The used command is not allowed with this MySQL version"
	ErrLocalInfile    = 3948 // MySQL 8: "Loading local data is disabled"
	// MariaDB: "The used command is not allowed because the MariaDB server or client has disabled the
	// local infile capability"
	ErrLocalInfileMaria = 4166
)

// Explain turns a non-retryable error of the driver into a [toll.PermanentError] that says
// what to do, and leaves others as they are.
func (d *DB) Explain(err error) error {
	if toll.IsPermanent(err) {
		return err
	}
	var my *mysql.MySQLError
	if !errors.As(err, &my) {
		hint := trust.Hint(err, "--mysql")
		if errors.Is(err, mysql.ErrNoTLS) {
			hint = "the server has no TLS: set it up there, or use --mysql-tls off"
		}
		if hint != "" {
			return toll.Permanent(hint, "connect to MySQL at %s: %w", d.Address, err)
		}
		return err
	}
	switch my.Number {
	case errAccessDenied, errNoPassword:
		return toll.Permanent(
			"check user and password in --mysql or TOLLSTREAM_MYSQL; a user may also have to come with "+
				"TLS or a certificate (--mysql-ca, --mysql-cert)",
			"connect to MySQL at %s: %w", d.Address, err)
	case errInsecure:
		return toll.Permanent(
			"add --mysql-tls verify-ca and, with --mysql-ca, the authority that signed the server's "+
				"certificate: "+
				"of one that MySQL generated for itself it is ca.pem in the data folder",
			"connect to MySQL at %s: %w", d.Address, err)
	case errAccessDeniedDB, ErrTableDenied, errColumnDenied, errSpecificDenied:
		return toll.Permanent("grant the MySQL user what docs/security.md lists for this command",
			"use MySQL at %s: %w", d.Address, err)
	case errNoDatabase:
		return toll.Permanent("create it, or run: tollstream init", "connect to MySQL at %s: %w",
			d.Address, err)
	case errNoTable, errUnknownColumn:
		return toll.Permanent("run: tollstream init", "use MySQL at %s: %w", d.Address, err)
	}
	return err
}

// Wrap adds the failed action to an error, explained.
func (d *DB) Wrap(action string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", action, d.Explain(err))
}

// Numbers of errors that rows may cause.
const (
	// go-mysql-server reports all errors about data as this, other servers outages and policies
	ErrUnknown         = 1105
	ErrUnknownVariable = 1193
	ErrPacketTooLarge  = 1153
)

// Number returns the number of a server's error, 0 for any other.
func Number(err error) uint16 {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return my.Number
	}
	return 0
}

// Numbers of errors about transactions.
const (
	ErrLockWait = 1205
	ErrDeadlock = 1213
	// ErrBinlogFormat means that transactions with READ COMMITTED can't be logged as statements.
	ErrBinlogFormat = 1665
)

// Conflict reports whether another transaction was in the way: the statement may be tried again.
func Conflict(err error) bool {
	n := Number(err)
	return n == ErrDeadlock || n == ErrLockWait
}

// BinlogHint is what to do about ErrBinlogFormat.
const BinlogHint = "SET GLOBAL binlog_format = 'ROW', or MIXED"
