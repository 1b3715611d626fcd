package topology

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tollstream/codecs"
	"tollstream/toll"
)

// record is what the ingest reads of a Kafka record.
type record struct {
	offset      int64
	time        time.Time
	key         string
	value       []byte // nil for a tombstone
	contentType string
	retryOf     string // see RetryHeader
}

// kept is a record as an open batch keeps it: a row that MySQL refuses becomes a dead letter with these bytes.
type kept struct {
	offset int64
	time   int64 // Unix milliseconds
	key    string
	value  []byte
}

// cell is what events are counted by within a batch.
type cell struct {
	plaza  int16
	typ    uint16 // index in builder.types
	minute toll.Minute
}

// tally is what is added up per plaza beside the cells.
type tally struct {
	plaza    int16
	checksum uint64
	earliest toll.WallTime
	latest   toll.WallTime
}

// builder fills one batch: rows in load format, counts per plaza and minute, rejects. It is reused from batch to batch
// and allocates nothing per event once it has grown.
type builder struct {
	decoder *codecs.Decoder
	zone    *toll.Zone

	rows    toll.Rows
	records []kept // of the rows, in order
	rejects []toll.Reject
	retries []toll.Retry
	types   []string
	typeIDs map[string]uint16
	cells   map[cell]int64
	plazas  map[int16]int32 // index in tallies
	tallies []tally
	event   toll.Event

	lastPlaza int16 // of the tally at lastTally
	lastTally int32 // -1 for none

	next        int64     // offset behind the last record
	bytes       int       // of records kept
	oldest      time.Time // record time of the first record
	special     []special // content types and retry headers, which few records have
	rejectBytes int
}

// special says what is particular about a record, by its row.
type special struct {
	row         int
	contentType string
	retryOf     string
}

func newBuilder(rows toll.Rows, format codecs.Format, zone *toll.Zone) *builder {
	zone = zone.Clone()
	return &builder{
		decoder:   codecs.NewDecoder(format, zone),
		zone:      zone,
		rows:      rows,
		typeIDs:   map[string]uint16{},
		cells:     map[cell]int64{},
		plazas:    map[int16]int32{},
		lastTally: -1,
	}
}

// reset empties the builder, giving back what an unusual batch made it grow to.
func (b *builder) reset() {
	b.rows.Reset()
	clear(b.records)
	clear(b.rejects)
	clear(b.retries)
	clear(b.special)
	b.records, b.rejects, b.retries, b.special = b.records[:0], b.rejects[:0], b.retries[:0], b.special[:0]
	b.resetCounts()
	b.next, b.bytes, b.rejectBytes, b.oldest = 0, 0, 0, time.Time{}
}

func (b *builder) resetCounts() {
	const usual = 4096
	if len(b.cells) > usual || len(b.typeIDs) > usual {
		b.cells, b.plazas, b.typeIDs = map[cell]int64{}, map[int16]int32{}, map[string]uint16{}
	}
	clear(b.cells)
	clear(b.plazas)
	clear(b.typeIDs)
	b.tallies, b.types, b.lastTally = b.tallies[:0], b.types[:0], -1
}

// empty reports whether nothing was added.
func (b *builder) empty() bool { return b.next == 0 }

// len returns the records added.
func (b *builder) len() int { return len(b.records) + len(b.rejects) }

// add adds a record, as a row or as a reject.
func (b *builder) add(r *record) {
	if b.empty() {
		b.oldest = r.time
	}
	b.next = r.offset + 1
	b.bytes += len(r.value)
	if err := b.decode(r); err != nil {
		b.reject(r, err.Error(), "")
		return
	}
	if r.contentType != "" || r.retryOf != "" {
		b.addSpecial(r)
	}
	b.records = append(b.records, kept{r.offset, r.time.UnixMilli(), r.key, r.value})
	b.count(b.rows.Append(&b.event))
}

func (b *builder) decode(r *record) error {
	if r.value == nil {
		return toll.Malformed("event", "no value (a tombstone)")
	}
	return b.decoder.Decode(r.value, r.contentType, &b.event)
}

func (b *builder) addSpecial(r *record) {
	b.special = append(b.special, special{len(b.records), r.contentType, r.retryOf})
	if of, ok := parseOrigin(r.retryOf); ok {
		b.retries = append(b.retries, toll.Retry{Row: len(b.records), Offset: r.offset, Of: of})
	}
}

// count adds the event that was just appended, with its row's checksum.
func (b *builder) count(sum uint32) {
	e := &b.event
	typ, ok := b.typeIDs[e.Type]
	if !ok {
		typ = b.addType(e.Type)
	}
	b.cells[cell{e.Plaza, typ, b.zone.Minute(e.Time)}]++
	if b.lastTally < 0 || b.lastPlaza != e.Plaza {
		at, ok := b.plazas[e.Plaza]
		if !ok {
			at = int32(len(b.tallies))
			b.plazas[e.Plaza] = at
			b.tallies = append(b.tallies, tally{plaza: e.Plaza, earliest: e.Time, latest: e.Time})
		}
		b.lastPlaza, b.lastTally = e.Plaza, at
	}
	t := &b.tallies[b.lastTally]
	t.checksum += uint64(sum)
	t.earliest = min(t.earliest, e.Time)
	t.latest = max(t.latest, e.Time)
}

// addType gives a type its id within the batch. A batch tells at most as many types apart as ids fit, far more than a
// state keeps; what is beyond counts as other.
func (b *builder) addType(name string) uint16 {
	if len(b.types) == 1<<16-1 && name != toll.OtherType {
		name = toll.OtherType
		if id, ok := b.typeIDs[name]; ok {
			return id
		}
	}
	id := uint16(len(b.types))
	b.types = append(b.types, name)
	b.typeIDs[name] = id
	return id
}

func (b *builder) reject(r *record, reason, sqlState string) {
	reject := toll.Reject{Offset: r.offset, Time: r.time, Reason: reason, SQLState: sqlState, Payload: r.value}
	if r.key != "" {
		reject.Key = []byte(r.key)
	}
	b.rejects = append(b.rejects, reject)
	b.rejectBytes += len(r.value) + len(r.key) + len(reason)
}

// refuse builds the batch again from its records, with the rows that the database refused as rejects.
func (b *builder) refuse(refused []toll.RefusedRow) {
	why := make(map[int]toll.RefusedRow, len(refused))
	for _, r := range refused {
		why[r.Row] = r
	}
	records, rejects, specials := b.records, b.rejects, b.special
	b.records, b.rejects, b.retries, b.special = nil, rejects, nil, nil
	b.rows.Reset()
	b.resetCounts()
	for i, k := range records {
		r := record{offset: k.offset, time: time.UnixMilli(k.time), key: k.key, value: k.value}
		if len(specials) > 0 && specials[0].row == i {
			r.contentType, r.retryOf = specials[0].contentType, specials[0].retryOf
			specials = specials[1:]
		}
		if w, ok := why[i]; ok {
			b.reject(&r, w.Reason, w.SQLState)
			continue
		}
		if err := b.decode(&r); err != nil { // it was decoded before
			b.reject(&r, err.Error(), "")
			continue
		}
		if r.contentType != "" || r.retryOf != "" {
			b.addSpecial(&r)
		}
		b.records = append(b.records, k)
		b.count(b.rows.Append(&b.event))
	}
	slices.SortFunc(b.rejects, func(a, b toll.Reject) int { return cmp.Compare(a.Offset, b.Offset) })
}

// deltas returns what the batch means per plaza, in ascending order, without Prev. It is made anew, so that it outlives
// the builder's reuse.
func (b *builder) deltas() []toll.PlazaDelta {
	type count struct {
		cell
		n int64
	}
	counts := make([]count, 0, len(b.cells))
	for c, n := range b.cells {
		counts = append(counts, count{c, n})
	}
	slices.SortFunc(counts, func(x, y count) int {
		return cmp.Or(cmp.Compare(x.plaza, y.plaza), cmp.Compare(x.minute, y.minute), strings.Compare(b.types[x.typ], b.types[y.typ]))
	})
	tallies := slices.Clone(b.tallies)
	slices.SortFunc(tallies, func(x, y tally) int { return cmp.Compare(x.plaza, y.plaza) })
	deltas := make([]toll.PlazaDelta, len(tallies))
	for i, t := range tallies {
		d := &deltas[i]
		*d = toll.PlazaDelta{Plaza: t.plaza, Checksum: t.checksum, Earliest: t.earliest, Latest: t.latest}
		for len(counts) > 0 && counts[0].plaza == t.plaza {
			minute := counts[0].minute
			n := 0
			for n < len(counts) && counts[n].plaza == t.plaza && counts[n].minute == minute {
				n++
			}
			types := make([]toll.TypeCount, n)
			for j, c := range counts[:n] {
				types[j] = toll.TypeCount{Type: b.types[c.typ], Count: c.n}
				d.Events += c.n
			}
			if n > toll.MaxTypes {
				types = toll.AddTypes(nil, types)
			}
			d.Panes = append(d.Panes, toll.Pane{Start: minute, Types: types})
			counts = counts[n:]
		}
	}
	return deltas
}

// RetryHeader is the header of a repaired dead letter that is sent again: partition:offset of the record that it
// repairs. The event is stored once however often it is sent.
const RetryHeader = "tollstream-retry-of"

// FormatOrigin writes the value of a RetryHeader.
func FormatOrigin(o toll.Origin) string {
	return strconv.Itoa(int(o.Partition)) + ":" + strconv.FormatInt(o.Offset, 10)
}

func parseOrigin(s string) (toll.Origin, bool) {
	p, o, ok := strings.Cut(s, ":")
	if !ok {
		return toll.Origin{}, false
	}
	partition, err1 := strconv.ParseInt(p, 10, 32)
	offset, err2 := strconv.ParseInt(o, 10, 64)
	return toll.Origin{Partition: int32(partition), Offset: offset}, err1 == nil && err2 == nil && partition >= 0 && offset >= 0
}
