package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func newTestProducer(t *testing.T, options ...kfake.Opt) (*kfake.Cluster, *Producer) {
	t.Helper()
	broker, err := kfake.NewCluster(append(options, kfake.NumBrokers(1),
		kfake.SeedTopics(4, "table"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	p, err := NewProducer(t.Context(), 0, kgo.SeedBrokers(broker.ListenAddrs()...),
		kgo.MaxVersions(kversion.V2_8_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(0) })
	return broker, p
}

// emitted is what became of a record.
type emitted struct {
	key string
	msg *sarama.ProducerMessage
	err error
}

// await returns what became of n emits, in the order in which that was known.
func await(t *testing.T, done <-chan emitted, n int) []emitted {
	t.Helper()
	var all []emitted
	for range n {
		select {
		case e := <-done:
			all = append(all, e)
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d emits ended", len(all), n)
		}
	}
	return all
}

func emit(p *Producer, topic, key, value string, done chan<- emitted) {
	p.Emit(topic, key, []byte(value)).ThenWithMessage(func(msg *sarama.ProducerMessage,
		err error) {
		done <- emitted{key, msg, err}
	})
}

// TestProducerKeepsOrder drops connections, before and after a broker took what they brought: every
// record is in the log once, in the order of emission, where goka looks for it, and at the offset
// that its promise has.
func TestProducerKeepsOrder(t *testing.T) {
	broker, p := newTestProducer(t)
	var requests atomic.Int64
	broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		if requests.Add(1)%3 == 2 {
			return nil, errors.New("drop the connection"), true
		}
		return nil, nil, false
	})
	const n = 500
	done := make(chan emitted, n)
	for i := range n {
		emit(p, "table", fmt.Sprint(4000+i%7), fmt.Sprint(i), done)
		if i%20 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	offsets := map[int32]int64{}
	for _, e := range await(t, done, n) {
		if e.err != nil {
			t.Fatal(e.err)
		}
		want,
			err := sarama.NewCustomHashPartitioner(Hasher)("table").Partition(
			&sarama.ProducerMessage{Key: sarama.StringEncoder(e.key)}, 4)
		if err != nil || e.msg.Partition != want || e.msg.Offset != offsets[want] {
			t.Fatalf("key %s: partition %d, offset %d; want %d, %d (%v)", e.key, e.msg.Partition,
				e.msg.Offset, want, offsets[want], err)
		}
		offsets[want]++
	}
	if requests.Load() < 6 {
		t.Fatalf("only %d requests", requests.Load())
	}
}

// TestProducerFailures has a broker refuse a partition for good: what is on its way behind fails
// too.
func TestProducerFailures(t *testing.T) {
	for _, test := range []struct {
		name string
		code int16
		want error
	}{
		{"rights", kerr.TopicAuthorizationFailed.Code, sarama.ErrTopicAuthorizationFailed},
		{"clock", kerr.InvalidTimestamp.Code, sarama.ErrInvalidTimestamp},
		{"lost writes", kerr.OutOfOrderSequenceNumber.Code, sarama.ErrOutOfOrderSequenceNumber},
	} {
		t.Run(test.name, func(t *testing.T) {
			broker, p := newTestProducer(t)
			broker.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				broker.KeepControl()
				request := req.(*kmsg.ProduceRequest)
				response := request.ResponseKind().(*kmsg.ProduceResponse)
				for _, rt := range request.Topics {
					topic := kmsg.NewProduceResponseTopic()
					topic.Topic = rt.Topic
					for _, rp := range rt.Partitions {
						part := kmsg.NewProduceResponseTopicPartition()
						part.Partition, part.ErrorCode = rp.Partition, test.code
						topic.Partitions = append(topic.Partitions, part)
					}
					response.Topics = append(response.Topics, topic)
				}
				return response, nil, true
			})
			done := make(chan emitted, 3)
			for range 3 {
				emit(p, "table", "4000", "state", done)
			}
			for _, e := range await(t, done, 3) {
				// goka passes some errors on as text.
				if !errors.Is(e.err, test.want) || !strings.Contains(e.err.Error(), test.want.Error()) {
					t.Errorf("%v, want %v", e.err, test.want)
				}
			}
		})
	}
}

func TestProducerRefuses(t *testing.T) {
	_, p := newTestProducer(t)
	done := make(chan emitted, 1)
	emit(p, "table", "4000", strings.Repeat("x", 2*batchBytes), done)
	if e := await(t, done, 1)[0]; !errors.Is(e.err, sarama.ErrMessageSizeTooLarge) {
		t.Error(e.err)
	}
	emit(p, "nothere", "4000", "x", done)
	if e := await(t, done, 1)[0]; !errors.Is(e.err, sarama.ErrUnknownTopicOrPartition) {
		t.Error(e.err)
	}
}

// TestProducerCloses gives up on a broker that takes requests and does not answer, and takes
// nothing more.
func TestProducerCloses(t *testing.T) {
	broker, p := newTestProducer(t)
	broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.SleepControl(func() { time.Sleep(3 * time.Second) })
		return nil, errors.New("drop the connection"), true
	})
	done := make(chan emitted, 2)
	emit(p, "table", "4000", "x", done)
	began := time.Now()
	p.Close(100 * time.Millisecond)
	emit(p, "table", "4000", "x", done)
	for _, e := range await(t, done, 2) {
		if !errors.Is(e.err, kgo.ErrClientClosed) {
			t.Error(e.err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	p.Close(0)
}

// TestProducerHeaders sends headers, and a record without a value.
func TestProducerHeaders(t *testing.T) {
	broker, p := newTestProducer(t)
	done := make(chan emitted, 1)
	p.EmitWithHeaders("table", "4000", nil, goka.Headers{"k": []byte("v")}).
		ThenWithMessage(func(msg *sarama.ProducerMessage, err error) { done <- emitted{"", msg, err} })
	if e := await(t, done, 1)[0]; e.err != nil {
		t.Fatal(e.err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.ConsumeTopics("table"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	r := cl.PollFetches(t.Context()).Records()[0]
	if r.Value != nil ||
		!slices.EqualFunc(r.Headers, []kgo.RecordHeader{{Key: "k", Value: []byte("v")}},
			func(a, b kgo.RecordHeader) bool {
				return a.Key == b.Key && string(a.Value) == string(b.Value)
			}) {
		t.Errorf("value %q, headers %v", r.Value, r.Headers)
	}
}

// TestPartitioner places records without a key in turn.
func TestPartitioner(t *testing.T) {
	place := Partitioner().ForTopic("table")
	seen := map[int]int{}
	for range 8 {
		seen[place.Partition(&kgo.Record{}, 4)]++
	}
	for p := range 4 {
		if seen[p] != 2 {
			t.Fatalf("placed %v", seen)
		}
	}
}

// Readers take as much memory as the largest block that the beginning of a frame announces.
func TestCompressorHasSmallBlocks(t *testing.T) {
	src := bytes.Repeat([]byte("2022-02-10 10:23:02,3728373,car,4856\n"), 10_000)
	c := new(compressor)
	for range 2 { // the second time with the first one's writer
		dst, codec := c.Compress(new(bytes.Buffer), src)
		const block64K = 4 << 4
		if codec != kgo.CodecLz4 || len(dst) > len(src)/4 || dst[5] != block64K {
			t.Fatalf("%d bytes became %d by codec %d, in blocks by %x", len(src), len(dst), codec, dst[5])
		}
		if got, err := kgo.DefaultDecompressor().Decompress(dst, codec); err != nil ||
			!bytes.Equal(got, src) {
			t.Fatalf("read as %d bytes, %v", len(got), err)
		}
	}
}

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
