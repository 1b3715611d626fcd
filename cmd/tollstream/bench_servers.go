package main

import (
	"bufio"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"tollstream/codecs"
	"tollstream/internal/devstack"
	"tollstream/internal/simulate"
	"tollstream/sql"
	"tollstream/toll"
	"tollstream/topology"
)

// benchServers is a Kafka and a MariaDB in a temporary folder.
type benchServers struct {
	dir      string
	kafka    *devstack.Kafka
	database *devstack.Database
}

// joinTogether is how long Kafka waits for more members before it shares out a group's partitions, where there are to be
// several: else each that comes later makes all of them begin again.
const joinTogether = 3 * time.Second

// prepare starts the servers, makes topic and tables, and emits the events.
func (b *bench) prepare(ctx context.Context) error {
	jars, ok := devstack.FindKafka()
	if !ok {
		return withHint(errors.New("bench needs a real Kafka, and its jars are not there"), "fetch them with: make kafka")
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "tollstream-bench-"); err != nil {
		return err
	}
	b.say("starting Kafka and MariaDB …")
	cfg := devstack.KafkaConfig{Jars: jars, Dir: filepath.Join(b.dir, "kafka"), Addr: "127.0.0.1:0", Heap: "1g"}
	if b.settings.Instances > 1 {
		cfg.Properties = map[string]string{"group.initial.rebalance.delay.ms": fmt.Sprint(joinTogether.Milliseconds())}
	}
	if b.kafka, err = devstack.StartKafka(ctx, cfg); err != nil {
		return err
	}
	b.con.cluster.Brokers = []string{b.kafka.Addr()}
	if err := b.startDatabase(ctx); err != nil {
		return err
	}
	if err := b.initialize(ctx); err != nil {
		return err
	}
	if b.wants(benchLoad, benchProcess) {
		if err := b.writeFiles(); err != nil {
			return err
		}
	}
	if !b.wants(benchProcess, benchLatency, benchRead, benchStart) {
		return nil
	}
	b.say("emitting %s …", counted(int64(b.settings.Events), "event"))
	return b.send(ctx, b.generator(), b.settings.Events)
}

func (b *bench) close() error {
	var errs []error
	if b.database != nil {
		errs = append(errs, b.database.Close())
	}
	if b.kafka != nil {
		errs = append(errs, b.kafka.Close())
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

func (b *bench) startDatabase(ctx context.Context) error {
	var err error
	b.database, err = devstack.StartDatabase(ctx, devstack.DatabaseConfig{Addr: "127.0.0.1:0", DataDir: filepath.Join(b.dir, "mysql"), Engine: "mariadb"})
	if err != nil {
		return err
	}
	b.con.dsn = b.database.DSN()
	return nil
}

func (b *bench) openDB() (*dbsql.DB, error) { return dbsql.Open("mysql", b.con.dsn) }

// initialize makes topics and tables. The rows from before come first, so that they become the baseline.
func (b *bench) initialize(ctx context.Context) error {
	info, _, err := b.con.cluster.Create(b.topics())
	if err != nil {
		return err
	}
	if b.settings.Stored > 0 {
		if err := b.storeBefore(ctx); err != nil {
			return fmt.Errorf("store the rows from before: %w", err)
		}
	}
	store, err := b.con.openStore(b.mode, quietLog())
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.Init(ctx, b.con.identity(info.ID)); err != nil {
		return err
	}
	if b.settings.Stored > 0 {
		return b.keepDatabase(ctx)
	}
	return nil
}

func (b *bench) topics() topology.Topics {
	return topology.Topics{Topic: b.con.topic, Group: b.con.group, Partitions: b.settings.Partitions, Replication: 1}
}

// benchDay is when the events of the topic begin. All of them fall within an hour.
var benchDay = time.Date(2022, 2, 10, 0, 0, 0, 0, time.UTC)

// generator makes the events of the topic, the same ones each time.
func (b *bench) generator() *simulate.Generator {
	return simulate.New(benchPlazas(b.settings.Plazas), 1, simulate.Steady(benchDay, float64(b.settings.Events)/3600))
}

// send emits n events without keys, as the course's generator does: the partitions fill evenly.
func (b *bench) send(ctx context.Context, g *simulate.Generator, n int) error {
	emitter, err := topology.NewEmitter(ctx, topology.EmitterConfig{Cluster: b.con.cluster, Topic: b.con.topic, Format: codecs.CSV, Location: time.UTC})
	if err != nil {
		return err
	}
	var e toll.Event
	var line []byte
	for range n {
		g.Next(&e)
		line = codecs.AppendCSV(line[:0], &e)
		if err := emitter.EmitRaw(ctx, "", line, nil); err != nil {
			return err
		}
	}
	return emitter.Close(ctx)
}

// storedChunk is how many rows from before one statement loads.
const storedChunk = 1_000_000

// storeBefore fills livetolldata with rows of the day before.
func (b *bench) storeBefore(ctx context.Context) error {
	b.say("storing %s from before …", counted(int64(b.settings.Stored), "row"))
	db, err := b.openDB()
	if err != nil {
		return err
	}
	defer db.Close()
	// The course's own statement.
	if _, err := db.ExecContext(ctx, `create table if not exists livetolldata(timestamp datetime, vehicle_id int, vehicle_type char(15), toll_plaza_id smallint)`); err != nil {
		return err
	}
	const name = "tollstream-bench-stored"
	g := simulate.New(benchPlazas(b.settings.Plazas), 2, simulate.Steady(benchDay.AddDate(0, 0, -1), float64(b.settings.Stored)/3600))
	for left := b.settings.Stored; left > 0; left -= storedChunk {
		mysql.RegisterReaderHandler(name, func() io.Reader { return &rowReader{generator: g, left: min(left, storedChunk)} })
		defer mysql.DeregisterReaderHandler(name)
		if _, err := db.ExecContext(ctx, loadStatement("Reader::"+name, "livetolldata")); err != nil {
			return err
		}
	}
	return nil
}

// rowReader makes rows in load format while they are read.
type rowReader struct {
	generator *simulate.Generator
	left      int
	event     toll.Event
	buf, rest []byte
}

// Read implements io.Reader.
func (r *rowReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		r.buf = r.buf[:0]
		for ; r.left > 0 && len(r.buf) < 64<<10; r.left-- {
			r.generator.Next(&r.event)
			r.buf = appendLoadRow(r.buf, &r.event)
		}
		if r.rest = r.buf; len(r.rest) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func appendLoadRow(b []byte, e *toll.Event) []byte {
	b = append(e.Time.AppendFormat(b, time.DateTime), ',')
	b = append(strconv.AppendInt(b, int64(e.Vehicle), 10), ',')
	b = append(append(b, e.Type...), ',')
	return append(strconv.AppendInt(b, int64(e.Plaza), 10), '\n')
}

func (b *bench) file(n int) string { return filepath.Join(b.dir, fmt.Sprintf("rows-%d.csv", n)) }

// writeFiles writes the rows of the topic's events in load format: rows-0 holds all, rows-1 to rows-4 a quarter each.
func (b *bench) writeFiles() error {
	writers := make([]*bufio.Writer, 5)
	for i := range writers {
		file, err := os.Create(b.file(i))
		if err != nil {
			return err
		}
		defer file.Close()
		writers[i] = bufio.NewWriterSize(file, 1<<20)
	}
	g := b.generator()
	var e toll.Event
	var line []byte
	for i := range b.settings.Events {
		g.Next(&e)
		line = appendLoadRow(line[:0], &e)
		for _, w := range []*bufio.Writer{writers[0], writers[1+i%4]} {
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
	}
	for _, w := range writers {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// reset takes away all that was derived from the topic.
func (b *bench) reset(ctx context.Context) error {
	if _, err := b.con.cluster.Reset(b.topics()); err != nil {
		return err
	}
	if b.settings.Stored > 0 {
		return b.restoreDatabase(ctx)
	}
	store, err := b.con.openStore(b.mode, quietLog())
	if err != nil {
		return err
	}
	defer store.Close()
	info, _, err := b.con.cluster.Describe(b.con.topic)
	if err != nil {
		return err
	}
	_, err = store.Reset(ctx, b.con.identity(info.ID), sql.ResetOptions{})
	return err
}

// keepDatabase copies the database as it is now. The rows from before can't be told from ours, so with them a round
// begins with the copy: making them anew takes far longer.
func (b *bench) keepDatabase(ctx context.Context) error {
	if err := b.database.Close(); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(b.dir, "kept"), os.DirFS(filepath.Join(b.dir, "mysql", "data"))); err != nil {
		return err
	}
	return b.startDatabase(ctx)
}

func (b *bench) restoreDatabase(ctx context.Context) error {
	if err := b.database.Close(); err != nil {
		return err
	}
	data := filepath.Join(b.dir, "mysql", "data")
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := os.CopyFS(data, os.DirFS(filepath.Join(b.dir, "kept"))); err != nil {
		return err
	}
	// The disk is not to be busy with the copy while something is measured.
	if err := exec.CommandContext(ctx, "sync").Run(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return b.startDatabase(ctx)
}

// command returns a command of ours as a process of its own on the bench's servers, whatever the environment says.
func (b *bench) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Args[0] = "tollstream" // by which a test binary knows what it is to be
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TOLLSTREAM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "TOLLSTREAM_BROKERS="+strings.Join(b.con.cluster.Brokers, ","), "TOLLSTREAM_MYSQL="+b.con.dsn,
		"TOLLSTREAM_TOPIC="+b.con.topic, "TOLLSTREAM_GROUP="+b.con.group, "TOLLSTREAM_TIMEZONE=UTC")
	return cmd, nil
}

// output runs a command and returns what it prints.
func (b *bench) output(ctx context.Context, args ...string) ([]byte, error) {
	cmd, err := b.command(ctx, args...)
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		text := strings.TrimSpace(string(out))
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			text = strings.TrimSpace(string(exit.Stderr))
		}
		return out, fmt.Errorf("%s: %w: %s", args[0], err, text)
	}
	return out, nil
}
