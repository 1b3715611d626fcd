// Package live reads boards from the group table in Kafka and from MySQL.
package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology"
	"github.com/tollstream/tollstream/topology/table"
)

// Config is what is read, and from where.
type Config struct {
	endpoint.Connection
	Log *slog.Logger

	Plaza    *int16 // this plaza alone, with its history; nil for all
	Silent   bool   // plazas of the plazas file that no vehicle has passed, too
	Deep     bool   // compare the checksums of the rows, however long that takes
	Repeated bool   // boards are read again and again
	// Relaxed asks the broker five times less often, for a board on a screen: what is new takes up to
	// a tenth of a second more.
	Relaxed bool
	// JourneysEvery is how often travel times are read, however long that takes; 0 for once a minute,
	// and less often where it takes long.
	JourneysEvery time.Duration
	// Holidays are those of the process, for what is usual on past dates; nil for none.
	Holidays traffic.Holidays
	// Limits are from when on what is old is not the present; zero for the defaults.
	Limits board.Limits
}

// Reader reads boards. Its methods are called by one goroutine at a time.
type Reader struct {
	cfg     Config
	store   *sql.Store
	table   *table.View
	checker *verify.PlazaChecker
	marks   *topology.WatermarkReader

	following context.Context // ends with the table, whose end is its cause; nil before Start
	stop      context.CancelFunc
	recovered bool // whether the table was up to date once

	// Of the last count of rows.
	counted     map[int]*board.Check // by plaza
	rowsRead    bool                 // whether it was not cut off
	countedAt   time.Time
	countTook   time.Duration
	deadLetters int64

	ends     int64     // of all partitions, at the last board; 0 for none
	growing  time.Time // when they were first seen to have grown, the last time; zero for never
	observed bool      // whether they were looked at twice

	about   map[int16]toll.Plaza // as the plazas file describes them
	aboutAt time.Time            // when that was read
	bounds  capacityBounds
}

// Open returns a reader of a database that was checked: it refuses one that serves something else.
func Open(ctx context.Context, cfg Config) (*Reader, error) {
	newTable := table.NewView
	if cfg.Relaxed {
		newTable = table.NewFollowedView
	}
	store, table, err := Check(ctx, &cfg, func(ctx context.Context) (*table.View, error) {
		return newTable(ctx, cfg.Cluster, cfg.Group, cfg.Log)
	})
	if err != nil {
		return nil, err
	}
	return &Reader{cfg: cfg, store: store, table: table, checker: store.PlazaChecker(),
		marks: topology.NewWatermarkReader(cfg.Cluster, cfg.Topic)}, nil
}

// Check opens the database and checks that it serves what is to be read, and opens the group table
// in parallel. The connection's location is then that of the database.
func Check[T interface{ Close() }](ctx context.Context, cfg *Config,
	open func(context.Context) (T, error)) (_ *sql.Store, table T, err error) {
	var none T
	store, err := cfg.OpenStore(cfg.Log)
	if err != nil {
		return nil, none, err
	}
	opening, giveUp := context.WithTimeout(ctx, tablePatience)
	defer giveUp()
	var opener sync.WaitGroup
	var openErr error
	opener.Go(func() { table, openErr = open(opening) })
	meta, err := checkDatabase(ctx, store, cfg)
	if err == nil {
		if cfg.Location, err = time.LoadLocation(meta.Timezone); err != nil {
			err = fmt.Errorf("load the database's timezone: %w", err)
		}
	}
	if err != nil {
		giveUp()
	}
	opener.Wait()
	if err == nil && openErr == nil {
		return store, table, nil
	}
	if openErr == nil {
		table.Close()
	}
	_ = store.Close()
	return nil, none, cmp.Or(err, whyNotOpened(opening, openErr, cfg.Cluster.Brokers))
}

// tablePatience is how long Kafka may take to answer what a reader needs to begin. A broker that
// accepts connections and does not answer would hold it for many minutes: its client retries each
// time that a request times out.
const tablePatience = time.Minute

// whyNotOpened returns the error of opening the group table, which ended at the latest with a
// context.
func whyNotOpened(opening context.Context, err error, brokers []string) error {
	switch ended := opening.Err(); {
	case errors.Is(ended, context.DeadlineExceeded):
		err = fmt.Errorf("connect to Kafka at %s: no answer for %v", strings.Join(brokers, ","),
			tablePatience)
	case ended != nil:
		return ended
	}
	return noAnswer(err)
}

// noAnswer adds a hint to an error about a server that can't be reached.
func noAnswer(err error) error {
	if hint.Of(err) != "" || errors.Is(err, context.Canceled) {
		return err
	}
	return hint.With(err, "is it running, and is its address right? "+
		"tollstream up starts a Kafka and a MySQL for trying things out")
}

func checkDatabase(ctx context.Context, store *sql.Store, cfg *Config) (sql.Meta, error) {
	if err := endpoint.Reach(ctx, store, cfg.Log); err != nil {
		if hint.Of(err) != "" {
			return sql.Meta{}, err
		}
		return sql.Meta{}, noAnswer(fmt.Errorf("connect to MySQL at %s: %w", store.Address(), err))
	}
	meta, err := store.Meta(ctx)
	if err != nil {
		return meta, err
	}
	id := cfg.Identity("")
	if !cfg.TimezoneSet {
		id.Timezone = meta.Timezone
	}
	return store.Check(ctx, id)
}

// Start begins to read the group table, once. The reader follows it until Stop or Close.
func (r *Reader) Start() {
	if r.following != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	following, end := context.WithCancelCause(context.Background())
	r.following, r.stop = following, stop
	go func() { end(cmp.Or(r.table.Run(ctx), board.ErrEnded)) }()
}

// catchUpPatience is how long a table that was read once may take to be up to date again before
// Kafka counts as unavailable.
const catchUpPatience = 2 * time.Second

// states returns the states as they are now. The first call waits until all that was in the table
// when it was started is read; later ones fail where the table can't be followed, until it can
// again.
func (r *Reader) states(ctx context.Context) (map[int16]*toll.State, error) {
	r.Start()
	waiting, cancel := r.patience(ctx)
	defer cancel()
	err := r.table.WaitRecovered(waiting)
	switch {
	case err == nil:
		r.recovered = true
		return r.table.States()
	case ctx.Err() != nil:
		return nil, err
	case waiting.Err() == nil: // the table ends
		<-r.following.Done()
		return nil, context.Cause(r.following)
	}
	return nil, outage("Kafka", fmt.Errorf("no answer from Kafka at %v", r.cfg.Cluster.Brokers))
}

// patience returns the context of a wait for the table to be up to date.
func (r *Reader) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.recovered {
		return context.WithTimeout(ctx, catchUpPatience)
	}
	return context.WithCancel(ctx)
}

// Stop ends the reading of the group table, without waiting for that.
func (r *Reader) Stop() {
	if r.following != nil {
		r.stop()
	}
}

// Close ends the reading.
func (r *Reader) Close() {
	if r.Stop(); r.following != nil {
		<-r.following.Done()
	} else {
		r.table.Close()
	}
	_ = r.marks.Close()
	_ = r.store.Close()
}
