// Package devstack starts a Kafka broker and a MySQL on a machine that has neither.
//
// Broker and the embedded Database run inside this process and need nothing installed. Database
// prefers a private MariaDB where the machine has one, runs MySQL 8 where that is asked for, and
// Kafka runs a real Apache Kafka from a folder of jars. All of them listen on loopback unless told
// otherwise, keep everything that they write inside the folder that they are given, and end with
// this process, even where it is killed (on Linux). A folder serves one server at a time; a second
// start on it is an error.
//
// # Limits of the embedded database
//
// The embedded database is go-mysql-server v0.20.0 with its memory engine: it forgets all at Close.
//
// Transactions run one after the other, readers' as well: a connection holds a lock from BEGIN (or
// the first statement under autocommit = 0) to COMMIT, ROLLBACK or its end, and a statement outside
// of a transaction holds it for itself. Whoever waits longer than 15 s gets error 1205. So never
// wait for a second connection while the first has a transaction open.
//
// It does not know, each answered with error 1105 where no other number is given:
//   - LOAD DATA LOCAL: command denied, and @@local_infile is 0, so that one can ask before
//   - @@warning_count, SHOW COUNT(*) WARNINGS
//   - UPDATE and DELETE with WHERE EXISTS (subquery), UPDATE of a table without a key with IN
//     (subquery) or a join. INSERT … SELECT … WHERE EXISTS works, and UPDATE with a comparison to a
//     scalar subquery
//   - SAVEPOINT
//   - INSERT … SELECT … ON DUPLICATE KEY UPDATE c = VALUES(c); with INSERT … VALUES it works
//   - a window function over an aggregate of the same SELECT; over a derived table it works
//   - START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY; either of the two works
//   - SET SESSION innodb_lock_wait_timeout, DO, EXPLAIN (its answer breaks go-sql-driver)
//
// It differs in these:
//   - every SQLSTATE is HY000, and what data violates (range, length, date, CHECK, syntax) is error
//     1105. Real numbers: 1048 NULL in a NOT NULL column, 1054 unknown column, 1062 duplicate key,
//     1146 unknown table
//   - SUM of DECIMAL adds exactly but answers as a rounded float: CAST(SUM(…) AS CHAR) gives all
//     digits
//   - CHAR keeps trailing blanks, and 'a ' = 'a' is false
//   - the default collation, utf8mb4_0900_bin, distinguishes case
//   - writing in a READ ONLY transaction loses the connection
//   - any name of a database can be given when connecting; reading it is refused
//
// Checked and as in MySQL: a failed statement leaves no rows, inside and outside of a transaction;
// ROLLBACK undoes; DDL commits; all bytes survive in VARBINARY and LONGBLOB, as literal and as
// parameter; CRC32(CONCAT_WS(…)), _utf8mb4 0x…, DATETIME(6), REPLACE, SELECT … FOR UPDATE,
// information_schema.columns, rows affected of compare-and-set.
package devstack
