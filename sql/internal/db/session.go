package db

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
)

// sessionSettings are pinned on each connection, whatever the server's globals and the DSN set:
// with another value the store's statements would mean something else, read less, or fail. MySQL
// takes what MariaDB reads in comments that begin with M! for a comment, and MariaDB what MySQL
// reads in those that begin with !80000.
//
// All of them can be set without a right. sql_log_bin is not among them: what is replicated is the
// operator's decision. Nor are sql_require_primary_key and sql_generate_invisible_primary_key,
// which take a right; the tables allow for both.
const sessionSettings = `SET autocommit = 1, completion_type = 'NO_CHAIN',
	sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,` +
	`NO_ENGINE_SUBSTITUTION',
	time_zone = '+00:00', default_storage_engine = InnoDB,
	sql_safe_updates = 0, sql_select_limit = 9223372036854775807, sql_big_selects = 1,
	sql_auto_is_null = 0, sql_buffer_result = 0, unique_checks = 1, max_sort_length = 1024,
	wait_timeout = 20, net_read_timeout = 5, net_write_timeout = 60` + lockWaitTimeout + `
	/*!80000 , transaction_isolation = 'REPEATABLE-READ', transaction_read_only = 0,
	max_execution_time = 0 */
	/*M!100309 , tx_isolation = 'REPEATABLE-READ', tx_read_only = 0, max_statement_time = 0,
	idle_transaction_timeout = 10, idle_readonly_transaction_timeout = 0,
	idle_write_transaction_timeout = 0 */`

// lockWaitTimeout is less than callers wait for an answer, so that they hear that it was a lock.
// The embedded server has no such setting of a session.
const lockWaitTimeout = `, innodb_lock_wait_timeout = 5`

// On the timeouts: the server ends the transaction of a host that died without a word, or that is
// paused, and with it the lock on the cursor that the partition's next owner waits for. Only
// MariaDB distinguishes such a transaction from a connection that is idle; MySQL ends both after
// wait_timeout. None of our transactions waits for seconds between two statements, or in the middle
// of the rows that it loads, for which the server waits twice as long as net_read_timeout sets.

// pinSession applies sessionSettings to a connection.
func pinSession(ctx context.Context, conn driver.Conn) error {
	e, ok := conn.(driver.ExecerContext)
	if !ok {
		return fmt.Errorf("the driver %T can't set the session's settings", conn)
	}
	_, err := e.ExecContext(ctx, sessionSettings, nil)
	if Number(err) == ErrUnknown { // the embedded server
		_, err = e.ExecContext(ctx, strings.Replace(sessionSettings, lockWaitTimeout, "", 1), nil)
	}
	if err != nil {
		return fmt.Errorf("set the session's settings: %w", err)
	}
	return nil
}
