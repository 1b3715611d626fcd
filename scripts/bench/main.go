// Command bench measures built tollstream commands and writes the figures of docs/performance.md.
//
//	go run ./scripts/bench                              # everything
//	go run ./scripts/bench -only steady -rounds 1
//	go run ./scripts/bench -binary new/tollstream,old/tollstream -only backlog
//	go run ./scripts/bench -from a.json,b.json -into docs/performance.md
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/tollstream/tollstream/internal/bench"
	"github.com/tollstream/tollstream/internal/bench/figures"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg := bench.DefaultConfig()
	cfg.Log = stderr
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	list := func(name, usage string, into *[]string) {
		flags.Func(name, usage, func(text string) error {
			*into = strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
			return nil
		})
	}
	list("binary",
		"`commands` to measure, separated by commas (default bin/tollstream); with several, "+
			"the ratio of the first to the last is shown", &cfg.Binaries)
	list("only", "`scenarios` to measure, separated by commas (default all): "+
		strings.Join(bench.Scenarios(), ", "), &cfg.Only)
	flags.IntVar(&cfg.Rounds, "rounds", cfg.Rounds,
		"`rounds` of each scenario, whose medians are shown")
	flags.Float64Var(&cfg.Scale, "scale", cfg.Scale, "`factor` on the events and times of scenarios")
	flags.IntVar(&cfg.Partitions, "partitions", cfg.Partitions, "`partitions` of the topics")
	const plazas = "`numbers` of plazas of the backlog scenario (default 12,1000,10000)"
	flags.Func("plazas", plazas, func(text string) error {
		cfg.Plazas = nil
		for field := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			cfg.Plazas = append(cfg.Plazas, n)
		}
		return nil
	})
	flags.Func("process", "more `flags` of process, separated by blanks", func(text string) error {
		cfg.Process = strings.Fields(text)
		return nil
	})
	flags.StringVar(&cfg.Engine, "engine", cfg.Engine, "the database `server`: mariadb, mysql or tidb")
	file := flags.String("json", "", "write the report to this `file`, also")
	into := flags.String("into", "", "write the table to this `page` instead of printing it")
	readme := flags.String("readme", "",
		"write the figures of the comparison with others into this `page` as well")
	from := flags.String("from", "", "measure nothing, but read these `reports`, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	var report *figures.Report
	var failed error
	if *from != "" {
		if report, failed = readReports(strings.Split(*from, ",")); failed != nil {
			return failed
		}
	} else if report, failed = bench.Run(ctx, cfg); report == nil {
		return failed
	}
	return errors.Join(failed, write(report, *file, *into, *readme, stdout))
}

// readReports reads reports and puts their figures into the first.
func readReports(files []string) (*figures.Report, error) {
	var all *figures.Report
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var r figures.Report
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if all == nil {
			all = &r
			continue
		}
		all.Figures = append(all.Figures, r.Figures...)
	}
	return all, nil
}

func write(r *figures.Report, file, into, readme string, stdout io.Writer) error {
	if file != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	table := func(page string) (string, error) { return figures.Replace(page, r.Table()) }
	var err error
	if into == "" {
		_, err = io.WriteString(stdout, r.Table())
	} else {
		err = rewrite(into, table)
	}
	if readme != "" {
		err = errors.Join(err, rewrite(readme, r.Compare))
	}
	return err
}

// rewrite changes a page.
func rewrite(file string, change func(page string) (string, error)) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := change(string(page))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(text), 0o644)
}
