package db

import (
	"errors"
	"fmt"
	"slices"
	"strings"

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
	ErrUnknownColumn  = 1054
	errNoPassword     = 1698 // as errAccessDenied, where none was sent
	errInsecure       = 3159 // "Connections using insecure transport are prohibited"
	ErrLocalInfileOld = 1148 // "The used command is not allowed with this MySQL version"
	ErrLocalInfile    = 3948 // MySQL 8: "Loading local data is disabled"
	// MariaDB: "The used command is not allowed because the MariaDB server or client has disabled the
	// local infile capability"
	ErrLocalInfileMaria = 4166

	errNotSupported     = 1235
	errTypeNotSupported = 8108 // TiDB
	errDDLNotSupported  = 8200 // TiDB
	errTxnTooLarge      = 8004 // TiDB
	errEntryTooLarge    = 8025 // TiDB
	ErrNoKey            = 3098 // group replication: "does not comply with the requirements"
)

// stateNotSupported is the SQLSTATE of features that a server lacks.
const stateNotSupported = "0A000"

// Explain turns a non-retryable error of the driver into a [toll.PermanentError] that says
// what to do, and leaves others as they are.
func (d *DB) Explain(err error) error {
	if toll.IsPermanent(err) {
		return err
	}
	my, answered := errors.AsType[*mysql.MySQLError](err)
	if !answered {
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
	case errNoTable, ErrUnknownColumn:
		return toll.Permanent("run: tollstream init", "use MySQL at %s: %w", d.Address, err)
	case errTxnTooLarge, errEntryTooLarge:
		return toll.Permanent("lower --batch-rows, or raise TiDB's txn-total-size-limit and "+
			"tidb_txn_entry_size_limit", "use MySQL at %s: %w", d.Address, err)
	case ErrNoKey:
		return toll.Permanent("set sql_require_primary_key = ON before tollstream init creates the "+
			"tables", "group replication at %s takes no table without a key: %w", d.Address, err)
	}
	if n := my.Number; n == errNotSupported || n == errTypeNotSupported || n == errDDLNotSupported ||
		string(my.SQLState[:]) == stateNotSupported {
		return toll.Permanent("docs/operations.md lists which servers work and which can't; where TiDB "+
			"has a server-version of its own, take that setting away",
			"the server at %s lacks what tollstream needs: %w", d.Address, err)
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
	if my, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return my.Number
	}
	return 0
}

// Numbers of errors about transactions.
const (
	ErrLockWait      = 1205
	ErrDeadlock      = 1213
	ErrAtCommit      = 1180
	ErrCertification = 3101 // of group replication, at COMMIT
	// ErrBinlogFormat means that transactions with READ COMMITTED can't be logged as statements.
	ErrBinlogFormat = 1665
)

// conflicts are the numbers of errors by which a server reports that it rolled back, or did not
// run, what another transaction was in the way of.
var conflicts = []uint16{
	ErrDeadlock, // of Galera at COMMIT too: another node's transaction was certified first
	ErrLockWait,
	ErrCertification,
	// TiDB: rows or tables were changed meanwhile
	8002, 8005, 8022, 8028, 9007,
}

// Conflict reports whether another transaction was in the way: nothing was stored, and the whole
// may be tried again.
func Conflict(err error) bool {
	my, answered := errors.AsType[*mysql.MySQLError](err)
	// Older Galera puts InnoDB's code for a deadlock into an error at COMMIT.
	return answered && (slices.Contains(conflicts, my.Number) ||
		my.Number == ErrAtCommit && strings.Contains(my.Message, "error 149 "))
}

// BinlogHint is what to do about ErrBinlogFormat.
const BinlogHint = "SET GLOBAL binlog_format = 'ROW', or MIXED"
