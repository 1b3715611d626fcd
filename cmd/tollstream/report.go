package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/report"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:  "report",
		Usage: "reports the traffic of a day, a week or a month",
		Description: `Volumes, peaks, incidents and completeness of each plaza, from the windows that have
			closed. The periods are local dates of each plaza's clock. The formats are a page for screen
			and paper (html), a row for each plaza (csv) or each of its hours (csv-hours), and the hourly
			records of the FHWA's Traffic Monitoring Guide (tmg-volume, tmg-class), for which the plazas
			file must have the stations' codes.`,
		UsageText: `tollstream report --day yesterday --output report.html
			tollstream report --month 2022-02 --format csv
			tollstream report --month last --format tmg-volume --plazas-file plazas.csv`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "day", Usage: "report a `DATE` such as 2022-02-10, or yesterday"},
			&cli.StringFlag{Name: "week",
				Usage: "report the week, Monday to Sunday, that holds a `DATE`, or the last one"},
			&cli.StringFlag{Name: "month", Usage: "report a `MONTH` such as 2022-02, or the last one"},
			&cli.IntFlag{Name: "plaza", Usage: "report one plaza only"},
			&cli.StringFlag{Name: "format", Value: report.Formats[0],
				Usage: "write " + strings.Join(report.Formats, ", ")},
			&cli.StringFlag{Name: "output", Usage: "write to a `FILE`, replacing it; default is stdout"},
			&cli.StringFlag{Name: "plazas-file", EnvVars: command.Env("plazas-file"),
				Usage: "CSV `FILE` with the plazas' stations, for the formats tmg-volume and tmg-class"},
			&cli.StringFlag{Name: "classes",
				Usage: "FHWA classes of vehicle types where the plazas file has none, as in " +
					"\"truck=9 bus=4\"; those of motorcycle, car, van, pickup and bus are known"},
		}, endpoint.MySQLFlags()...),
		Action: writeReport,
	}
}

func writeReport(c *cli.Context) error {
	form, err := reportForm(c)
	if err != nil {
		return err
	}
	period, err := reportPeriod(c)
	if err != nil {
		return err
	}
	return endpoint.WithStore(c, func(_ endpoint.Connection, store *sql.Store) error {
		location, err := store.Location(c.Context)
		if err != nil {
			return err
		}
		q := report.Query{Location: location}
		if q.Period, err = period(toll.WallTimeOf(time.Now().In(location))); err != nil {
			return err
		}
		if command.Given(c, "plaza") {
			if q.Plaza, err = plazaFrom(c, "plaza"); err != nil {
				return err
			}
		}
		r, err := report.Read(c.Context, store, q)
		if err != nil {
			return err
		}
		var warnings []string
		err = toFile(c, func(w io.Writer) error {
			warnings, err = report.Write(w, r, form)
			return err
		})
		for _, warning := range warnings {
			fmt.Fprintln(c.App.ErrWriter, "note:", warning)
		}
		return err
	})
}

func reportForm(c *cli.Context) (form report.Form, err error) {
	form = report.Form{Format: c.String("format"), Classes: report.DefaultClasses()}
	if err := report.CheckFormat(form.Format); err != nil {
		return form, err
	}
	given, err := codecs.ParseClasses(c.String("classes"))
	if err != nil {
		return form, hint.Usagef("--classes: %v", err)
	}
	maps.Copy(form.Classes, given)
	if name := command.Setting(c, "plazas-file", ""); name != "" {
		_, form.Stations, err = openPlazasFile(name)
	}
	return form, err
}

// reportPeriod returns the period that a command line names, once it is known what time it is.
func reportPeriod(c *cli.Context) (of func(now toll.WallTime) (report.Period, error), err error) {
	for name, parse := range map[string]func(string, toll.WallTime) (report.Period, error){
		"day": report.OfDay, "week": report.OfWeek, "month": report.OfMonth} {
		if !command.Given(c, name) {
			continue
		}
		if of != nil {
			return nil, hint.Usagef("--day, --week and --month exclude each other")
		}
		of = func(now toll.WallTime) (report.Period, error) { return parse(c.String(name), now) }
	}
	if of == nil {
		return nil, hint.With(hint.Usagef("--day, --week or --month is missing"),
			"tollstream report --day yesterday")
	}
	_, err = of(0)
	return of, err
}

// toFile writes to the file of --output, which it replaces once all is written, or to stdout.
func toFile(c *cli.Context, write func(w io.Writer) error) error {
	name := c.String("output")
	if name == "" || name == "-" {
		return write(c.App.Writer)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".report-*")
	if err != nil {
		return fmt.Errorf("write --output: %w", err)
	}
	defer os.Remove(f.Name()) // where it was not renamed
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	// CreateTemp lets nobody else read it.
	if err := errors.Join(f.Chmod(0o644), f.Close(), os.Rename(f.Name(), name)); err != nil {
		return fmt.Errorf("write --output: %w", err)
	}
	return nil
}
