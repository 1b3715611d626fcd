package mapping

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Describe gives a mapping that names a message of Protobuf its descriptor, from a set of
// descriptors as protoc writes it.
func (m *Mapping) Describe(set []byte) error {
	var files descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(set, &files); err != nil {
		return errors.New(
			"no set of descriptors, as protoc --include_imports --descriptor_set_out writes")
	}
	known, err := protodesc.NewFiles(&files)
	if err != nil {
		return err
	}
	found, err := known.FindDescriptorByName(protoreflect.FullName(m.Message))
	if message, ok := found.(protoreflect.MessageDescriptor); ok && err == nil {
		m.Descriptor = message
		return nil
	}
	missing := &MessageError{Message: m.Message}
	known.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if f.Package() != "google.protobuf" {
			missing.add(f.Messages())
		}
		return true
	})
	slices.SortFunc(missing.Known, func(a, b protoreflect.MessageDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return missing
}

// MessageError is about a mapping that names no message of its descriptors. Known are those that
// they have, without Protobuf's own.
type MessageError struct {
	Message string // "" where the mapping names none
	Known   []protoreflect.MessageDescriptor
}

func (e *MessageError) add(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		if m := messages.Get(i); !m.IsMapEntry() {
			e.Known = append(e.Known, m)
			e.add(m.Messages())
		}
	}
}

func (e *MessageError) Error() string {
	const most = 10
	var names []string
	for _, m := range e.Known[:min(len(e.Known), most)] {
		names = append(names, string(m.FullName()))
	}
	if len(e.Known) > most {
		names = append(names, "…")
	}
	if e.Message == "" {
		return "the mapping needs message, one of " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("no message %q; there are %s", e.Message, strings.Join(names, ", "))
}

// Compile compiles a schema of Protobuf, with the files that it imports by their names; those of
// Protobuf itself are known.
func Compile(ctx context.Context, text string, imports map[string]string) (
	protoreflect.FileDescriptor, error) {
	const name = "schema" // which none imports: their names end in .proto
	files := map[string]string{name: text}
	maps.Copy(files, imports)
	compiler := protocompile.Compiler{MaxParallelism: 1,
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
			Accessor: protocompile.SourceAccessorFromMap(files)})}
	compiled, err := compiler.Compile(ctx, name)
	if err != nil {
		return nil, err
	}
	return compiled[0], nil
}

// MessageAt returns the message of a file at some indexes, each within the one before; nil where
// there is none.
func MessageAt(file protoreflect.FileDescriptor, indexes []int) (m protoreflect.MessageDescriptor) {
	within := file.Messages()
	for _, i := range indexes {
		if i >= within.Len() {
			return nil
		}
		m = within.Get(i)
		within = m.Messages()
	}
	return m
}

// maxIndexes bounds how deep a message stands in others.
const maxIndexes = 32

// Indexes reads what Confluent's serializers write before a message, to say which one of a schema
// it is: the number of indexes, and each of them; a single 0 stands for the first message.
func Indexes(b []byte) (indexes []int, rest []byte, ok bool) {
	next := func() (v int64) {
		u, n := protowire.ConsumeVarint(b)
		if v = protowire.DecodeZigZag(u); n < 0 || v < 0 || v > math.MaxInt32 {
			ok = false
			return 0
		}
		b = b[n:]
		return v
	}
	ok = true
	count := next()
	if count == 0 {
		return []int{0}, b, ok
	}
	for ; count > 0 && ok && len(indexes) <= maxIndexes; count-- {
		indexes = append(indexes, int(next()))
	}
	return indexes, b, ok && len(indexes) <= maxIndexes
}

// Unset is the value of a number that a message does not hold, and of which its schema can't tell
// that from 0.
type Unset struct{}

// Tree returns a message of Protobuf as maps by the names of its fields, lists and values.
func Tree(m protoreflect.Message) map[string]any {
	fields := m.Descriptor().Fields()
	tree := make(map[string]any, fields.Len())
	for i := range fields.Len() {
		f := fields.Get(i)
		v := m.Get(f)
		switch {
		case f.IsList():
			list := make([]any, v.List().Len())
			for j := range list {
				list[j] = valueOf(f, v.List().Get(j))
			}
			tree[string(f.Name())] = list
		case f.IsMap():
			entries := map[string]any{}
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				entries[key.String()] = valueOf(f.MapValue(), v)
				return true
			})
			tree[string(f.Name())] = entries
		case m.Has(f):
			tree[string(f.Name())] = valueOf(f, v)
		case !f.HasPresence() && isNumber(v):
			tree[string(f.Name())] = Unset{}
		}
	}
	return tree
}

func isNumber(v protoreflect.Value) bool {
	switch v.Interface().(type) {
	case int32, int64, uint32, uint64, float32, float64:
		return true
	}
	return false
}

func valueOf(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch v := v.Interface().(type) {
	case protoreflect.Message:
		return messageOf(v)
	case protoreflect.EnumNumber:
		if named := f.Enum().Values().ByNumber(v); named != nil {
			return string(named.Name())
		}
		return int64(v)
	case uint32:
		return int64(v)
	case uint64:
		if v > math.MaxInt64 {
			return json.Number(strconv.FormatUint(v, 10))
		}
		return int64(v)
	default:
		return v
	}
}

// messageOf returns a tree, and of Protobuf's own messages what they stand for.
func messageOf(m protoreflect.Message) any {
	d := m.Descriptor()
	switch value := d.Fields().ByName("value"); {
	case d.FullName() == "google.protobuf.Timestamp":
		return time.Unix(m.Get(d.Fields().ByNumber(1)).Int(), m.Get(d.Fields().ByNumber(2)).Int())
	case d.FullName().Parent() == "google.protobuf" && d.Fields().Len() == 1 && value != nil:
		return valueOf(value, m.Get(value)) // Int64Value and the like
	}
	return Tree(m)
}
