package incidents_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	notify "github.com/tollstream/tollstream/internal/incidents"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/sql/incidents"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
)

var secret = []byte("the secret of the receiver")

// receiver is a webhook that first fails in the ways it is given, and then answers 204.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	failures []string
	ids      []string // that were answered with 204, in order
	bodies   []string
}

func newReceiver(t *testing.T, failures ...string) *receiver {
	r := &receiver{failures: failures}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		id := q.Header.Get("Webhook-Id")
		at, _ := strconv.ParseInt(q.Header.Get("Webhook-Timestamp"), 10, 64)
		if got := q.Header.Get("Webhook-Signature"); got != notify.Sign(secret, id, at, body) ||
			time.Since(time.Unix(at, 0)).Abs() > time.Minute || q.Header.Get("Idempotency-Key") != id {
			t.Errorf("the signature is %q, the headers are %v", got, q.Header)
		}
		r.mu.Lock()
		failure := ""
		if len(r.failures) > 0 {
			failure, r.failures = r.failures[0], r.failures[1:]
		} else {
			r.ids, r.bodies = append(r.ids, id), append(r.bodies, string(body))
		}
		r.mu.Unlock()
		switch failure {
		case "":
			w.WriteHeader(http.StatusNoContent)
		case "hang":
			<-q.Context().Done()
		case "cut off":
			panic(http.ErrAbortHandler)
		case "redirect":
			http.Redirect(w, q, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		default:
			code, _ := strconv.Atoi(failure)
			http.Error(w, "failed", code)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}

// process runs a notifier with a pool of its own until stop is called.
func (r *receiver) process(t *testing.T, dsn string, change func(*notify.Config)) (stop func(),
	stats *notify.Stats, log *testkit.Buffer) {
	t.Helper()
	address, err := url.Parse(r.URL + "/hook/a-secret-path")
	if err != nil {
		t.Fatal(err)
	}
	stats, log = notify.NewStats(), new(testkit.Buffer)
	cfg := notify.Config{URL: address, Secret: secret, Group: "tollstream", Stats: stats,
		Log:     slog.New(slog.NewTextHandler(log, nil)),
		Timeout: 200 * time.Millisecond, Poll: 5 * time.Millisecond, MaxPause: 20 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	s := dbtest.Open(t, dsn)
	running.Go(func() { notify.NewNotifier(cfg, s).Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if strings.Contains(string(log.Bytes()), "a-secret-path") {
			t.Errorf("the log holds the URL: %s", log.Bytes())
		}
	})
	t.Cleanup(stop)
	return stop, stats, log
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// rush stores the results of a morning whose traffic exceeds the capacity from 8 to 9, as a process
// that notifies does.
func rush(t *testing.T, s *dbtest.Store) *dbtest.Windowed {
	t.Helper()
	x := dbtest.NewWindowed(t, s, "15m")
	x.Cfg.Plazas = map[int16]toll.Plaza{7: {Lanes: 1, CapacityPerLane: 600}}
	x.Cfg.Notify = true
	x.StoreResults(x.Results(), morning(t))
	return x
}

func morning(t *testing.T) toll.Closing {
	c := toll.Closing{Plaza: 7, From: dbtest.MinuteOf(t, "2022-02-10 07:00"),
		Until: dbtest.MinuteOf(t, "2022-02-10 10:30")}
	for m := c.From - toll.MeasureSpan; m < c.Until; m++ {
		cars := int64(5)
		for _, peak := range []string{"08:00", "09:00"} {
			if at := dbtest.MinuteOf(t, "2022-02-10 "+peak); m >= at && m < at+30 {
				cars = 12
			}
		}
		c.Panes = append(c.Panes, toll.Pane{Start: m,
			Types: []toll.TypeCount{{Type: "car", Count: cars}}})
	}
	return c
}

// TestNotifications: a receiver that fails in every way gets each change of an incident, in order
// and, as it answered each once, exactly once; whatever is restarted, and however often the same
// results are stored.
func TestNotifications(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		x := rush(t, s)
		r := newReceiver(t, "500", "hang", "cut off", "redirect", "429", "404")
		stop, _, log := r.process(t, s.DSN, nil)
		await(t, "a first attempt", func() bool { return len(log.Bytes()) > 0 })
		stop() // and another process takes over
		stop, stats, _ := r.process(t, s.DSN, nil)
		await(t, "four notifications", func() bool { return len(r.received()) == 4 })
		x.StoreResults(x.Results(), morning(t)) // as after a restart
		dbtest.Exec(t, s, `DELETE FROM toll_congestion`)
		x.StoreResults(x.Results(), morning(t)) // the same changes are found again
		if _, err := s.Rebuild(t.Context(), dbtest.Identity, 0, time.Now()); err != nil {
			t.Fatal(err)
		}
		counted := morning(t)
		counted.Epoch = x.Epoch()
		x.StoreResults(x.Results(), counted)
		dbtest.Exec(t, s, `DELETE FROM toll_congestion`)
		x.StoreResults(x.Results(), counted) // and again
		if n, err := s.PendingNotifications(t.Context()); n != 0 || err != nil {
			t.Errorf("after a rebuild %d are to be sent, %v", n, err)
		}
		await(t, "an empty outbox", func() bool {
			n, err := s.PendingNotifications(t.Context())
			return err == nil && n == 0
		})
		stop()
		want := []string{"0713Z-7/20220210T0713Z", "0713Z-7/20220210T0739Z",
			"0813Z-7/20220210T0813Z", "0813Z-7/20220210T0839Z"}
		for i, id := range r.received() {
			if want := "tollstream/20220210T" + want[i]; id != want {
				t.Errorf("notification %d has id %s, want %s", i, id, want)
			}
		}
		if n := len(r.received()); n != 4 {
			t.Errorf("%d notifications, want 4", n)
		}
		if c := stats.Read(); c.Sent < 3 || c.GivenUp != 0 {
			t.Errorf("got %+v", c)
		}
		page, _, err := s.Incidents(t.Context(), incidents.Query{Limit: 1})
		if err != nil || len(page) != 1 || page[0].Notified != incidents.Sent {
			t.Errorf("got %+v, %v", page, err)
		}
		checkWebhook(t, r.bodies)
	})
}

// checkWebhook holds what was sent against the format of Alertmanager.
func checkWebhook(t *testing.T, bodies []string) {
	t.Helper()
	// notify/webhook.Message and template.Data of github.com/prometheus/alertmanager
	type webhook struct {
		Receiver string `json:"receiver"`
		Status   string `json:"status"`
		Alerts   []struct {
			Status       string            `json:"status"`
			Labels       map[string]string `json:"labels"`
			Annotations  map[string]string `json:"annotations"`
			StartsAt     time.Time         `json:"startsAt"`
			EndsAt       time.Time         `json:"endsAt"`
			GeneratorURL string            `json:"generatorURL"`
			Fingerprint  string            `json:"fingerprint"`
		} `json:"alerts"`
		GroupLabels       map[string]string `json:"groupLabels"`
		CommonLabels      map[string]string `json:"commonLabels"`
		CommonAnnotations map[string]string `json:"commonAnnotations"`
		ExternalURL       string            `json:"externalURL"`
		Version           string            `json:"version"`
		GroupKey          string            `json:"groupKey"`
		TruncatedAlerts   uint64            `json:"truncatedAlerts"`
	}
	var all []webhook
	for _, body := range bodies {
		var w webhook
		strict := json.NewDecoder(strings.NewReader(body))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&w); err != nil || len(w.Alerts) != 1 || w.Version != "4" ||
			w.Status != w.Alerts[0].Status || w.Alerts[0].Fingerprint == "" {
			t.Fatalf("got %s, %v", body, err)
		}
		// As Alertmanager writes the same: no member is missing, and none is spelled otherwise.
		again, err := json.Marshal(w)
		var got, want any
		if err := errors.Join(err, json.Unmarshal([]byte(body), &got),
			json.Unmarshal(again, &want)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("sent %s, Alertmanager would send %s, %v", body, again, err)
		}
		all = append(all, w)
	}
	if len(all) != 4 {
		return
	}
	for i, status := range []string{"firing", "resolved", "firing", "resolved"} {
		a, first := all[i].Alerts[0], all[i/2*2]
		if a.Labels["state"] != "saturated" || a.Status != status || a.EndsAt.IsZero() != (i%2 == 0) ||
			a.Fingerprint != first.Alerts[0].Fingerprint || all[i].GroupKey != first.GroupKey ||
			a.StartsAt.Format(time.RFC3339) != fmt.Sprintf("2022-02-10T%02d:11:00Z", 7+i/2) {
			t.Errorf("notification %d: %s", i, bodies[i])
		}
	}
	if all[0].GroupKey == all[2].GroupKey {
		t.Errorf("two incidents are both %s", all[0].GroupKey)
	}
	if got := all[3].Alerts[0].Annotations["summary"]; got != "plaza 7 was saturated for 26 min" {
		t.Errorf("the summary is %q", got)
	}
}

// TestNotifiedOnce lets several processes send what many plazas have.
func TestNotifiedOnce(t *testing.T) {
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		const plazas = 20
		for plaza := range int16(plazas) {
			turn(t, s, plaza, "08:08", "free", "above_usual", 900)
			turn(t, s, plaza, "09:08", "above_usual", "free", 300)
			dbtest.Exec(t, s, `INSERT INTO toll_notification (toll_plaza_id, detected_minute, created_at,
				attempts, next_attempt, outcome, error) SELECT toll_plaza_id, detected_minute, NOW(6), 0,
				NOW(6), '', '' FROM toll_transition WHERE toll_plaza_id = ?`, plaza)
		}
		r := newReceiver(t, "500", "503")
		for range 3 {
			r.process(t, s.DSN, nil)
		}
		await(t, "all notifications", func() bool { return len(r.received()) >= 2*plazas })
		await(t, "an empty outbox", func() bool {
			n, err := s.PendingNotifications(t.Context())
			return err == nil && n == 0
		})
		ids := r.received()
		slices.Sort(ids)
		if len(ids) != 2*plazas || len(slices.Compact(ids)) != 2*plazas {
			t.Errorf("got %d notifications: %q", len(ids), ids)
		}
	})
}

// TestNotificationGivenUp: what can't be sent is given up in the end, and shows.
func TestNotificationGivenUp(t *testing.T) {
	dbtest.OnServers(t, func(t *testing.T, s *dbtest.Store) {
		rush(t, s)
		r := newReceiver(t, "500", "500", "500", "500")
		_, stats, log := r.process(t, s.DSN, func(c *notify.Config) { c.Patience = 1 })
		dbtest.Exec(t, s, `UPDATE toll_notification SET created_at = created_at - INTERVAL 2 SECOND`)
		await(t, "four to be given up", func() bool { return stats.Read().GivenUp == 4 })
		if got := string(log.Bytes()); !strings.Contains(got, "a notification was given up") {
			t.Errorf("got %s", got)
		}
		page, _, err := s.Incidents(t.Context(), incidents.Query{Limit: 1})
		if err != nil || len(page) != 1 || page[0].Notified != incidents.GivenUp {
			t.Errorf("got %+v, %v", page, err)
		}
		if len(r.received()) != 0 {
			t.Errorf("received %q", r.received())
		}
	})
}

// TestNotificationLease: a process that dies with a notification gives way to another one.
func TestNotificationLease(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		rush(t, s)
		first, err := s.ClaimNotification(t.Context(), time.Hour)
		if err != nil || first == nil || first.Attempts != 1 || first.Incident == nil {
			t.Fatalf("got %+v, %v", first, err)
		}
		if n, err := s.ClaimNotification(t.Context(), time.Hour); n != nil || err != nil {
			t.Errorf("a later change of the plaza did not wait: %+v, %v", n, err)
		}
		dbtest.Exec(t, s, `UPDATE toll_notification SET next_attempt = NOW(6) WHERE attempts = 1`)
		second, err := s.ClaimNotification(t.Context(), time.Hour)
		if err != nil || second == nil || second.Attempts != 2 || second.Detected != first.Detected {
			t.Fatalf("got %+v, %v", second, err)
		}
		// The first one was slow: its failure must not make the second one's claim void …
		if err := s.RetryNotification(t.Context(), first, 0, "slow"); err != nil {
			t.Error(err)
		}
		if n, err := s.ClaimNotification(t.Context(), time.Hour); n != nil || err != nil {
			t.Errorf("got %+v, %v", n, err)
		}
		// … but if it was sent, it was sent.
		if err := s.FinishNotification(t.Context(), first, incidents.Sent, ""); err != nil {
			t.Error(err)
		}
		if n, err := s.ClaimNotification(t.Context(), time.Hour); err != nil || n == nil ||
			n.Detected == first.Detected {
			t.Errorf("got %+v, %v", n, err)
		}
	})
}

func TestNotes(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		fill(t, s)
		id := traffic.IncidentID{Plaza: 7, Detected: dbtest.MinuteOf(t, "2022-02-10 08:08")}
		for _, n := range []incidents.Note{
			{IncidentID: id, Author: "Ada", Source: "10.0.0.7", Text: "a lorry; it's “on” its side"},
			{IncidentID: id, Author: "Bob", Source: "10.0.0.8", Acknowledged: true,
				Text: strings.Repeat("ü", 2*incidents.MaxNote)},
		} {
			if err := s.AddNote(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		other := id
		other.Detected++
		if err := s.AddNote(t.Context(), incidents.Note{IncidentID: other}); err !=
			incidents.ErrNoIncident {
			t.Errorf("got %v", err)
		}
		page, _, err := s.Incidents(t.Context(), incidents.Query{ID: &id, Limit: 1})
		if err != nil || len(page) != 1 || len(page[0].Notes) != 2 {
			t.Fatalf("got %+v, %v", page, err)
		}
		n := page[0].Notes
		if n[0].Author != "Ada" || n[0].Acknowledged || n[0].Text != "a lorry; it's “on” its side" ||
			!n[1].Acknowledged || len([]rune(n[1].Text)) != incidents.MaxNote ||
			time.Since(n[1].At).Abs() > time.Hour {
			t.Errorf("got %+v", n)
		}
	})
}

// turn inserts a transition of a plaza, as the results do; the flow is that of its measure.
func turn(t *testing.T, s *dbtest.Store, plaza int16, at, from, to string, flow float64) {
	t.Helper()
	m := dbtest.MinuteOf(t, "2022-02-10 "+at)
	dbtest.Exec(t, s, `INSERT INTO toll_transition (toll_plaza_id, detected_minute, since_minute,
		detected, since, from_state, to_state, why, measure, epoch, published, stored_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 1, NOW(6))`, plaza, m, m-2, m.Time(), (m - 2).Time(), from,
		to, "why "+to, fmt.Sprintf(`{"flow_per_hour": %v}`, flow))
	dbtest.Exec(t, s, `DELETE FROM toll_congestion WHERE toll_plaza_id = ?`, plaza)
	dbtest.Exec(t, s, `INSERT INTO toll_congestion (toll_plaza_id, state, since, why, assessed,
		assessed_until, vehicles_15m, flow_per_hour, demand, usual_weeks, assessment, updated_at)
		VALUES (?, ?, NOW(), '', NOW(), 0, 0, 0, 0, 0, '{}', NOW(6))`, plaza, to)
}

// quarter inserts a window of a quarter of an hour.
func quarter(t *testing.T, s *dbtest.Store, plaza int16, start string, flow float64) {
	t.Helper()
	m := dbtest.MinuteOf(t, "2022-02-10 "+start)
	dbtest.Exec(t, s, `INSERT INTO toll_window (toll_plaza_id, kind, start_minute, end_minute,
		window_start, window_end, whole, epoch, revision, events, late, too_late, result_too_late,
		by_type, flow_per_hour, reason, published, stored_at)
		VALUES (?, '15m', ?, ?, ?, ?, 1, 1, 1, 1, 0, 0, 0, '{}', ?, 'watermark', 1, NOW(6))`,
		plaza, m, m+toll.Quarter, m.Time(), (m + toll.Quarter).Time(), flow)
}

// fill inserts three incidents, two of which have ended.
func fill(t *testing.T, s *dbtest.Store) {
	t.Helper()
	dbtest.Exec(t, s, `INSERT INTO toll_plaza VALUES (7, 'Bridge', 'A 1', 1, 2, 600, '')`)
	turn(t, s, 7, "07:00", "no_data", "free", 300)
	turn(t, s, 7, "08:08", "free", "above_usual", 900)
	turn(t, s, 7, "08:13", "above_usual", "saturated", 1210)
	turn(t, s, 7, "09:14", "saturated", "busy", 400)
	turn(t, s, 7, "09:20", "busy", "free", 380)
	turn(t, s, 7, "09:30", "free", "no_data", 0)
	quarter(t, s, 7, "07:45", 2000) // before it began
	quarter(t, s, 7, "08:30", 1444)
	quarter(t, s, 7, "09:00", 3000) // a part of it is after the end
	turn(t, s, -5, "08:08", "no_data", "below_usual", 40)
	quarter(t, s, -5, "08:15", 12)
	turn(t, s, -5, "08:50", "below_usual", "no_data", 0)
	turn(t, s, 7, "10:02", "no_data", "above_usual", 950)
}

func TestIncidents(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		fill(t, s)
		minute := func(at string) *toll.Minute { return new(dbtest.MinuteOf(t, "2022-02-10 "+at)) }
		berlin, err := time.LoadLocation(dbtest.Identity.Timezone)
		if err != nil {
			t.Fatal(err)
		}
		clock := func(m toll.Minute) string { return m.Time().In(berlin).Format("15:04") }
		list := func(q incidents.Query) string {
			t.Helper()
			page, more, err := s.Incidents(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for _, i := range page {
				end := "…"
				if i.Ended != nil {
					end = clock(*i.Ended)
				}
				fmt.Fprintf(&out, "%v %s-%s %v %s peak %v at %s %s\n", i.Plaza, clock(i.Began), end, i.States,
					i.Why, i.Peak.FlowPerHour, clock(i.Peak.At), i.Name)
			}
			if more {
				out.WriteString("more\n")
			}
			return out.String()
		}
		const (
			open = "7 10:00-… [above usual] why above_usual peak 950 at 10:02 Bridge\n"
			rush = "7 08:06-09:12 [above usual saturated] why saturated peak 1444 at 08:45 Bridge\n"
			jam  = "-5 08:06-08:48 [below usual] why below_usual peak 12 at 08:30 \n"
		)
		for _, c := range []struct {
			q    incidents.Query
			want string
		}{
			{incidents.Query{Limit: 9}, open + rush + jam},
			{incidents.Query{Limit: 2}, open + rush + "more\n"},
			{incidents.Query{Limit: 3}, open + rush + jam},
			{incidents.Query{Limit: 1, Before: &incidents.Position{Began: *minute("08:06"), Plaza: 7}}, jam},
			{incidents.Query{Limit: 9, Plaza: new(int16(-5))}, jam},
			{incidents.Query{Limit: 9, Road: "A 1"}, open + rush},
			{incidents.Query{Limit: 9, Road: "a 1"}, ""},
			{incidents.Query{Limit: 9, Open: true}, open},
			{incidents.Query{Limit: 9, State: new(traffic.AboveUsual)}, open + rush},
			{incidents.Query{Limit: 9, State: new(traffic.Saturated)}, rush},
			{incidents.Query{Limit: 9, To: minute("10:00")}, rush + jam},
			{incidents.Query{Limit: 9, From: minute("09:00")}, open + rush},
			{incidents.Query{Limit: 9, From: minute("09:14"), To: minute("10:01")}, open},
			{incidents.Query{Limit: 9, ID: &traffic.IncidentID{Plaza: 7, Detected: *minute("08:08")}}, rush},
			{incidents.Query{Limit: 9, ID: &traffic.IncidentID{Plaza: 7, Detected: *minute("08:13")}}, ""},
		} {
			if got := list(c.q); got != c.want {
				t.Errorf("%+v: got\n%swant\n%s", c.q, got, c.want)
			}
		}
	})
}

func TestMain(m *testing.M) { dbtest.Main(m) }
