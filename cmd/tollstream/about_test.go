package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/config"
	"github.com/tollstream/tollstream/internal/testkit"
)

const exampleConfig = "../../packaging/tollstream.yaml"

// prepared returns the program as a command line is read by it.
func prepared(t *testing.T) *cli.App {
	t.Helper()
	app := root(nil, nil, nil)
	if _, err := command.Parse(app, nil); err != nil {
		t.Fatal(err)
	}
	return app
}

// TestSchema holds the JSON Schema to what the program itself accepts and refuses.
func TestSchema(t *testing.T) {
	t.Parallel()
	app := prepared(t)
	text, err := json.Marshal(config.Schema(app))
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(exampleConfig)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text  string
		right bool
	}{
		"example":          {string(example), true},
		"unknown":          {"broker: a:1", false},
		"of a command":     {"latency: 1s", false},
		"unknown there":    {"process: {latncy: 1s}", false},
		"empty section":    {"process:\n", true},
		"subcommand":       {"dead-letters: {retry: {format: csv}}", true},
		"text, no number":  {"process: {batch-rows: ten}", false},
		"text, no boolean": {"process: {hot-standby: yes}", false},
		"boolean":          {"process: {hot-standby: true}", true},
		"not a choice":     {"process: {load: fast}", false},
		"list":             {"brokers: [a:1, b:2]\nprocess: {allowed-host: [a, b]}", true},
		"no list":          {"topic: [a, b]", false},
		"age":              {"process: {keep-batches: 0, keep-windows: 90d}", true},
		"plazas":           {"plazas: [{id: 4856, lanes: 6, name: x, timezone: UTC}]", true},
		"unknown column":   {"plazas: [{id: 4856, colour: red}]", false},
		"no id":            {"plazas: [{lanes: 6}]", false},
		"one call only":    {"process: {until-end: true}", false},
	} {
		var value any
		if err := yaml.Unmarshal([]byte(c.text), &value); err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance); (err == nil) != c.right {
			t.Errorf("%s: the schema says %v", name, err)
		}
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Read(app, file); (err == nil) != c.right {
			t.Errorf("%s: the program says %v", name, err)
		}
	}
}

// TestCompletion completes in the shells themselves.
func TestCompletion(t *testing.T) {
	t.Parallel()
	binary, err := testkit.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(binary)
	if err := os.WriteFile(filepath.Join(dir, "plazas.csv"), []byte("id\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "TERM=dumb")
	for line, want := range map[string]string{
		"tollstream em":                           "emit",
		"tollstream dead-letters re":              "retry",
		"tollstream emit --for":                   "--format",
		"tollstream emit --format pro":            "protobuf",
		"tollstream process --plazas-file plaz":   "plazas.csv",
		"tollstream process --hot-standby --late": "--latency --lateness",
		"tollstream frobnicate --":                "",
		"tollstream config print --json proc":     "process",
	} {
		words := strings.Fields(line)
		bash := `source <(tollstream completion bash)
COMP_WORDS=("$@") COMP_CWORD=$(($#-1)); _tollstream; printf '%s\n' "${COMPREPLY[@]}" | sort`
		fish := `tollstream completion fish | source; complete -C "` + line + `" | cut -f1 | sort`
		for shell, args := range map[string][]string{
			"bash": append([]string{"-c", bash, "bash"}, words...), "fish": {"-c", fish}} {
			testkit.NeedService(t, shell, installed(shell))
			cmd := exec.Command(shell, args...)
			cmd.Env, cmd.Dir = env, dir
			out, err := cmd.CombinedOutput()
			if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != want {
				t.Errorf("%s: %s: got %q, %v, want %q", shell, line, got, err, want)
			}
		}
	}
	t.Run("zsh", func(t *testing.T) { completeInZsh(t, env, dir) })
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// completeInZsh types at zsh's prompt: its completion has no other way in.
func completeInZsh(t *testing.T, env []string, dir string) {
	testkit.NeedService(t, "zsh", installed("zsh"))
	cmd := exec.Command("zsh", "-f", "-i")
	cmd.Env, cmd.Dir = append(env, "PS1=ready> "), dir
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var seen testkit.Buffer
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := terminal.Read(b)
			_, _ = seen.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	for _, step := range []struct{ keys, want string }{
		{"autoload -Uz compinit; compinit -u; source <(tollstream completion zsh); echo do''ne\n",
			"done"},
		{"tollstream em\t", "tollstream emit "},
		{"--format pro\t", "--format protobuf "},
		{"--fro\t", "--from "},
		{"plaz\t", "as.csv "},                // it rings the bell before
		{"--plazas\t\t", "simulated plazas"}, // and --plazas-file, with what they are about
	} {
		if _, err := terminal.WriteString(step.keys); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(30 * time.Second)
		for !strings.Contains(seen.String(), step.want) {
			if time.Now().After(deadline) {
				t.Fatalf("after %q the terminal lacks %q: %q", step.keys, step.want, seen.String())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// TestManualPages lets mandoc look at every page.
func TestManualPages(t *testing.T) {
	t.Parallel()
	testkit.NeedService(t, "mandoc", installed("mandoc"))
	app := prepared(t)
	pages := [][]*cli.Command{nil}
	for _, c := range app.Commands {
		if !c.Hidden {
			pages = append(pages, []*cli.Command{c})
		}
	}
	for _, path := range pages {
		var page strings.Builder
		if err := command.Man(&page, app, path); err != nil {
			t.Fatal(err)
		}
		lint := exec.Command("mandoc", "-Tlint", "-W", "warning")
		lint.Stdin = strings.NewReader(page.String())
		out, _ := lint.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "missing date") { // so that a build is the same on any day
				t.Errorf("%v: %s", path, line)
			}
		}
		show := exec.Command("mandoc", "-Tutf8", "-O", "width=100")
		show.Stdin = strings.NewReader(page.String())
		out, err := show.Output()
		if err != nil || !strings.Contains(string(out), "0 done, 1 failed, 2 wrong usage.") {
			t.Errorf("%v: %v: %s", path, err, out)
		}
	}
}
