// Package sql is the store behind livetolldata: exactly-once writes, checks, queries and
// verification, on MySQL 8 and MariaDB 10.6 and newer, tested on 8.0.31 and 10.11. The .sql files
// beside it run in the mysql and mariadb clients as they are.
//
// Its contract is the cursor. A batch, its dead letters and its outbox are stored in one
// transaction that first moves the cursor of its source partition by compare-and-set; what can't
// move the cursor writes nothing.
//
// Windows and congestion are derived from that, see [Results]. The database decides which revision
// of a window comes next, and what of it is still to be published; whatever is handed over twice,
// late or by two processes changes nothing.
package sql
