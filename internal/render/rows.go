package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/text/table"
)

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

// Rows prints the result of a query as a table, with numbers as SQL writes them.
func Rows(w io.Writer, columns []string, rows [][]string) error {
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

// RowsJSON prints the result of a query as a list of objects, whose members are in the order of the
// columns.
func RowsJSON(w io.Writer, columns []string, rows [][]string) error {
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
