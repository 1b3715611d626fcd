// Package sql is the store behind livetolldata, on MySQL 8 and MariaDB 10.6 and newer, tested on
// 8.0.31 and 10.11. The .sql files next to it run in the mysql and mariadb clients as they are.
//
// [Store] joins what its packages do with one database: ingest writes batches exactly once, results
// stores windows and congestion, verify checks the invariants, retention deletes and compacts what
// is old. Here is what concerns the database as a whole: its tables, migrations, rebuild, reset,
// dead letters and queries.
package sql
