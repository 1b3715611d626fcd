package results

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// assess goes on with the assessment of plazas, over the minutes that have closed.
func (r *Writer) assess(ctx context.Context, tx *dbsql.Tx, closings []toll.Closing) error {
	byPlaza := map[int16][]*toll.Closing{}
	for i := range closings {
		if c := &closings[i]; c.From < c.Until {
			byPlaza[c.Plaza] = append(byPlaza[c.Plaza], c)
		}
	}
	defer r.history.end()
	// Whoever locks several rows locks them in this order.
	for plazas := range slices.Chunk(slices.Sorted(maps.Keys(byPlaza)), tables.UpsertRows) {
		before, err := readAssessments(ctx, tx, "WHERE toll_plaza_id IN ("+db.Placeholders(len(plazas))+
			") ORDER BY toll_plaza_id FOR UPDATE", db.Anys(plazas)...)
		if err != nil {
			return fmt.Errorf("read the congestion: %w", err)
		}
		err = r.history.begin(ctx, tx, plazas, func(plaza int16) int64 {
			all := byPlaza[plaza]
			return traffic.DayOf(r.zones.Of(plaza), all[len(all)-1].Until-1)
		})
		if err != nil {
			return fmt.Errorf("read where windows begin: %w", err)
		}
		var fresh, known []assessed
		var transitions []traffic.Transition
		for _, plaza := range plazas {
			a, exists := before[plaza]
			until := a.Until
			changes, err := r.assessPlaza(ctx, tx, plaza, &a, byPlaza[plaza])
			if err != nil {
				return fmt.Errorf("read what is usual at plaza %d: %w", plaza, err)
			}
			transitions = append(transitions, changes...)
			switch {
			case exists && a.Until > until:
				known = append(known, assessed{plaza, a})
			case !exists && a.Assessed():
				fresh = append(fresh, assessed{plaza, a})
			}
		}
		if err := r.writeAssessments(ctx, tx, fresh, ""); err != nil {
			return fmt.Errorf("insert the congestion: %w", err)
		}
		if err := r.writeAssessments(ctx, tx, known, updateAssessment); err != nil {
			return fmt.Errorf("update the congestion: %w", err)
		}
		if err := r.writeTransitions(ctx, tx, transitions); err != nil {
			return fmt.Errorf("insert transitions: %w", err)
		}
	}
	return nil
}

// assessed is the assessment of a plaza.
type assessed struct {
	plaza int16
	traffic.Assessment
}

// assessPlaza takes an assessment on through the minutes of some closings. Those that it has behind
// it change nothing, whoever submits them.
func (r *Writer) assessPlaza(ctx context.Context, q db.Reader, plaza int16, a *traffic.Assessment,
	closings []*toll.Closing) ([]traffic.Transition, error) {
	slices.SortStableFunc(closings, func(a, b *toll.Closing) int {
		return cmp.Compare(a.From, b.From)
	})
	var failed error
	by := traffic.Basis{Plaza: r.cfg.Plazas[plaza], Zone: r.zones.Of(plaza),
		Equivalents: r.cfg.Equivalents, Holidays: r.cfg.Holidays}
	by.Plaza.ID = plaza
	date := func(day int64) usualDate {
		date, err := r.history.date(ctx, q, plaza, by.Zone, day)
		if err != nil && failed == nil {
			failed = err
		}
		return date
	}
	by.Usual = func(day int64) *traffic.UsualDay { return date(day).usual }
	by.DayOff = func(day int64) *traffic.DayOff { return date(day).off }
	a.Equivalents = by.Equivalents
	var transitions []traffic.Transition
	for _, c := range closings {
		changes := a.Run(c.Panes, c.From, c.Until, &by)
		if failed != nil {
			return nil, failed
		}
		for i := range changes {
			changes[i].Epoch = c.Epoch
		}
		transitions = append(transitions, changes...)
	}
	return transitions, nil
}

// updateAssessment takes over all columns for plazas whose rows are locked.
const updateAssessment = ` ON DUPLICATE KEY UPDATE state = VALUES(state), since = VALUES(since),
	why = VALUES(why), assessed = VALUES(assessed),
	assessed_until = VALUES(assessed_until), vehicles_15m = VALUES(vehicles_15m),
	flow_per_hour = VALUES(flow_per_hour),
	heavy_share = VALUES(heavy_share), phf = VALUES(phf), demand = VALUES(demand),
	capacity = VALUES(capacity), vc = VALUES(vc),
	usual_15m = VALUES(usual_15m), usual_weeks = VALUES(usual_weeks), z = VALUES(z),
	assessment = VALUES(assessment), updated_at = VALUES(updated_at)`

func (r *Writer) writeAssessments(ctx context.Context, tx *dbsql.Tx, all []assessed,
	tail string) error {
	if len(all) == 0 {
		return nil
	}
	args := make([]any, 0, 17*len(all))
	for i := range all {
		a, m := &all[i], &all[i].Last
		state, err := a.State.MarshalText()
		if err != nil {
			return err
		}
		text, err := json.Marshal(&a.Assessment)
		if err != nil {
			return err
		}
		var usual *float64
		weeks := 0
		if m.Usual != nil {
			usual, weeks = &m.Usual.Median, m.Usual.N
		}
		args = append(args, a.plaza, string(state), r.wall(a.Since), a.Why, r.wall(a.Until), a.Until,
			m.Count15, m.FlowPerHour, m.HeavyShare, m.PHF,
			m.Throughput, m.Capacity, m.VC, usual, weeks, m.Z, string(text))
	}
	const tuple = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NOW(6))`
	_, err := tx.ExecContext(ctx, `INSERT INTO toll_congestion (toll_plaza_id, state, since, why,
		assessed, assessed_until, vehicles_15m, flow_per_hour,
		heavy_share, phf, demand, capacity, vc, usual_15m, usual_weeks, z, assessment, updated_at)
		VALUES `+tuple+strings.Repeat(","+tuple, len(all)-1)+tail, args...)
	return err
}

// wall writes what the database's clock shows at a minute.
func (r *Writer) wall(m toll.Minute) string { return tables.WallColumn(r.zone, m) }

// Congestion returns how all plazas stand that were assessed.
func (r *Reader) Congestion(ctx context.Context) (map[int16]traffic.Assessment, error) {
	all, err := readAssessments(ctx, r.db, "")
	return all, r.db.Wrap("read the congestion", err)
}

// liveMinutes is how far event time may be from the arrival of events where what is usual at the
// time of the day tells how many should arrive. A replay is further behind.
const liveMinutes = 2 * 60

// UsualFlow returns how many vehicles an hour usually pass all plazas at the time of the week that
// they were assessed at last. It is 0 where that is not known, and where it is not about when
// events arrived last.
func (r *Reader) UsualFlow(ctx context.Context, arrived toll.Minute) (perHour float64, err error) {
	err = r.db.QueryRowContext(ctx, `SELECT COALESCE(SUM(usual_15m), 0) * 4 FROM toll_congestion
		WHERE usual_weeks >= ? AND assessed_until BETWEEN ? AND ?`, traffic.MinHistory,
		arrived-liveMinutes, arrived+liveMinutes).Scan(&perHour)
	return perHour, r.db.Wrap("read what is usual now", err)
}

func readAssessments(ctx context.Context, q db.Reader, condition string,
	args ...any) (map[int16]traffic.Assessment, error) {
	all := map[int16]traffic.Assessment{}
	var plaza int16
	var text dbsql.RawBytes
	rows, err := q.QueryContext(ctx, `SELECT toll_plaza_id, assessment FROM toll_congestion `+
		condition, args...)
	err = db.Each(rows, err, []any{&plaza, &text}, func() error {
		var a traffic.Assessment
		if err := json.Unmarshal(text, &a); err != nil {
			return fmt.Errorf("plaza %d: read the assessment: %w", plaza, err)
		}
		all[plaza] = a
		return nil
	})
	return all, err
}

// writeTransitions inserts transitions that are not published yet. One that is there already stays
// as it is.
func (r *Writer) writeTransitions(ctx context.Context, tx *dbsql.Tx,
	all []traffic.Transition) error {
	if len(all) == 0 {
		return nil
	}
	args := make([]any, 0, 10*len(all))
	for i := range all {
		t := &all[i]
		r.written.transitions = append(r.written.transitions, t.Plaza)
		from, err := t.From.MarshalText()
		if err != nil {
			return err
		}
		to, err := t.To.MarshalText()
		if err != nil {
			return err
		}
		measure, err := json.Marshal(&t.Measure)
		if err != nil {
			return err
		}
		args = append(args, t.Plaza, t.Detected, t.Since, r.wall(t.Detected), r.wall(t.Since),
			string(from), string(to), t.Why, string(measure), t.Epoch)
	}
	const tuple = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, NOW(6))`
	_, err := tx.ExecContext(ctx, `INSERT INTO toll_transition (toll_plaza_id, detected_minute,
		since_minute, detected, since, from_state, to_state,
		why, measure, epoch, published, stored_at)
		VALUES `+tuple+strings.Repeat(","+tuple, len(all)-1)+`
			ON DUPLICATE KEY UPDATE since_minute = since_minute`, args...)
	if err != nil || !r.cfg.Notify {
		return err
	}
	return notify(ctx, tx, all)
}

// notify puts the changes that begin, change or end an incident into the outbox of notifications.
// One that is there already, whether it was sent or not, stays as it is.
func notify(ctx context.Context, tx *dbsql.Tx, all []traffic.Transition) error {
	var args []any
	for i := range all {
		if t := &all[i]; !t.From.Calm() || !t.To.Calm() {
			args = append(args, t.Plaza, t.Detected)
		}
	}
	if len(args) == 0 {
		return nil
	}
	const tuple = `(?, ?, NOW(6), 0, NOW(6), '', '')`
	_, err := tx.ExecContext(ctx, `INSERT INTO toll_notification (toll_plaza_id, detected_minute,
		created_at, attempts, next_attempt, outcome, error)
		VALUES `+tuple+strings.Repeat(","+tuple, len(args)/2-1)+`
			ON DUPLICATE KEY UPDATE attempts = attempts`, args...)
	return err
}

// Transitions returns a plaza's changes of state, the newest first, as many as limit at most.
func (r *Reader) Transitions(ctx context.Context, plaza int16, limit int) ([]traffic.Transition,
	error) {
	all, err := tables.ReadTransitions(ctx, r.db,
		`WHERE toll_plaza_id = ? ORDER BY detected_minute DESC LIMIT ?`, plaza, limit)
	return all, r.db.Wrap(fmt.Sprintf("read the transitions of plaza %d", plaza), err)
}

// TransitionPage returns a plaza's changes of state that were detected in a stretch of time, the
// newest first, as many as limit at most.
func (r *Reader) TransitionPage(ctx context.Context, plaza int16, within toll.Window,
	limit int) ([]traffic.Transition, error) {
	all, err := tables.ReadTransitions(ctx, r.db, `WHERE toll_plaza_id = ? AND detected_minute >= ?
		AND detected_minute < ? ORDER BY detected_minute DESC LIMIT ?`, plaza, within.Start,
		within.End, limit)
	return all, r.db.Wrap(fmt.Sprintf("read the transitions of plaza %d", plaza), err)
}
