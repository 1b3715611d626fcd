// Package corpus gives a fuzz target its stored inputs, which are packed into one file per package.
//
// The archive testdata/corpus.txtar holds a file per target: its inputs, separated by blank lines.
// Each line is one argument of the target, as in Go's own corpus files: []byte("\x00"), int64(-5),
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
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// File is the path of the archive, relative to a package's folder.
const File = "testdata/corpus.txtar"

// Add adds the stored inputs of a fuzz target as its seeds; none where it has none.
func Add(f *testing.F) {
	f.Helper()
	inputs, err := Read(File, f.Name())
	if err != nil {
		f.Fatal(err)
	}
	for _, input := range inputs {
		values, err := values(input)
		if err != nil {
			f.Fatalf("%s: %s: %v", File, f.Name(), err)
		}
		f.Add(values...)
	}
}

// Read returns the inputs of a target, each with a line per argument; none where there is no
// archive.
func Read(path, target string) ([]string, error) {
	archive, err := parse(path)
	if err != nil {
		return nil, err
	}
	var inputs []string
	for _, file := range archive.Files {
		if file.Name != target {
			continue
		}
		for input := range strings.SplitSeq(string(file.Data), "\n\n") {
			inputs = append(inputs, strings.Trim(input, "\n")+"\n")
		}
	}
	return inputs, nil
}

// Write replaces the inputs of a target, or removes it where there are none.
func Write(path, target string, inputs []string) error {
	archive, err := parse(path)
	if err != nil {
		return err
	}
	at, found := slices.BinarySearchFunc(archive.Files, target,
		func(f txtar.File, name string) int { return strings.Compare(f.Name, name) })
	if found {
		archive.Files = slices.Delete(archive.Files, at, at+1)
	}
	if len(inputs) > 0 {
		archive.Files = slices.Insert(archive.Files, at,
			txtar.File{Name: target, Data: []byte(strings.Join(inputs, "\n"))})
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return os.WriteFile(path, txtar.Format(archive), 0o666)
}

// parse reads an archive, an empty one where there is no file. Its files are sorted by name.
func parse(path string) (*txtar.Archive, error) {
	archive, err := txtar.ParseFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &txtar.Archive{}, nil
	}
	return archive, err
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
