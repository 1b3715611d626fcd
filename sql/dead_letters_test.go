package sql

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"tollstream/toll"
)

func TestDeadLetters(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		ctx := context.Background()
		initialize(t, s)
		st := newStream(t, s)
		st.fill() // rejects 0:107, 0:119, 0:120
		st.store(1, 1, nil)
		run(t, s, `UPDATE toll_dead_letter SET reason = 'out of range', sql_state = '22003', payload = NULL, record_key = x'00ff' WHERE record_offset = 119`)
		run(t, s, `INSERT INTO toll_retry (topic_id, partition_id, record_offset, stored_partition, stored_offset) VALUES (?, 0, 119, 1, 500)`, testIdentity.TopicID)
		one, yes, no := int32(1), true, false
		for _, c := range []struct {
			name   string
			filter DeadLetterFilter
			want   []int64
		}{
			{"all", DeadLetterFilter{}, []int64{107, 119, 120, 106}},
			{"limit", DeadLetterFilter{Limit: 2}, []int64{107, 119}},
			{"next page", DeadLetterFilter{Limit: 2, After: &toll.Origin{Partition: 0, Offset: 119}}, []int64{120, 106}},
			{"partition", DeadLetterFilter{Partition: &one}, []int64{106}},
			{"reason", DeadLetterFilter{Reason: "of range"}, []int64{119}},
			{"retried", DeadLetterFilter{Retried: &yes}, []int64{119}},
			{"not retried", DeadLetterFilter{Retried: &no, Reason: "time"}, []int64{107, 120, 106}},
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
		if err != nil || !d.Retried || d.Payload != nil || !bytes.Equal(d.Key, []byte{0, 0xff}) || d.SQLState != "22003" || d.PayloadBytes != 3 ||
			!d.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)) || time.Since(d.RejectedAt).Abs() > time.Hour {
			t.Errorf("got %+v, %v", d, err)
		}
		d, err = s.DeadLetter(ctx, toll.Origin{Partition: 0, Offset: 107})
		if err != nil || d.Retried || !bytes.Equal(d.Payload, []byte{'x', 0, 0xff}) || d.Key != nil {
			t.Errorf("got %+v, %v", d, err)
		}
		letters, err := s.DeadLetters(ctx, DeadLetterFilter{PayloadLimit: 2})
		if err != nil || len(letters) != 4 || !bytes.Equal(letters[0].Payload, []byte{'x', 0}) || letters[0].PayloadBytes != 3 || letters[1].Payload != nil {
			t.Errorf("got %+v, %v", letters, err)
		}
		run(t, s, `UPDATE toll_dead_letter SET payload = x'ff80fec3a4' WHERE record_offset = 107`)
		letters, err = s.DeadLetters(ctx, DeadLetterFilter{PayloadLimit: 4, Limit: 1})
		if err != nil || len(letters) != 1 || !bytes.Equal(letters[0].Payload, []byte{0xff, 0x80, 0xfe, 0xc3}) {
			t.Errorf("got %+v, %v", letters, err)
		}
		if _, err = s.DeadLetter(ctx, toll.Origin{Partition: 0, Offset: 1}); !errors.Is(err, ErrNoDeadLetter) {
			t.Errorf("got %v", err)
		}
	})
}
