package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
	"github.com/tollstream/tollstream/sql"
)

func (a *app) sqlCommand() *cli.Command {
	return &cli.Command{
		Name:      "sql",
		Usage:     "lists the queries of the folder sql, or runs one",
		ArgsUsage: "[NAME [SETTING=VALUE …]]",
		Description: `The queries are scripts that also run in the mysql and mariadb clients as they are. Without a name it lists them
			with their settings.`,
		UsageText: `tollstream sql
			tollstream sql top10
			tollstream sql by_type plaza=4856`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the rows as JSON objects"},
		}, endpoint.Flags()...),
		Action: func(c *cli.Context) error {
			con, err := endpoint.From(c)
			if err != nil {
				return err
			}
			log, err := command.NewLogger(a.stderr, command.LogText, "warn")
			if err != nil {
				return err
			}
			store, err := con.OpenStore(sql.LoadAuto, log)
			if err != nil {
				return err
			}
			defer store.Close()
			if c.NArg() == 0 {
				return a.listQueries(store.Queries(), c.Bool("json"))
			}
			return a.runQuery(c.Context, store, c.Args().First(), c.Args().Tail(), c.Bool("json"))
		},
	}
}

// queryJSON is a query in what sql --json prints without a name.
type queryJSON struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Settings    []string `json:"settings"`
}

func (a *app) listQueries(queries []sql.Query, asJSON bool) error {
	if asJSON {
		list := []queryJSON{}
		for _, q := range queries {
			list = append(list, queryJSON{q.Name, q.Description, append([]string{}, q.Settings...)})
		}
		return text.WriteJSON(a.stdout, list)
	}
	t := table.New(a.stdout, table.Left("query"), table.Left("settings"),
		table.Left("what it does"))
	for _, q := range queries {
		t.AppendRow([]any{q.Name, strings.Join(q.Settings, ", "), q.Description})
	}
	t.Render()
	return nil
}

func (a *app) runQuery(ctx context.Context, store *sql.Store, name string, args []string,
	asJSON bool) error {
	if err := checkQuery(store.Queries(), name, args); err != nil {
		return err
	}
	columns, rows, err := store.Run(ctx, name, args)
	if err != nil {
		return endpoint.WithHint(err)
	}
	if asJSON {
		return writeRowsJSON(a.stdout, columns, rows)
	}
	return writeRows(a.stdout, columns, rows)
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

// textColumn holds text that may well look like a number, or like SQL's NULL.
const textColumn = "vehicle_type"

const sqlNull = "NULL"

// isNumeric reports whether a column holds whole numbers only.
func isNumeric(columns []string, rows [][]string, i int) bool {
	if columns[i] == textColumn || len(rows) == 0 {
		return false
	}
	for _, row := range rows {
		if _, err := strconv.ParseInt(row[i], 10, 64); err != nil && row[i] != sqlNull {
			return false
		}
	}
	return true
}

// writeRows prints a result as a table, with numbers as SQL writes them.
func writeRows(w io.Writer, columns []string, rows [][]string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no rows")
		return err
	}
	var heads []table.Column
	for i, name := range columns {
		heads = append(heads, table.Column{Name: text.Escape(name), Number: isNumeric(columns, rows, i)})
	}
	t := table.New(w, heads...)
	for _, row := range rows {
		var cells []any
		for _, cell := range row {
			cells = append(cells, text.Escape(cell))
		}
		t.AppendRow(cells)
	}
	t.Render()
	return nil
}

// writeRowsJSON prints a result as a list of objects, whose members are in the order of the
// columns.
func writeRowsJSON(w io.Writer, columns []string, rows [][]string) error {
	objects := []orderedObject{}
	for _, row := range rows {
		objects = append(objects, orderedObject{columns, row})
	}
	return text.WriteJSON(w, objects)
}

type orderedObject struct{ names, values []string }

// MarshalJSON implements json.Marshaler.
func (o orderedObject) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range o.names {
		if i > 0 {
			b.WriteByte(',')
		}
		var value any = o.values[i]
		if n, err := strconv.ParseInt(o.values[i], 10, 64); name != textColumn && err == nil {
			value = n
		} else if name != textColumn && o.values[i] == sqlNull {
			value = nil
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
