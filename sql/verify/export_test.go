package verify

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

const MaxPoints = maxPoints

var (
	MaxRowWindows  = &maxRowWindows
	MaxVerifyPanes = &maxVerifyPanes
	Snapshots      = snapshots
)

// kindsOfProblems returns the values of the constants KindX of problem.go.
func kindsOfProblems(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Kind") {
			return true
		}
		kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, kind)
		return true
	})
	return kinds
}

// TestNextStepOfEachKind: each kind of problem has a next step, and a line in the table of the
// documentation.
func TestNextStepOfEachKind(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := kindsOfProblems(t)
	if len(kinds) < 24 {
		t.Fatalf("found only %q", kinds)
	}
	for _, kind := range kinds {
		var p problems
		p.add(Problem{Kind: kind})
		if p.list[0].Next == "" {
			t.Errorf("nextStep has nothing for %q", kind)
		}
		if !strings.Contains(string(doc), "`"+kind+"`") {
			t.Errorf("docs/operations.md does not say what to do about %q", kind)
		}
	}
}
