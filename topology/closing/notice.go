package closing

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

// noticeSchema is the version of the JSON of results. Fields may be added within a version; what a
// field means stays.
const noticeSchema = 1

// appendWindow appends the JSON of a closed window. Times are RFC 3339 with the offset of the
// plaza's clock. There are very many of these, so it is written by hand.
func appendWindow(dst []byte, w *toll.WindowResult, plaza *time.Location) []byte {
	number := func(name string, n int64) { dst = strconv.AppendInt(append(dst, name...), n, 10) }
	text := func(name, value string) { dst = appendString(append(dst, name...), value) }
	at := func(name string, m toll.Minute) {
		dst = append(append(dst, name...), '"')
		dst = append(m.Time().In(plaza).AppendFormat(dst, time.RFC3339), '"')
	}
	events := w.Events()
	number(`{"schema":`, noticeSchema)
	text(`,"type":`, "window")
	number(`,"plaza":`, int64(w.Plaza))
	text(`,"kind":`, w.Kind)
	at(`,"start":`, w.Start)
	at(`,"end":`, w.End) // exclusive; of a day so far, how far it was counted
	// final: end is the window's own
	dst = strconv.AppendBool(append(dst, `,"final":`...), w.Whole)
	number(`,"revision":`, w.Revision)
	text(`,"reason":`, string(w.Reason))
	number(`,"count":`, events) // on_time + late
	dst = append(dst, `,"by_type":{`...)
	for i, t := range w.Types {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(appendString(dst, t.Type), ':'), t.Count, 10)
	}
	// flow_per_hour: count · 3600 / (end − start in seconds)
	flow := toll.FlowPerHour(events, toll.Window{Start: w.Start, End: w.End}.Span())
	dst = strconv.AppendFloat(append(dst, `},"flow_per_hour":`...), flow, 'f', -1, 64)
	number(`,"on_time":`, events-w.Late)
	number(`,"late":`, w.Late)
	number(`,"too_late":`, w.TooLate) // belong to the window and are not in count
	// epoch: rises with a rebuild, after which revisions go on
	dst = strconv.AppendUint(append(dst, `,"epoch":`...), w.Epoch, 10)
	text(`,"version":`, windowVersion(w)) // of epoch and revision
	return append(dst, '}')
}

// appendString appends text as encoding/json writes it.
func appendString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ' || c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			text, _ := json.Marshal(s) // a string always can
			return append(dst, text...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// windowVersion returns what distinguishes two contents of a window and orders them: the epoch, and
// within it the revision, both in as many digits as they may have, so that the texts compare as the
// numbers do. A revision alone does not: after a failover that lost commits and a rebuild, the same
// number comes again with another content.
func windowVersion(w *toll.WindowResult) string {
	b := make([]byte, 0, 40)
	b = appendPadded(b, 20, strconv.FormatUint(w.Epoch, 10))
	return string(appendPadded(append(b, '.'), 19, strconv.FormatInt(w.Revision, 10)))
}

func appendPadded(b []byte, digits int, number string) []byte {
	for range digits - len(number) {
		b = append(b, '0')
	}
	return append(b, number...)
}

// congestionNotice is the JSON of a change of a plaza's congestion.
type congestionNotice struct {
	Schema int    `json:"schema"`
	Type   string `json:"type"` // congestion
	Plaza  int16  `json:"plaza"`
	// the minute at whose end it was detected, since 1970 UTC
	Number   int64           `json:"number"`
	Event    string          `json:"event"` // onset, end or change
	From     traffic.State   `json:"from"`
	To       traffic.State   `json:"to"`
	Since    string          `json:"since"`    // when it began
	Detected string          `json:"detected"` // when that was certain
	Why      string          `json:"why"`
	Measure  traffic.Measure `json:"measure"`
	Epoch    uint64          `json:"epoch"`   // rises with a rebuild; 0 where not known
	Version  string          `json:"version"` // of epoch and number, see transitionVersion
}

// transitionVersion returns what orders the changes of a plaza's congestion: the epoch, and within
// it the number. After a failover that lost commits, the same number may come again with another
// content, and lower numbers may follow. Numbers before 1970 are negative, which text does not
// order, so they are counted from the first minute that there is.
func transitionVersion(epoch uint64, number int64) string {
	return fmt.Sprintf("%020d.%010d", epoch, number-math.MinInt32)
}

// appendNotice appends a result as JSON. It depends on the notice and the location alone, so that
// the same revision of a window has the same bytes whenever it is sent.
func appendNotice(dst []byte, n *traffic.Notice, plaza *time.Location) ([]byte, error) {
	switch {
	case n.Window != nil:
		return appendWindow(dst, n.Window, plaza), nil
	case n.Transition != nil:
		return appendTransition(dst, n, plaza)
	}
	return dst, errors.New("encode notice: it holds nothing")
}

func appendTransition(dst []byte, n *traffic.Notice, plaza *time.Location) ([]byte, error) {
	at := func(m toll.Minute) string { return m.Time().In(plaza).Format(time.RFC3339) }
	t := n.Transition
	text, err := json.Marshal(congestionNotice{
		Schema: noticeSchema, Type: "congestion", Plaza: t.Plaza, Number: n.Ref.Number, Event: eventOf(t),
		From: t.From, To: t.To,
		Since: at(t.Since), Detected: at(t.Detected), Why: t.Why, Measure: t.Measure,
		Epoch: t.Epoch, Version: transitionVersion(t.Epoch, n.Ref.Number),
	})
	if err != nil {
		return dst, fmt.Errorf("encode notice: %w", err)
	}
	return append(dst, text...), nil
}

// eventOf returns whether congestion begins, ends or changes.
func eventOf(t *traffic.Transition) string {
	congested := func(s traffic.State) bool {
		return s != traffic.Free && s != traffic.NoData
	}
	switch from, to := congested(t.From), congested(t.To); {
	case to && !from:
		return "onset"
	case from && !to:
		return "end"
	}
	return "change"
}
