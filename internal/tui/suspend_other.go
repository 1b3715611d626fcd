//go:build !unix

package tui

import "os"

// suspend does nothing: there is no job control.
func suspend() error { return nil }

func hearStops(chan<- os.Signal) {}
