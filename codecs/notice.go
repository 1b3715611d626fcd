package codecs

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"tollstream/toll"
)

// NoticeSchema is the version of the JSON of results. Fields may be added within a version; what a field means stays.
const NoticeSchema = 1

// windowNotice is the JSON of a closed window. Times are RFC 3339 with the offset of the plaza's clock.
type windowNotice struct {
	Schema      int              `json:"schema"`
	Type        string           `json:"type"` // window
	Plaza       int16            `json:"plaza"`
	Kind        string           `json:"kind"`
	Start       string           `json:"start"`
	End         string           `json:"end"`   // exclusive; of a day so far, how far it was counted
	Final       bool             `json:"final"` // end is the window's own
	Revision    int64            `json:"revision"`
	Reason      toll.CloseReason `json:"reason"`
	Count       int64            `json:"count"` // on_time + late
	ByType      map[string]int64 `json:"by_type"`
	FlowPerHour float64          `json:"flow_per_hour"` // count · 3600 / (end − start in seconds)
	OnTime      int64            `json:"on_time"`
	Late        int64            `json:"late"`
	TooLate     int64            `json:"too_late"` // belong to the window and are not in count
	Epoch       uint64           `json:"epoch"`    // rises with a rebuild, after which revisions go on
	Version     string           `json:"version"`  // of epoch and revision, see windowVersion
}

// windowVersion returns what tells two contents of a window apart and orders them: the epoch, and
// within it the revision, both in as many digits as they may have, so that the texts compare as the
// numbers do. A revision alone does not: after a failover that lost commits and a rebuild, the same
// number comes again with another content.
func windowVersion(w *toll.WindowResult) string {
	return fmt.Sprintf("%020d.%019d", w.Epoch, w.Revision)
}

// congestionNotice is the JSON of a change of a plaza's congestion.
type congestionNotice struct {
	Schema   int                  `json:"schema"`
	Type     string               `json:"type"` // congestion
	Plaza    int16                `json:"plaza"`
	Number   int64                `json:"number"` // the minute at whose end it was detected, since 1970 UTC
	Event    string               `json:"event"`  // onset, end or change
	From     toll.CongestionState `json:"from"`
	To       toll.CongestionState `json:"to"`
	Since    string               `json:"since"`    // when it began
	Detected string               `json:"detected"` // when that was certain
	Why      string               `json:"why"`
	Measure  toll.Measure         `json:"measure"`
	Epoch    uint64               `json:"epoch"`   // rises with a rebuild; 0 where not known
	Version  string               `json:"version"` // of epoch and number, see transitionVersion
}

// transitionVersion returns what orders the changes of a plaza's congestion: the epoch, and within it
// the number. After a failover that lost commits, the same number may come again with another
// content, and lower numbers may follow. Numbers before 1970 are negative, which text does not
// order, so they are counted from the first minute that there is.
func transitionVersion(epoch uint64, number int64) string {
	return fmt.Sprintf("%020d.%010d", epoch, number-math.MinInt32)
}

// AppendNotice appends a result as JSON. It depends on the notice and the location alone, so that the same revision of
// a window has the same bytes whenever it is sent.
func AppendNotice(dst []byte, n *toll.Notice, plaza *time.Location) ([]byte, error) {
	at := func(m toll.Minute) string { return m.Time().In(plaza).Format(time.RFC3339) }
	var v any
	switch {
	case n.Window != nil:
		w := n.Window
		events := w.Events()
		byType := make(map[string]int64, len(w.Types))
		for _, t := range w.Types {
			byType[t.Type] = t.Count
		}
		v = windowNotice{
			Schema: NoticeSchema, Type: "window", Plaza: w.Plaza, Kind: w.Kind, Start: at(w.Start), End: at(w.End), Final: w.Whole,
			Revision: w.Revision, Reason: w.Reason, Count: events, ByType: byType,
			FlowPerHour: toll.FlowPerHour(events, toll.Window{Start: w.Start, End: w.End}.Span()),
			OnTime:      events - w.Late, Late: w.Late, TooLate: w.TooLate, Epoch: w.Epoch, Version: windowVersion(w),
		}
	case n.Transition != nil:
		t := n.Transition
		v = congestionNotice{
			Schema: NoticeSchema, Type: "congestion", Plaza: t.Plaza, Number: n.Ref.Number, Event: eventOf(t), From: t.From, To: t.To,
			Since: at(t.Since), Detected: at(t.Detected), Why: t.Why, Measure: t.Measure,
			Epoch: t.Epoch, Version: transitionVersion(t.Epoch, n.Ref.Number),
		}
	default:
		return dst, errors.New("encode notice: it holds nothing")
	}
	text, err := json.Marshal(v)
	if err != nil {
		return dst, fmt.Errorf("encode notice: %w", err)
	}
	return append(dst, text...), nil
}

// eventOf says whether congestion begins, ends or changes.
func eventOf(t *toll.Transition) string {
	troubled := func(s toll.CongestionState) bool {
		return s == toll.Busy || s == toll.Saturated || s == toll.BelowUsual
	}
	switch from, to := troubled(t.From), troubled(t.To); {
	case to && !from:
		return "onset"
	case from && !to:
		return "end"
	}
	return "change"
}
