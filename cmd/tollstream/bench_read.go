package main

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"tollstream/codecs"
	"tollstream/sql"
)

// read measures the commands that read, each as a process of its own and in turns with the bare query that it can't do
// without; first without the optional indexes and then with them.
func (b *bench) read(ctx context.Context) error {
	db, err := b.openDB()
	if err != nil {
		return err
	}
	defer db.Close()
	if err := b.readAll(ctx, db, ""); err != nil {
		return err
	}
	b.say("making the optional indexes …")
	if _, err := b.output(ctx, "sql", "indexes"); err != nil {
		return err
	}
	if err := b.readAll(ctx, db, "_indexed"); err != nil {
		return err
	}
	for _, index := range []string{"tollstream_plaza", "tollstream_time"} {
		if _, err := db.ExecContext(ctx, `DROP INDEX `+index+` ON livetolldata`); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) readAll(ctx context.Context, db *dbsql.DB, suffix string) error {
	for range b.settings.Rounds {
		if err := b.readPlaza(ctx, db, suffix); err != nil {
			return err
		}
	}
	return b.whileRunning(ctx, func(ctx context.Context) error {
		for range b.settings.Rounds {
			if err := b.readVerify(ctx, db, "", countByPlaza, suffix); err != nil {
				return err
			}
			if err := b.readVerify(ctx, db, "--deep", checksumByPlaza, suffix); err != nil {
				return err
			}
		}
		return nil
	})
}

// readPlaza measures `view --plaza N` less the bare count of the plaza's rows. view gives up counting after
// sql.DefaultCountLimit, so no more than that is taken off.
func (b *bench) readPlaza(ctx context.Context, db *dbsql.DB, suffix string) error {
	plazas := benchPlazas(b.settings.Plazas)
	plaza := plazas[len(plazas)/2]
	count, err := timeQuery(ctx, db, `SELECT COUNT(*) FROM livetolldata WHERE toll_plaza_id = `+fmt.Sprint(plaza))
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := b.output(ctx, "view", "--plaza", fmt.Sprint(plaza), "--json"); err != nil {
		return err
	}
	view := time.Since(began)
	b.record("view_plaza_seconds"+suffix, view.Seconds())
	b.record("view_plaza_count_seconds"+suffix, count.Seconds())
	b.record("view_plaza_beyond_count_seconds"+suffix, (view - min(count, sql.DefaultCountLimit)).Seconds())
	return nil
}

// The bare queries behind verify. The second has the expression of sql/count.go.
const (
	countByPlaza    = `SELECT toll_plaza_id, COUNT(*) FROM livetolldata GROUP BY toll_plaza_id`
	checksumByPlaza = `SELECT toll_plaza_id, COUNT(*),
		SUM(CAST(CRC32(CONCAT_WS(',', CAST(timestamp AS CHAR), vehicle_id, CONVERT(vehicle_type USING utf8mb4), toll_plaza_id)) AS DECIMAL(20,0)))
		FROM livetolldata GROUP BY toll_plaza_id`
)

// readVerify measures verify over the bare query.
func (b *bench) readVerify(ctx context.Context, db *dbsql.DB, flag, query, suffix string) error {
	bare, err := timeQuery(ctx, db, query)
	if err != nil {
		return err
	}
	name, args := "verify", []string{"verify", "--json"}
	if flag != "" {
		name, args = "verify_deep", append(args, flag)
	}
	began := time.Now()
	out, err := b.output(ctx, args...)
	took := time.Since(began)
	if err != nil {
		return err
	}
	var report sql.Report
	if err := json.Unmarshal(out, &report); err != nil {
		return err
	}
	if report.Status == sql.Mismatch {
		return errors.New("verify found a mismatch")
	}
	b.record(name+"_seconds"+suffix, took.Seconds())
	b.record(name+"_bare_seconds"+suffix, bare.Seconds())
	b.record(name+"_over_bare"+suffix, took.Seconds()/bare.Seconds())
	return nil
}

// timeQuery returns how long a query takes up to its last row.
func timeQuery(ctx context.Context, db *dbsql.DB, query string) (time.Duration, error) {
	began := time.Now()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return time.Since(began), rows.Err()
}

// whileRunning does something while a process runs, and events come at --rate.
func (b *bench) whileRunning(ctx context.Context, do func(context.Context) error) (err error) {
	r, err := b.startProcess(ctx, 0, b.state())
	if err != nil {
		return err
	}
	emitting, stop := context.WithCancel(ctx)
	var emitter sync.WaitGroup
	var emitErr error
	defer func() {
		stop()
		emitter.Wait()
		err = errors.Join(err, emitErr, r.stop())
	}()
	err = within(ctx, latencyPatience, "process to begin", func() bool {
		_, err := r.processing()
		return err == nil
	})
	if err != nil {
		return err
	}
	if b.settings.Rate > 0 {
		emitter.Go(func() { emitErr = b.emitUntil(emitting) })
	}
	return do(ctx)
}

// emitUntil emits at the rate until ctx ends.
func (b *bench) emitUntil(ctx context.Context) error {
	s := &emitSettings{connection: b.con, rate: float64(b.settings.Rate), plazas: benchPlazas(b.settings.Plazas), seed: 5, format: codecs.CSV}
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	return a.emit(ctx, s)
}
