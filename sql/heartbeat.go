package sql

import (
	"context"
	dbsql "database/sql"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
)

// Heartbeat is what a process reports of itself. Times are by the process's own clock; they are
// stored by the server's.
type Heartbeat struct {
	Instance, Version string
	Now, Started      time.Time
	Stopped           bool   // it ends in good order; this is its last heartbeat
	Ended             bool   // it does so at the end of the topic, as asked
	Problem           string // checks that fail; empty while it does its work
	// Stalled is since when windows are due and none is stored; zero where they are stored.
	// Where StalledKnown is false, what a former process of this name has stored stays.
	Stalled      time.Time
	StalledKnown bool
	Arrived      time.Time // when the last event arrived; zero for not observed
	// ArrivalShare is the share of the last slots in which events arrived; 0 for not known, which
	// leaves what is stored.
	ArrivalShare   float64
	DrainPerSecond float64 // by how many records a second its lag falls
}

// processKeep is for how long the row of a process that has ended stays: a name that is used no
// more must not stay for good.
const processKeep = 7 * 24 * time.Hour

// Beat stores a heartbeat.
func (s *Store) Beat(ctx context.Context, h *Heartbeat) error {
	const doing = "store the heartbeat"
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	at := func(t time.Time) dbsql.Null[string] {
		return dbsql.Null[string]{Valid: !t.IsZero(),
			V: now.Add(t.Sub(h.Now)).UTC().Format("2006-01-02 15:04:05.000000")}
	}
	stopped := at(time.Time{})
	if h.Stopped {
		stopped = at(h.Now)
	}
	bit := map[bool]int{true: 1}
	share := dbsql.Null[float64]{V: h.ArrivalShare, Valid: h.ArrivalShare > 0}
	problem := []rune(h.Problem)
	_, err = s.db.ExecContext(ctx, `INSERT INTO toll_process (instance, version, started_at, seen_at,
		stopped_at, ended, problem, stalled_since, arrived_at, arrival_share, drain_per_second)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON DUPLICATE KEY UPDATE version = VALUES(version), started_at = VALUES(started_at),
		seen_at = VALUES(seen_at), stopped_at = VALUES(stopped_at), ended = VALUES(ended),
		problem = VALUES(problem),
		stalled_since = IF(? = 1, VALUES(stalled_since), stalled_since),
		arrived_at = COALESCE(VALUES(arrived_at), arrived_at),
		arrival_share = COALESCE(VALUES(arrival_share), arrival_share),
		drain_per_second = VALUES(drain_per_second)`,
		h.Instance, h.Version, at(h.Started), at(h.Now), stopped, bit[h.Ended],
		string(problem[:min(len(problem), 500)]), at(h.Stalled), at(h.Arrived), share,
		h.DrainPerSecond, bit[h.StalledKnown])
	return s.db.Wrap(doing, err)
}

// ForgetProcesses deletes the rows of processes that ended a week ago.
func (s *Store) ForgetProcesses(ctx context.Context) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, `DELETE FROM toll_process WHERE seen_at < ?`,
		now.Add(-processKeep).UTC().Format("2006-01-02 15:04:05.000000"))
	return s.db.Wrap("delete old heartbeats", err)
}

// Process is the last heartbeat of a process. Times are by the server's clock; zero ones are not
// known.
type Process struct {
	Instance, Version, Problem      string
	Started, Seen, Stopped, Arrived time.Time
	Ended                           bool
	ArrivalShare, DrainPerSecond    float64
}

// Processes returns the processes that were seen lately, ascending by name, and the time of the
// server's clock where there are any.
func (s *Store) Processes(ctx context.Context) (all []Process, now time.Time, err error) {
	all, now, err = readProcesses(ctx, s.db)
	return all, now, s.db.Wrap("read the heartbeats", err)
}

func readProcesses(ctx context.Context, q db.Reader) (all []Process, now time.Time, err error) {
	rows, err := q.QueryContext(ctx, `SELECT NOW(6), instance, version, problem, ended, started_at,
		seen_at, stopped_at, arrived_at, COALESCE(arrival_share, 0), drain_per_second
		FROM toll_process ORDER BY instance`)
	if err != nil {
		return nil, now, err
	}
	defer rows.Close()
	for rows.Next() {
		var p Process
		var clock, started, seen string
		var stopped, arrived dbsql.Null[string]
		if err := rows.Scan(&clock, &p.Instance, &p.Version, &p.Problem, &p.Ended, &started, &seen,
			&stopped, &arrived,
			&p.ArrivalShare, &p.DrainPerSecond); err != nil {
			return nil, now, err
		}
		for _, t := range []struct {
			to   *time.Time
			text string
		}{{&now, clock}, {&p.Started, started}, {&p.Seen, seen}, {&p.Stopped, stopped.V}, {&p.Arrived,
			arrived.V}} {
			if t.text == "" {
				continue
			}
			if *t.to, err = db.ParseTime(t.text); err != nil {
				return nil, now, err
			}
		}
		all = append(all, p)
	}
	return all, now, rows.Err()
}
