package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// series varies one setting of the bench and leaves the others as they are.
type series struct {
	name   string
	flag   string // of tollstream bench
	values []int
	axis   string
	log    bool // values spread over orders of magnitude
}

var allSeries = []series{
	{"partitions", "--partitions", []int{1, 2, 4, 8, 16}, "partitions of the topic", true},
	{"batch-rows", "--batch-rows", []int{100, 300, 1_000, 3_000, 10_000, 30_000, 100_000}, "most rows of a batch", true},
	{"plazas", "--plazas", []int{10, 100, 1_000, 10_000}, "plazas", true},
	{"stored", "--stored", []int{0, 1_000_000, 5_000_000, 20_000_000}, "rows stored before", false},
	{"instances", "--instances", []int{1, 2, 3}, "processes that share the work", false},
}

func seriesNames() []string {
	names := make([]string, len(allSeries))
	for i, s := range allSeries {
		names[i] = s.name
	}
	return names
}

// data is what the file beside a plot holds: enough to draw it again.
type data struct {
	Series string  `json:"series"`
	Flag   string  `json:"flag"`
	Points []point `json:"points"`
}

// point is one run of the bench: the setting's value, and its report as it was printed.
type point struct {
	Value  int             `json:"value"`
	Report json.RawMessage `json:"report"`
}

func (p point) measured() (measured, error) {
	r, err := parseReport(p.Report)
	if err != nil {
		return measured{}, err
	}
	return r.measured()
}

// make measures the series, or reads what was measured, and draws it. A point that fails is left out of the plot; the
// others are measured all the same.
func (s *series) make(ctx context.Context, m *measurer, dir string, fromData bool) error {
	file := filepath.Join(dir, s.name+".json")
	d, failed := data{Series: s.name, Flag: s.flag}, error(nil)
	if fromData {
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &d)
		}
		if err != nil {
			return fmt.Errorf("read the figures: %w", err)
		}
	} else {
		d.Points, failed = s.measure(ctx, m)
		if len(d.Points) == 0 {
			return failed
		}
		text, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return errors.Join(failed, err)
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			return errors.Join(failed, fmt.Errorf("write the figures: %w", err))
		}
	}
	svg, err := s.draw(&d)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, s.name+".svg"), svg, 0o644)
	}
	if err != nil {
		err = fmt.Errorf("draw: %w", err)
	}
	return errors.Join(failed, err)
}

func (s *series) measure(ctx context.Context, m *measurer) ([]point, error) {
	var points []point
	var errs []error
	for _, v := range s.values {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		report, err := m.measure(ctx, s.flag, v)
		if err != nil {
			err = fmt.Errorf("%s %d: %w", s.flag, v, err)
			fmt.Fprintln(m.stderr, "plots:", err)
			errs = append(errs, err)
			continue
		}
		points = append(points, point{v, report})
	}
	return points, errors.Join(errs...)
}

// measurer runs tollstream bench.
type measurer struct {
	binary         string
	events, rounds int
	stderr         io.Writer
}

func (m *measurer) measure(ctx context.Context, flag string, value int) (json.RawMessage, error) {
	args := []string{"bench", "--only", "load,process", "--json", "--events", strconv.Itoa(m.events), "--rounds", strconv.Itoa(m.rounds),
		flag, strconv.Itoa(value)}
	fmt.Fprintln(m.stderr, "tollstream", strings.Join(args, " "))
	began := time.Now()
	cmd := exec.CommandContext(ctx, m.binary, args...)
	// It is asked to end, and not killed, so that it takes its Kafka and MariaDB with it.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, lastLine(log.String()))
	}
	report := json.RawMessage(bytes.TrimSpace(out.Bytes()))
	got, err := point{value, report}.measured()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(m.stderr, "  %s rows/s beside %s of LOAD DATA, CPU %.2f s per million, in %.0f s\n",
		got.process.text(got.process.Median), got.load.text(got.load.Median), got.cpu.Median, time.Since(began).Seconds())
	return report, nil
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
