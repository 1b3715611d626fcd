package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/kafka"
)

// reader is what view and verify read: a database that was checked, and the group table.
type reader struct {
	con   endpoint.Connection
	store *sql.Store
	table *topology.Table

	started   bool
	recovered bool // whether it was once
	cancel    context.CancelFunc
	ended     chan error // receives how the table ended, once
}

// readerFrom opens what the connection flags describe, and refuses a database that serves something
// else. The times are in the database's timezone, unless the settings name one, which must then be
// the same.
func (a *app) readerFrom(c *cli.Context) (*reader, error) {
	con, err := endpoint.From(c)
	if err != nil {
		return nil, err
	}
	log, err := command.NewLogger(a.stderr, command.LogText, "warn")
	if err != nil {
		return nil, err
	}
	return openReader(c.Context, con, endpoint.FixesTimezone(c), log)
}

func openReader(ctx context.Context, con endpoint.Connection, fixedTimezone bool,
	log *slog.Logger) (*reader,
	error) {
	return openFollowing(ctx, con, fixedTimezone, log, topology.NewTable)
}

// openFollower opens a reader that is kept open for long, see [topology.NewFollowedTable].
func openFollower(ctx context.Context, con endpoint.Connection, fixedTimezone bool,
	log *slog.Logger) (*reader, error) {
	return openFollowing(ctx, con, fixedTimezone, log, topology.NewFollowedTable)
}

func openFollowing(ctx context.Context, con endpoint.Connection, fixedTimezone bool,
	log *slog.Logger,
	newTable func(kafka.Cluster, string, *slog.Logger) (*topology.Table, error)) (*reader, error) {
	r, table, err := openReaderOf(ctx, con, fixedTimezone, log, func() (*topology.Table, error) {
		return newTable(con.Cluster, con.Group, log)
	})
	if err == nil {
		r.table = table
	}
	return r, err
}

// openScan opens a reader that follows no table, and a scan that reads the table once.
func openScan(ctx context.Context, con endpoint.Connection, fixedTimezone bool,
	log *slog.Logger) (*reader,
	*topology.TableScan, error) {
	return openReaderOf(ctx, con, fixedTimezone, log, func() (*topology.TableScan, error) {
		return topology.NewTableScan(ctx, con.Cluster, con.Group)
	})
}

// openReaderOf opens a reader, and meanwhile what reads the group table.
func openReaderOf[T interface{ Close() }](ctx context.Context, con endpoint.Connection,
	fixedTimezone bool,
	log *slog.Logger,
	open func() (T, error)) (_ *reader, table T, err error) {
	var none T
	store, err := con.OpenStore(sql.LoadAuto, log)
	if err != nil {
		return nil, none, err
	}
	r := &reader{con: con, store: store, ended: make(chan error, 1)}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	opened, gone := make(chan opening[T]), make(chan struct{})
	defer close(gone)
	go func() { // Kafka's clients take no context: it ends with their timeouts at the latest
		table, err := open()
		select {
		case opened <- opening[T]{table, err}:
		case <-gone:
			if err == nil {
				table.Close()
			}
		}
	}()
	meta, err := checkDatabase(ctx, store, con, fixedTimezone)
	if err != nil {
		return nil, none, err
	}
	if r.con.Location, err = time.LoadLocation(meta.Timezone); err != nil {
		return nil, none, fmt.Errorf("load the database's timezone: %w", err)
	}
	if table, err = awaitTable(ctx, opened, con.Cluster.Brokers, tablePatience); err != nil {
		return nil, none, noAnswer(err)
	}
	return r, table, nil
}

// opening is how opening the group table ended.
type opening[T any] struct {
	table T
	err   error
}

// tablePatience is how long Kafka may take to say what a reader needs to begin. A broker that takes
// connections and does not answer would hold it for many minutes: its client tries again each time
// that a request times out.
const tablePatience = time.Minute

func awaitTable[T any](ctx context.Context, opened <-chan opening[T], brokers []string,
	patience time.Duration) (table T, err error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case o := <-opened:
		return o.table, o.err
	case <-late.C:
		return table, fmt.Errorf("connect to Kafka at %s: no answer for %v", strings.Join(brokers, ","),
			patience)
	case <-ctx.Done():
		return table, ctx.Err()
	}
}

// noAnswer adds a hint to an error about a server that can't be reached.
func noAnswer(err error) error {
	if hint.Of(err) != "" || errors.Is(err, context.Canceled) {
		return err
	}
	return hint.With(err,
		"is it running, and is its address right? tollstream up starts a Kafka and a MySQL for trying things out")
}

func checkDatabase(ctx context.Context, store *sql.Store, con endpoint.Connection,
	fixedTimezone bool) (sql.Meta, error) {
	if err := store.Ping(ctx); err != nil {
		if hint.Of(err) != "" {
			return sql.Meta{}, err // it says where to
		}
		return sql.Meta{}, noAnswer(fmt.Errorf("connect to MySQL at %s: %w", store.Address(), err))
	}
	meta, err := store.Meta(ctx)
	if err != nil {
		return meta, err
	}
	id := con.Identity("")
	if !fixedTimezone {
		id.Timezone = meta.Timezone
	}
	return store.Check(ctx, id)
}

// start begins to read the group table, once. It follows the table until stop or Close.
func (r *reader) start() {
	if r.started {
		return
	}
	r.started = true
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go func() { r.ended <- r.table.Run(ctx) }()
}

// errTableEnded says that the group table is not followed any more.
var errTableEnded = errors.New("the reader of the group table has ended")

// awayPatience is how long a table that was read once may take to be up to date again before Kafka
// counts as away.
const awayPatience = 2 * time.Second

// states returns the states as they are now. The first call waits until all that was in the table
// when it was started is read; later ones fail where the table can't be followed, and work again
// when it can.
func (r *reader) states(ctx context.Context) (map[int16]*toll.State, error) {
	r.start()
	waiting, cancel := r.patience(ctx)
	defer cancel()
	recovered := make(chan error, 1)
	go func() { recovered <- r.table.WaitRecovered(waiting) }()
	select {
	case err := <-r.ended:
		if err == nil {
			err = errTableEnded
		}
		r.ended <- err // for Close, and for another call
		return nil, err
	case err := <-recovered:
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("no answer from Kafka at %v", r.con.Cluster.Brokers)
		}
		if err != nil {
			return nil, err
		}
	}
	r.recovered = true
	return r.table.States()
}

// patience returns the context of a wait for the table to be up to date.
func (r *reader) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.recovered {
		return context.WithTimeout(ctx, awayPatience)
	}
	return context.WithCancel(ctx)
}

// stop ends the reading of the group table, without waiting for that.
func (r *reader) stop() {
	if r.started {
		r.cancel()
	}
}

// closePatience is how long Close waits for the group table's reader, which ends with its last
// fetch.
const closePatience = time.Second

// Close ends the reading.
func (r *reader) Close() {
	if r.started {
		r.stop()
		select {
		case <-r.ended:
		case <-time.After(closePatience):
		}
	} else if r.table != nil {
		r.table.Close()
	}
	_ = r.store.Close()
}

// await returns what do returns, or ctx's error as soon as ctx ends: Kafka's clients take no
// context. What was begun then ends by itself.
func await[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// begin does something in parallel. The function that it returns waits for its end, once.
func begin[T any](do func() (T, error)) (end func() (T, error)) {
	ended := make(chan struct{})
	var value T
	var err error
	go func() {
		defer close(ended)
		value, err = do()
	}()
	return func() (T, error) {
		<-ended
		return value, err
	}
}
