// Command gotest runs go test with the flags given and prints what it prints, then lists the tests that were skipped,
// each with its reason: a run that passed says what it did not look at.
//
// With TOLLSTREAM_REQUIRE_SERVICES=1 a skipped test fails the run, unless its reason says that it was not asked for
// ("TOLLSTREAM_SPEED is not set") or where it applies ("only Linux can"), and not what this machine lacks.
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
	"strings"
)

func main() {
	strict := os.Getenv("TOLLSTREAM_REQUIRE_SERVICES") == "1"
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fatal(err)
	}
	r := report{out: os.Stdout, tests: map[key][]string{}, packages: map[string][]string{}}
	readErr := r.read(events)
	testErr := cmd.Wait()
	missing := r.printSkipped(strict)
	var exit *exec.ExitError
	switch {
	case errors.As(testErr, &exit) && exit.ExitCode() > 0:
		fmt.Println("FAIL")
		os.Exit(exit.ExitCode())
	case testErr != nil:
		fatal(testErr)
	case readErr != nil:
		fatal(readErr)
	case missing > 0:
		fmt.Println("FAIL")
		fatal(fmt.Errorf("TOLLSTREAM_REQUIRE_SERVICES=1, and tests skipped: %d", missing))
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "gotest:", err)
	os.Exit(1)
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
			}
		}
		r.print(r.packages[e.Package])
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
