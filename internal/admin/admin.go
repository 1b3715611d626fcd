// Package admin is what an operator does on the servers once: rebuild, reset, prune, accept a
// replaced log, ask whether a process is ready.
package admin
