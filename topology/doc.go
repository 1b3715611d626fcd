// Package topology is the goka graph and what runs it: the processor with its sessions and its
// aggregate. Rooms below it reach Kafka (kafka, and fetch below that), store partitions (ingest),
// close windows (closing), read the group table (table), send again what that lacks (reconcile),
// count and watch (monitor), and send events (emitter).
//
// What it needs of a database it declares as a small interface, [Store]; it never imports the
// package that implements it.
package topology
