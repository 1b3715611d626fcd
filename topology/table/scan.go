package table

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// Scan reads the group table as its topic holds it at one moment. It takes less time than a
// [View], which goka has to set up and which follows the topic.
type Scan struct {
	client     *fetch.Client
	partitions []scannedPartition
}

// scannedPartition is what was read of a partition of the group table's topic.
type scannedPartition struct {
	next   int64
	values map[string]*[]byte // by key, the last of each
}

// NewScan returns a scan that has read nothing. Close is to be called. A table that does not
// exist is a [toll.PermanentError].
func NewScan(ctx context.Context, cluster kafka.Cluster, group string) (*Scan, error) {
	info, err := describeTable(ctx, cluster, group)
	if err != nil {
		return nil, err
	}
	client, err := fetch.NewClient(kafka.TableTopic(group), cluster.Options("table")...)
	if err != nil {
		return nil, err
	}
	t := &Scan{client: client, partitions: make([]scannedPartition, info.Partitions)}
	for i := range t.partitions {
		t.partitions[i].values = map[string]*[]byte{}
	}
	return t, nil
}

// Close closes the connections.
func (t *Scan) Close() { t.client.Close() }

// Advance reads on, to where the topic ends when it is called.
func (t *Scan) Advance(ctx context.Context) error {
	errs := make([]error, len(t.partitions))
	var all sync.WaitGroup
	for i := range t.partitions {
		all.Go(func() { errs[i] = t.advance(ctx, int32(i), &t.partitions[i]) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("read the group table: %w", kafka.Explain(err))
	}
	return nil
}

// scanPatience is how long a partition may fail, as it does while its leader restarts.
const scanPatience = 30 * time.Second

func (t *Scan) advance(ctx context.Context, number int32, p *scannedPartition) error {
	began := time.Now()
	for {
		start, end, err := t.client.Bounds(ctx, number)
		if err == nil {
			p.next, err = t.client.Read(ctx, number, max(p.next, start), end, p.take)
		}
		var refused *kerr.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &refused) && !refused.Retriable ||
			time.Since(began) > scanPatience {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (p *scannedPartition) take(r *kgo.Record) {
	if r.Value == nil {
		delete(p.values, string(r.Key))
		return
	}
	v := p.values[string(r.Key)]
	if v == nil {
		v = new([]byte)
		p.values[string(r.Key)] = v
	}
	*v = append((*v)[:0], r.Value...) // the record's own memory is that of its whole batch
}

// States returns the state of every plaza. The caller owns them.
func (t *Scan) States() (map[int16]*toll.State, error) {
	states := map[int16]*toll.State{}
	for i := range t.partitions {
		for key, value := range t.partitions[i].values {
			plaza, err := strconv.ParseInt(key, 10, 16)
			if err != nil {
				continue // not ours
			}
			v, err := wire.StateCodec{}.Decode(*value)
			if err != nil {
				return nil, fmt.Errorf("read plaza %d of the group table: %w", plaza, err)
			}
			if state, ok := v.(*toll.State); ok {
				states[int16(plaza)] = state
			}
		}
	}
	return states, nil
}

// Read returns the state of every plaza, as it is in the group table's topic now.
func Read(ctx context.Context, cluster kafka.Cluster, group string) (map[int16]*toll.State,
	error) {
	t, err := NewScan(ctx, cluster, group)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if err := t.Advance(ctx); err != nil {
		return nil, err
	}
	return t.States()
}
