package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/rowscan"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// DefaultCountLimit bounds how long the rows of livetolldata are counted for a view. The table has
// no index, so a count reads all of it; a person looks at a view for less time than that takes
// beyond some ten million rows.
const DefaultCountLimit = 3 * time.Second

// PlazaOptions sets how much of livetolldata a check of plazas reads.
type PlazaOptions struct {
	// CountLimit bounds the count; the server cuts it off. 0 is DefaultCountLimit.
	CountLimit time.Duration
	// CountOnly leaves the rows' checksums out, which makes the scan of all plazas about three times
	// as fast.
	CountOnly bool
	// SkipRows leaves livetolldata out, for checks that are made often: no StoredRows, no ChecksumOK.
	SkipRows bool
}

// PlazaChecker makes the same checks again and again, and reads of the outbox only what was stored
// since the last one. It is safe for concurrent use, one check at a time.
type PlazaChecker struct {
	s      *Verifier
	mu     sync.Mutex
	ledger *ledger
}

// PlazaChecker returns a checker that has read nothing yet.
func (s *Verifier) PlazaChecker() *PlazaChecker {
	return &PlazaChecker{s: s, ledger: newLedger(true)}
}

// Plaza compares what the group table, the outbox and livetolldata hold of one plaza, in one
// snapshot of the database. The state, nil for none, must have been read before; it is only read.
// Processes may go on to write.
func (p *PlazaChecker) Plaza(ctx context.Context, plaza int16, state *toll.State,
	o PlazaOptions) (*PlazaCheck, error) {
	var check *PlazaCheck
	err := p.check(ctx, map[int16]*toll.State{plaza: state}, &plaza, o,
		func(c PlazaCheck) { check = &c })
	return check, p.s.db.Wrap(fmt.Sprintf("check plaza %d", plaza), err)
}

// Plazas does for all plazas what Plaza does for one. The result is ascending by plaza; plazas that
// have no state yet, or no rows, are among them.
func (p *PlazaChecker) Plazas(ctx context.Context, states map[int16]*toll.State,
	o PlazaOptions) ([]PlazaCheck, error) {
	checks := []PlazaCheck{}
	err := p.check(ctx, states, nil, o, func(c PlazaCheck) { checks = append(checks, c) })
	return checks, p.s.db.Wrap("check the plazas", err)
}

func (p *PlazaChecker) check(ctx context.Context, states map[int16]*toll.State, only *int16,
	o PlazaOptions, each func(PlazaCheck)) error {
	if o.CountLimit == 0 {
		o.CountLimit = DefaultCountLimit
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ledger.only != nil && (only == nil || *only != *p.ledger.only) {
		p.ledger = newLedger(true)
	}
	if only == nil {
		clear(p.ledger.states)
	} else if len(p.ledger.ends) == 0 {
		p.ledger.only = only
	}
	for plaza, state := range states {
		p.ledger.observe(plaza, state)
	}
	take := snapshots
	if o.SkipRows {
		take = func(ctx context.Context, pool *db.DB, read func(q, rows db.Reader) error) error {
			return pool.Snapshot(ctx, func(q db.Reader) error { return read(q, q) })
		}
	}
	return take(ctx, p.s.db, func(q, rows db.Reader) error {
		scan := &rowscan.Scan{Options: tables.CountOptions{Checksum: !o.CountOnly, Plaza: only,
			Limit: o.CountLimit}}
		if rows != q {
			defer scan.Start(ctx, rows)()
		}
		err := p.ledger.update(ctx, p.s, q)
		if errors.Is(err, errOtherOutbox) {
			fresh := newLedger(true)
			fresh.states, fresh.only = p.ledger.states, p.ledger.only
			p.ledger = fresh
			err = p.ledger.update(ctx, p.s, q)
		}
		if err != nil {
			return err
		}
		baseline, err := tables.ReadBaseline(ctx, q)
		if err != nil {
			return err
		}
		pruned, err := tables.ReadPruned(ctx, q, tables.PrunedRows)
		if err != nil {
			return err
		}
		var counts map[int]tables.RowCount // nil where not counted
		note := ""
		if !o.SkipRows {
			counts, err = scan.Count(ctx, q)
			if errors.Is(err, tables.ErrTooSlow) {
				counts, note = nil, fmt.Sprintf("counting the rows was cut off after %v", o.CountLimit)
			} else if err != nil {
				return err
			}
		}
		plazas := p.ledger.plazas(states, baseline, pruned, counts)
		if only != nil {
			plazas = []int{int(*only)}
		}
		for _, plaza := range plazas {
			f := plazaFacts{baseline: baseline[plaza], pruned: pruned[plaza]}
			if plaza != tables.NullPlaza {
				f.state = states[int16(plaza)]
			}
			if counts != nil {
				stored := counts[plaza]
				stored.Exact = stored.Exact || stored.Rows == 0 && !o.CountOnly
				f.stored = &stored
			}
			var found problems
			c := p.ledger.checkPlaza(plaza, f, &found)
			c.Problems, c.Note = found.list, note
			each(c)
		}
		return nil
	})
}
