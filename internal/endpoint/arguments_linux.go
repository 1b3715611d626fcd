package endpoint

import "unsafe"

// hide overwrites a part of a command-line argument where the system keeps it, so that ps shows x
// for it, as MySQL's own client does. The argument's own text changes with it, so callers have
// taken a copy.
//
// On Linux the strings of os.Args are that memory itself, which is writable.
func hide(argument string, from, to int) {
	memory := unsafe.Slice(unsafe.StringData(argument), len(argument))
	for i := from; i < to; i++ {
		memory[i] = 'x'
	}
}
