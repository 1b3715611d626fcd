// Package incidents notifies a webhook of what becomes of incidents, at least once each.
//
// The transaction that stores a change of a plaza's congestion adds it to an outbox. A [Notifier]
// claims what is due there, sends it, and records the answer. What was recorded as sent is never
// sent again; where a process dies between the answer and the record, the receiver gets the same
// notification twice, with the same id.
package incidents

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/internal/trust"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/toll/traffic"
)

// Config configures a [Notifier].
type Config struct {
	URL *url.URL
	// Secret signs what is sent; nil for no signature.
	Secret []byte
	TLS    *tls.Config // nil for the system's authorities
	// Group is the consumer group: with the plaza and the time it names an incident.
	Group string
	Stats *Stats
	Log   *slog.Logger

	Timeout time.Duration // of one request; default 10 s
	Poll    time.Duration // between looks at an outbox without anything due; default 2 s
	// Patience is how long after a change its notification is given up; default 24 h.
	Patience time.Duration
	// MaxPause bounds the pause between two attempts; default 5 min.
	MaxPause time.Duration
	// Drain is how long at the end of the process the last changes may take; default 5 s.
	Drain time.Duration
	Now   func() time.Time // the wall clock, for signatures
}

// Defaults of a Config.
const (
	DefaultTimeout  = 10 * time.Second
	DefaultPatience = 24 * time.Hour
)

// firstPause is the pause after a first failure; each further one doubles it.
const firstPause = time.Second

// Outbox is what a [Notifier] needs of the database.
type Outbox interface {
	ClaimNotification(ctx context.Context, lease time.Duration) (*incidents.Notification, error)
	FinishNotification(ctx context.Context, n *incidents.Notification, how incidents.Notified,
		reason string) error
	RetryNotification(ctx context.Context, n *incidents.Notification, pause time.Duration,
		reason string) error
	PendingNotifications(ctx context.Context) (int64, error)
}

// Notifier sends notifications to one webhook.
type Notifier struct {
	cfg    Config
	outbox Outbox
	client *http.Client
}

// NewNotifier returns a notifier. It starts nothing.
func NewNotifier(cfg Config, outbox Outbox) *Notifier {
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&cfg.Timeout, DefaultTimeout}, {&cfg.Poll, 2 * time.Second},
		{&cfg.Patience, DefaultPatience}, {&cfg.MaxPause, 5 * time.Minute},
		{&cfg.Drain, 5 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Stats == nil {
		cfg.Stats = NewStats()
	}
	return &Notifier{cfg: cfg, outbox: outbox, client: &http.Client{
		Timeout: cfg.Timeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg.TLS,
			MaxIdleConns: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2: true},
		// A redirect could send the notification, and what the URL holds, to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Run sends what is due until ctx ends, and then for a short while what was stored last.
func (n *Notifier) Run(ctx context.Context) {
	defer n.client.CloseIdleConnections()
	out := &outage{log: n.cfg.Log}
	for ctx.Err() == nil {
		pause := n.cfg.Poll
		switch sent, err := n.next(ctx); {
		case err != nil && ctx.Err() == nil:
			pause = max(n.cfg.Poll, out.failed(err))
		case err == nil:
			out.recovered()
			if sent {
				pause = 0
			}
		}
		if pending, err := n.outbox.PendingNotifications(ctx); err == nil && pause > 0 {
			n.cfg.Stats.pending(pending)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.Drain)
	defer cancel()
	for {
		if sent, err := n.next(ctx); err != nil || !sent {
			return // what is left, another process sends, or this one when it starts again
		}
	}
}

// outage logs the first of several failures, and the end of them.
type outage struct {
	log   *slog.Logger
	count int
}

func (o *outage) failed(err error) (pause time.Duration) {
	if o.count++; o.count == 1 {
		o.log.Warn("notifications wait for the database", "error", text.OneLine(err.Error()))
	}
	return min(firstPause<<min(o.count-1, 5), 30*time.Second)
}

func (o *outage) recovered() {
	if o.count > 0 {
		o.log.Info("notifications continue: MySQL recovered")
	}
	o.count = 0
}

// next sends what is due next. It reports whether there was anything, and was sent.
func (n *Notifier) next(ctx context.Context) (sent bool, err error) {
	// The lease outlasts the request and what follows it.
	due, err := n.outbox.ClaimNotification(ctx, 3*n.cfg.Timeout+30*time.Second)
	if err != nil || due == nil {
		return false, err
	}
	if due.Incident == nil {
		return true, n.giveUp(ctx, due, errors.New("the change was deleted"))
	}
	body, id, err := message(n.cfg.Group, due.Incident)
	if err != nil {
		return true, n.giveUp(ctx, due, err)
	}
	failed := n.send(ctx, id, body)
	// The answer is recorded even if the process is stopping: else it would be sent again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.Timeout)
	defer cancel()
	switch {
	case failed == nil:
		n.cfg.Stats.count(incidents.Sent)
		if due.Attempts > 1 {
			n.cfg.Log.Info("notified after a failure", "incident", due.Incident.IncidentID.String(),
				"attempts", due.Attempts)
		}
		return true, n.outbox.FinishNotification(ctx, due, incidents.Sent, "")
	case due.Age >= n.cfg.Patience:
		return true, n.giveUp(ctx, due, failed)
	}
	n.cfg.Stats.count(incidents.Pending)
	pause := min(firstPause<<min(due.Attempts-1, 20), n.cfg.MaxPause)
	pause += rand.N(pause/4 + 1) // so that several processes don't all come at once
	if due.Attempts == 1 {
		n.cfg.Log.Warn("a notification failed; retrying with backoff", "host", n.cfg.URL.Host,
			"incident", due.Incident.IncidentID.String(), "error", text.OneLine(failed.Error()))
	}
	return false, n.outbox.RetryNotification(ctx, due, pause, failed.Error())
}

func (n *Notifier) giveUp(ctx context.Context, due *incidents.Notification, why error) error {
	n.cfg.Log.Error("a notification was given up", "host", n.cfg.URL.Host, "plaza", due.Plaza,
		"detected", due.Detected.Time(), "attempts", due.Attempts, "error", text.OneLine(why.Error()))
	err := n.outbox.FinishNotification(ctx, due, incidents.GivenUp, why.Error())
	if err == nil {
		n.cfg.Stats.count(incidents.GivenUp)
	}
	return err
}

// maxAnswer is how much of an answer is read, so that its connection can be used again.
const maxAnswer = 64 << 10

// send posts a body. Its errors name neither the URL, which may hold a secret, nor what the
// receiver answers.
func (n *Notifier) send(ctx context.Context, id string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.cfg.URL.String(),
		bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL is none")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "tollstream")
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Idempotency-Key", id)
	if n.cfg.Secret != nil {
		at := n.cfg.Now().Unix()
		r.Header.Set("Webhook-Timestamp", strconv.FormatInt(at, 10))
		r.Header.Set("Webhook-Signature", Sign(n.cfg.Secret, id, at, body))
	}
	answer, err := n.client.Do(r)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			if failed.Timeout() {
				return fmt.Errorf("no answer within %v", n.cfg.Timeout)
			}
			err = failed.Err
		}
		if advice := trust.Hint(err, "--notify"); advice != "" {
			return fmt.Errorf("%w: %s", err, advice)
		}
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, maxAnswer)
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("the receiver answers %d: redirects are not followed", code)
	default:
		return fmt.Errorf("the receiver answers %d %s", code, http.StatusText(code))
	}
}

// Sign returns the signature of a notification, as Standard Webhooks defines it: the HMAC-SHA256 of
// its id, the time in seconds since 1970, and its body.
func Sign(secret []byte, id string, at int64, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%d.", id, at)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Stats counts notifications. Several goroutines may use it.
type Stats struct {
	mu sync.Mutex
	c  Counts
}

// Counts is what became of notifications since the process began.
type Counts struct {
	Sent, Failed, GivenUp int64
	Pending               int64 // in the outbox, as last read
}

// NewStats returns counts that are all 0.
func NewStats() *Stats { return new(Stats) }

// Read returns the counts.
func (s *Stats) Read() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c
}

// count counts an attempt by how the notification stands after it.
func (s *Stats) count(how incidents.Notified) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch how {
	case incidents.Sent:
		s.c.Sent++
	case incidents.GivenUp:
		s.c.GivenUp++
	default:
		s.c.Failed++
	}
}

func (s *Stats) pending(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.c.Pending = n
}

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
