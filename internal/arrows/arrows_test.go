// Package arrows holds a test that keeps the arrows between our packages as ARCHITECTURE.md lists
// them.
package arrows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/tools/go/packages"
)

const module = "github.com/tollstream/tollstream/"

// knows says which of our packages each of them may import, outside of its tests. A package that
// only holds tests needs no line. all is for the packages that wire the others, which nobody may
// import.
var knows = map[string][]string{
	"toll":           {},
	"toll/traffic":   {"toll"},
	"toll/journeys":  {"toll"},
	"codecs/tollpb":  {},
	"codecs/mapping": {"toll"},
	"codecs":         {"toll", "codecs/mapping", "codecs/tollpb"},
	"codecs/wire":    {"toll"},
	"topology": {"internal/wait", "codecs", "codecs/wire", "toll", "topology/closing",
		"topology/ingest",
		"topology/kafka", "topology/kafka/fetch", "topology/monitor", "topology/reconcile",
		"topology/table"},
	"topology/kafka": {"internal/wait", "codecs/wire", "toll", "internal/trust",
		"topology/kafka/fetch"},
	"topology/monitor": {"internal/wait", "toll", "toll/traffic", "topology/kafka",
		"topology/kafka/fetch"},
	"topology/table": {"internal/wait", "codecs/wire", "toll", "topology/kafka",
		"topology/kafka/fetch"},
	"topology/ingest": {"internal/wait", "codecs", "codecs/mapping", "codecs/wire", "toll",
		"topology/kafka",
		"topology/kafka/fetch",
		"topology/monitor"},
	"topology/closing": {"internal/wait", "codecs/wire", "toll", "toll/traffic",
		"topology/kafka",
		"topology/monitor"},
	"topology/internal/simtest": {"toll", "topology/kafka"},
	"topology/emitter":          {"internal/wait", "codecs", "toll", "topology/kafka"},
	"topology/reconcile": {"internal/wait", "codecs/wire", "toll", "internal/text", "topology/ingest",
		"topology/kafka", "topology/monitor"},
	"topology/registry":    {"toll", "codecs", "internal/trust"},
	"topology/kafka/fetch": {"internal/wait", "toll"},
	"sql": {"toll", "internal/text", "sql/internal/db",
		"sql/internal/tables", "sql/incidents", "sql/ingest", "sql/journeys",
		"sql/results", "sql/verify", "sql/retention"},
	"sql/internal/db":     {"toll", "internal/trust"},
	"sql/internal/tables": {"toll", "toll/traffic", "internal/text", "sql/internal/db"},
	"sql/journeys":        {"toll", "toll/journeys", "sql/internal/db", "sql/internal/tables"},
	"sql/incidents":       {"toll", "toll/traffic", "sql/internal/db", "sql/internal/tables"},
	"sql/internal/dbtest": {"toll", "toll/traffic", "internal/devstack", "internal/testkit", "sql",
		"sql/internal/db", "sql/internal/tables", "sql/ingest", "sql/results", "sql/verify",
		"sql/retention"},
	"sql/ingest":           {"toll", "sql/internal/db", "sql/internal/tables"},
	"sql/results":          {"toll", "toll/traffic", "sql/internal/db", "sql/internal/tables"},
	"sql/internal/rowscan": {"toll", "sql/internal/db", "sql/internal/tables"},
	"sql/verify": {"toll", "internal/text", "sql/internal/db", "sql/internal/rowscan",
		"sql/internal/tables"},
	"sql/retention": {"toll", "toll/traffic", "internal/text", "sql/internal/db",
		"sql/internal/tables"},
	"web": {"toll", "toll/traffic", "internal/board", "internal/text", "web/incidents",
		"web/serve"},
	"web/incidents":          {"toll", "toll/traffic", "internal/board", "internal/text", "web/serve"},
	"web/serve":              {"internal/text"},
	"internal/bench/figures": {},
	"internal/admin": {"toll", "codecs/wire", "sql", "sql/verify", "sql/retention",
		"topology/kafka", "topology/kafka/fetch", "topology/table", "internal/clocks",
		"internal/command", "internal/endpoint", "internal/hint", "internal/text"},
	"internal/bench": {"internal/wait", "internal/bench/figures", "toll", "codecs", "codecs/wire",
		"internal/devstack", "internal/netdelay", "internal/simulate", "internal/testkit"},
	"internal/board": {"toll", "toll/traffic", "internal/text"},
	"internal/board/live": {"codecs/wire", "toll", "toll/traffic", "sql", "sql/incidents",
		"sql/ingest", "sql/verify",
		"sql/results", "topology", "topology/table", "internal/board", "internal/clocks",
		"internal/journeys", "internal/endpoint", "internal/hint", "internal/text"},
	"internal/journeys": {"toll", "toll/journeys", "sql", "sql/journeys", "internal/board",
		"internal/hint", "internal/text"},
	"internal/report": {"toll", "codecs", "sql", "sql/incidents", "sql/results", "internal/clocks",
		"internal/hint", "internal/text"},
	"internal/render": {"toll", "toll/traffic", "toll/journeys", "sql", "sql/verify",
		"internal/board", "internal/text", "internal/text/table"},
	"internal/command": {"toll", "internal/hint", "internal/text"},
	"internal/config":  {"codecs", "internal/command", "internal/hint", "internal/text"},
	"internal/corpus":  {},
	"internal/events": {"toll", "codecs", "codecs/mapping", "topology/kafka",
		"topology/registry", "internal/text", "internal/text/table"},
	"internal/deadletters": {"toll", "codecs", "codecs/mapping", "sql", "topology/emitter",
		"topology/ingest",
		"internal/endpoint", "internal/hint", "internal/text", "internal/text/table"},
	"internal/devstack": {},
	"internal/endpoint": {"topology/registry", "toll", "codecs/wire", "sql", "sql/ingest",
		"topology/kafka",
		"internal/command", "internal/hint", "internal/text", "internal/trust"},
	"internal/hint": {"toll"},
	"internal/incidents": {"toll", "toll/traffic", "sql/incidents", "internal/text",
		"internal/trust"},
	"internal/netdelay":   {},
	"internal/simulate":   {"toll"},
	"internal/text":       {},
	"internal/text/table": {},
	"internal/testkit":    {},
	"internal/trust":      {},
	"internal/wait":       {"toll"},
	"internal/tui": {"toll", "toll/traffic", "internal/board", "internal/render", "internal/text",
		"internal/text/table"},
	"internal/telemetry": {"toll/traffic", "internal/board", "internal/incidents",
		"internal/maintenance",
		"internal/text", "sql", "sql/ingest", "topology/kafka", "topology/monitor", "web/serve"},
	"web/serve/servetest": {},
	"cmd/tollstream":      all,

	"internal/clocks": {"toll", "codecs/wire", "sql", "sql/verify", "internal/text"},
	"internal/demo": {"internal/wait", "toll", "toll/traffic", "sql", "sql/verify", "sql/ingest",
		"topology",
		"topology/kafka", "topology/table", "internal/board", "internal/emit",
		"internal/endpoint", "internal/maintenance", "internal/pipeline", "internal/render",
		"internal/sandbox", "internal/simulate", "internal/text", "internal/text/table"},
	"internal/emit": {"toll", "codecs", "codecs/mapping", "internal/events", "topology/emitter",
		"topology/kafka", "internal/simulate",
		"internal/text"},
	"internal/maintenance": {"internal/wait", "toll", "sql", "sql/retention", "sql/ingest", "topology",
		"topology/kafka", "topology/table", "internal/clocks", "internal/text"},
	"internal/pipeline": {"internal/wait", "toll", "toll/traffic", "codecs/wire", "sql", "sql/results",
		"sql/ingest",
		"topology", "topology/closing", "topology/kafka", "topology/monitor", "internal/incidents",
		"internal/maintenance", "internal/text"},
	"internal/sandbox": {"internal/wait", "sql", "sql/ingest", "topology/kafka", "internal/command",
		"internal/devstack", "internal/endpoint", "internal/hint", "internal/text"},
}

var all = []string{"*"}

func TestArrows(t *testing.T) {
	for _, p := range list(t, "./...") {
		if len(p.GoFiles) == 0 || p.Name == "main" && !strings.HasPrefix(p.ImportPath, module+"cmd/") {
			continue // tests only, or a tool of the repository
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, ok := knows[name]
		if !ok {
			t.Errorf("package %s is new: say in knows, and in ARCHITECTURE.md, what it may know of ours",
				name)
			continue
		}
		for _, i := range p.Imports {
			other, ours := strings.CutPrefix(i, module)
			switch {
			case !ours:
			case slices.Equal(knows[other], all):
				t.Errorf("package %s imports %s, which wires the others and is imported by none", name, other)
			case !slices.Equal(allowed, all) && !slices.Contains(allowed, other):
				t.Errorf("package %s imports %s; it may import %v", name, other, allowed)
			}
		}
	}
}

// TestReach keeps Kafka and MySQL out of what shows things, at any number of imports' distance: the
// page, its server and the view model.
func TestReach(t *testing.T) {
	foreign := []string{"database/sql", "github.com/go-sql-driver/", "github.com/lovoo/goka",
		"github.com/IBM/sarama", "github.com/twmb/franz-go"}
	for _, name := range []string{"web", "web/serve", "internal/board"} {
		for _, p := range list(t, "-deps", "./"+name) {
			for _, f := range foreign {
				if strings.HasPrefix(p.ImportPath, f) {
					t.Errorf("package %s reaches %s", name, p.ImportPath)
				}
			}
		}
	}
}

// TestTollIsPure keeps clock, input and output, chance and goroutines out of the domain.
func TestTollIsPure(t *testing.T) {
	pure := []string{"bytes", "cmp", "encoding/binary", "errors", "fmt", "hash/crc32", "iter", "maps",
		"math", "math/bits",
		"slices", "sort", "strconv", "strings", "time", "unicode", "unicode/utf8"}
	for _, p := range list(t, "./toll", "./toll/traffic", "./toll/journeys") {
		for _, i := range p.Imports {
			if !slices.Contains(pure, i) && i != module+"toll" {
				t.Errorf("package %s imports %s, which is none of %v", p.ImportPath, i, pure)
			}
		}
	}
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker",
		"NewTimer", "Local", "LoadLocation"}
	for _, name := range []string{"./toll", "./toll/traffic", "./toll/journeys"} {
		p := load(t, name)
		for _, file := range p.Syntax {
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: package %s starts a goroutine", p.Fset.Position(n.Pos()), p.Name)
				case *ast.Ident:
					used := p.TypesInfo.Uses[n]
					if used != nil && used.Pkg() != nil && used.Pkg().Path() == "time" &&
						used.Parent() == used.Pkg().Scope() &&
						slices.Contains(clock, used.Name()) {
						t.Errorf("%s: package %s uses time.%s", p.Fset.Position(n.Pos()), p.Name,
							used.Name())
					}
				}
				return true
			})
		}
	}
}

// TestSQLHidesTheDriver keeps the standard library's database/sql, and the driver, out of what sql
// and its packages export to others: who uses the one never needs the name of the other.
func TestSQLHidesTheDriver(t *testing.T) {
	for _, name := range []string{"./sql", "./sql/ingest", "./sql/journeys", "./sql/results",
		"./sql/verify", "./sql/retention"} {
		p := load(t, name)
		scope := p.Types.Scope()
		for _, name := range scope.Names() {
			if o := scope.Lookup(name); o.Exported() {
				for _, foreign := range exposed(o) {
					t.Errorf("%s: exported %s shows %s", p.Fset.Position(o.Pos()), o.Name(), foreign)
				}
			}
		}
	}
}

// TestExposedSeesEverything holds the search itself to a package whose API does show database/sql.
func TestExposedSeesEverything(t *testing.T) {
	p := load(t, "database/sql")
	for _, name := range []string{"Open", "OpenDB", "DB", "NullString", "Drivers"} {
		got := exposed(p.Types.Scope().Lookup(name))
		if want := name != "Drivers"; want != (len(got) > 0) {
			t.Errorf("%s shows %v", name, got)
		}
	}
}

// TestModule keeps out of go.mod what belongs to the module of the embedded database: its
// dependencies, and any replace, with which go install refuses a module.
func TestModule(t *testing.T) {
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace) > 0 {
		t.Errorf("go.mod replaces %s", mod.Replace[0].Old.Path)
	}
	for _, r := range mod.Require {
		if strings.HasPrefix(r.Mod.Path, "github.com/dolthub/") {
			t.Errorf("go.mod requires %s", r.Mod.Path)
		}
	}
}

// exposed returns the types of database/sql and of drivers that an exported object shows to its
// users.
func exposed(o types.Object) []string {
	var found []string
	seen := map[types.Type]bool{}
	var visit func(t types.Type)
	tuple := func(t *types.Tuple) {
		for v := range t.Variables() {
			visit(v.Type())
		}
	}
	visit = func(t types.Type) {
		if t == nil || seen[t] {
			return
		}
		seen[t] = true
		switch t := t.(type) {
		case *types.Alias:
			visit(types.Unalias(t))
		case *types.Named:
			for arg := range t.TypeArgs().Types() {
				visit(arg)
			}
			pkg := t.Obj().Pkg()
			if pkg == nil {
				return
			}
			if pkg.Path() == "database/sql" || pkg.Path() == "database/sql/driver" ||
				pkg.Path() == "github.com/go-sql-driver/mysql" {
				found = append(found, t.String())
				return
			}
			if pkg != o.Pkg() {
				return
			}
			for m := range t.Methods() {
				if m.Exported() {
					visit(m.Type())
				}
			}
			visit(t.Underlying())
		case *types.Struct:
			for f := range t.Fields() {
				if f.Exported() || f.Embedded() {
					visit(f.Type())
				}
			}
		case *types.Interface:
			for m := range t.Methods() {
				if m.Exported() {
					visit(m.Type())
				}
			}
		case *types.Signature:
			tuple(t.Params())
			tuple(t.Results())
		case *types.Map:
			visit(t.Key())
			visit(t.Elem())
		case interface{ Elem() types.Type }: // pointer, slice, array, channel
			visit(t.Elem())
		}
	}
	visit(o.Type())
	return found
}

// listed is what we need of a package as `go list -json` prints it.
type listed struct {
	Dir        string
	ImportPath string
	Name       string
	GoFiles    []string
	Imports    []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=Dir,ImportPath,Name,GoFiles,Imports"},
		args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		t.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// load returns a package with its syntax and types; what it imports comes compiled.
func load(t *testing.T, pattern string) *packages.Package {
	t.Helper()
	const mode = packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles |
		packages.NeedImports | packages.NeedTypes | packages.NeedTypesSizes | packages.NeedTypesInfo |
		packages.NeedSyntax
	found, err := packages.Load(&packages.Config{Mode: mode, Dir: "../.."}, pattern)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 {
		t.Fatalf("load %s: %d packages", pattern, len(found))
	}
	for _, err := range found[0].Errors {
		t.Fatalf("load %s: %v", pattern, err)
	}
	return found[0]
}

// Bounds of a package outside of its tests. What grows beyond them is two packages.
const (
	maxLines = 2500
	maxFiles = 20
	// maxCommandLines bounds each file of cmd/tollstream, which has a file per command: flags and
	// wiring, nothing else.
	maxCommandLines = 160
)

func TestPackageSizes(t *testing.T) {
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		lines, files := 0, 0
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.HasPrefix(text, []byte("// Code generated")) {
				continue
			}
			n := bytes.Count(text, []byte("\n"))
			lines, files = lines+n, files+1
			if name == "cmd/tollstream" && n > maxCommandLines {
				t.Errorf("%s/%s has %d lines, want at most %d: flags and wiring only", name, file, n,
					maxCommandLines)
			}
		}
		if name != "cmd/tollstream" && (lines > maxLines || files > maxFiles) {
			t.Errorf("package %s has %d lines in %d files, want at most %d in %d", name, lines, files,
				maxLines, maxFiles)
		}
	}
}
