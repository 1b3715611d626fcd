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

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrCorrupt is what the error about a damaged binary message is. In a state or an outbox it means
// that stored bytes changed; nobody may take such a message for an empty one.
var ErrCorrupt = errors.New("corrupt")

// ErrNewer is what the error about a binary message of a newer version is: a newer tollstream wrote
// it, and this one must not go on.
var ErrNewer = errors.New("written by a newer version of tollstream")

// version is that of every binary message that is written, see the package's comment. Version 1 is
// from before schema version 3 of the database, from which tables are migrated.
const version = 2

// versionFolded is that of outboxes and deltas that were compacted, and of nothing else: as long as
// there are none, an older tollstream can go on.
const versionFolded = 3

// newest returns the newest version of a kind of message.
func (k kind) newest() byte {
	if k == kindPlazaDeltas || k == kindDelta {
		return versionFolded
	}
	return version
}

// kind is what a binary message holds. It takes part in the checksum only.
type kind byte

const (
	kindPlazaDeltas kind = 'o'
	kindDelta       kind = 'd'
	kindState       kind = 's'
	kindChain       kind = 'c'
	kindClock       kind = 't'
)

func (k kind) String() string {
	switch k {
	case kindPlazaDeltas:
		return "outbox"
	case kindDelta:
		return "delta"
	case kindState:
		return "plaza state"
	case kindChain:
		return "chain"
	case kindClock:
		return "clock"
	}
	return "message"
}

const trailerBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seeds are the checksums of each kind, with which those of its messages begin.
var seeds = func() (seeds [256]uint32) {
	for _, k := range []kind{kindPlazaDeltas, kindDelta, kindState, kindChain, kindClock} {
		seeds[k] = crc32.Checksum([]byte{byte(k)}, castagnoli)
	}
	return seeds
}()

func checksum(k kind, message []byte) uint32 { return crc32.Update(seeds[k], castagnoli, message) }

// seal appends the checksum of the message that begins at dst[start].
func seal(dst []byte, start int, k kind) []byte {
	return binary.LittleEndian.AppendUint32(dst, checksum(k, dst[start:]))
}

// appendDiff appends a − b, which wraps around as does what reads it.
func appendDiff(dst []byte, a, b int64) []byte { return binary.AppendVarint(dst, a-b) }

// appendGap appends a − b where a is not below b.
func appendGap(dst []byte, a, b int64) []byte { return binary.AppendUvarint(dst, uint64(a-b)) }

// reader takes a message apart. After the first failure its methods return zero and err keeps the
// reason, so a decoder may check once, at the end.
type reader struct {
	kind    kind
	version byte
	b       []byte // the body
	at      int    // what was read of it
	skipped int64  // events of lists that were skipped since the last sum
	err     error
}

// open checks a message's version and checksum.
func open(k kind, message []byte) reader {
	r := reader{kind: k}
	switch {
	case len(message) == 0:
		r.fail("it is empty")
	case message[0] > k.newest():
		r.err = fmt.Errorf("decode %s: %w (version %d, this one knows %d)", k, ErrNewer, message[0],
			k.newest())
	case message[0] < version:
		r.fail("there is no version %d", message[0])
	case len(message) < 1+trailerBytes:
		r.fail("%d bytes are too few", len(message))
	default:
		body := len(message) - trailerBytes
		if checksum(k, message[:body]) != binary.LittleEndian.Uint32(message[body:]) {
			r.fail("the checksum does not match")
			break
		}
		r.version, r.b = message[0], message[1:body]
	}
	return r
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("decode %s: %w: %s", r.kind, ErrCorrupt, fmt.Sprintf(format, args...))
	}
	r.b, r.at = nil, 0
}

// left returns the number of bytes that were not read.
func (r *reader) left() int { return len(r.b) - r.at }

// close returns the failure, bytes left over being one.
func (r *reader) close() error {
	if r.left() > 0 {
		r.fail("%d bytes too many", r.left())
	}
	return r.err
}

func (r *reader) uvarint() uint64 {
	if r.at < len(r.b) {
		if c := r.b[r.at]; c < 0x80 {
			r.at++
			return uint64(c)
		}
	}
	return r.longUvarint()
}

func (r *reader) longUvarint() uint64 {
	v, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 || r.b[r.at+n-1] == 0 { // a last byte of zero is a longer form of a shorter number
		r.fail("not a number")
		return 0
	}
	r.at += n
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// diff undoes appendDiff.
func (r *reader) diff(b int64) int64 { return b + r.varint() }

// gap undoes appendGap.
func (r *reader) gap(b int64) int64 {
	a := b + int64(r.uvarint())
	if a < b {
		r.fail("numbers do not ascend")
	}
	return a
}

func (r *reader) fixed64() uint64 {
	if r.left() < 8 {
		r.fail("it ends too early")
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b[r.at:])
	r.at += 8
	return v
}

// count reads a number of things that take at least size bytes each, so that it is safe to make
// room for them.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(r.left()/size) {
		r.fail("it ends too early")
		return 0
	}
	return int(n)
}
