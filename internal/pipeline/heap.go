package pipeline

import (
	"os"
	"runtime/debug"
)

// heapPercent is how much of the live heap the garbage collector lets come on top of it. Events
// allocate nothing, so less than Go's 100 costs little CPU, and saves memory where plazas are many.
const heapPercent = 60

// boundHeap sets heapPercent, unless the environment says otherwise.
func boundHeap() {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(heapPercent)
	}
}
