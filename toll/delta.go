package toll

// Delta is what one batch means for one plaza: the message of the loop topic. There is exactly one per batch and plaza.
//
// The deltas of a plaza from one source partition form a chain: Prev is the Next of the partition's previous batch that
// had this plaza, 0 for none. A state that merges a delta only if Prev equals what it has merged is therefore always an
// honest prefix of that chain, and what it lacks can be sent again at any time.
type Delta struct {
	Epoch     uint64 // of the database's cursor when the delta was sent
	Partition int32  // source partition of the topic of events
	First     int64  // the batch is the offsets [First, Next) of the source partition
	Next      int64
	PlazaDelta
}

// PlazaDelta is the part of a delta that is settled when its batch is stored.
type PlazaDelta struct {
	Plaza    int16
	Prev     int64 // see [Delta]
	Events   int64
	Checksum uint64   // sum over the events of the CRC-32 (IEEE) of the row's text, modulo 2^64
	Earliest WallTime // of the events' times
	Latest   WallTime
	Panes    []Pane // ascending by start; their counts add up to Events
}
