package sql

import (
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/trust"
	"github.com/tollstream/tollstream/toll"
)

// Numbers of MySQL's errors that the store tells apart.
const (
	errAccessDeniedDB = 1044
	errAccessDenied   = 1045
	errNoDatabase     = 1049
	errDuplicateKey   = 1062
	errNeedsKeyMaria  = 1173 // MariaDB's innodb_force_primary_key
	errNeedsKey       = 3750 // MySQL's sql_require_primary_key
	errNoTable        = 1146
	errTableDenied    = 1142
	errColumnDenied   = 1143
	errSpecificDenied = 1227
	errUnknownColumn  = 1054
	errNoPassword     = 1698 // as errAccessDenied, where none was sent
	errInsecure       = 3159 // "Connections using insecure transport are prohibited"
	errLocalInfileOld = 1148 // "The used command is not allowed with this MySQL version"
	errLocalInfile    = 3948 // MySQL 8: "Loading local data is disabled"
	// MariaDB: "The used command is not allowed because the MariaDB server or client has disabled the
	// local infile capability"
	errLocalInfileMaria = 4166
)

// explain turns an error of the driver that no retry mends into a [toll.PermanentError] that says
// what to do, and leaves others as they are.
func (d *database) explain(err error) error {
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
			return toll.Permanent(hint, "connect to MySQL at %s: %w", d.address, err)
		}
		return err
	}
	switch my.Number {
	case errAccessDenied, errNoPassword:
		return toll.Permanent(
			"check user and password in --mysql or TOLLSTREAM_MYSQL; a user may also have to come with TLS or a certificate (--mysql-ca, --mysql-cert)",
			"connect to MySQL at %s: %w", d.address, err)
	case errInsecure:
		return toll.Permanent(
			"add --mysql-tls verify-ca and, with --mysql-ca, the authority that signed the server's certificate: "+
				"of one that MySQL generated for itself it is ca.pem in the data folder",
			"connect to MySQL at %s: %w", d.address, err)
	case errAccessDeniedDB, errTableDenied, errColumnDenied, errSpecificDenied:
		return toll.Permanent("grant the MySQL user what docs/security.md lists for this command",
			"use MySQL at %s: %w", d.address, err)
	case errNoDatabase:
		return toll.Permanent("create it, or run: tollstream init", "connect to MySQL at %s: %w",
			d.address, err)
	case errNoTable, errUnknownColumn:
		return toll.Permanent("run: tollstream init", "use MySQL at %s: %w", d.address, err)
	}
	return err
}

// wrap adds the failed action to an error, explained.
func (d *database) wrap(action string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", action, d.explain(err))
}

// Numbers of errors that rows may meet.
const (
	// go-mysql-server reports all errors about data as this, other servers outages and policies
	errUnknown         = 1105
	errUnknownVariable = 1193
	errPacketTooLarge  = 1153
)

// number returns the number of a server's error, 0 for any other.
func number(err error) uint16 {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return my.Number
	}
	return 0
}

// Numbers of errors about transactions.
const (
	errLockWait = 1205
	errDeadlock = 1213
	// errBinlogFormat says that transactions with READ COMMITTED can't be logged as statements.
	errBinlogFormat = 1665
)

// conflict reports whether another transaction was in the way: the statement may be tried again.
func conflict(err error) bool {
	n := number(err)
	return n == errDeadlock || n == errLockWait
}

// binlogHint says what to do about errBinlogFormat.
const binlogHint = "SET GLOBAL binlog_format = 'ROW', or MIXED"
