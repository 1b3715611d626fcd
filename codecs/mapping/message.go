package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

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
	message, ok := found.(protoreflect.MessageDescriptor)
	if err != nil || !ok {
		return fmt.Errorf("no message %q", m.Message)
	}
	m.Descriptor = message
	return nil
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
