package sql_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/internal/dbtest"
	"github.com/tollstream/tollstream/toll"
)

func TestDeadLetters(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		ctx := context.Background()
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		st.Fill() // rejects 0:107, 0:119, 0:120
		st.Store(1, 1, nil)
		dbtest.Exec(t, s,
			`UPDATE toll_dead_letter SET reason = 'out of range', sql_state = '22003', error_number = 1264,
				kind = 'refused', payload = NULL, record_key = x'00ff' WHERE record_offset = 119`)
		dbtest.Exec(t, s,
			`INSERT INTO toll_retry (topic_id, partition_id, record_offset, stored_partition, stored_offset)
				VALUES (?, 0, 119, 1, 500)`, dbtest.Identity.TopicID)
		one, yes, no := int32(1), true, false
		for _, c := range []struct {
			name   string
			filter sql.DeadLetterFilter
			want   []int64
		}{
			{"all", sql.DeadLetterFilter{}, []int64{107, 119, 120, 106}},
			{"limit", sql.DeadLetterFilter{Limit: 2}, []int64{107, 119}},
			{"next page", sql.DeadLetterFilter{Limit: 2, After: &toll.Origin{Partition: 0, Offset: 119}},
				[]int64{120, 106}},
			{"partition", sql.DeadLetterFilter{Partition: &one}, []int64{106}},
			{"reason", sql.DeadLetterFilter{Reason: "of range"}, []int64{119}},
			{"kind", sql.DeadLetterFilter{Kind: toll.RejectRefused}, []int64{119}},
			{"retried", sql.DeadLetterFilter{Retried: &yes}, []int64{119}},
			{"not retried", sql.DeadLetterFilter{Retried: &no, Reason: "time"}, []int64{107, 120, 106}},
		} {
			letters, err := s.DeadLetters(ctx, c.filter)
			if err != nil {
				t.Fatal(c.name, err)
			}
			var got []int64
			for _, d := range letters {
				got = append(got, d.Offset)
			}
			if len(got) != len(c.want) {
				t.Fatalf("%s: got %v, want %v", c.name, got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("%s: got %v, want %v", c.name, got, c.want)
				}
			}
			c.filter.Limit = 0
			if n, err := s.CountDeadLetters(ctx, c.filter); err != nil || n < int64(len(got)) {
				t.Errorf("%s: counted %d, %v", c.name, n, err)
			}
		}
		d, err := s.DeadLetter(ctx, toll.Origin{Partition: 0, Offset: 119})
		if err != nil || !d.Retried || d.Payload != nil || !bytes.Equal(d.Key, []byte{0, 0xff}) ||
			d.SQLState != "22003" || d.Number != 1264 || d.Kind != toll.RejectRefused ||
			d.PayloadBytes != 3 ||
			!d.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)) ||
			time.Since(d.RejectedAt).Abs() > time.Hour {
			t.Errorf("got %+v, %v", d, err)
		}
		d, err = s.DeadLetter(ctx, toll.Origin{Partition: 0, Offset: 107})
		if err != nil || d.Retried || !bytes.Equal(d.Payload, []byte{'x', 0, 0xff}) || d.Key != nil {
			t.Errorf("got %+v, %v", d, err)
		}
		letters, err := s.DeadLetters(ctx, sql.DeadLetterFilter{PayloadLimit: 2})
		if err != nil || len(letters) != 4 || !bytes.Equal(letters[0].Payload, []byte{'x', 0}) ||
			letters[0].PayloadBytes != 3 || letters[1].Payload != nil {
			t.Errorf("got %+v, %v", letters, err)
		}
		dbtest.Exec(t, s, `UPDATE toll_dead_letter SET payload = x'ff80fec3a4' WHERE record_offset = 107`)
		letters, err = s.DeadLetters(ctx, sql.DeadLetterFilter{PayloadLimit: 4, Limit: 1})
		if err != nil || len(letters) != 1 ||
			!bytes.Equal(letters[0].Payload, []byte{0xff, 0x80, 0xfe, 0xc3}) {
			t.Errorf("got %+v, %v", letters, err)
		}
		if _, err = s.DeadLetter(ctx, toll.Origin{Partition: 0, Offset: 1}); !errors.Is(err,
			sql.ErrNoDeadLetter) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRecentRejects checks that only the last records of each partition count.
func TestRecentRejects(t *testing.T) {
	dbtest.OnEngines(t, func(t *testing.T, s *dbtest.Store) {
		dbtest.Initialize(t, s)
		st := dbtest.NewStream(t, s)
		st.Fill() // from offset 100 on
		got, err := s.RecentRejects(t.Context())
		if want := dbtest.Int(t, s,
			`SELECT SUM(next_offset - start_offset) FROM toll_cursor`); err != nil ||
			got != (toll.RejectShare{Records: want, Rejected: 3}) {
			t.Errorf("got %+v, %v, want 3 of %d", got, err, want)
		}
		// 107 is long past
		dbtest.Exec(t, s, `UPDATE toll_cursor SET next_offset = 1119 WHERE partition_id = 0`)
		got, err = s.RecentRejects(t.Context())
		if want := 1000 + dbtest.Int(t, s,
			`SELECT next_offset - start_offset FROM toll_cursor WHERE partition_id = 1`); err != nil ||
			got != (toll.RejectShare{Records: want, Rejected: 2}) {
			t.Errorf("got %+v, %v, want 2 of %d", got, err, want)
		}
	})
}

// TestEachDeadLetter checks that a list is complete and in order whatever fits a page, and that
// payloads are let go of: the 64 MiB that are read here are never held at once.
func TestEachDeadLetter(t *testing.T) { dbtest.OnServers(t, testEachDeadLetter) }

func testEachDeadLetter(t *testing.T, s *dbtest.Store) {
	dbtest.Initialize(t, s)
	const letters, large = 250, 64
	for i := range letters {
		size := i % 3
		if i >= 100 && i < 100+large {
			size = 1 << 20
		}
		dbtest.Exec(t, s, `INSERT INTO toll_dead_letter (topic_id, partition_id, record_offset,
			record_time, kind, reason, sql_state, payload, payload_bytes,
			record_key, rejected_at) VALUES (?, ?, ?, NOW(6), 'format', 'event: x', '',
			REPEAT('x', ?), ?, NULL, NOW(6))`,
			dbtest.Identity.TopicID, i/200, i%200, size, size)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most := heap(), uint64(0)
	for _, c := range []struct{ limit, payload, want int }{{0, 0, letters}, {120, 0, 120},
		{letters + 5, 0, letters}, {0, 10, letters}, {1, 0, 1}} {
		n := 0
		err := s.EachDeadLetter(t.Context(),
			sql.DeadLetterFilter{Limit: c.limit, PayloadLimit: c.payload},
			func(d *sql.DeadLetter) error {
				if at := int(d.Partition)*200 + int(d.Offset); at != n {
					t.Fatalf("got the dead letter %d where %d should be", at, n)
				}
				if int64(len(d.Payload)) != d.PayloadBytes &&
					(c.payload == 0 || len(d.Payload) != min(c.payload, int(d.PayloadBytes))) {
					t.Fatalf("dead letter %d: %d bytes of %d", n, len(d.Payload), d.PayloadBytes)
				}
				if n++; n%25 == 0 {
					most = max(most, heap())
				}
				return nil
			})
		if err != nil || n != c.want {
			t.Fatalf("limit %d: %d dead letters, want %d, %v", c.limit, n, c.want, err)
		}
	}
	if most > before+20<<20 {
		t.Errorf("%d MiB are held, of which %d before", most>>20, before>>20)
	}
	stop := errors.New("stop")
	if err := s.EachDeadLetter(t.Context(), sql.DeadLetterFilter{}, func(*sql.DeadLetter) error {
		return stop
	}); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}
