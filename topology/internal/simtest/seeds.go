package simtest

import (
	"os"
	"strconv"
	"testing"
)

// Seeds returns how many seeds a property test tries: TOLLSTREAM_SEEDS, or what is usual for it.
func Seeds(usual int) uint64 {
	if n, err := strconv.Atoi(os.Getenv("TOLLSTREAM_SEEDS")); err == nil && n > 0 {
		return uint64(n)
	}
	if testing.Short() {
		usual = (usual + 9) / 10
	}
	return uint64(usual)
}
