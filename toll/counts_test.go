package toll

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestAddTypes(t *testing.T) {
	for _, c := range []struct{ into, add, want []TypeCount }{
		{nil, nil, nil},
		{nil, []TypeCount{{"car", 1}}, []TypeCount{{"car", 1}}},
		{[]TypeCount{{"car", 1}}, []TypeCount{{"car", 2}}, []TypeCount{{"car", 3}}},
		{[]TypeCount{{"car", 1}, {"van", 5}}, []TypeCount{{"bus", 2}, {"truck", 3}, {"zoo", 4}},
			[]TypeCount{{"bus", 2}, {"car", 1}, {"truck", 3}, {"van", 5}, {"zoo", 4}}},
		{[]TypeCount{{"car", 1}}, []TypeCount{{"Car", 2}}, []TypeCount{{"Car", 2}, {"car", 1}}},
	} {
		if got := AddTypes(slices.Clone(c.into), c.add); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v + %v = %v, want %v", c.into, c.add, got, c.want)
		}
	}
}

func TestAddTypesCap(t *testing.T) {
	var types []TypeCount
	for i := range 100 {
		types = AddTypes(types, []TypeCount{{fmt.Sprintf("type%02d", i), 1}})
		if want := min(i+1, MaxTypes); len(types) != want {
			t.Fatalf("%d types after %d", len(types), i+1)
		}
		if SumTypes(types) != int64(i+1) {
			t.Fatalf("%d counted of %d", SumTypes(types), i+1)
		}
	}
	if !slices.IsSortedFunc(types, func(a, b TypeCount) int { return cmp.Compare(a.Type, b.Type) }) {
		t.Errorf("not ascending: %v", types)
	}
	if want := (TypeCount{OtherType, 100 - (MaxTypes - 1)}); !slices.Contains(types, want) {
		t.Errorf("%v lacks %v", types, want)
	}
	types = AddTypes(types, []TypeCount{{"type05", 1}, {OtherType, 1}, {"new", 1}})
	if want := (TypeCount{OtherType, 100 - (MaxTypes - 1) + 2}); !slices.Contains(types, want) ||
		!slices.Contains(types, TypeCount{"type05", 2}) {
		t.Errorf("%v lacks %v", types, want)
	}
}

func TestFlowPerHour(t *testing.T) {
	for _, c := range []struct {
		n    int64
		span time.Duration
		want float64
	}{
		{12, time.Minute, 720},
		{12, 15 * time.Minute, 48},
		{12, time.Hour, 12},
		{12, 24 * time.Hour, 0.5},
		{0, time.Minute, 0},
		{12, 0, 0},
	} {
		if got := FlowPerHour(c.n, c.span); got != c.want {
			t.Errorf("%d in %v: %v per hour, want %v", c.n, c.span, got, c.want)
		}
	}
}
