// Command plots draws how the cost of processing grows, from what `tollstream bench` measures, and writes the tables of
// docs/performance.md.
//
// It has three modes:
//
//	go run ./scripts/plots                      # measures every point of every series, then draws
//	go run ./scripts/plots -from-data           # draws again from the figures beside the plots
//	go run ./scripts/plots -table bench.json    # prints a report of tollstream bench --json as a Markdown table
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "plots:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("plots", flag.ContinueOnError)
	flags.SetOutput(stderr)
	names := flags.String("series", strings.Join(seriesNames(), ","), "`names` of the series to measure and draw")
	out := flags.String("out", filepath.Join("docs", "plots"), "`folder` of the plots and their figures")
	fromData := flags.Bool("from-data", false, "draw from the figures in that folder, without measuring")
	table := flags.String("table", "", "print the figures of `reports` of tollstream bench --json, separated by commas, as a Markdown table, and do nothing else")
	into := flags.String("into", "", "write that table between its marks in this `page` instead of printing it")
	m := measurer{stderr: stderr}
	flags.StringVar(&m.binary, "tollstream", filepath.Join("bin", "tollstream"), "the `command` to measure; make build makes it")
	flags.IntVar(&m.events, "events", 1_000_000, "`events` of each point")
	flags.IntVar(&m.rounds, "rounds", 3, "`rounds` of each point; a plot shows their median, lowest and highest")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if *table != "" {
		return writeTable(*table, *into, stdout)
	}
	chosen, err := chooseSeries(*names)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return fmt.Errorf("make the folder of the plots: %w", err)
	}
	var errs []error
	for _, s := range chosen {
		if err := s.make(ctx, &m, *out, *fromData); err != nil {
			errs = append(errs, fmt.Errorf("series %s: %w", s.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func chooseSeries(names string) ([]*series, error) {
	var chosen []*series
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(allSeries, func(s series) bool { return s.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("unknown series %q; there are %s", name, strings.Join(seriesNames(), ", "))
		}
		chosen = append(chosen, &allSeries[i])
	}
	return chosen, nil
}
