package ingest

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/toll"
)

// record is what the ingest reads of a Kafka record.
type record struct {
	offset      int64
	time        time.Time
	key         []byte
	value       []byte // nil for a tombstone
	contentType string
	retryOf     string // see RetryHeader
	leaderEpoch int32  // -1 where not known
}

// kept is a record as an open batch keeps it: one that MySQL rejects becomes a dead letter with
// these bytes.
type kept struct {
	offset int64
	time   int64 // Unix milliseconds
	key    []byte
	value  []byte
}

// cell is what events are counted by within a batch. It has no padding, which would make hashing
// slow.
type cell struct {
	plaza  int16
	typ    uint16 // 4 × index in builder.types + the toll.Timeliness
	minute toll.Minute
}

func (c cell) timeliness() toll.Timeliness { return toll.Timeliness(c.typ % 4) }

// tally is what is summed per plaza next to the cells.
type tally struct {
	plaza    int16
	checksum uint64
	earliest toll.WallTime
	latest   toll.WallTime
	ahead    int64 // events that ran ahead of the partition's clock
	lead     int64 // by how many seconds the last of them did
}

// plazaIndex has a number for each plaza, zero at first. Each event asks for one, so it is a table
// of 256 plazas for each of their upper bytes that occurs, and no map.
type plazaIndex [256]*[256]int32

func (x *plazaIndex) at(plaza int16) *int32 {
	page := &x[uint16(plaza)>>8]
	if *page == nil {
		*page = new([256]int32)
	}
	return &(*page)[uint8(plaza)]
}

// builder fills one batch: rows in load format, counts per plaza and minute, rejects. It is reused
// from batch to batch and allocates nothing per event once it has grown.
type builder struct {
	decoder  *codecs.Decoder
	zone     *toll.Zone
	lateness int64 // seconds

	start, clock toll.Clock // the partition's event time before the batch, and with it

	rows    toll.Rows
	records []kept    // that are rows, in order
	several []several // of those records that hold several events, in order
	rejects []toll.Reject
	retries []toll.Retry
	types   []string
	typeIDs map[string]uint16
	cells   map[cell]int64
	plazas  plazaIndex // of tallies
	tallies []tally
	event   toll.Event

	next        int64  // offset behind the last record
	last        record // that was added
	hasLast     bool
	bytes       int       // of records kept
	oldest      time.Time // record time of the first record
	began       time.Time // wall clock when the first record was added
	taken       time.Time // wall clock when it was handed to the committer
	special     []special // content types and retry headers, which few records have
	rejectBytes int
}

// several says of how many events a record is.
type several struct {
	record int // its index in builder.records
	events int
}

// special says what is particular about a record.
type special struct {
	record      int // its index in builder.records
	contentType string
	retryOf     string
}

func newBuilder(rows toll.Rows, cfg *Config) *builder {
	zone := cfg.Zone.Clone()
	return &builder{
		decoder:  codecs.NewMappedDecoder(cfg.Format, zone, cfg.Mapping),
		zone:     zone,
		lateness: int64(cfg.Lateness / time.Second),
		rows:     rows,
		typeIDs:  map[string]uint16{},
		cells:    map[cell]int64{},
	}
}

// begin sets the partition's event time before the batch.
func (b *builder) begin(clock *toll.Clock) { b.start, b.clock = *clock, *clock }

// reset empties the builder, giving back what an unusual batch made it grow to.
func (b *builder) reset() {
	b.rows.Reset()
	b.decoder.Forget()
	clear(b.records)
	clear(b.rejects)
	clear(b.retries)
	clear(b.special)
	b.records, b.rejects, b.retries = b.records[:0], b.rejects[:0], b.retries[:0]
	b.special, b.several = b.special[:0], b.several[:0]
	b.resetCounts()
	b.next, b.bytes, b.rejectBytes, b.oldest = 0, 0, 0, time.Time{}
	b.began, b.taken, b.last, b.hasLast = time.Time{}, time.Time{}, record{}, false
}

func (b *builder) resetCounts() {
	const usual = 4096
	if len(b.cells) > usual || len(b.typeIDs) > usual {
		b.cells, b.typeIDs = map[cell]int64{}, map[string]uint16{}
	}
	clear(b.cells)
	clear(b.typeIDs)
	for i := range b.tallies {
		*b.plazas.at(b.tallies[i].plaza) = 0
	}
	b.tallies, b.types = b.tallies[:0], b.types[:0]
}

// noteLast notes the last of the records that were added.
func (b *builder) noteLast(r *record) { b.last, b.hasLast = *r, true }

// identity returns the identity of the last record, or the one before the batch where it has none
// that can be read.
func (b *builder) identity(before toll.LastRecord) toll.LastRecord {
	if !b.hasLast {
		return before
	}
	r := &b.last
	return toll.LastRecord{Known: true, Offset: r.offset, LeaderEpoch: r.leaderEpoch,
		Timestamp: r.time.UnixMilli(), CRC: toll.RecordCRC(r.key, r.value)}
}

// empty reports whether nothing was added.
func (b *builder) empty() bool { return b.next == 0 }

// gone begins with offsets whose records nobody can read any more.
func (b *builder) gone(next int64) {
	b.next, b.began = next, time.Now()
	b.oldest = b.began
}

// len returns the records added.
func (b *builder) len() int { return len(b.records) + len(b.rejects) }

// extra returns the events beyond the first of their record.
func (b *builder) extra() int {
	if len(b.several) == 0 {
		return 0
	}
	return b.rows.Len() - len(b.records)
}

// add adds a record, as rows or as a reject.
func (b *builder) add(r *record) {
	if b.len() == 0 {
		b.oldest, b.began = r.time, time.Now()
	}
	b.next = r.offset + 1
	b.bytes += len(r.value)
	b.addRows(r, kept{r.offset, r.time.UnixMilli(), r.key, r.value})
}

// addRows adds the events of a record as rows, or the record as a reject.
func (b *builder) addRows(r *record, k kept) {
	more, err := b.decode(r)
	if err != nil {
		b.reject(r, toll.Rejection{Kind: toll.RejectKindOf(err), Reason: err.Error()})
		return
	}
	if r.contentType != "" || r.retryOf != "" {
		b.addSpecial(r)
	}
	if len(more) > 0 {
		b.several = append(b.several, several{len(b.records), 1 + len(more)})
	}
	b.records = append(b.records, k)
	b.count(&b.event, b.rows.Append(&b.event), k.time)
	for i := range more {
		b.count(&more[i], b.rows.Append(&more[i]), k.time)
	}
}

// decode reads the events of a record: the first into b.event, the others into more.
func (b *builder) decode(r *record) (more []toll.Event, err error) {
	if r.value == nil {
		return nil, toll.Malformed(toll.RejectTombstone, "no value (a tombstone)")
	}
	return b.decoder.DecodeAll(r.value, r.contentType, &b.event)
}

func (b *builder) addSpecial(r *record) {
	b.special = append(b.special, special{len(b.records), r.contentType, r.retryOf})
	if of, ok := parseOrigin(r.retryOf); ok {
		b.retries = append(b.retries, toll.Retry{Row: b.rows.Len(), Offset: r.offset, Of: of})
	}
}

// count adds an event that was just appended, with its row's checksum and its record's time.
func (b *builder) count(e *toll.Event, sum uint32, record int64) {
	at := b.zone.Unix(e.Time)
	timeliness, ahead := b.clock.Observe(e.Plaza, at, record, b.lateness)
	typ, ok := b.typeIDs[e.Type]
	if !ok {
		typ = b.addType(e.Type)
	}
	b.cells[cell{e.Plaza, 4*typ + uint16(timeliness), toll.MinuteAt(at)}]++
	index := b.plazas.at(e.Plaza)
	if *index == 0 {
		b.tallies = append(b.tallies, tally{plaza: e.Plaza, earliest: e.Time, latest: e.Time})
		*index = int32(len(b.tallies))
	}
	t := &b.tallies[*index-1]
	t.checksum += uint64(sum)
	t.earliest = min(t.earliest, e.Time)
	t.latest = max(t.latest, e.Time)
	if ahead {
		t.ahead++
		t.lead = at - b.clock.Time
	}
}

// maxTypes is how many vehicle types a batch counts separately: as many as fit a cell.
const maxTypes = 1<<14 - 1

// addType gives a type its id within the batch. Types beyond [maxTypes], which is far more than a
// state keeps, count as other.
func (b *builder) addType(name string) uint16 {
	if len(b.types) >= maxTypes && name != toll.OtherType {
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

// reject adds a record as a reject.
func (b *builder) reject(r *record, why toll.Rejection) {
	reject := toll.Reject{Offset: r.offset, Time: r.time, Rejection: why, Payload: r.value}
	if of, ok := parseOrigin(r.retryOf); ok {
		reject.RetryOf = &of
	}
	if len(r.key) > 0 {
		reject.Key = bytes.Clone(r.key)
	}
	b.rejects = append(b.rejects, reject)
	b.rejectBytes += len(r.value) + len(r.key) + len(why.Reason)
}

// rebuild builds the batch again from its records, with those as rejects of which the database
// rejected a row. They take no part in the partition's event time.
func (b *builder) rebuild(rejected []toll.RejectedRow) {
	b.clock = b.start
	why := make(map[int]toll.Rejection, len(rejected))
	for _, r := range rejected {
		why[r.Row] = r.Rejection
	}
	records, specials, severals := b.records, b.special, b.several
	b.records, b.retries, b.special, b.several = nil, nil, nil, nil
	b.rows.Reset()
	b.resetCounts()
	row := 0 // the first of the record
	for i, k := range records {
		r := record{offset: k.offset, time: time.UnixMilli(k.time), key: k.key, value: k.value}
		if len(specials) > 0 && specials[0].record == i {
			r.contentType, r.retryOf = specials[0].contentType, specials[0].retryOf
			specials = specials[1:]
		}
		events := 1
		if len(severals) > 0 && severals[0].record == i {
			events, severals = severals[0].events, severals[1:]
		}
		if w, ok := rejectionOf(why, row, events); ok {
			b.reject(&r, w)
		} else {
			b.addRows(&r, k)
		}
		row += events
	}
	slices.SortFunc(b.rejects, func(a, b toll.Reject) int { return cmp.Compare(a.Offset, b.Offset) })
}

// rejectionOf returns why the database rejected the first of a record's rows that it rejected, and
// whether there is one.
func rejectionOf(why map[int]toll.Rejection, row, events int) (toll.Rejection, bool) {
	for n := range events {
		w, ok := why[row+n]
		if ok && events > 1 && w.Kind == toll.RejectRefused {
			w.Reason = fmt.Sprintf("%s, in event %d of the record", w.Reason, n+1)
		}
		if ok {
			return w, true
		}
	}
	return toll.Rejection{}, false
}

// deltas returns what the batch means per plaza, in ascending order, without Prev. It is a new
// slice, so that it outlives the builder's reuse.
func (b *builder) deltas() []toll.PlazaDelta {
	counts := make([]cellCount, 0, len(b.cells))
	for c, n := range b.cells {
		counts = append(counts, cellCount{c, n})
	}
	slices.SortFunc(counts, func(x, y cellCount) int {
		return cmp.Or(cmp.Compare(x.plaza, y.plaza), cmp.Compare(x.minute, y.minute),
			strings.Compare(b.types[x.typ/4], b.types[y.typ/4]), cmp.Compare(x.typ, y.typ))
	})
	tallies := slices.Clone(b.tallies)
	slices.SortFunc(tallies, func(x, y tally) int { return cmp.Compare(x.plaza, y.plaza) })
	deltas := make([]toll.PlazaDelta, len(tallies))
	for i, t := range tallies {
		d := &deltas[i]
		*d = toll.PlazaDelta{Plaza: t.plaza, Checksum: t.checksum, Earliest: t.earliest, Latest: t.latest,
			Ahead: t.ahead, Lead: t.lead}
		for len(counts) > 0 && counts[0].plaza == t.plaza {
			n := 1
			for n < len(counts) && counts[n].plaza == t.plaza && counts[n].minute == counts[0].minute {
				n++
			}
			b.addPanes(d, counts[:n])
			counts = counts[n:]
		}
	}
	return deltas
}

// cellCount is a cell with the number of its events.
type cellCount struct {
	cell
	n int64
}

// addPanes adds one minute's counts of a plaza, ascending by type.
func (b *builder) addPanes(d *toll.PlazaDelta, counts []cellCount) {
	types := make([]toll.TypeCount, 0, len(counts)) // shared by the minute's panes
	pane := func(panes []toll.Pane, from, to toll.Timeliness) []toll.Pane {
		first, late := len(types), int64(0)
		for _, c := range counts {
			t := c.timeliness()
			if t < from || t > to {
				continue
			}
			d.Events += c.n
			if t == toll.Late {
				late += c.n
			}
			if name := b.types[c.typ/4]; len(types) > first && types[len(types)-1].Type == name {
				types[len(types)-1].Count += c.n
			} else {
				types = append(types, toll.TypeCount{Type: name, Count: c.n})
			}
		}
		if len(types) == first {
			return panes
		}
		p := toll.Pane{Start: counts[0].minute, Types: types[first:len(types):len(types)], Late: late}
		if len(p.Types) > toll.MaxTypes {
			p.Types = toll.AddTypes(nil, p.Types)
		}
		return append(panes, p)
	}
	d.Panes = pane(d.Panes, toll.OnTime, toll.Late)
	d.LateQuarter = pane(d.LateQuarter, toll.LateQuarter, toll.LateQuarter)
	d.TooLate = pane(d.TooLate, toll.TooLate, toll.TooLate)
}

// minutes returns the minutes from the first to behind the last event.
func (b *builder) minutes() toll.Window {
	var w toll.Window
	first := true
	for c := range b.cells {
		if first {
			w, first = toll.Window{Start: c.minute, End: c.minute}, false
		}
		w.Start, w.End = min(w.Start, c.minute), max(w.End, c.minute)
	}
	if !first && w.End < math.MaxInt32 {
		w.End++
	}
	return w
}

// RetryHeader is the header of a repaired dead letter that is sent again: partition:offset of the
// record that it repairs. The event is stored once however often it is sent.
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
	return toll.Origin{Partition: int32(partition), Offset: offset}, err1 == nil && err2 == nil &&
		partition >= 0 && offset >= 0
}

// tooLate counts, for a partition, the events of a batch that came too late for windows that they
// belong to. That is known once a batch is built and never changes, so it is stored with the batch.
type tooLate struct {
	kinds []toll.WindowKind
	zones *toll.ZoneSet
}

// of returns the counts of a batch's deltas, ascending by window. It is nil nearly always.
func (t *tooLate) of(deltas []toll.PlazaDelta) []toll.TooLateCount {
	var counts map[toll.WindowID]*toll.TooLateCount
	var few [16]toll.Window
	for i := range deltas {
		d := &deltas[i]
		if len(d.LateQuarter) == 0 && len(d.TooLate) == 0 {
			continue
		}
		if counts == nil {
			counts = map[toll.WindowID]*toll.TooLateCount{}
		}
		zone := t.zones.Of(d.Plaza)
		for k := range t.kinds {
			kind := &t.kinds[k]
			add := func(panes []toll.Pane) {
				for j := range panes {
					for _, w := range kind.Covering(zone, panes[j].Start, few[:0]) {
						id := toll.WindowID{Plaza: d.Plaza, Kind: kind.Name, Start: w.Start}
						if counts[id] == nil {
							counts[id] = &toll.TooLateCount{WindowID: id, End: w.End}
						}
						counts[id].Events += panes[j].Count()
					}
				}
			}
			if !kind.OfQuarters() {
				add(d.LateQuarter)
			}
			add(d.TooLate)
		}
	}
	if counts == nil {
		return nil
	}
	list := make([]toll.TooLateCount, 0, len(counts))
	for _, c := range slices.SortedFunc(maps.Values(counts), func(a, b *toll.TooLateCount) int {
		return cmp.Or(cmp.Compare(a.Plaza, b.Plaza), strings.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Start, b.Start))
	}) {
		list = append(list, *c)
	}
	return list
}
