// Package incidents reads the incidents of all plazas, keeps what people note about them, and holds
// the outbox of their notifications.
//
// An incident is not stored: it is what the transitions of a plaza make, see [traffic.Incident].
package incidents

import (
	"context"
	"slices"
	"strings"
	"time"

	dbsql "database/sql"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Ledger reads incidents, and notes what people do about them.
type Ledger struct{ db *db.DB }

// NewLedger returns the ledger of a database.
func NewLedger(db *db.DB) *Ledger { return &Ledger{db} }

// Incident is an incident with all that is stored about it.
type Incident struct {
	traffic.Incident
	Name, Road string // of the plazas file; empty for not known
	Notes      []Note // ascending by time
	// Notified is how far the notifications of it are.
	Notified Notified
}

// Note is what somebody noted about an incident.
type Note struct {
	traffic.IncidentID
	At           time.Time
	Author       string
	Source       string // where from: an address, or the command and its host
	Acknowledged bool   // whether the author takes care of it
	Text         string
}

// Notified is how far the notifications of an incident are.
type Notified string

// How far notifications are. Pending goes before given up, and that before sent.
const (
	NotNotified Notified = ""
	Sent        Notified = "sent"
	GivenUp     Notified = "given_up"
	Pending     Notified = "pending"
)

// Query selects incidents. The zero query selects all, the newest first.
type Query struct {
	ID     *traffic.IncidentID
	Plaza  *int16
	Road   string         // as the plazas file names it; empty for all
	State  *traffic.State // one of the states that it went through
	Open   bool           // those that have not ended
	From   *toll.Minute   // those that had not ended before it
	To     *toll.Minute   // those that began before it
	Before *Position      // those behind it
	Limit  int            // at least 1
}

// Position is where an incident is in the list: descending by when it began, then by plaza.
type Position struct {
	Began toll.Minute
	Plaza int16
}

// calm are the states that no incident is in.
const calm = `('free', 'busy', 'no_data')`

// ended is the minute in which the end of an incident was detected, by its first transition o.
const ended = `(SELECT e.detected_minute FROM toll_transition e
	WHERE e.toll_plaza_id = o.toll_plaza_id AND e.detected_minute > o.detected_minute
	AND e.to_state IN ` + calm + ` ORDER BY e.detected_minute LIMIT 1)`

// open are the plazas that have an incident which has not ended, few of them, with the minute of
// their last transition to a calm state. Their last incident is among the few transitions after it,
// so a year of transitions costs nothing.
const open = `(SELECT toll_plaza_id, COALESCE((SELECT e.detected_minute FROM toll_transition e
	WHERE e.toll_plaza_id = c.toll_plaza_id AND e.to_state IN ` + calm + `
	ORDER BY e.detected_minute DESC LIMIT 1), -2147483648) AS calm
	FROM toll_congestion c WHERE state NOT IN ` + calm + ` LIMIT 100000)`

// where returns the conditions on an incident's first transition o.
func (q *Query) where() (conditions string, args []any, err error) {
	terms := []string{`o.from_state IN ` + calm, `o.to_state NOT IN ` + calm}
	add := func(term string, values ...any) {
		terms, args = append(terms, term),
			append(args, values...)
	}
	if q.ID != nil {
		add(`o.toll_plaza_id = ? AND o.detected_minute = ?`, q.ID.Plaza, q.ID.Detected)
	}
	if q.Plaza != nil {
		add(`o.toll_plaza_id = ?`, *q.Plaza)
	}
	if q.Road != "" {
		add(`o.toll_plaza_id IN (SELECT toll_plaza_id FROM toll_plaza WHERE road = ?)`, q.Road)
	}
	if q.To != nil {
		add(`o.since_minute < ?`, *q.To)
	}
	if q.Before != nil {
		add(`(o.since_minute < ? OR o.since_minute = ? AND o.toll_plaza_id < ?)`, q.Before.Began,
			q.Before.Began, q.Before.Plaza)
	}
	if q.From != nil {
		add(`COALESCE(`+ended+`, 2147483647) > ?`, *q.From)
	}
	if q.State != nil {
		code, err := q.State.MarshalText()
		if err != nil {
			return "", nil, err
		}
		add(`EXISTS (SELECT 1 FROM toll_transition s WHERE s.toll_plaza_id = o.toll_plaza_id
			AND s.detected_minute >= o.detected_minute AND s.to_state = ?
			AND s.detected_minute < COALESCE(`+ended+`, 2147483647))`, string(code))
	}
	return strings.Join(terms, ` AND `), args, nil
}

// Incidents returns a page of the incidents that a query selects, the newest first, and whether
// more follow.
func (l *Ledger) Incidents(ctx context.Context, q Query) (page []Incident, more bool, err error) {
	err = l.db.Snapshot(ctx, func(r db.Reader) error {
		page, more = nil, false
		spans, err := l.spans(ctx, r, q)
		if err != nil {
			return err
		}
		if more = len(spans) > q.Limit; more {
			spans = spans[:q.Limit]
		}
		for chunk := range slices.Chunk(spans, spansAtOnce) {
			some, err := l.read(ctx, r, chunk)
			if err != nil {
				return err
			}
			page = append(page, some...)
		}
		return nil
	})
	return page, more, l.db.Wrap("read the incidents", err)
}

// span is from the first transition of an incident to its last.
type span struct {
	plaza       int16
	first, last toll.Minute // in which they were detected
}

// openEnd is later than any transition.
const openEnd = toll.Minute(1<<31 - 1)

// spansAtOnce is how many incidents one statement reads of.
const spansAtOnce = 100

func (l *Ledger) spans(ctx context.Context, r db.Reader, q Query) ([]span, error) {
	where, args, err := q.where()
	if err != nil {
		return nil, err
	}
	from := `toll_transition o`
	if q.Open {
		from = open + ` p JOIN ` + from + ` ON o.toll_plaza_id = p.toll_plaza_id
			AND o.detected_minute > p.calm`
	}
	var all []span
	var s span
	var last dbsql.Null[int32]
	rows, err := r.QueryContext(ctx, `SELECT o.toll_plaza_id, o.detected_minute, `+ended+`
		FROM `+from+` WHERE `+where+`
		ORDER BY o.since_minute DESC, o.toll_plaza_id DESC LIMIT ?`, append(args, q.Limit+1)...)
	err = db.Each(rows, err, []any{&s.plaza, &s.first, &last}, func() error {
		s.last = openEnd
		if last.Valid {
			s.last = toll.Minute(last.V)
		}
		all = append(all, s)
		return nil
	})
	return all, err
}

// among returns the condition that a row is of one of the spans.
func (l *Ledger) among(spans []span, from, to string) (condition string, args []any) {
	terms := make([]string, len(spans))
	for i, s := range spans {
		terms[i] = `toll_plaza_id = ? AND ` + from + ` >= ? AND ` + to + ` <= ?`
		args = append(args, s.plaza, s.first, s.last)
	}
	return l.db.Many(strings.Join(terms, " OR ")), args
}

// read reads all about some incidents, in their order.
func (l *Ledger) read(ctx context.Context, r db.Reader, spans []span) ([]Incident, error) {
	of, args := l.among(spans, `detected_minute`, `detected_minute`)
	changes, err := tables.ReadTransitions(ctx, r,
		`WHERE `+of+` ORDER BY toll_plaza_id, detected_minute`, args...)
	if err != nil {
		return nil, err
	}
	all := make([]Incident, 0, len(spans))
	for _, s := range spans {
		var own []traffic.Transition
		for i := range changes {
			if t := &changes[i]; t.Plaza == s.plaza && t.Detected >= s.first && t.Detected <= s.last {
				own = append(own, *t)
			}
		}
		all = append(all, Incident{Incident: traffic.IncidentOf(own)})
	}
	for _, add := range []func(context.Context, db.Reader, []span, []Incident) error{
		l.addPeaks, l.addNotes, l.addNotified, l.addNames} {
		if err := add(ctx, r, spans, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// quarterHours is the kind of the windows of a quarter of an hour.
const quarterHours = "15m"

// addPeaks looks for each incident's peak among the quarters of an hour that have closed: between
// two changes the flow may have gone further than at either.
func (l *Ledger) addPeaks(ctx context.Context, r db.Reader, spans []span, all []Incident) error {
	of, args := l.among(spans, `end_minute`, `start_minute`)
	var plaza int16
	var w toll.Window
	var flow float64
	rows, err := r.QueryContext(ctx, `SELECT toll_plaza_id, start_minute, end_minute, flow_per_hour
		FROM toll_window WHERE kind = '`+quarterHours+`' AND revision > 0 AND `+of, args...)
	return db.Each(rows, err, []any{&plaza, &w.Start, &w.End, &flow}, func() error {
		for i := range all {
			// Of a quarter that lies in it in part the rest may have been otherwise.
			inside := all[i].Ended == nil || w.End <= *all[i].Ended
			if all[i].Plaza == plaza && w.Start >= all[i].Began-toll.Quarter && inside &&
				w.End >= all[i].Began {
				all[i].Saw(flow, w.End)
			}
		}
		return nil
	})
}

func (l *Ledger) addNotes(ctx context.Context, r db.Reader, spans []span, all []Incident) error {
	of, args := l.among(firsts(spans), `detected_minute`, `detected_minute`)
	var n Note
	var at string
	rows, err := r.QueryContext(ctx, `SELECT toll_plaza_id, detected_minute, noted_at, author, source,
		acknowledged, note FROM toll_incident_note WHERE `+of+` ORDER BY noted_at`, args...)
	return db.Each(rows, err, []any{&n.Plaza, &n.Detected, &at, &n.Author, &n.Source, &n.Acknowledged,
		&n.Text}, func() error {
		if n.At, err = db.ParseTime(at); err != nil {
			return err
		}
		for i := range all {
			if all[i].IncidentID == n.IncidentID {
				all[i].Notes = append(all[i].Notes, n)
			}
		}
		return nil
	})
}

// firsts returns spans of the first transition alone.
func firsts(spans []span) []span {
	spans = slices.Clone(spans)
	for i := range spans {
		spans[i].last = spans[i].first
	}
	return spans
}

func (l *Ledger) addNotified(ctx context.Context, r db.Reader, spans []span,
	all []Incident) error {
	of, args := l.among(spans, `detected_minute`, `detected_minute`)
	order := []Notified{NotNotified, Sent, GivenUp, Pending}
	var plaza int16
	var at toll.Minute
	var outcome Notified
	rows, err := r.QueryContext(ctx, `SELECT toll_plaza_id, detected_minute, outcome
		FROM toll_notification WHERE `+of, args...)
	return db.Each(rows, err, []any{&plaza, &at, &outcome}, func() error {
		if outcome == "" {
			outcome = Pending
		}
		for i, s := range spans {
			if s.plaza == plaza && at >= s.first && at <= s.last &&
				slices.Index(order, outcome) > slices.Index(order, all[i].Notified) {
				all[i].Notified = outcome
			}
		}
		return nil
	})
}

func (l *Ledger) addNames(ctx context.Context, r db.Reader, _ []span, all []Incident) error {
	var plazas []int16
	for i := range all {
		plazas = append(plazas, all[i].Plaza)
	}
	plazas = tables.Distinct(plazas)
	var plaza int16
	var name, road string
	rows, err := r.QueryContext(ctx, `SELECT toll_plaza_id, name, road FROM toll_plaza
		WHERE toll_plaza_id IN (`+db.Placeholders(len(plazas))+`)`, db.Anys(plazas)...)
	return db.Each(rows, err, []any{&plaza, &name, &road}, func() error {
		for i := range all {
			if all[i].Plaza == plaza {
				all[i].Name, all[i].Road = name, road
			}
		}
		return nil
	})
}
