// Package codecs turns bytes into values of the domain and back: events as CSV, JSON and Protobuf,
// the outbox of a batch, the deltas of the loop topic, the states of the group table, and the
// cursor's chain.
//
// # Events
//
// Events come from producers that aren't ours, so decoding them is lenient in form and strict in
// content: whatever is accepted fits a row of livetolldata as it is, and whatever is not is a
// [toll.MalformedError] whose text is short, printable ASCII and names field and value. See
// [Decoder].
//
// # Binary messages
//
// The others are ours alone. They share one layout:
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
// version ([ErrNewer]), trailing bytes too; it allocates no more than a fixed multiple of what it
// is given, and never panics. An encoder writes whatever it is given, of which a decoder then
// refuses what breaks an invariant of package toll.
//
// A later version appends its fields to the end of a body and raises the version; decoders go on
// reading older ones.
package codecs
