// Package topology is the goka graph and its runtime: the emitter, the processor group with its
// ingest, batches, outbox and aggregate, and the view.
//
// What it needs of a database it declares as a small interface, [Store]; it never imports the
// package that implements it.
package topology
