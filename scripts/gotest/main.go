// Command gotest runs go test with the flags given and prints what it prints, then lists the tests
// that were skipped, each with its reason: a run that passed says what it did not look at.
//
// With TOLLSTREAM_REQUIRE_SERVICES=1 a skipped test fails the run, unless its reason says that it
// was not asked for ("TOLLSTREAM_SPEED is not set") or where it applies ("only Linux can"), and not
// what this machine lacks.
//
// Tests on real servers can fail because a machine was busy. A few tests that failed are therefore
// run once more, each by itself, and those that pass then are listed as flaky. No second chance has
// what speaks of a lost, doubled or wrong event, a data race, a panic, a leak or a build that
// failed.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

func main() {
	strict := os.Getenv("TOLLSTREAM_REQUIRE_SERVICES") == "1"
	r := newReport(os.Stdout)
	status, err := r.run(os.Args[1:])
	if err != nil {
		fatal(err)
	}
	if status > 0 && r.rerun(os.Args[1:]) {
		status = 0
	}
	missing := r.printSkipped(strict)
	switch {
	case status > 0:
		fmt.Println("FAIL")
		os.Exit(status)
	case missing > 0:
		fmt.Println("FAIL")
		fatal(fmt.Errorf("TOLLSTREAM_REQUIRE_SERVICES=1, and tests skipped: %d", missing))
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "gotest:", err)
	os.Exit(1)
}

// run runs go test and returns its exit status.
func (r *report) run(args []string) (status int, err error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir = r.dir
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return 0, err
	}
	readErr := r.read(events)
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode(), nil
	}
	return 0, errors.Join(err, readErr)
}

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

type key struct{ pkg, test string }

type report struct {
	out      io.Writer
	tests    map[key][]string    // output of tests that have not ended
	packages map[string][]string // output beside tests, of packages that have not ended
	skipped  []string
	passed   map[key]bool
	failed   []key // tests, and packages that failed beside their tests
	final    bool  // something failed that has no second chance
	dir      string
}

func newReport(out io.Writer) *report {
	return &report{out: out, tests: map[key][]string{}, packages: map[string][]string{},
		passed: map[key]bool{}}
}

func (r *report) read(events io.Reader) error {
	in := bufio.NewReader(events)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(r.out, line) // no event, but go test has something to say
			} else {
				r.take(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) take(e event) {
	k := key{e.Package, e.Test}
	switch {
	case e.Action == "build-output":
		fmt.Fprint(r.out, e.Output)
	case e.Action == "output" && e.Test != "":
		if !strings.HasPrefix(e.Output, "=== ") {
			r.tests[k] = append(r.tests[k], e.Output)
		}
	case e.Action == "output":
		r.packages[e.Package] = append(r.packages[e.Package], e.Output)
	case e.Test != "":
		switch e.Action {
		case "fail":
			r.print(r.tests[k])
			r.fail(k, r.tests[k])
		case "pass":
			r.passed[k] = true
		case "skip":
			r.skipped = append(r.skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(r.tests[k])))
		}
		if e.Action == "fail" || e.Action == "skip" || e.Action == "pass" {
			delete(r.tests, k)
		}
	case e.Action == "fail":
		for k, output := range r.tests { // what it was in when it broke off
			if k.pkg == e.Package {
				r.print(output)
				delete(r.tests, k)
				r.final = true
			}
		}
		r.print(r.packages[e.Package])
		r.failPackage(e.Package)
		delete(r.packages, e.Package)
	case e.Action == "pass" || e.Action == "skip":
		for _, line := range r.packages[e.Package] {
			if strings.HasPrefix(line, "ok  ") {
				fmt.Fprint(r.out, line)
			}
		}
		delete(r.packages, e.Package)
	}
}

// unforgivable is what a test says that has found more than a busy machine.
var unforgivable = regexp.MustCompile(
	`(?i)\blost\b|\bdoubled\b|\bdiffers?\b|\bviolat|\bmismatch|\bexact|\bleak|\bverify|\bwindow |\brevision|DATA RACE|panic:|goroutine \d+ \[|fatal error:`)

// fail notes a test that failed.
func (r *report) fail(k key, output []string) {
	for _, line := range output {
		if !strings.HasPrefix(strings.TrimSpace(line), "--- FAIL") && unforgivable.MatchString(line) {
			r.final = true
		}
	}
	if !slices.ContainsFunc(r.failed, func(f key) bool {
		return f.pkg == k.pkg && strings.HasPrefix(f.test, k.test+"/")
	}) {
		r.failed = append(r.failed, k) // and not because a subtest did
	}
}

// failPackage notes a package that failed. Where no test did, something else is wrong: the build,
// or TestMain.
func (r *report) failPackage(pkg string) {
	tested := slices.ContainsFunc(r.failed, func(f key) bool { return f.pkg == pkg })
	if !tested || unforgivable.MatchString(strings.Join(r.packages[pkg], "")) {
		r.final = true
	}
}

// maxReruns is how many tests are run again. Where more failed, the machine is not the reason.
const maxReruns = 3

// rerun runs the tests that failed once more, one after the other, and reports whether all of them
// pass.
func (r *report) rerun(args []string) bool {
	if r.final || len(r.failed) == 0 || len(r.failed) > maxReruns || slices.Contains(args, "-run") ||
		slices.Contains(args, "-bench") {
		return false
	}
	flags := slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		return strings.HasPrefix(a, ".")
	})
	for _, f := range r.failed {
		fmt.Fprintln(r.out, "once more:", f.pkg, f.test)
		again := newReport(r.out)
		again.dir = r.dir
		status, err := again.run(append(slices.Clone(flags), "-count=1", "-run", pattern(f.test), f.pkg))
		if err != nil {
			fmt.Fprintln(r.out, "gotest:", err)
		}
		if err != nil || status > 0 || !again.passed[f] {
			return false
		}
	}
	for _, f := range r.failed {
		fmt.Fprintln(r.out, "FLAKY", f.pkg, f.test+": failed above, then passed by itself")
	}
	return true
}

// pattern returns what -run takes for just one test or subtest.
func pattern(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

func (r *report) print(lines []string) {
	for _, line := range lines {
		fmt.Fprint(r.out, line)
	}
}

// reason returns what a skipped test said, without the place and the result line.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "--- SKIP") {
			continue
		}
		if place, text, ok := strings.Cut(line, ": "); ok && strings.Contains(place, ".go:") {
			line = text
		}
		said = append(said, line)
	}
	return strings.Join(said, "; ")
}

// byIntent matches the reasons of tests that no machine lacks anything for.
var byIntent = regexp.MustCompile(`^only |^TOLLSTREAM_[A-Z_]+ is not set$`)

// printSkipped lists the skipped tests, and returns how many of them this machine is to blame for.
func (r *report) printSkipped(strict bool) (missing int) {
	for _, s := range r.skipped {
		mark := "skipped"
		if _, why, _ := strings.Cut(s, ": "); strict && !byIntent.MatchString(why) {
			mark = "MISSING"
			missing++
		}
		fmt.Fprintln(r.out, mark, s)
	}
	return missing
}
