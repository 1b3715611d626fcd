// Package serve is an HTTP server for the live view and for metrics: one guard of tokens, host
// names and methods, bounded connections and timeouts, health probes, and /metrics; and what its
// routes share: parameters, problems, responses with an ETag, queries that run once for many.
//
// [New] starts nothing; Listen opens the address, and Run serves until its context ends. What is
// served in addition to /healthz, /readyz and /metrics is given as routes.
package serve
