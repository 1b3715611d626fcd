// Package wire holds the binary messages that tollstream writes for itself alone: outboxes of
// batches, deltas of the loop topic, plaza states of the group table, cursors' chains and clocks.
//
// They share one layout:
//
//	version, 1 byte (now 2, and 3 for outboxes and deltas that were compacted)
//	body: integers as varints of package encoding/binary
//	CRC-32C of kind, version and body, 4 bytes, little-endian
//
// The kind is a byte that isn't stored: it keeps a state from being read as an outbox. Vehicle
// types stand once, in an ascending dictionary, and counts refer to them. Offsets, partitions,
// plazas, times and minutes are differences from the one before.
//
// The encoding is canonical: for a valid value x and a valid message b, decode(encode(x)) equals x
// and encode(decode(b)) equals b. A decoder refuses what is damaged ([ErrCorrupt]) or of a newer
// version ([ErrNewer]), trailing bytes too. It allocates at most a fixed multiple of its input's
// size, and never panics. An encoder writes whatever it is given; a decoder then refuses what
// breaks an invariant of package toll.
//
// A later version appends its fields to the end of a body and raises the version; decoders go on
// reading older ones.
package wire
