// Package corpus gives a fuzz target its stored inputs, which are packed into one file per target.
//
// The file testdata/corpus/FuzzX.txt holds the inputs of FuzzX, separated by blank lines. Each line
// is one argument of the target, as in Go's own corpus files: []byte("\x00"), int64(-5),
// string("car"). testdata/fuzz is left to inputs that once failed, one file each, as go test writes
// them.
package corpus

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Folder holds the packed files, relative to a package's folder.
const Folder = "testdata/corpus"

// File returns the path of a target's packed file, relative to its package's folder.
func File(target string) string { return filepath.Join(filepath.FromSlash(Folder), target+".txt") }

// Add adds the stored inputs of a fuzz target as its seeds; none where it has no file.
func Add(f *testing.F) {
	f.Helper()
	inputs, err := Read(File(f.Name()))
	if err != nil {
		f.Fatal(err)
	}
	for _, input := range inputs {
		values, err := values(input)
		if err != nil {
			f.Fatalf("%s: %v", File(f.Name()), err)
		}
		f.Add(values...)
	}
}

// Read returns the inputs of a packed file, each with a line per argument; none where there is no
// file.
func Read(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var inputs []string
	for input := range strings.SplitSeq(string(text), "\n\n") {
		if input = strings.Trim(input, "\n"); input != "" {
			inputs = append(inputs, input+"\n")
		}
	}
	return inputs, nil
}

// Write replaces a packed file, or removes it where there are no inputs.
func Write(path string, inputs []string) error {
	if len(inputs) == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Join(inputs, "\n")), 0o666)
}

// values returns the arguments that an input holds.
func values(input string) ([]any, error) {
	var all []any
	for line := range strings.Lines(input) {
		v, err := value(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", line, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// value reads one argument: a conversion of a literal to the argument's type.
func value(line string) (any, error) {
	expr, err := parser.ParseExpr(line)
	if err != nil {
		return nil, err
	}
	call, ok := expr.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return nil, errors.New("want type(literal)")
	}
	literal, sign := call.Args[0], ""
	if minus, ok := literal.(*ast.UnaryExpr); ok && minus.Op == token.SUB {
		literal, sign = minus.X, "-"
	}
	text := ""
	switch l := literal.(type) {
	case *ast.BasicLit:
		text = sign + l.Value
	case *ast.Ident:
		text = l.Name // true, false
	}
	if _, ok := call.Fun.(*ast.ArrayType); ok { // []byte, the only one
		s, err := strconv.Unquote(text)
		return []byte(s), err
	}
	kind, ok := call.Fun.(*ast.Ident)
	if !ok {
		return nil, errors.New("want type(literal)")
	}
	return scalar(kind.Name, text)
}

// scalar reads a literal of a type that fuzz targets take.
func scalar(kind, text string) (any, error) {
	switch kind {
	case "string":
		return strconv.Unquote(text)
	case "bool":
		return strconv.ParseBool(text)
	case "float32":
		n, err := strconv.ParseFloat(text, 32)
		return float32(n), err
	case "float64":
		return strconv.ParseFloat(text, 64)
	case "byte", "rune":
		if strings.HasPrefix(text, "'") {
			r, _, _, err := strconv.UnquoteChar(text[1:len(text)-1], '\'')
			if kind == "byte" {
				return byte(r), err
			}
			return r, err
		}
	}
	if strings.HasPrefix(kind, "u") || kind == "byte" {
		n, err := strconv.ParseUint(text, 0, 64)
		switch kind {
		case "uint":
			return uint(n), err
		case "uint8", "byte":
			return uint8(n), err
		case "uint16":
			return uint16(n), err
		case "uint32":
			return uint32(n), err
		case "uint64":
			return n, err
		}
	}
	n, err := strconv.ParseInt(text, 0, 64)
	switch kind {
	case "int":
		return int(n), err
	case "int8":
		return int8(n), err
	case "int16":
		return int16(n), err
	case "int32", "rune":
		return int32(n), err
	case "int64":
		return n, err
	}
	return nil, fmt.Errorf("unknown type %s", kind)
}
