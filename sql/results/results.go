// Package results stores closed windows and the congestion of plazas, and reads them.
//
// Both are derived from what package ingest stores. The database decides which revision of a window
// comes next, and what of it is still to be published; what is submitted twice, late or by two
// processes changes nothing.
package results

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Config says how results are made.
type Config struct {
	// Decode reads an outbox.
	Decode func([]byte) ([]toll.PlazaDelta, error)
	// Windows are the kinds of windows, as they are recorded in the database.
	Windows []toll.WindowKind
	// Location is of the wall clock in livetolldata.timestamp.
	Location *time.Location
	// Plazas are what the plazas file says of some plazas.
	Plazas map[int16]toll.Plaza
	// PlazaZones are the timezones of the plazas whose windows align to another than Location.
	PlazaZones map[int16]*toll.Zone
	// Equivalents are how many cars a vehicle counts for, by type. Nil for the defaults.
	Equivalents traffic.Equivalents
	// Holidays names the holidays: days of their own kind, which the reasons of states mention.
	Holidays traffic.Holidays
	// Notify says that changes of incidents are to be notified of: they go into an outbox in the
	// transaction that stores them.
	Notify bool
}

// Writer stores closed windows and the congestion of plazas. One goroutine uses it at a time.
//
// The database decides which revision of a window comes next, so whoever submits a window, once
// more or late or after another process took the plaza over, there is one content for each
// revision. What was stored and is not known to be published is returned again before anything may
// take its place.
type Writer struct {
	db      *db.DB
	topicID string
	cfg     Config
	zone    *toll.Zone // of Location
	zones   *toll.ZoneSet
	history history
	written written
	// cautious is set after a failure, such as a deadlock: then windows are looked for before any is
	// inserted, so all rows are locked in their order.
	cautious bool

	inserter tables.WindowInserter
}

// written is what a call of Store writes.
type written struct {
	windows     []toll.WindowResult
	tooMany     bool             // more than are to be held
	transitions []int16          // plazas with transitions
	notices     []traffic.Notice // that were returned, if they are all that was written
}

// begin forgets what was written before.
func (w *written) begin() {
	*w = written{windows: w.windows[:0], transitions: w.transitions[:0]}
}

func (w *written) add(results []toll.WindowResult) {
	if w.tooMany = w.tooMany || len(w.windows)+len(results) >= maxNotices; !w.tooMany {
		w.windows = append(w.windows, results...)
	}
}

// NewWriter returns a store of the results of the topic that has this id.
func NewWriter(db *db.DB, topicID string, cfg Config) *Writer {
	zone := toll.NewZone(cfg.Location)
	return &Writer{db: db, topicID: topicID, cfg: cfg, zone: zone,
		inserter: tables.WindowInserter{Zone: zone},
		zones:    toll.NewZoneSet(zone, cfg.PlazaZones), history: newHistory(cfg.Windows, cfg.Holidays)}
}

// ErrConflict says that another process stored results of the same plazas at the same time, or that
// the database could not let both. Nothing was stored; the same call repeated finds out how
// things stand.
var ErrConflict = errors.New("another process stores results of the same plazas")

// Store marks what was published before, and stores what is submitted in one transaction. It
// returns the notices that are to be published now, in order: by plaza, of each the windows by
// their end and then the transitions. They are valid until the next call.
//
// Where some of these plazas' notices are left from before, it returns those, and stored is false:
// publish them, and call it again, so that no revision is overwritten before it was published. The
// same where there are more notices than are returned at a time. A closing that holds nothing but
// its plaza asks for what is left alone.
//
// Submitting what is stored already changes nothing. After an error the same call may be made
// again: it returns ErrConflict where nothing was stored since another process was in the way, and
// a [toll.PermanentError] where no repetition helps. After any other error the results may or may
// not be stored.
func (r *Writer) Store(ctx context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) (notices []traffic.Notice, stored bool, err error) {
	notices, stored, err = r.storeClosings(ctx, closings, published)
	if err != nil {
		r.history.forget() // it may have read what is rolled back
		r.begun("")
		r.cautious = true
		return nil, false, r.db.Wrap("store the results", r.explain(err))
	}
	r.cautious = false
	return notices, stored, nil
}

// begun forgets what was written before; what follows is stored as of a time.
func (r *Writer) begun(at string) {
	r.written.begin()
	r.inserter.At = at
}

// explain marks the errors by which a server reports that another transaction was in the way.
func (r *Writer) explain(err error) error {
	switch n := db.Number(err); {
	case n == db.ErrDuplicateKey, db.Conflict(err):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case n == db.ErrBinlogFormat:
		return toll.Permanent(db.BinlogHint, "MySQL at %s: %w", r.db.Address, err)
	}
	return err
}

// begin begins a transaction of READ COMMITTED: rows are locked and the gaps between them are not,
// in which the owners of source partitions insert.
func (r *Writer) begin(ctx context.Context) (*dbsql.Tx, error) {
	return r.db.BeginLocking(ctx)
}

func (r *Writer) storeClosings(ctx context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) (notices []traffic.Notice, stored bool, err error) {
	r.db.Embedded(ctx) // for what follows, see many
	if err := r.markPublished(ctx, published); err != nil {
		return nil, false, err
	}
	r.begun("")
	lock := r.db.ShareLock(ctx)
	tx, err := r.begin(ctx)
	if err != nil {
		return nil, false, err
	}
	defer tx.Rollback()
	plazas := make([]int16, 0, len(closings))
	for i := range closings {
		plazas = append(plazas, closings[i].Plaza)
	}
	slices.Sort(plazas)
	plazas = slices.Compact(plazas)
	left, err := r.unpublished(ctx, tx, plazas)
	if err != nil {
		return nil, false, err
	}
	if len(left) > 0 {
		return left, false, tx.Commit()
	}
	if closings, err = ofEpoch(ctx, tx, lock, closings); err != nil {
		return nil, false, err
	}
	var now string
	if err := tx.QueryRowContext(ctx, `SELECT NOW(6)`).Scan(&now); err != nil {
		return nil, false, fmt.Errorf("read the time: %w", err)
	}
	r.begun(now)
	if err := r.storeWindows(ctx, tx, closings); err != nil {
		return nil, false, err
	}
	if err := r.readLostPanes(ctx, tx, closings); err != nil {
		return nil, false, err
	}
	if err := r.assess(ctx, tx, closings); err != nil {
		return nil, false, err
	}
	if notices, err = r.noticesOf(ctx, tx, plazas); err != nil {
		return nil, false, err
	}
	return notices, len(notices) < maxNotices, tx.Commit()
}

// ofEpoch returns the closings that were counted in the database's epoch; no rebuild raises it
// before the transaction ends. Others come from a process that has yet to notice a rebuild, and of
// a restored database they may hold events that it never stored. Its plazas are counted again, and
// then submitted again.
func ofEpoch(ctx context.Context, tx *dbsql.Tx, lock string,
	closings []toll.Closing) ([]toll.Closing, error) {
	epoch, err := currentEpoch(ctx, tx, lock)
	if err != nil {
		return nil, fmt.Errorf("read the epoch: %w", err)
	}
	if !slices.ContainsFunc(closings, func(c toll.Closing) bool { return c.Epoch != epoch }) {
		return closings, nil
	}
	return slices.DeleteFunc(slices.Clone(closings), func(c toll.Closing) bool {
		return c.Epoch != epoch
	}), nil
}

// currentEpoch returns the epoch of the database, and keeps a rebuild from raising it until the
// transaction ends, by a lock on toll_meta (db.ShareLock).
func currentEpoch(ctx context.Context, tx *dbsql.Tx, lock string) (uint64, error) {
	var one int
	if err := tx.QueryRowContext(ctx,
		`SELECT id FROM toll_meta WHERE id = 1 `+lock).Scan(&one); err != nil {
		return 0, fmt.Errorf("lock toll_meta: %w", err)
	}
	var epoch dbsql.Null[uint64]
	err := tx.QueryRowContext(ctx, `SELECT MAX(epoch) FROM toll_cursor`).Scan(&epoch)
	return epoch.V, err
}
