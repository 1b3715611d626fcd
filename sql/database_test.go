package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/devstack"
	"github.com/tollstream/tollstream/internal/testkit"
	"github.com/tollstream/tollstream/toll"
)

// The engines that everything is tested on. Servers that are not installed are skipped.
var engines = []string{"mariadb", "mysql", "embedded"}

var servers = struct {
	sync.Mutex
	byEngine map[string]*devstack.Database
}{byEngine: map[string]*devstack.Database{}}

// runMain runs a package's tests and then stops their servers.
func runMain(m *testing.M) {
	code := m.Run()
	for _, d := range servers.byEngine {
		_ = d.Close()
	}
	os.Exit(code)
}

// onEngines runs a test on every engine, each time with an empty database.
func onEngines(t *testing.T, test func(t *testing.T, s *testStore)) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) { test(t, openEmpty(t, engine)) })
	}
}

// onServers does it on real servers alone.
func onServers(t *testing.T, test func(t *testing.T, s *testStore)) {
	eachServer(t, func(t *testing.T, engine string) { test(t, openEmpty(t, engine)) })
}

// eachServer runs a test with the name of each engine that is a server.
func eachServer(t *testing.T, test func(t *testing.T, engine string)) {
	for _, engine := range []string{"mariadb", "mysql"} {
		t.Run(engine, func(t *testing.T) { test(t, engine) })
	}
}

func openEmpty(t testing.TB, engine string) *testStore {
	t.Helper()
	testkit.NeedDatabase(t, engine, devstack.HasDatabase)
	servers.Lock()
	defer servers.Unlock()
	d := servers.byEngine[engine]
	if d == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var err error
		d, err = devstack.StartDatabase(ctx, devstack.DatabaseConfig{Addr: "127.0.0.1:0", Engine: engine})
		if err != nil {
			t.Fatal(err)
		}
		servers.byEngine[engine] = d
	}
	s := openStore(t, d.DSN())
	dropTables(t, s)
	return s
}

// testStore is a store with a pool of its own to look behind it.
type testStore struct {
	*Store
	db  *database
	dsn string
}

func openStore(t testing.TB, dsn string) *testStore {
	t.Helper()
	return openConfig(t, Config{DSN: dsn, Decode: decodeJSON, Encode: encodeJSON,
		DecodeSums: func(dst []toll.PlazaDelta, b []byte) ([]toll.PlazaDelta, error) {
			deltas, err := decodeJSON(b)
			return append(dst, deltas...), err
		}})
}

func openConfig(t testing.TB, cfg Config) *testStore {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	db, err := openPool(PoolConfig{DSN: cfg.DSN})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &testStore{Store: s, db: db, dsn: cfg.DSN}
}

// decodeJSON and encodeJSON are the outbox of the tests' stores.
func decodeJSON(b []byte) (deltas []toll.PlazaDelta, err error) {
	return deltas, json.Unmarshal(b, &deltas)
}

func encodeJSON(deltas []toll.PlazaDelta) []byte {
	b, err := json.Marshal(deltas)
	if err != nil {
		panic(err)
	}
	return b
}

// eventTableDDL is the course's statement.
const eventTableDDL = `create table livetolldata(timestamp datetime, vehicle_id int, vehicle_type char(15),
	toll_plaza_id smallint)`

// tableNames returns the tables of the database.
func tableNames(t testing.TB, s *testStore) (names []string) {
	t.Helper()
	rows, err := s.db.QueryContext(context.Background(), `SHOW TABLES`)
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

func dropTables(t testing.TB, s *testStore) {
	t.Helper()
	for _, name := range tableNames(t, s) {
		run(t, s, "DROP TABLE "+name)
	}
}

var testIdentity = Identity{Group: "tollstream", Topic: "toll", TopicID: "AAAAAAAAAAAAAAAAAAAAAA",
	Timezone: "Europe/Berlin"}

func initialize(t testing.TB, s *testStore) []string {
	t.Helper()
	done, err := s.Init(context.Background(), testIdentity)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func run(t testing.TB, s *testStore, query string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func number64(t *testing.T, s *testStore, query string, args ...any) (n int64) {
	t.Helper()
	if err := s.db.QueryRowContext(context.Background(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// wantPermanent fails unless err is a permanent error that holds each of the texts in itself or its
// hint.
func wantPermanent(t *testing.T, err error, texts ...string) {
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

// berlin is the zone of testIdentity.
var berlin = func() *time.Location {
	loc, err := time.LoadLocation(testIdentity.Timezone)
	if err != nil {
		panic(err)
	}
	return loc
}()

// wallTime reads 2022-02-10 10:15, with seconds or without.
func wallTime(t testing.TB, text string) toll.WallTime {
	t.Helper()
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if at, err := time.Parse(layout, text); err == nil {
			return toll.WallTimeOf(at)
		}
	}
	t.Fatalf("%q is not a time", text)
	return 0
}

// minuteOf returns the minute of a wall time.
func minuteOf(t testing.TB, text string) toll.Minute {
	t.Helper()
	return toll.NewZone(berlin).Minute(wallTime(t, text))
}

// stream stores batches as the writer does, and merges their deltas into states.
type stream struct {
	t      *testing.T
	s      *testStore
	epoch  uint64
	next   map[int32]int64
	chain  map[int32]map[int16]int64
	sent   []toll.Delta
	states map[int16]*toll.State
}

func newStream(t *testing.T, s *testStore) *stream {
	return &stream{t: t, s: s, epoch: 7, next: map[int32]int64{}, chain: map[int32]map[int16]int64{},
		states: map[int16]*toll.State{}}
}

// store stores a batch with the given events by plaza, some of its records rejected, and one
// skipped offset.
func (st *stream) store(partition int32, rejected int, events map[int16]int) {
	st.t.Helper()
	first := st.next[partition]
	if st.chain[partition] == nil {
		first = 100
		st.chain[partition] = map[int16]int64{}
		run(st.t, st.s, `INSERT INTO toll_cursor (topic_id, partition_id, start_offset, next_offset, token, epoch, chain, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, '', NOW(6))`, testIdentity.TopicID, partition, first, first, NewToken(), st.epoch)
	}
	n := 0
	for _, k := range events {
		n += k
	}
	next := first + int64(n+rejected) + 1
	var deltas []toll.PlazaDelta
	for _, plaza := range slices.Sorted(maps.Keys(events)) {
		d := toll.PlazaDelta{Plaza: plaza, Prev: st.chain[partition][plaza], Events: int64(events[plaza])}
		pane := toll.Pane{Start: minuteOf(st.t, fmt.Sprintf("2022-02-10 10:%02d", partition))}
		for i := range events[plaza] {
			types := []string{"car", "Lkw-Größe €", "CAR"}
			e := fmt.Sprintf("2022-02-10 10:%02d:%02d,%d,%s,%d", partition, i%60, first+int64(i), types[i%3],
				plaza)
			f := strings.Split(e, ",")
			run(st.t, st.s,
				`INSERT INTO livetolldata (timestamp, vehicle_id, vehicle_type, toll_plaza_id) VALUES (?, ?, ?, ?)`, f[0], f[1], f[2], f[3])
			d.Checksum += uint64(crc32.ChecksumIEEE([]byte(e)))
			pane.Types = toll.AddTypes(pane.Types, []toll.TypeCount{{Type: types[i%3], Count: 1}})
		}
		d.Panes = []toll.Pane{pane}
		deltas = append(deltas, d)
		st.chain[partition][plaza] = next
		st.sent = append(st.sent, toll.Delta{Epoch: st.epoch, Partition: partition, First: first,
			Next: next, PlazaDelta: d})
	}
	for i := range rejected {
		run(st.t, st.s, `INSERT INTO toll_dead_letter (topic_id, partition_id, record_offset, record_time, reason, sql_state, payload, payload_bytes, record_key, rejected_at)
			VALUES (?, ?, ?, '2026-01-02 03:04:05.678', 'time: not a time', '', ?, 3, NULL, NOW(6))`, testIdentity.TopicID, partition, first+int64(n+i), []byte{'x', 0, 0xff})
	}
	blob, err := json.Marshal(deltas)
	if err != nil {
		st.t.Fatal(err)
	}
	token := NewToken()
	firstMinute, lastMinute := minuteColumns(minutesOf(deltas))
	run(st.t, st.s, `INSERT INTO toll_batch (topic_id, partition_id, first_offset, next_offset, token, events, rejected, skipped, published, deltas, stored_at, first_minute, last_minute)
		VALUES (?, ?, ?, ?, ?, ?, ?, 1, 1, ?, NOW(6), ?, ?)`, testIdentity.TopicID, partition, first, next, token, n, rejected, blob, firstMinute, lastMinute)
	run(st.t, st.s, `UPDATE toll_cursor SET next_offset = ?, token = ? WHERE partition_id = ?`, next,
		token, partition)
	st.next[partition] = next
}

// merge merges what was stored since the last merge.
func (st *stream) merge() {
	for i := range st.sent {
		d := &st.sent[i]
		if st.states[d.Plaza] == nil {
			st.states[d.Plaza] = &toll.State{}
		}
		st.states[d.Plaza].Merge(d)
	}
	st.sent = nil
}

// fill stores and merges some batches of two partitions.
func (st *stream) fill() {
	st.store(0, 1, map[int16]int{4856: 5, 4000: 2})
	st.store(1, 0, map[int16]int{4856: 4, -7: 1})
	st.store(0, 0, map[int16]int{4000: 3})
	st.store(0, 2, map[int16]int{4856: 6})
	st.merge()
}
