// Package devstack starts a Kafka broker and a MySQL on a machine that has neither.
//
// Broker and the embedded Database run inside this process and need nothing installed. Database prefers a private
// MariaDB where the machine has one, and Kafka runs a real Apache Kafka from a folder of jars. All of them listen on
// loopback unless told otherwise, keep everything they write inside the folder that they are given, and end with this
// process, even where it is killed. A folder serves one server at a time; a second start on it is an error.
//
// # Limits of the embedded database
//
// The embedded database is go-mysql-server with its memory engine: it forgets all at Close. Transactions run one after the
// other, readers as well: a connection holds a lock from BEGIN to COMMIT, ROLLBACK or its end, and a statement
// outside of a transaction holds it for itself. Whoever waits longer than lockWait gets error 1205. So never wait for a
// second connection while a transaction is open on the first.
//
// TestEmbeddedFeatures checks what follows.
package devstack
