// Package dbtest gives the tests of sql and its packages servers, and fixtures that write as a
// process does.
package dbtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/ingest"
	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Engines are what everything is tested on. Servers that are not installed are skipped. The
// embedded database stands in where no MariaDB is installed, and takes as long again; CI tests all.
// TiDB is tested alone: make test-tidb.
var Engines = func() []string {
	if onTiDB {
		return realServers
	}
	engines := append(slices.Clone(realServers), "embedded")
	if devstack.HasDatabase("mariadb") && !testkit.ServicesRequired() {
		return engines[:2]
	}
	return engines
}()

var (
	onTiDB      = os.Getenv("TOLLSTREAM_TEST_ENGINE") == "tidb"
	realServers = map[bool][]string{true: {"tidb"}, false: {"mariadb", "mysql"}}[onTiDB]
)

var Servers = struct {
	sync.Mutex
	ByEngine map[string]*devstack.Database
}{ByEngine: map[string]*devstack.Database{}}

// Main runs a package's tests and then stops their servers.
func Main(m *testing.M) {
	code := m.Run()
	for _, d := range Servers.ByEngine {
		_ = d.Close()
	}
	os.Exit(code)
}

// OnEngines runs a test on every engine, each time with an empty database.
func OnEngines(t *testing.T, test func(t *testing.T, s *Store)) {
	for _, engine := range Engines {
		t.Run(engine, func(t *testing.T) { test(t, OpenEmpty(t, engine)) })
	}
}

// NotOnTiDB skips a test of what TiDB lacks.
func NotOnTiDB(t testing.TB, what string) {
	t.Helper()
	if onTiDB {
		t.Skip("TiDB has no " + what)
	}
}

// OnServers does it on real servers alone.
func OnServers(t *testing.T, test func(t *testing.T, s *Store)) {
	EachServer(t, func(t *testing.T, engine string) { test(t, OpenEmpty(t, engine)) })
}

// EachServer runs a test with the name of each engine that is a server.
func EachServer(t *testing.T, test func(t *testing.T, engine string)) {
	for _, engine := range realServers {
		t.Run(engine, func(t *testing.T) { test(t, engine) })
	}
}

// unsafe makes servers faster that need not survive the machine: a test creates and drops dozens of
// tables, and each would wait for the disk.
var unsafe = []string{"--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0",
	"--innodb-doublewrite=0", "--loose-sync-frm=0"}

func OpenEmpty(t testing.TB, engine string) *Store {
	t.Helper()
	testkit.NeedDatabase(t, engine, devstack.HasDatabase)
	Servers.Lock()
	defer Servers.Unlock()
	d := Servers.ByEngine[engine]
	if d == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		options := unsafe
		if engine == "tidb" {
			options = nil
		}
		var err error
		d, err = devstack.StartDatabase(ctx, devstack.DatabaseConfig{Addr: "127.0.0.1:0", Engine: engine,
			Options: options})
		if err != nil {
			t.Fatal(err)
		}
		Servers.ByEngine[engine] = d
	}
	s := Open(t, d.DSN())
	DropTables(t, s)
	return s
}

// Store is a store with a pool of its own to look behind it.
type Store struct {
	*sql.Store
	DB  *db.DB
	DSN string
}

func Open(t testing.TB, dsn string) *Store {
	t.Helper()
	return OpenConfig(t, sql.Config{DSN: dsn, Decode: DecodeJSON, Encode: EncodeJSON,
		DecodeSums: func(dst []toll.PlazaDelta, b []byte) ([]toll.PlazaDelta, error) {
			deltas, err := DecodeJSON(b)
			return append(dst, deltas...), err
		}})
}

func OpenConfig(t testing.TB, cfg sql.Config) *Store {
	t.Helper()
	s, err := sql.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	db, err := db.Open(db.Config{DSN: cfg.DSN})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &Store{Store: s, DB: db, DSN: cfg.DSN}
}

// DecodeJSON and EncodeJSON are the outbox of the tests' stores.
func DecodeJSON(b []byte) (deltas []toll.PlazaDelta, err error) {
	return deltas, json.Unmarshal(b, &deltas)
}

func EncodeJSON(deltas []toll.PlazaDelta) []byte {
	b, err := json.Marshal(deltas)
	if err != nil {
		panic(err)
	}
	return b
}

// EventTable is the course's statement.
const EventTable = `create table livetolldata(timestamp datetime, vehicle_id int,
	vehicle_type char(15),
	toll_plaza_id smallint)`

// TableNames returns the tables of the database.
func TableNames(t testing.TB, s *Store) (names []string) {
	t.Helper()
	rows, err := s.DB.QueryContext(context.Background(), `SHOW TABLES`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

func DropTables(t testing.TB, s *Store) {
	t.Helper()
	if names := TableNames(t, s); len(names) > 0 {
		Exec(t, s, "DROP TABLE "+strings.Join(names, ", "))
	}
}

var Identity = sql.Identity{Group: "tollstream", Topic: "toll", TopicID: "AAAAAAAAAAAAAAAAAAAAAA",
	Timezone: "Europe/Berlin"}

func Initialize(t testing.TB, s *Store) []string {
	t.Helper()
	done, err := s.Init(context.Background(), Identity)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func Exec(t testing.TB, s *Store, query string, args ...any) {
	t.Helper()
	if _, err := s.DB.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func Int(t *testing.T, s *Store, query string, args ...any) (n int64) {
	t.Helper()
	if err := s.DB.QueryRowContext(context.Background(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// WantPermanent fails unless err is a permanent error that holds each of the texts in itself or its
// hint.
func WantPermanent(t *testing.T, err error, texts ...string) {
	t.Helper()
	var p *toll.PermanentError
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want a permanent error", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error()+" · "+p.Hint, text) {
			t.Errorf("got %q with hint %q, which lacks %q", err, p.Hint, text)
		}
	}
}

// Berlin is the zone of Identity.
var Berlin = func() *time.Location {
	loc, err := time.LoadLocation(Identity.Timezone)
	if err != nil {
		panic(err)
	}
	return loc
}()

// WallTime reads 2022-02-10 10:15, with seconds or without.
func WallTime(t testing.TB, text string) toll.WallTime {
	t.Helper()
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if at, err := time.Parse(layout, text); err == nil {
			return toll.WallTimeOf(at)
		}
	}
	t.Fatalf("%q is not a time", text)
	return 0
}

// MinuteOf returns the minute of a wall time.
func MinuteOf(t testing.TB, text string) toll.Minute {
	t.Helper()
	return toll.NewZone(Berlin).Minute(WallTime(t, text))
}

// Stream stores batches as the writer does, and merges their deltas into states.
type Stream struct {
	t      *testing.T
	S      *Store
	Epoch  uint64
	next   map[int32]int64
	chain  map[int32]map[int16]int64
	Sent   []toll.Delta
	States map[int16]*toll.State
}

func NewStream(t *testing.T, s *Store) *Stream {
	return &Stream{t: t, S: s, Epoch: 7, next: map[int32]int64{}, chain: map[int32]map[int16]int64{},
		States: map[int16]*toll.State{}}
}

// Store stores a batch with the given events by plaza, some of its records rejected, and one
// skipped offset.
func (st *Stream) Store(partition int32, rejected int, events map[int16]int) {
	st.t.Helper()
	first := st.next[partition]
	if st.chain[partition] == nil {
		first = 100
		st.chain[partition] = map[int16]int64{}
		Exec(st.t, st.S, `INSERT INTO toll_cursor (topic_id, partition_id, start_offset, next_offset,
			token, epoch, chain, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, '', NOW(6))`, Identity.TopicID, partition, first, first,
			tables.NewToken(), st.Epoch)
	}
	n := 0
	for _, k := range events {
		n += k
	}
	next := first + int64(n+rejected) + 1
	var deltas []toll.PlazaDelta
	for _, plaza := range slices.Sorted(maps.Keys(events)) {
		d := toll.PlazaDelta{Plaza: plaza, Prev: st.chain[partition][plaza], Events: int64(events[plaza])}
		pane := toll.Pane{Start: MinuteOf(st.t, fmt.Sprintf("2022-02-10 10:%02d", partition))}
		for i := range events[plaza] {
			types := []string{"car", "Lkw-Größe €", "CAR"}
			e := fmt.Sprintf("2022-02-10 10:%02d:%02d,%d,%s,%d", partition, i%60, first+int64(i), types[i%3],
				plaza)
			f := strings.Split(e, ",")
			Exec(st.t, st.S,
				`INSERT INTO livetolldata (timestamp, vehicle_id, vehicle_type, toll_plaza_id)
					VALUES (?, ?, ?, ?)`, f[0], f[1], f[2], f[3])
			d.Checksum += uint64(crc32.ChecksumIEEE([]byte(e)))
			pane.Types = toll.AddTypes(pane.Types, []toll.TypeCount{{Type: types[i%3], Count: 1}})
		}
		d.Panes = []toll.Pane{pane}
		deltas = append(deltas, d)
		st.chain[partition][plaza] = next
		st.Sent = append(st.Sent, toll.Delta{Epoch: st.Epoch, Partition: partition, First: first,
			Next: next, PlazaDelta: d})
	}
	for i := range rejected {
		Exec(st.t, st.S, `INSERT INTO toll_dead_letter (topic_id, partition_id, record_offset,
			record_time, reason, sql_state, payload, payload_bytes, record_key, rejected_at)
			VALUES (?, ?, ?, '2026-01-02 03:04:05.678', 'time: not a time', '', ?, 3, NULL, NOW(6))`,
			Identity.TopicID, partition, first+int64(n+i), []byte{'x', 0, 0xff})
	}
	blob, err := json.Marshal(deltas)
	if err != nil {
		st.t.Fatal(err)
	}
	token := tables.NewToken()
	firstMinute, lastMinute := tables.MinuteColumns(MinutesOf(deltas))
	Exec(st.t, st.S, `INSERT INTO toll_batch (topic_id, partition_id, first_offset, next_offset, token,
		events, rejected, skipped, published, deltas, stored_at, first_minute, last_minute)
		VALUES (?, ?, ?, ?, ?, ?, ?, 1, 1, ?, NOW(6), ?, ?)`, Identity.TopicID, partition, first, next,
		token, n, rejected, blob, firstMinute, lastMinute)
	Exec(st.t, st.S, `UPDATE toll_cursor SET next_offset = ?, token = ? WHERE partition_id = ?`, next,
		token, partition)
	st.next[partition] = next
}

// Merge merges what was stored since the last merge.
func (st *Stream) Merge() {
	for i := range st.Sent {
		d := &st.Sent[i]
		if st.States[d.Plaza] == nil {
			st.States[d.Plaza] = &toll.State{}
		}
		st.States[d.Plaza].Merge(d)
	}
	st.Sent = nil
}

// Fill stores and merges some batches of two partitions.
func (st *Stream) Fill() {
	st.Store(0, 1, map[int16]int{4856: 5, 4000: 2})
	st.Store(1, 0, map[int16]int{4856: 4, -7: 1})
	st.Store(0, 0, map[int16]int{4000: 3})
	st.Store(0, 2, map[int16]int{4856: 6})
	st.Merge()
}

// Allocated returns the bytes that f allocates.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Live stores batches by the real writer and merges their deltas, as a process does.
type Live struct {
	T      *testing.T
	S      *Store
	W      *ingest.Writer
	mu     sync.Mutex
	States map[int16]*toll.State
}

func (l *Live) Snapshot() map[int16]*toll.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	states := map[int16]*toll.State{}
	for plaza, s := range l.States {
		c := *s
		c.Merged = slices.Clone(s.Merged)
		states[plaza] = &c
	}
	return states
}

func (l *Live) Partition(p int32, batches int, events func(batch int) []toll.Event) {
	ctx := context.Background()
	cursor, _, err := l.W.Load(ctx, p, 0)
	if err != nil {
		l.T.Error(err)
		return
	}
	chain := map[int16]int64{}
	zone := toll.NewZone(Berlin)
	for i := range batches {
		b := toll.Batch{Partition: p, First: cursor.Next, Epoch: cursor.Epoch, Expect: cursor.Token,
			Token: tables.NewToken(), Rows: l.W.NewRows(), Chain: []byte{}}
		deltas := map[int16]*toll.PlazaDelta{}
		for _, e := range events(i) {
			d := deltas[e.Plaza]
			if d == nil {
				d = &toll.PlazaDelta{Plaza: e.Plaza, Prev: chain[e.Plaza]}
				deltas[e.Plaza] = d
			}
			d.Events++
			d.Checksum += uint64(b.Rows.Append(&e))
			AddEvent(d, zone.Minute(e.Time), e.Type)
		}
		b.Extra = b.Rows.Len() / 3 // of records of several events
		b.Next = b.First + int64(b.Records()) + 2
		b.Rejects = []toll.Reject{{Offset: b.Next - 1, Payload: []byte{},
			Rejection: toll.Rejection{Reason: "event: empty"}}}
		var all []toll.PlazaDelta
		for _, plaza := range slices.Sorted(maps.Keys(deltas)) {
			all = append(all, *deltas[plaza])
			chain[plaza] = b.Next
		}
		b.Minutes = MinutesOf(all)
		if b.Deltas, err = json.Marshal(all); err != nil {
			l.T.Error(err)
		}
		if err := l.W.Commit(ctx, &b, nil); err != nil {
			l.T.Error(err)
			return
		}
		cursor.Next, cursor.Token = b.Next, b.Token
		l.mu.Lock()
		for _, d := range all {
			if l.States[d.Plaza] == nil {
				l.States[d.Plaza] = &toll.State{}
			}
			l.States[d.Plaza].Merge(&toll.Delta{Epoch: cursor.Epoch, Partition: p, First: b.First,
				Next: b.Next, PlazaDelta: d})
		}
		l.mu.Unlock()
	}
}

// AddEvent counts an event that was on time in a delta's panes.
func AddEvent(d *toll.PlazaDelta, m toll.Minute, vehicleType string) {
	at, found := slices.BinarySearchFunc(d.Panes, m, func(p toll.Pane, m toll.Minute) int {
		return cmp.Compare(p.Start, m)
	})
	if !found {
		d.Panes = slices.Insert(d.Panes, at, toll.Pane{Start: m})
	}
	d.Panes[at].Types = toll.AddTypes(d.Panes[at].Types,
		[]toll.TypeCount{{Type: vehicleType, Count: 1}})
}

// MinutesOf returns the minutes from the first to behind the last event of a batch, as [toll.Batch]
// has them.
func MinutesOf(deltas []toll.PlazaDelta) toll.Window {
	w := toll.Window{Start: math.MaxInt32, End: math.MinInt32}
	for i := range deltas {
		for _, panes := range [...][]toll.Pane{deltas[i].Panes, deltas[i].LateQuarter,
			deltas[i].TooLate} {
			if len(panes) > 0 {
				last := panes[len(panes)-1].Start
				w.Start = min(w.Start, panes[0].Start)
				w.End = max(w.End, last+1, last) // the last minute that there is has no next
			}
		}
	}
	return w
}
