package codecs

import (
	"errors"
	"sync"
	"testing"

	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/toll"
)

var (
	_ goka.Codec = (*EventCodec)(nil)
	_ goka.Codec = Raw{}
)

func TestEventCodec(t *testing.T) {
	for f, want := range payloads(t) {
		c := NewEventCodec(f, berlin(t))
		e := sample
		for _, value := range []any{e, &e, want} {
			got, err := c.Encode(value)
			if err != nil || string(got) != string(want) {
				t.Errorf("%v: Encode(%T) = %q, %v", f, value, got, err)
			}
		}
		if got, err := c.Decode(want); err != nil || got != e {
			t.Errorf("%v: Decode = %v, %v", f, got, err)
		}
		if _, err := c.Decode([]byte("\x00")); !errors.Is(err, toll.ErrMalformed) {
			t.Errorf("%v: %v", f, err)
		}
	}
}

func TestEventCodecRefuses(t *testing.T) {
	comma := event("2022-02-10 10:23:02", 1, "a,b", 2)
	negative := sample
	negative.Vehicle = -1
	c := NewEventCodec(Auto, nil)
	for _, value := range []any{nil, "text", (*toll.Event)(nil), toll.Event{}, negative} {
		if got, err := c.Encode(value); err == nil {
			t.Errorf("Encode(%#v) = %q", value, got)
		}
	}
	for _, f := range []Format{JSON, CSV} {
		payload, err := NewEventCodec(f, nil).Encode(comma)
		if err != nil {
			t.Errorf("%v can hold a comma: %v", f, err)
		}
		if again, err := NewEventCodec(f, nil).Decode(payload); err != nil || again != comma {
			t.Errorf("%s came back as %v, %v", payload, again, err)
		}
	}
}

func TestEventCodecIsForSeveralGoroutines(t *testing.T) {
	for f, want := range payloads(t) {
		c := NewEventCodec(f, berlin(t))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 100 {
					if got, err := c.Encode(sample); err != nil || string(got) != string(want) {
						t.Errorf("Encode = %q, %v", got, err)
					}
					if got, err := c.Decode(want); err != nil || got != sample {
						t.Errorf("Decode = %v, %v", got, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestRaw(t *testing.T) {
	if got, err := (Raw{}).Decode([]byte("\x00x")); err != nil || string(got.([]byte)) != "\x00x" {
		t.Errorf("Decode = %v, %v", got, err)
	}
	if got, err := (Raw{}).Encode([]byte("x")); err != nil || string(got) != "x" {
		t.Errorf("Encode = %q, %v", got, err)
	}
	if _, err := (Raw{}).Encode("x"); err == nil {
		t.Error("encoded a string")
	}
}
