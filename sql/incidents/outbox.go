package incidents

import (
	"context"
	dbsql "database/sql"
	"errors"
	"time"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/toll"
)

// Notification is a claimed row of the outbox: a change of an incident that is to be sent.
type Notification struct {
	Plaza    int16
	Detected toll.Minute   // of the change
	Attempts int           // begun, with this one
	Age      time.Duration // since the change was stored
	// Incident is as the change left it; nil where the change was deleted since.
	Incident *Incident
}

// due is the condition of a row n that may be claimed. The changes of a plaza are sent in their
// order: one waits for those before it.
const due = `n.outcome = '' AND n.next_attempt <= NOW(6) AND NOT EXISTS (
	SELECT 1 FROM toll_notification e WHERE e.toll_plaza_id = n.toll_plaza_id
	AND e.detected_minute < n.detected_minute AND e.outcome = '')`

// ClaimNotification returns a notification that is due, nil for none. For the lease nobody else
// gets it: a process that dies with it gives way to another one.
//
// The claim is a compare-and-set of one row on its number of attempts, so no transaction stays open
// while the notification is sent, and of several processes one gets it.
func (l *Ledger) ClaimNotification(ctx context.Context, lease time.Duration) (*Notification,
	error) {
	for {
		var n Notification
		var seconds int64
		err := l.db.QueryRowContext(ctx, `SELECT n.toll_plaza_id, n.detected_minute, n.attempts,
			TIMESTAMPDIFF(SECOND, n.created_at, NOW(6)) FROM toll_notification n
			WHERE `+due+` ORDER BY n.next_attempt, n.toll_plaza_id LIMIT 1`).
			Scan(&n.Plaza, &n.Detected, &n.Attempts, &seconds)
		if errors.Is(err, dbsql.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, l.db.Wrap("look for a notification", err)
		}
		res, err := l.db.ExecContext(ctx, `UPDATE toll_notification SET attempts = attempts + 1,
			next_attempt = DATE_ADD(NOW(6), INTERVAL ? MICROSECOND)
			WHERE toll_plaza_id = ? AND detected_minute = ? AND attempts = ? AND outcome = ''`,
			lease.Microseconds(), n.Plaza, n.Detected, n.Attempts)
		if err != nil {
			return nil, l.db.Wrap("claim a notification", err)
		}
		if changed, err := res.RowsAffected(); err != nil {
			return nil, l.db.Wrap("claim a notification", err)
		} else if changed == 0 {
			continue // another process has it
		}
		n.Attempts++
		n.Age = time.Duration(seconds) * time.Second
		n.Incident, err = l.asOf(ctx, n.Plaza, n.Detected)
		return &n, l.db.Wrap("read the incident of a notification", err)
	}
}

// asOf returns the incident that a change is of, as the change left it; nil where it was deleted.
func (l *Ledger) asOf(ctx context.Context, plaza int16, change toll.Minute) (*Incident, error) {
	var found []Incident
	err := l.db.Snapshot(ctx, func(r db.Reader) error {
		found = nil
		s := span{plaza: plaza, last: change}
		err := r.QueryRowContext(ctx, `SELECT detected_minute FROM toll_transition
			WHERE toll_plaza_id = ? AND detected_minute <= ?
			AND from_state IN `+calm+` AND to_state NOT IN `+calm+`
			ORDER BY detected_minute DESC LIMIT 1`, plaza, change).Scan(&s.first)
		if errors.Is(err, dbsql.ErrNoRows) {
			return nil
		}
		if err == nil {
			found, err = l.read(ctx, r, []span{s})
		}
		return err
	})
	if err != nil || len(found) == 0 || found[0].Changed != change {
		return nil, err
	}
	return &found[0], nil
}

// FinishNotification records that a notification was sent, or given up for a reason.
func (l *Ledger) FinishNotification(ctx context.Context, n *Notification, how Notified,
	reason string) error {
	_, err := l.db.ExecContext(ctx, `UPDATE toll_notification SET outcome = ?, error = ?,
		finished_at = NOW(6) WHERE toll_plaza_id = ? AND detected_minute = ? AND outcome = ''`,
		string(how), db.CutRunes(reason, 500), n.Plaza, n.Detected)
	return l.db.Wrap("record what became of a notification", err)
}

// RetryNotification makes a notification due again after a pause, unless another process has
// claimed it meanwhile.
func (l *Ledger) RetryNotification(ctx context.Context, n *Notification, pause time.Duration,
	reason string) error {
	_, err := l.db.ExecContext(ctx, `UPDATE toll_notification SET error = ?,
		next_attempt = DATE_ADD(NOW(6), INTERVAL ? MICROSECOND)
		WHERE toll_plaza_id = ? AND detected_minute = ? AND outcome = '' AND attempts = ?`,
		db.CutRunes(reason, 500), pause.Microseconds(), n.Plaza, n.Detected, n.Attempts)
	return l.db.Wrap("put off a notification", err)
}

// PendingNotifications returns how many notifications are neither sent nor given up.
func (l *Ledger) PendingNotifications(ctx context.Context) (n int64, err error) {
	err = l.db.QueryRowContext(ctx,
		`SELECT COUNT(*) FROM toll_notification WHERE outcome = ''`).Scan(&n)
	return n, l.db.Wrap("count the pending notifications", err)
}

// Bounds of a note, in characters.
const (
	MaxAuthor = 100
	MaxNote   = 1000
)

// ErrNoIncident is the error about an incident that there is none of.
var ErrNoIncident = errors.New("there is no such incident")

// AddNote adds a note to an incident. At is set by the database.
func (l *Ledger) AddNote(ctx context.Context, n Note) error {
	found, _, err := l.Incidents(ctx, Query{ID: &n.IncidentID, Limit: 1})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return ErrNoIncident
	}
	_, err = l.db.ExecContext(ctx, `INSERT INTO toll_incident_note (toll_plaza_id, detected_minute,
		noted_at, author, source, acknowledged, note) VALUES (?, ?, NOW(6), ?, ?, ?, ?)`, n.Plaza,
		n.Detected, db.CutRunes(n.Author, MaxAuthor), db.CutRunes(n.Source, MaxAuthor), n.Acknowledged,
		db.CutRunes(n.Text, MaxNote))
	return l.db.Wrap("note an incident", err)
}
