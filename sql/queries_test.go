package sql

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// wantResults is what each query gives of the rows of stream.fill; a count of rows where they are many.
var wantResults = map[string]string{
	"top10":     "10 rows",
	"busiest":   "[[4856 15 2022-02-10 10:00:00 2022-02-10 10:01:03] [4000 5 2022-02-10 10:00:00 2022-02-10 10:00:02] [-7 1 2022-02-10 10:01:00 2022-02-10 10:01:00]]",
	"by_type":   "[[car 9] [Lkw-Größe € 7] [CAR 5]]",
	"last_hour": "[[4856 15 2022-02-10 10:00:00 2022-02-10 10:01:03] [4000 5 2022-02-10 10:00:00 2022-02-10 10:00:02] [-7 1 2022-02-10 10:01:00 2022-02-10 10:01:00]]",
	"indexes":   "6 rows",
}

func TestQueries(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		ctx := context.Background()
		initialize(t, s)
		newStream(t, s).fill()
		if len(s.Queries()) != len(wantResults) {
			t.Errorf("got %d queries, want %d", len(s.Queries()), len(wantResults))
		}
		for range 2 {
			for _, q := range s.Queries() {
				if q.Description == "" || strings.HasPrefix(q.Description, "-") {
					t.Errorf("%s: description %q", q.Name, q.Description)
				}
				columns, rows, err := s.Run(ctx, q.Name, nil)
				if err != nil {
					t.Errorf("%s: %v", q.Name, err)
					continue
				}
				got := fmt.Sprint(rows)
				if strings.HasSuffix(wantResults[q.Name], " rows") {
					got = plural(int64(len(rows)), "row")
				}
				if got != wantResults[q.Name] || len(columns) == 0 {
					t.Errorf("%s: got %s of %q, want %s", q.Name, got, columns, wantResults[q.Name])
				}
			}
		}
		_, rows, err := s.Run(ctx, "by_type", []string{"plaza=4000"})
		if err != nil || fmt.Sprint(rows) != "[[Lkw-Größe € 2] [car 2] [CAR 1]]" && fmt.Sprint(rows) != "[[car 2] [Lkw-Größe € 2] [CAR 1]]" {
			t.Errorf("one plaza: %v, %v", rows, err)
		}
		if _, rows, _ = s.Run(ctx, "by_type", nil); len(rows) != 3 || rows[0][1] != "9" {
			t.Errorf("a setting stayed: %v", rows)
		}
		_, _, err = s.Run(ctx, "nothing", nil)
		wantPermanent(t, err, `"nothing"`, "busiest, by_type")
		_, _, err = s.Run(ctx, "by_type", []string{"limit=1"})
		wantPermanent(t, err, `"limit"`, "it has plaza")
	})
}

// The files run in the client as they are.
func TestQueriesInTheClient(t *testing.T) {
	client, err := exec.LookPath("mariadb")
	if err != nil {
		if client, err = exec.LookPath("mysql"); err != nil {
			t.Skip("no mariadb or mysql client here")
		}
	}
	s := openEmpty(t, "mariadb")
	c, err := mysql.ParseDSN(s.cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(c.Addr, ":")
	feed := func(name string) string {
		text, err := queryFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(client, "--no-defaults", "-h"+host, "-P"+port, "-u"+c.User, "--default-character-set=utf8mb4", c.DBName)
		cmd.Env = append(cmd.Environ(), "MYSQL_PWD="+c.Passwd)
		cmd.Stdin = bytes.NewReader(text)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
	feed("schema.sql")
	feed("schema.sql")
	if done := initialize(t, s); len(done) != 1 {
		t.Errorf("init after schema.sql: %q", done)
	}
	newStream(t, s).fill()
	for _, q := range s.Queries() {
		if out := feed(q.Name + ".sql"); strings.Count(out, "\n") < 2 {
			t.Errorf("%s: %q", q.Name, out)
		}
	}
}
