// Package devstack starts a Kafka broker and a MySQL on a machine that has neither.
//
// Broker runs inside this process. Database runs a private MariaDB where the machine has one,
// MySQL 8 where that is asked for, and otherwise the embedded database, an in-memory server that
// is a command of its own (module embedded, whose comment lists its limits). Kafka runs a real
// Apache Kafka from a folder of jars. All of them listen on loopback unless configured otherwise,
// keep everything that they write inside the folder that they are given, and end with this
// process, even where it is killed (on Linux). A folder serves one server at a time; a second
// start on it is an error.
package devstack
