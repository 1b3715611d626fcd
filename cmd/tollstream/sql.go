package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/render"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql"
)

func sqlCommand() *cli.Command {
	return &cli.Command{
		Name:      "sql",
		Usage:     "lists the queries of the folder sql, or runs one",
		ArgsUsage: "[NAME [SETTING=VALUE …]]",
		Description: `The queries are scripts that also run in the mysql and mariadb clients as they
			are. Without a name it lists them with their settings.`,
		UsageText: `tollstream sql
			tollstream sql top10
			tollstream sql by_type plaza=4856`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the rows as JSON objects"},
		}, endpoint.MySQLFlags()...),
		Action: func(c *cli.Context) error {
			return endpoint.WithStore(c, func(_ endpoint.Connection, store *sql.Store) error {
				if c.NArg() == 0 {
					return listQueries(c, store.Queries())
				}
				return runQuery(c, store, c.Args().First(), c.Args().Tail())
			})
		},
	}
}

// queryJSON is a query in what sql --json prints without a name.
type queryJSON struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Settings    []string `json:"settings"`
}

func listQueries(c *cli.Context, queries []sql.Query) error {
	if c.Bool("json") {
		list := []queryJSON{}
		for _, q := range queries {
			list = append(list, queryJSON{q.Name, q.Description, append([]string{}, q.Settings...)})
		}
		return text.WriteJSON(c.App.Writer, list)
	}
	t := table.New(c.App.Writer, table.Left("query"), table.Left("settings"),
		table.Left("what it does"))
	for _, q := range queries {
		t.AppendRow([]any{q.Name, strings.Join(q.Settings, ", "), q.Description})
	}
	return t.Render()
}

func runQuery(c *cli.Context, store *sql.Store, name string, args []string) error {
	if err := checkQuery(store.Queries(), name, args); err != nil {
		return err
	}
	columns, rows, err := store.Run(c.Context, name, args)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return render.RowsJSON(c.App.Writer, columns, rows)
	}
	return render.Rows(c.App.Writer, columns, rows)
}

// checkQuery returns a usage error for what the queries can't mean.
func checkQuery(queries []sql.Query, name string, args []string) error {
	var names []string
	for _, q := range queries {
		names = append(names, q.Name)
	}
	i := slices.Index(names, name)
	if i < 0 {
		return hint.With(hint.Usagef("no query is named %q", name),
			"the queries are "+strings.Join(names, ", "))
	}
	for _, arg := range args {
		setting, value, ok := strings.Cut(arg, "=")
		switch known := queries[i].Settings; {
		case len(known) == 0:
			return hint.Usagef("unexpected argument %q: query %s has no settings", arg, name)
		case !ok || !slices.Contains(known, setting):
			return hint.With(hint.Usagef("%q is no setting of query %s", arg, name),
				fmt.Sprintf("tollstream sql %s %s=VALUE", name, known[0]))
		}
		if err := sql.CheckSetting(setting, value); err != nil {
			return hint.Usagef("%v", err)
		}
	}
	return nil
}
