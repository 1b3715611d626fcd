package incidents

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/toll/traffic"
)

// webhook is version 4 of the format that Prometheus's Alertmanager sends to webhooks, so that what
// receives its alerts receives ours.
type webhook struct {
	Version           string            `json:"version"`
	GroupKey          string            `json:"groupKey"`
	TruncatedAlerts   int               `json:"truncatedAlerts"`
	Status            string            `json:"status"`
	Receiver          string            `json:"receiver"`
	GroupLabels       map[string]string `json:"groupLabels"`
	CommonLabels      map[string]string `json:"commonLabels"`
	CommonAnnotations map[string]string `json:"commonAnnotations"`
	ExternalURL       string            `json:"externalURL"`
	Alerts            []alert           `json:"alerts"`
}

type alert struct {
	Status       string            `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"` // the zero time while it is firing
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}

// message returns the notification of an incident as it is after its last change, and an id that
// the same change always has.
func message(group string, i *incidents.Incident) (body []byte, id string, err error) {
	name := i.IncidentID.String()
	state, err := i.Worst.MarshalText()
	if err != nil {
		return nil, "", err
	}
	groupLabels := map[string]string{"alertname": "TollIncident", "group": group, "incident": name}
	labels := map[string]string{"plaza": strconv.Itoa(int(i.Plaza)), "state": string(state),
		"severity": i.Worst.Severity()}
	maps.Copy(labels, groupLabels)
	where := "plaza " + strconv.Itoa(int(i.Plaza))
	if i.Name != "" {
		labels["plaza_name"] = text.OneLine(i.Name)
		where = text.OneLine(i.Name) + " (" + where + ")"
	}
	if i.Road != "" {
		labels["road"] = text.OneLine(i.Road)
	}
	a := alert{Status: "firing", Labels: labels, StartsAt: i.Began.Time()}
	summary := where + " is " + i.Last().String()
	if i.Ended != nil {
		a.Status, a.EndsAt = "resolved", i.Ended.Time()
		summary = where + " was " + i.Worst.String() + " for " +
			text.Minutes(int64(*i.Ended)-int64(i.Began))
	}
	a.Annotations = map[string]string{"summary": summary, "description": text.OneLine(i.Why),
		"peak": peak(&i.Incident), "detected": i.Detected.Time().Format(time.RFC3339)}
	// Of the identity alone: an incident that gets worse stays the same one.
	sum := sha256.Sum256([]byte(group + "\x00" + name))
	a.Fingerprint = hex.EncodeToString(sum[:8])
	body, err = json.Marshal(webhook{Version: "4", Status: a.Status, Receiver: "tollstream",
		GroupKey:    fmt.Sprintf("{}:{alertname=\"TollIncident\", group=%q, incident=%q}", group, name),
		GroupLabels: groupLabels, CommonLabels: labels, CommonAnnotations: a.Annotations,
		Alerts: []alert{a}})
	id = fmt.Sprintf("%s/%s/%s", group, name, i.Changed.Time().Format("20060102T1504Z"))
	return body, id, err
}

// peak returns an incident's peak with its unit.
func peak(i *traffic.Incident) string {
	what := "highest"
	if i.Worst == traffic.BelowUsual {
		what = "lowest"
	}
	return fmt.Sprintf("%s flow %s vehicles/h at %s", what, text.Round(i.Peak.FlowPerHour),
		i.Peak.At.Time().Format(time.RFC3339))
}
