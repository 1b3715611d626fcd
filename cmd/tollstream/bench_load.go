package main

import (
	"bufio"
	"bytes"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"tollstream/sql"
)

// bareLoad loads the rows of the files, each by a connection of its own, into the empty table bench_load. What it
// returns does the part that is timed.
type bareLoad func(ctx context.Context, files []string) (func(context.Context, *dbsql.DB) error, error)

// loadBare measures how fast the database takes the rows without Kafka and without us, by one connection and by four, in
// the way in which process loads them. It returns the better of the two, in rows/s.
func (b *bench) loadBare(ctx context.Context) (float64, error) {
	load, name := bareLoad(loadFiles), "load_data"
	if b.mode == sql.LoadInsert {
		load, name = b.insertFiles, "insert"
	}
	best := 0.0
	for _, turn := range []struct {
		figure string
		files  []string
	}{
		{name + "_1_connection_rows_per_second", []string{b.file(0)}},
		{name + "_4_connections_rows_per_second", []string{b.file(1), b.file(2), b.file(3), b.file(4)}},
	} {
		rate, err := b.timeLoad(ctx, load, turn.files)
		if err != nil {
			return 0, fmt.Errorf("load rows without Kafka: %w", err)
		}
		b.record(turn.figure, rate)
		best = max(best, rate)
	}
	return best, nil
}

func (b *bench) timeLoad(ctx context.Context, load bareLoad, files []string) (rate float64, err error) {
	db, err := b.openDB()
	if err != nil {
		return 0, err
	}
	defer db.Close()
	for _, statement := range []string{`DROP TABLE IF EXISTS bench_load`, `CREATE TABLE bench_load LIKE livetolldata`} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	defer func() {
		_, dropErr := db.ExecContext(context.WithoutCancel(ctx), `DROP TABLE bench_load`)
		err = errors.Join(err, dropErr)
	}()
	do, err := load(ctx, files)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := do(ctx, db); err != nil {
		return 0, err
	}
	took := time.Since(began)
	var rows int
	if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM bench_load`).Scan(&rows); err != nil {
		return 0, err
	}
	if rows != b.settings.Events {
		return 0, fmt.Errorf("%d rows loaded, want %d", rows, b.settings.Events)
	}
	return float64(rows) / took.Seconds(), nil
}

func loadStatement(source, table string) string {
	return `LOAD DATA LOCAL INFILE '` + source + `' INTO TABLE ` + table + ` CHARACTER SET utf8mb4
		FIELDS TERMINATED BY ',' LINES TERMINATED BY '\n' (timestamp, vehicle_id, vehicle_type, toll_plaza_id)`
}

// loadFiles loads each file by one LOAD DATA LOCAL.
func loadFiles(_ context.Context, files []string) (func(context.Context, *dbsql.DB) error, error) {
	return func(ctx context.Context, db *dbsql.DB) error {
		return inParallel(files, func(file string) error {
			mysql.RegisterLocalFile(file)
			defer mysql.DeregisterLocalFile(file)
			_, err := db.ExecContext(ctx, loadStatement(file, "bench_load"))
			return err
		})
	}, nil
}

// The size of a statement, the same as in sql/load.go.
const (
	benchInsertRows  = 5000
	benchInsertBytes = 1<<20 - 256
)

// insertFiles inserts each file's rows by statements that are made before the time runs, in transactions of as many rows
// as a batch has.
func (b *bench) insertFiles(_ context.Context, files []string) (func(context.Context, *dbsql.DB) error, error) {
	transactions := map[string][][]string{}
	for _, file := range files {
		t, err := insertTransactions(file, b.settings.BatchRows)
		if err != nil {
			return nil, err
		}
		transactions[file] = t
	}
	return func(ctx context.Context, db *dbsql.DB) error {
		return inParallel(files, func(file string) error {
			for _, statements := range transactions[file] {
				if err := transact(ctx, db, statements); err != nil {
					return err
				}
			}
			return nil
		})
	}, nil
}

func transact(ctx context.Context, db *dbsql.DB, statements []string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// insertTransactions returns the statements of each transaction that a file's rows make.
func insertTransactions(name string, rows int) (transactions [][]string, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var statements []string
	var statement strings.Builder
	inStatement, inTransaction := 0, 0
	endStatement := func() {
		if inStatement > 0 {
			statements = append(statements, statement.String())
			statement.Reset()
			inStatement = 0
		}
	}
	endTransaction := func() {
		endStatement()
		if inTransaction > 0 {
			transactions = append(transactions, statements)
			statements, inTransaction = nil, 0
		}
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		field := bytes.SplitN(lines.Bytes(), []byte(","), 4)
		if inStatement == 0 {
			statement.WriteString(`INSERT INTO bench_load (timestamp, vehicle_id, vehicle_type, toll_plaza_id) VALUES `)
		} else {
			statement.WriteByte(',')
		}
		fmt.Fprintf(&statement, "('%s',%s,'%s',%s)", field[0], field[1], field[2], field[3])
		inStatement++
		inTransaction++
		if inStatement == benchInsertRows || statement.Len() >= benchInsertBytes {
			endStatement()
		}
		if inTransaction == rows {
			endTransaction()
		}
	}
	endTransaction()
	return transactions, lines.Err()
}

// inParallel does something with each file at once.
func inParallel(files []string, do func(file string) error) error {
	errs := make([]error, len(files))
	var wg sync.WaitGroup
	for i, file := range files {
		wg.Go(func() { errs[i] = do(file) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
