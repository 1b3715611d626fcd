package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/toll"
)

// loadFiles is over how many files the rows are spread: one for each of the connections.
const loadFiles = 4

func (b *Bench) loadFile(i int) string {
	return filepath.Join(b.dir, fmt.Sprintf("rows-%d.csv", i))
}

// writeRows writes the rows of a feed in the format of LOAD DATA.
func (b *Bench) writeRows(next feed) error {
	var writers [loadFiles]*bufio.Writer
	for i := range writers {
		file, err := os.Create(b.loadFile(i))
		if err != nil {
			return err
		}
		defer file.Close()
		writers[i] = bufio.NewWriterSize(file, 1<<20)
	}
	var e toll.Event
	var line []byte
	for i := 0; next(&e); i++ {
		line = append(e.Time.AppendFormat(line[:0], time.DateTime), ',')
		line = append(strconv.AppendInt(line, int64(e.Vehicle), 10), ',')
		line = append(append(line, e.Type...), ',')
		line = append(strconv.AppendInt(line, int64(e.Plaza), 10), '\n')
		if _, err := writers[i%loadFiles].Write(line); err != nil {
			return err
		}
	}
	for _, w := range writers {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// bareLoad returns how many rows a second the database takes without Kafka and without us: by
// LOAD DATA LOCAL of all files, by one connection or by one for each file.
func (b *Bench) bareLoad(ctx context.Context, rows, connections int) (perSecond float64,
	err error) {
	const name = "bench_load"
	dsn, err := b.createDatabase(ctx, name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.dropDatabase(context.WithoutCancel(ctx), name)) }()
	db, err := openDB(dsn)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	// The course's own statement, which is what init creates.
	if _, err := db.ExecContext(ctx, `create table livetolldata(timestamp datetime, vehicle_id int,
		vehicle_type char(15), toll_plaza_id smallint)`); err != nil {
		return 0, err
	}
	began := time.Now()
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for c := range connections {
		var files []string
		for i := c; i < loadFiles; i += connections {
			files = append(files, b.loadFile(i))
		}
		wg.Go(func() {
			source := fmt.Sprintf("bench-%d", c)
			mysql.RegisterReaderHandler(source, func() io.Reader { return &fileReader{files: files} })
			defer mysql.DeregisterReaderHandler(source)
			_, errs[c] = db.ExecContext(ctx, `LOAD DATA LOCAL INFILE 'Reader::`+source+`'
				INTO TABLE livetolldata CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' LINES TERMINATED BY '\n'
				(timestamp, vehicle_id, vehicle_type, toll_plaza_id)`)
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	var loaded int
	if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM livetolldata`).Scan(&loaded); err != nil {
		return 0, err
	}
	if loaded != rows {
		return 0, fmt.Errorf("%d rows loaded, want %d", loaded, rows)
	}
	return float64(rows) / took.Seconds(), nil
}

// fileReader reads files one after the other.
type fileReader struct {
	files []string
	open  *os.File
}

// Read implements io.Reader.
func (r *fileReader) Read(p []byte) (int, error) {
	for {
		if r.open == nil {
			if len(r.files) == 0 {
				return 0, io.EOF
			}
			var err error
			if r.open, err = os.Open(r.files[0]); err != nil {
				return 0, err
			}
			r.files = r.files[1:]
		}
		n, err := r.open.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		if err := r.open.Close(); err != nil {
			return 0, err
		}
		r.open = nil
	}
}
