package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/codecs/mapping"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/registry"
)

// Check is what the records of a file or a topic would be.
type Check struct {
	Source  string `json:"source"`
	Mapping string `json:"mapping,omitzero"` // by which they were read; "" for the usual form
	Records int64  `json:"records"`
	Rows    int64  `json:"rows"`           // more than records where records hold several events
	First   string `json:"first,omitzero"` // the first row
	// DeadLetters has an entry for each kind that there is, most of them first.
	DeadLetters []Reason `json:"dead_letters"`
	// Proposal is a mapping by which more of the records would be rows; nil for none.
	Proposal *Proposal `json:"proposal,omitzero"`
}

// Reason is why records would be dead letters.
type Reason struct {
	Kind   toll.RejectKind `json:"kind"`
	Count  int64           `json:"count"`
	Where  string          `json:"where"` // the first of them
	Reason string          `json:"reason"`
}

// Rejected returns how many of the records would be dead letters.
func (c *Check) Rejected() (n int64) {
	for _, r := range c.DeadLetters {
		n += r.Count
	}
	return n
}

// checker makes a Check of one record after the other.
type checker struct {
	check      Check
	sample     []record
	sampleSize int
	// decoder returns a decoder by a mapping, of records like those that are checked.
	decoder func(*mapping.Mapping) *codecs.Decoder
	// like are mappings that a proposal extends: one that says nothing, or that names a message.
	like []mapping.Mapping
}

// record is one of a file or a topic.
type record struct {
	value       []byte
	contentType string
}

// Bounds of what a proposal is made of.
const (
	maxSample      = 1000
	maxSampleBytes = 4 << 20
)

// add adds a record of events, of which err says that it is none. Its value is nil where it can't
// be had.
func (c *checker) add(where string, r record, e *toll.Event, events int, err error) {
	c.check.Records++
	if r.value != nil && len(c.sample) < maxSample && c.sampleSize+len(r.value) <= maxSampleBytes {
		r.value = bytes.Clone(r.value)
		c.sample = append(c.sample, r)
		c.sampleSize += len(r.value)
	}
	if err == nil {
		if c.check.Rows == 0 {
			c.check.First = describe(e)
		}
		c.check.Rows += int64(events)
		return
	}
	kind := toll.RejectKindOf(err)
	at := slices.IndexFunc(c.check.DeadLetters, func(r Reason) bool { return r.Kind == kind })
	if at < 0 {
		at = len(c.check.DeadLetters)
		c.check.DeadLetters = append(c.check.DeadLetters, Reason{Kind: kind, Where: where,
			Reason: err.Error()})
	}
	c.check.DeadLetters[at].Count++
}

// describe shows an event's fields by their names.
func describe(e *toll.Event) string {
	return fmt.Sprintf("time %s, vehicle_id %d, vehicle_type %s, toll_plaza_id %d", e.Time, e.Vehicle,
		text.Escape(e.Type), e.Plaza)
}

func (c *checker) done() *Check {
	slices.SortStableFunc(c.check.DeadLetters, func(a, b Reason) int { return int(b.Count - a.Count) })
	if c.check.DeadLetters == nil {
		c.check.DeadLetters = []Reason{}
		return &c.check
	}
	if p := c.propose(); p != nil &&
		float64(p.Rows)/float64(p.Records) >
			1-float64(c.check.Rejected())/float64(c.check.Records) {
		c.check.Proposal = p
	}
	return &c.check
}

// CheckFile checks the events of a file.
func CheckFile(name string, source io.Reader, zone *toll.Zone, m *mapping.Mapping) (*Check, error) {
	r, err := NewReader(source, zone, m)
	if err != nil {
		return nil, err
	}
	c := checker{check: Check{Source: name}, like: make([]mapping.Mapping, 1),
		decoder: func(m *mapping.Mapping) *codecs.Decoder {
			return codecs.NewMappedDecoder(codecs.Auto, zone, m)
		}}
	for {
		var e toll.Event
		value, err := r.Next(&e)
		var long *LongError
		switch {
		case errors.Is(err, io.EOF):
			if m := r.Mapping(); m != nil {
				c.check.Mapping = m.String()
			}
			return c.done(), nil
		case errors.As(err, &long):
			err = toll.Malformed(toll.RejectOversized, "%s", long.Error())
		case err != nil && !errors.Is(err, toll.ErrMalformed):
			return nil, err
		}
		if c.check.Records == 0 && r.names != nil {
			c.sample = append(c.sample, record{value: r.names})
		}
		c.add(fmt.Sprintf("line %d", r.Line()), record{value: value}, &e, 1, err)
	}
}

// Topic says what of a topic is checked, and how it is read.
type Topic struct {
	Cluster kafka.Cluster
	Name    string
	Zone    *toll.Zone
	Format  codecs.Format
	Mapping *mapping.Mapping   // nil for the usual form
	Schemas *registry.Registry // nil for none
	Most    int64              // records of each partition
	// Messages are those of Protobuf that records may hold, where the mapping names none.
	Messages []protoreflect.MessageDescriptor
}

// like returns the mappings that a proposal extends.
func (t *Topic) like() []mapping.Mapping {
	var m mapping.Mapping
	if t.Mapping != nil {
		m = mapping.Mapping{Descriptors: t.Mapping.Descriptors, Message: t.Mapping.Message,
			Descriptor: t.Mapping.Descriptor}
	}
	if len(t.Messages) == 0 {
		return []mapping.Mapping{m}
	}
	var like []mapping.Mapping
	for _, d := range t.Messages {
		m.Message, m.Descriptor = string(d.FullName()), d
		like = append(like, m)
	}
	return like
}

// CheckTopic checks the records of a topic.
func CheckTopic(ctx context.Context, t Topic) (*Check, error) {
	decoder := codecs.NewMappedDecoder(t.Format, t.Zone, t.Mapping)
	admin, err := t.Cluster.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	info, found, err := admin.Topic(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, toll.Permanent("run: tollstream init", "topic %s does not exist", t.Name)
	}
	schemas := map[uint32]*codecs.Schema{}
	c := checker{check: Check{Source: "topic " + t.Name}, like: t.like(),
		decoder: func(m *mapping.Mapping) *codecs.Decoder {
			d := codecs.NewMappedDecoder(t.Format, t.Zone, m)
			for id, schema := range schemas {
				d.Learn(id, schema)
			}
			return d
		}}
	if t.Mapping != nil {
		c.check.Mapping = t.Mapping.String()
	}
	for partition := range int32(info.Partitions) {
		oldest, err := admin.Offsets(ctx, t.Name, kafka.Oldest, partition)
		if err != nil {
			return nil, err
		}
		left := t.Most
		for next := oldest[partition]; left > 0; {
			records, to, err := admin.Read(ctx, t.Name, partition, next)
			if err != nil {
				return nil, err
			}
			if to == next {
				break // the end
			}
			for _, r := range records[:min(int64(len(records)), left)] {
				left--
				var contentType string
				for _, h := range r.Headers {
					if h.Key == codecs.ContentTypeHeader {
						contentType = string(h.Value)
					}
				}
				var e toll.Event
				var more []toll.Event
				err := toll.Malformed(toll.RejectTombstone, "no value (a tombstone)")
				if id := decoder.Lacks(r.Value); id != 0 && t.Schemas != nil {
					schema, err := t.Schemas.Schema(ctx, id)
					if err != nil {
						return nil, err
					}
					schemas[id] = schema
					decoder.Learn(id, schema)
				}
				if r.Value != nil {
					more, err = decoder.DecodeAll(r.Value, contentType, &e)
				}
				c.add(fmt.Sprintf("%d:%d", partition, r.Offset), record{r.Value, contentType}, &e,
					1+len(more), err)
			}
			next = to
		}
	}
	return c.done(), nil
}

// Write prints a check for people.
func (c *Check) Write(w io.Writer) {
	read := "in the usual form"
	if c.Mapping != "" {
		read = "by " + c.Mapping
	}
	fmt.Fprintf(w, "%s, read %s\n\n", c.Source, read)
	table.WriteFigures(w, []table.Figure{
		{"records", text.Number(c.Records)},
		{"rows", text.Number(c.Rows)},
		{"dead letters", text.Number(c.Rejected())},
	})
	if c.First != "" {
		fmt.Fprintf(w, "\nfirst row: %s\n", c.First)
	}
	if len(c.DeadLetters) > 0 {
		fmt.Fprintln(w)
		t := table.New(w, table.Left("KIND"), table.Right("RECORDS"), table.Left("FIRST"),
			table.Left("REASON"))
		for _, r := range c.DeadLetters {
			t.AppendRow([]any{r.Kind, text.Number(r.Count), r.Where, text.Escape(r.Reason)})
		}
		_ = t.Render()
	}
	if p := c.Proposal; p != nil {
		rows := "rows"
		if p.Events > p.Rows {
			rows = text.Number(p.Events) + " rows"
		}
		fmt.Fprintf(w, "\nBy this mapping %s of the first %s would be %s:\n\n  --mapping '%s'\n\n"+
			"first row: %s\n", text.Number(p.Rows), text.Count(p.Records, "record"), rows, p.Mapping,
			p.First)
		for _, note := range p.Notes {
			fmt.Fprintln(w, note)
		}
	}
}
