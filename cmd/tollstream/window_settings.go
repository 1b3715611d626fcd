package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/config"
	"github.com/tollstream/tollstream/internal/emit"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// windowFlags returns the flags that [windowsFrom] reads.
func windowFlags() []cli.Flag {
	const category = "Windows"
	return []cli.Flag{
		&cli.StringFlag{Name: "windows", EnvVars: command.Env("windows"), Value: toll.DefaultWindows,
			Category: category,
			Usage: "`KIND,…` of windows, SIZE or SIZE/HOP, and day for the day so far; fixed by the " +
				"first process of a database"},
		&cli.DurationFlag{Name: "lateness", EnvVars: command.Env("lateness"), Value: toll.DefaultLateness,
			Category: category,
			Usage: "`TIME` that an event may be behind the newest of its partition and still be on " +
				"time; fixed with the windows"},
		&cli.DurationFlag{Name: "idle", EnvVars: command.Env("idle"), Value: toll.DefaultIdle,
			Category: category,
			Usage:    "`TIME` after which a partition without records no longer holds the watermark back"},
		&cli.StringFlag{Name: "plazas-file", EnvVars: command.Env("plazas-file"), Category: category,
			DefaultText: "as it is stored; of simulated plazas builtin",
			Usage: "CSV `FILE` with the plazas' names, roads, lanes, capacities and timezones; builtin is " +
				"the simulator's"},
		&cli.StringFlag{Name: "equivalents", EnvVars: command.Env("equivalents"),
			Value: traffic.DefaultEquivalents().String(), Category: category,
			Usage: "passenger cars that one vehicle of a type counts for, `TYPE=NUMBER,…`; a type that is " +
				"not named counts as 1"},
		holidaysFlag(category),
	}
}

func holidaysFlag(category string) cli.Flag {
	return &cli.StringFlag{Name: "holidays", EnvVars: command.Env("holidays"), Category: category,
		Usage: "holidays, days of their own kind for what is usual: us, or a CSV `FILE` of dates and " +
			"names; the same for process and view"}
}

func windowsFrom(c *cli.Context) (pipeline.Windows, error) {
	w := pipeline.DefaultWindows()
	text := command.Setting(c, "windows", toll.DefaultWindows)
	var err error
	if w.Kinds, err = toll.ParseWindows(text); err != nil {
		return w, hint.Usagef("--windows: %v", err)
	}
	// the order of the list does not matter
	slices.SortStableFunc(w.Kinds, func(a, b toll.WindowKind) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Hop, b.Hop))
	})
	w.Lateness = c.Duration("lateness")
	w.KindsSet = c.IsSet("windows") && c.String("windows") != ""
	w.LatenessSet = c.IsSet("lateness")
	if text := command.Setting(c, "equivalents", ""); text != "" {
		if w.Equivalents, err = traffic.ParseEquivalents(text); err != nil {
			return w, hint.Usagef("--equivalents: %v", err)
		}
	}
	if w.Holidays, err = holidaysFrom(c); err != nil {
		return w, err
	}
	w.Plazas, err = readPlazasFile(command.Setting(c, "plazas-file", ""))
	w.Simulated = emit.SamplePlazas()
	return w, err
}

// holidaysFrom reads the file of holidays; no name is no file.
func holidaysFrom(c *cli.Context) (traffic.Holidays, error) {
	name := command.Setting(c, "holidays", "")
	switch name {
	case "":
		return nil, nil
	case "us":
		return traffic.FederalHolidays, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read --holidays: %w", err)
	}
	holidays, err := traffic.ParseHolidays(string(text))
	if err != nil {
		return nil, hint.Usagef("--holidays %s: %v", name, err)
	}
	return holidays, nil
}

// builtinPlazas stands for the plazas file of the simulator. A file of that name is ./builtin.
const builtinPlazas = "builtin"

// readPlazasFile reads a plazas file; no name is no file.
func readPlazasFile(name string) ([]toll.Plaza, error) {
	switch name {
	case "":
		return nil, nil
	case builtinPlazas:
		return emit.SamplePlazas(), nil
	}
	plazas, _, err := openPlazasFile(name)
	return plazas, err
}

// openPlazasFile reads a plazas file, CSV or YAML, with the stations that it names.
func openPlazasFile(name string) (plazas []toll.Plaza, stations map[int16]codecs.Station,
	err error) {
	if config.IsYAML(name) {
		rows, err := config.Plazas(name)
		if err == nil {
			plazas, stations, err = codecs.PlazasOf(rows)
		}
		return plazas, stations, wrapPlazas(name, err)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read --plazas-file: %w", err)
	}
	defer f.Close()
	plazas, stations, err = codecs.ReadPlazasFile(f)
	return plazas, stations, wrapPlazas(name, err)
}

func wrapPlazas(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read --plazas-file %s: %w", name, err)
}
