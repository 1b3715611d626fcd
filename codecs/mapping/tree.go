package mapping

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/avro"

	"github.com/tollstream/tollstream/toll"
)

// Find returns the value at a path, nil for none. A name that holds dots itself is found too.
func Find(tree any, path string) any {
	for {
		switch node := tree.(type) {
		case map[string]any:
			if value, ok := node[path]; ok {
				return value
			}
			head, rest, more := strings.Cut(path, ".")
			if !more {
				return nil
			}
			tree, path = node[head], rest
		case []any:
			head, rest, more := strings.Cut(path, ".")
			i, err := strconv.Atoi(head)
			switch {
			case err != nil || i < 0 || i >= len(node):
				return nil
			case !more:
				return node[i]
			}
			tree, path = node[i], rest
		default:
			return nil
		}
	}
}

// Outside begins a path from a record's outermost value, and not from an event in it.
const Outside = "$."

// Find returns the value of a field of an event, which is a part of a tree; nil for none.
func (m *Mapping) Find(f Field, tree, event any) any {
	path := string(m.Places[f])
	if rest, ok := strings.CutPrefix(path, Outside); ok && m.Events != "" {
		return Find(tree, rest)
	}
	return Find(event, path)
}

// Text returns a value of a tree as text, in which a number has all its digits.
func Text(f Field, value any) ([]byte, error) {
	switch v := value.(type) {
	case string:
		return []byte(v), nil
	case []byte:
		return v, nil
	case Unset:
		if f == Time {
			return nil, toll.Malformed(f.Kind(), "missing")
		}
		return []byte("0"), nil
	case json.Number:
		return plainNumber(string(v)), nil
	case int32:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case float32:
		return strconv.AppendFloat(nil, float64(v), 'f', -1, 32), nil
	case float64:
		return strconv.AppendFloat(nil, v, 'f', -1, 64), nil
	case *big.Rat:
		if v.IsInt() {
			return []byte(v.Num().String()), nil
		}
		return []byte(v.FloatString(9)), nil
	case WallClock:
		return []byte(time.Time(v).UTC().Format("2006-01-02 15:04:05")), nil
	}
	const most = 40
	shown := fmt.Sprint(value)
	return nil, toll.Malformed(f.Kind(), "%s is neither text nor a number",
		strconv.QuoteToASCII(shown[:min(len(shown), most)]))
}

// WallClock is a time of day and date that is no instant, as Avro's local timestamps are.
type WallClock time.Time

// ParseAvro reads a schema of Avro, by which values decode to trees.
func ParseAvro(text string) (*avro.Schema, error) {
	wall := func(unit time.Duration) func(any, *avro.SchemaNode) (any, error) {
		return func(v any, _ *avro.SchemaNode) (any, error) {
			n, ok := v.(int64)
			if !ok {
				return nil, avro.ErrSkipCustomType
			}
			perSecond := int64(time.Second / unit)
			return WallClock(time.Unix(n/perSecond, n%perSecond*int64(unit))), nil
		}
	}
	return avro.Parse(text,
		avro.CustomType{LogicalType: "local-timestamp-millis", Decode: wall(time.Millisecond)},
		avro.CustomType{LogicalType: "local-timestamp-micros", Decode: wall(time.Microsecond)},
		avro.CustomType{LogicalType: "local-timestamp-nanos", Decode: wall(time.Nanosecond)})
}

// plainNumber writes out the exponent of a JSON number of a reasonable size.
func plainNumber(s string) []byte {
	if !strings.ContainsAny(s, "eE") {
		return []byte(s)
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.Abs(v) >= 1<<53 {
		return []byte(s)
	}
	return strconv.AppendFloat(nil, v, 'f', -1, 64)
}
