package corpus

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

func TestValues(t *testing.T) {
	for text, want := range map[string]any{
		`[]byte("a\x00\"")`: []byte("a\x00\""), `string("€\n")`: "€\n", `string("")`: "",
		`bool(true)`: true,
		`int(-5)`:    -5, `int8(-128)`: int8(-128), `int16(7)`: int16(7), `int32(-1)`: int32(-1),
		`int64(-9223372036854775808)`:  int64(-9223372036854775808),
		`uint64(18446744073709551615)`: uint64(1<<64 - 1),
		`uint16(65535)`:                uint16(65535), `uint32(3)`: uint32(3), `uint(3)`: uint(3),
		`uint8(255)`:   uint8(255),
		`byte('\x00')`: byte(0), `byte('\'')`: byte('\''), `byte('\u00ff')`: byte(255), `rune('€')`: '€',
		`rune(-1)`:     rune(-1),
		`float32(1.5)`: float32(1.5), `float64(-0.25)`: -0.25,
	} {
		got, err := values(text + "\n")
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: %#v, %v", text, got, err)
		}
	}
	for _, text := range []string{"5", "int(", "complex64(1)", `int("x")`, "uint8(-1)", "a.b(1)",
		"int(1, 2)", "uintptr(1)"} {
		if got, err := values(text + "\n"); err == nil {
			t.Errorf("%s: %#v", text, got)
		}
	}
}

func TestReadWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), File)
	others := map[string][]string{"FuzzA": {"int(1)\n"}, "FuzzY": {"int(2)\n", "int(3)\n"}}
	for target, inputs := range others {
		if err := Write(file, target, inputs); err != nil {
			t.Fatal(err)
		}
	}
	for _, inputs := range [][]string{nil, {"int(1)\nint(2)\n"},
		{"int(1)\n", "string(\"\\n\\n\")\n", "int(3)\n"}, nil} {
		if err := Write(file, "FuzzX", inputs); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(file, "FuzzX"); err != nil || !slices.Equal(got, inputs) {
			t.Errorf("got %q, %v, want %q", got, err, inputs)
		}
		for target, inputs := range others {
			if got, err := Read(file, target); err != nil || !slices.Equal(got, inputs) {
				t.Errorf("%s: got %q, %v, want %q", target, got, err, inputs)
			}
		}
	}
	if got, err := Read(filepath.Join(t.TempDir(), File), "FuzzX"); err != nil || got != nil {
		t.Errorf("without an archive: %q, %v", got, err)
	}
}
