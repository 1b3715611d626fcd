package toll

// Delta is what one batch means for one plaza: the message of the loop topic. There is exactly one
// per batch and plaza.
//
// The deltas of a plaza from one source partition form a chain: Prev is the Next of the partition's
// previous batch that had this plaza, 0 for none. A state that merges a delta only if Prev equals
// what it has merged is therefore always a prefix of that chain, and what it lacks can be
// sent again at any time.
type Delta struct {
	Epoch     uint64 // of the database's cursor when the delta was sent
	Partition int32  // source partition of the topic of events
	First     int64  // the batch is the offsets [First, Next) of the source partition
	Next      int64
	PlazaDelta
}

// PlazaDelta is the part of a delta that is known when its batch is stored.
type PlazaDelta struct {
	Plaza    int16
	Prev     int64 // see [Delta]
	Events   int64
	Checksum uint64   // sum over the events of the CRC-32 (IEEE) of the row's text, modulo 2^64
	Earliest WallTime // of the events' times
	Latest   WallTime
	// Panes are the minutes of the events that were on time or late. LateQuarter and TooLate are those
	// of events that came later than that, see [Timeliness]. Each is ascending by start; all counts
	// together add up to Events.
	Panes       []Pane
	LateQuarter []Pane
	TooLate     []Pane
	Ahead       int64 // events that ran ahead of their partition's clock, see [Clock]; among the above
	Lead        int64 // by how many seconds the last of them did

	// Ends is the Next of the batch that the delta ends with, where batches were compacted into one
	// row; 0 where the delta is of its batch alone and ends with it. See [PlazaDelta.End].
	Ends int64
	// Fold is the rollup of minutes that are no longer kept one by one; nil for none.
	Fold *Fold
}

// End returns the Next of the delta, from that of the stored batch that it is part of. Batches that
// were compacted into one row hold several deltas of a plaza, or one that ends before the row does.
func (d *PlazaDelta) End(batchNext int64) int64 {
	if d.Ends != 0 {
		return d.Ends
	}
	return batchNext
}

// Cells returns how many counts the delta holds, by which its message grows.
func (d *PlazaDelta) Cells() int {
	n := 1
	for _, panes := range [...][]Pane{d.Panes, d.LateQuarter, d.TooLate} {
		for i := range panes {
			n += 1 + len(panes[i].Types)
		}
	}
	if f := d.Fold; f != nil {
		n += len(f.OnTime) + len(f.LateQuarter) + len(f.TooLate)
	}
	return n
}

// Of returns the delta of the loop that a delta of a stored batch is sent as.
func (d *PlazaDelta) Of(epoch uint64, partition int32, first, next int64) *Delta {
	sent := &Delta{Epoch: epoch, Partition: partition, First: max(first, d.Prev), Next: d.End(next),
		PlazaDelta: *d}
	sent.Ends = 0
	return sent
}

// Fold is the rollup of a delta's minutes that begin before Before.
type Fold struct {
	Before      Minute
	OnTime      []TypeCount // events that were on time or late, ascending by type
	Late        int64       // among them
	LateQuarter []TypeCount
	TooLate     []TypeCount
}

// Events returns the number of events.
func (f *Fold) Events() int64 {
	if f == nil {
		return 0
	}
	return SumTypes(f.OnTime) + SumTypes(f.LateQuarter) + SumTypes(f.TooLate)
}
