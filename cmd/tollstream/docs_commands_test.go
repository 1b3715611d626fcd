package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/sandbox"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/topology/kafka"
)

const repository = "../../"

// notRun says why no test runs a documented command, by what it begins with. tollstream's own ones
// must be understood all the same.
var notRun = map[string]string{
	"tollstream up": "the servers of this test are what it starts, on free ports; " +
		"see up.txtar",
	"tollstream process --brokers":  "it needs servers with TLS and users; internal/e2e has them",
	"tollstream process --mysql '":  "the same",
	"tollstream events check toll":  "it needs a file; see events.txtar",
	"tollstream incidents ack ":     "it needs an incident; TestProcessMetrics has one",
	"promtool ":                     "TestAlertRules runs it",
	"export ":                       "a secret of the reader's",
	"kafka-acls.sh ":                "TestRights in internal/e2e applies these lines",
	"MYSQL_PASSWORD=secret docker ": "it needs Docker",
	"docker ":                       "the same",
	"sudo ":                         "TestDeb in packaging does it in a folder",
	"systemctl ":                    "the same",
	"openssl rand ":                 "the same",
	"curl --fail http://127":        "the same",
	"kubectl ":                      "it needs a cluster",
	"helm install ":                 "the same; tests in packaging render the chart",
}

// documented is a command of a page, and what the page shows of its output.
type documented struct {
	line   string
	output []string
}

// TestDocumentedCommands runs the commands in the sh and console blocks of each page, in order, as
// they stand there, on servers of the page's own. Only ports are free ones, and what would run
// until it is interrupted is. Of commands for developers it checks what they name.
func TestDocumentedCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	used := map[string]bool{}
	for _, name := range pages(t) {
		commands := documentedCommands(readPage(t, name))
		for _, c := range commands {
			prefix, _ := reasonNotToRun(c.line)
			used[prefix] = true
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			var sandbox []string
			dir := t.TempDir()
			for _, c := range commands {
				_, skip := reasonNotToRun(c.line)
				switch words := shellWords(c.line); {
				case skip:
					if words[0] == "tollstream" {
						understood(t, c.line)
					}
				case words[0] == "tollstream":
					if sandbox == nil {
						sandbox = sandboxEnv(t)
					}
					runDocumented(t, c, dir, sandbox)
				default:
					checkForDevelopers(t, c.line)
				}
			}
		})
	}
	for prefix := range notRun {
		if !used[prefix] {
			t.Errorf("no page has a command that begins with %q", prefix)
		}
	}
}

// TestDocumentedNames finds commands, files and tests within the text that do not exist.
func TestDocumentedNames(t *testing.T) {
	tests := testsIn(t, "./...")
	for _, name := range pages(t) {
		text := readPage(t, name)
		for _, m := range regexp.MustCompile("`(tollstream [^`\n]*)`").FindAllStringSubmatch(text, -1) {
			if !regexp.MustCompile(`[A-Z]{3}|…`).MatchString(m[1]) { // COMMAND, FILE
				understood(t, m[1])
			}
		}
		for _, m := range regexp.MustCompile(
			"`((?:[a-z_]+/)+[a-z_]+\\.(?:go|json|sql))`").FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(repository + m[1]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, m := range regexp.MustCompile("`(Test[A-Z]\\w+)`").FindAllStringSubmatch(text, -1) {
			if !slices.Contains(tests, m[1]) {
				t.Errorf("%s: there is no %s", name, m[1])
			}
		}
	}
}

func TestDocumentedCommandsOf(t *testing.T) {
	got := documentedCommands(
		"a\n```sh\nx --a 'b # c' \\\n    --d   # why\n\n# only a comment\ny\n```\n" +
			"```console\n$ z\nout 1\n…\n$ w &\n```\n```sh kafka\nk\n```\n```\nnone\n```\n```sql\n" +
			"none\n```\n")
	want := []documented{{line: "x --a 'b # c'  --d"}, {line: "y"}, {"z", []string{"out 1", "…"}},
		{line: "w"}, {line: "k"}}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := shows("2 rows in 0.3 s\nmore\nexact: 1,234 = 5\n",
		[]string{"1 rows in 12.5 s", "…", "exact: 1 = 22"}); err != nil {
		t.Error(err)
	}
	if shows("exact: 1\n", []string{"mismatch: 1"}) == nil {
		t.Error("other output passes")
	}
}

// pages returns all Markdown that has commands for users or developers.
func pages(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(repository + pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	return slices.DeleteFunc(names, func(name string) bool { // names commands of the past
		return filepath.Base(name) == "CHANGELOG.md"
	})
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	// Those of drills are for TestOperations in internal/e2e.
	commandBlock = regexp.MustCompile("(?ms)^```(sh|console)(?: kafka)?\n(.*?)^```")
	shellComment = regexp.MustCompile(`^((?:[^'"#]|'[^']*'|"[^"]*")*?)(?:(?:^|\s+)#.*)?$`)
)

func documentedCommands(text string) (all []documented) {
	for _, block := range commandBlock.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[2], "\\\n   ", "")) {
			line = strings.TrimRight(line, "\n")
			command, isCommand := strings.CutPrefix(line, "$ ")
			if block[1] == "console" && !isCommand {
				last := &all[len(all)-1]
				last.output = append(last.output, line)
				continue
			}
			command = strings.TrimSuffix(shellComment.FindStringSubmatch(command)[1], " &")
			if command = strings.TrimSpace(command); command != "" {
				all = append(all, documented{line: command})
			}
		}
	}
	return all
}

func reasonNotToRun(line string) (prefix string, skip bool) {
	for prefix := range notRun {
		if strings.HasPrefix(line, prefix) {
			return prefix, true
		}
	}
	return "", false
}

// shellWords splits a line as a shell does, as far as the pages need it.
func shellWords(line string) []string {
	words := regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`).FindAllString(line, -1)
	for i := range words {
		words[i] = strings.NewReplacer("'", "", `"`, "").Replace(words[i])
	}
	return words
}

// understood checks a command line of ours without running it.
func understood(t *testing.T, line string) {
	t.Helper()
	if _, err := command.Parse(root(nil, nil, nil), shellWords(line)[1:]); err != nil &&
		!strings.Contains(err.Error(), "needs a subcommand") { // a table names it alone
		t.Errorf("%s: %v", line, err)
	}
}

// sandboxEnv starts servers, and returns the environment in which commands find them.
func sandboxEnv(t *testing.T) []string {
	t.Helper()
	if !devstack.HasDatabase("mariadb") { // much faster than the embedded one
		testkit.NeedDatabase(t, sandbox.Embedded, devstack.HasDatabase)
	}
	s, err := sandbox.Start(t.Context(), sandbox.Config{
		KafkaListen: "127.0.0.1:0", MySQLListen: "127.0.0.1:0",
		Topics:   kafka.Topics{Topic: "toll", Group: "tollstream", Partitions: 2, Replication: 1},
		Location: time.UTC, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	up := s.Report()
	return append(os.Environ(), "TOLLSTREAM_BROKERS="+up.Brokers, "TOLLSTREAM_MYSQL="+up.MySQL,
		"XDG_STATE_HOME="+t.TempDir())
}

var port = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// runDocumented runs a command, which must succeed.
func runDocumented(t *testing.T, c documented, dir string, env []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// exec, so that an interrupt reaches the command and not the shell.
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+port.ReplaceAllString(c.line, "127.0.0.1:0"))
	var out testkit.Buffer
	began := time.Now()
	defer func() { t.Logf("%s: %.1f s", c.line, time.Since(began).Seconds()) }()
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if isEndless(shellWords(c.line)) {
		// What prints nothing has been at work for long by then.
		for deadline := time.Now().Add(3 * time.Second); out.String() == "" &&
			time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
		_ = cmd.Process.Signal(syscall.SIGINT)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v\n%s", c.line, err, out.String())
	} else if err := shows(out.String(), c.output); err != nil {
		t.Errorf("%s: %v in\n%s", c.line, err, out.String())
	}
}

// isEndless reports whether a command runs until it is interrupted.
func isEndless(words []string) bool {
	has := func(flags ...string) bool {
		return slices.ContainsFunc(flags, func(f string) bool { return slices.Contains(words, f) })
	}
	switch words[1] {
	case "emit":
		return !has("--count", "--from", "--days")
	case "process":
		return !has("--until-end")
	case "view":
		return has("--watch", "--listen")
	}
	return false
}

// shows finds the lines that a page shows in the output, in order. Figures may differ.
func shows(output string, lines []string) error {
	figures := regexp.MustCompile(`[\d,.:]*\d`)
	plain := func(s string) string {
		return strings.Join(strings.Fields(figures.ReplaceAllString(s, "N")), " ")
	}
	got := strings.Split(output, "\n")
	for _, line := range lines {
		if line == "…" || line == "" {
			continue
		}
		i := slices.IndexFunc(got, func(s string) bool { return plain(s) == plain(line) })
		if i < 0 {
			return fmt.Errorf("%q is not", line)
		}
		got = got[i+1:]
	}
	return nil
}

// checkForDevelopers checks that what a command of make or go names is there. They take minutes.
func checkForDevelopers(t *testing.T, line string) {
	t.Helper()
	words := shellWords(line)
	for len(words) > 0 && regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0]) {
		words = words[1:]
	}
	switch {
	case len(words) > 1 && words[0] == "make":
		makefile := readPage(t, repository+"Makefile")
		for _, w := range words[1:] {
			name, _, variable := strings.Cut(w, "=")
			known := regexp.MustCompile(`(?m)^[a-z -]*\b` + name + `\b[a-z -]*:( |$)`).MatchString(makefile)
			if variable {
				known = strings.Contains(makefile, "$("+name+")")
			}
			if !known {
				t.Errorf("%s: the Makefile does not know %s", line, name)
			}
		}
	case len(words) > 2 && words[0] == "go" && (words[1] == "test" || words[1] == "run"):
		var folders []string
		pattern := ""
		for i, w := range words {
			if strings.HasPrefix(w, "./") {
				folders = append(folders, w)
			}
			if words[max(0, i-1)] == "-run" {
				pattern = w
			}
		}
		if len(folders) == 0 {
			t.Errorf("%s: names no package", line)
		}
		tests := testsIn(t, folders...)
		if pattern != "" && !slices.ContainsFunc(tests, regexp.MustCompile(pattern).MatchString) {
			t.Errorf("%s: no test of %v is %s", line, folders, pattern)
		}
	case len(words) > 1 && words[0] == "go" && words[1] == "tool", strings.HasPrefix(words[0], "bin/"):
	default:
		t.Errorf("%s: no test runs it; see notRun", line)
	}
}

// testsIn returns the names of the tests in folders, ./... for all.
func testsIn(t *testing.T, folders ...string) (names []string) {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, folder := range folders {
		parent, all := strings.CutSuffix(folder, "...")
		if _, err := os.Stat(repository + parent); err != nil {
			t.Error(err)
		}
		err := filepath.WalkDir(repository+parent, func(name string, d os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && name != filepath.Clean(repository+parent) && name != repository+parent &&
				(!all || strings.HasPrefix(d.Name(), ".")):
				return filepath.SkipDir
			case strings.HasSuffix(name, "_test.go"):
				for _, m := range declared.FindAllStringSubmatch(readPage(t, name), -1) {
					names = append(names, m[1])
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	return names
}

// printed is what a process prints, while the test looks at it.
