// Package codecs reads events as CSV, JSON and Protobuf and writes them, reads plazas files, and
// writes results as JSON.
//
// Events come from producers that aren't ours, so decoding them is lenient in form and strict in
// content: whatever is accepted fits a row of livetolldata as it is, and whatever is not is a
// [toll.MalformedError] whose text is short, printable ASCII and names field and value. See
// [Decoder].
package codecs
