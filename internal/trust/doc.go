// Package trust is how a server is trusted and how we prove who we are to it: TLS from PEM files,
// secrets that don't show, and what to do where either side refuses the other.
package trust
