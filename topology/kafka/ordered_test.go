package kafka

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
)

// heldProducer is a goka.Producer whose promises the test resolves, in any order.
type heldProducer struct {
	finish []goka.PromiseFinisher
}

func (p *heldProducer) Emit(topic, key string, value []byte) *goka.Promise {
	return p.EmitWithHeaders(topic, key, value, nil)
}

func (p *heldProducer) EmitWithHeaders(string, string, []byte, goka.Headers) *goka.Promise {
	promise, finish := goka.NewPromiseWithFinisher()
	p.finish = append(p.finish, finish)
	return promise
}

func (p *heldProducer) Close() error { return nil }

func TestOrderedProducer(t *testing.T) {
	refused := errors.New("refused")
	for _, test := range []struct {
		name    string
		keys    []string
		resolve []int // order in which the broker answers
		fails   int   // index of the emit that fails, -1 for none
		want    []string
	}{
		{"in order", []string{"a", "a", "a"}, []int{0, 1, 2}, -1, []string{"0 ok", "1 ok", "2 ok"}},
		{"answers out of order", []string{"a", "a", "a"}, []int{2, 1, 0}, -1,
			[]string{"0 ok", "1 ok", "2 ok"}},
		{"one fails, and all after it", []string{"a", "a", "a"}, []int{0, 2, 1}, 1,
			[]string{"0 ok", "1 refused", "2 refused"}},
		{"a failure before others that were acknowledged", []string{"a", "a", "a"}, []int{1, 2, 0}, 0,
			[]string{"0 refused", "1 refused", "2 refused"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			held := &heldProducer{}
			p := NewOrderedProducer(held, 4)
			var got []string
			for i, key := range test.keys {
				p.Emit("table", key, nil).ThenWithMessage(func(msg *sarama.ProducerMessage, err error) {
					switch {
					case err != nil:
						got = append(got, fmt.Sprintf("%d %v", i, err))
					case msg.Offset != int64(i):
						t.Errorf("emit %d got the message of offset %d", i, msg.Offset)
					default:
						got = append(got, fmt.Sprintf("%d ok", i))
					}
				})
			}
			for _, i := range test.resolve {
				if i == test.fails {
					held.finish[i](nil, refused)
				} else {
					held.finish[i](&sarama.ProducerMessage{Offset: int64(i)}, nil)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("resolved %v, want %v", got, test.want)
			}
		})
	}
}

// TestOrderedProducerPartitionsApart lets a partition go on while another waits for an answer, or
// has failed.
func TestOrderedProducerPartitionsApart(t *testing.T) {
	held := &heldProducer{}
	p := NewOrderedProducer(held, 4)
	first, other := "4000", ""
	for n := 4001; other == ""; n++ {
		if key := fmt.Sprint(n); PartitionOf(key, 4) != PartitionOf(first, 4) {
			other = key
		}
	}
	done := map[string]error{}
	for _, key := range []string{first, other} {
		p.Emit("table", key, nil).Then(func(err error) { done[key] = err })
	}
	held.finish[1](&sarama.ProducerMessage{}, nil)
	if err, ok := done[other]; !ok || err != nil {
		t.Errorf("the other partition waits for the first, or failed: %v", err)
	}
	if _, ok := done[first]; ok {
		t.Error("the first partition is resolved without an answer")
	}
}

// TestPartitionOf places keys as sarama's partitioner does, with which goka produces.
func TestPartitionOf(t *testing.T) {
	partitioner := sarama.NewCustomHashPartitioner(Hasher)("any")
	for plaza := -100; plaza < 5000; plaza++ {
		key := fmt.Sprint(plaza)
		for _, n := range []int32{1, 4, 7, 16} {
			want, err := partitioner.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, n)
			if err != nil {
				t.Fatal(err)
			}
			if got := PartitionOf(key, n); got != want {
				t.Fatalf("key %s of %d partitions: %d, want %d", key, n, got, want)
			}
		}
	}
}
