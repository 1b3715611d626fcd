// Command plots measures how the cost of a backlog grows while one setting varies, and draws it.
//
//	go run ./scripts/plots             # measures all series, then draws
//	go run ./scripts/plots -from-data  # draws again from the figures next to the plots
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

	"github.com/tollstream/tollstream/internal/bench"
	"github.com/tollstream/tollstream/internal/bench/figures"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "plots:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	cfg := bench.DefaultConfig()
	cfg.Only, cfg.Log = []string{"backlog"}, stderr
	flags := flag.NewFlagSet("plots", flag.ContinueOnError)
	flags.SetOutput(stderr)
	names := flags.String("series", strings.Join(seriesNames(), ","), "`names` of the series")
	out := flags.String("out", filepath.Join("docs", "plots"),
		"`folder` of the plots and their figures")
	fromData := flags.Bool("from-data", false,
		"draw from the figures in that folder, without measuring")
	flags.StringVar(&cfg.Binaries[0], "binary", cfg.Binaries[0], "the `command` to measure")
	flags.Float64Var(&cfg.Scale, "scale", cfg.Scale, "`factor` on the events of each point")
	flags.IntVar(&cfg.Rounds, "rounds", 3, "`rounds` of each point")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	measure := func(cfg bench.Config) (*figures.Report, error) { return bench.Run(ctx, cfg) }
	var errs []error
	for name := range strings.SplitSeq(*names, ",") {
		i := slices.IndexFunc(allSeries, func(s series) bool { return s.name == name })
		if i < 0 {
			return fmt.Errorf("unknown series %q; there are %s", name, strings.Join(seriesNames(), ", "))
		}
		s := &allSeries[i]
		if !*fromData {
			errs = append(errs, s.measure(cfg, *out, measure))
		}
		errs = append(errs, s.draw(*out))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}
