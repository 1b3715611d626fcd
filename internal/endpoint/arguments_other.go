//go:build !linux

package endpoint

// hide does nothing where the arguments that other users see can't be changed.
func hide(string, int, int) {}
