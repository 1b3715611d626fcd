// Package table reads the group table, and keeps its local copies.
package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// View reads the group table, in memory and apart from any processor's store.
type View struct {
	view *goka.View

	// goka takes its partitions away when a view ends, whoever reads them. So the end waits for
	// readers, and those that come later are refused.
	mu    sync.RWMutex
	ended bool

	connections []io.Closer // which goka opens, and leaves open
	// connected ends what the connections wait for, as goka's calls take no context. goka tries again
	// after every error, so a non-retryable one ends it too, and is its cause.
	connected context.Context
	sever     context.CancelCauseFunc
}

// NewView returns a reader of a group's table that has not started; Run, which closes its
// connections, or Close is to be called. A table that does not exist is a [toll.PermanentError].
func NewView(ctx context.Context, cluster kafka.Cluster, group string, log *slog.Logger) (*View,
	error) {
	return newView(ctx, cluster, group, log, 20*time.Millisecond)
}

// NewFollowedView is like [NewView], for a table that is followed for long: it asks the broker
// five times less often, which is a good percent of a core, and takes up to a tenth of a second
// more to begin and to end.
func NewFollowedView(ctx context.Context, cluster kafka.Cluster, group string,
	log *slog.Logger) (*View, error) {
	return newView(ctx, cluster, group, log, 100*time.Millisecond)
}

// newView returns a reader, unless ctx ends before. wait is how long a fetch waits for something
// new; what is new comes at once.
func newView(ctx context.Context, cluster kafka.Cluster, group string, log *slog.Logger,
	wait time.Duration) (*View, error) {
	connected, sever := context.WithCancelCause(context.WithoutCancel(ctx))
	opening := context.AfterFunc(ctx, func() { sever(nil) })
	cluster = cluster.Within(connected)
	if _, err := describeTable(ctx, cluster, group); err != nil {
		sever(nil)
		return nil, err
	}
	consumer := cluster.Config("view")
	// goka waits for a fetch to return when it opens and when it closes
	consumer.Consumer.MaxWaitTime = wait
	tm := goka.NewTopicManagerConfig()
	tm.NoCreate = true
	t := &View{connected: connected, sever: sever}
	view, err := goka.NewView(cluster.Brokers, goka.GroupTable(goka.Group(group)), wire.StateCodec{},
		goka.WithViewLogger(kafka.GokaLogger{Log: log}),
		goka.WithViewHasher(kafka.Hasher),
		goka.WithViewClientID(cluster.ClientID),
		goka.WithViewStorageBuilder(storage.MemoryBuilder()),
		goka.WithViewConsumerSaramaBuilder(func(brokers []string, clientID string) (sarama.Consumer,
			error) {
			c, err := kafka.TapConsumer(goka.SaramaConsumerBuilderWithConfig(consumer), t.judge)(brokers,
				clientID)
			if err == nil {
				t.connections = append(t.connections, c)
			}
			return c, err
		}),
		goka.WithViewTopicManagerBuilder(func(brokers []string) (goka.TopicManager, error) {
			m, err := goka.TopicManagerBuilderWithConfig(cluster.Config("topics"), tm)(brokers)
			if err == nil {
				t.connections = append(t.connections, m)
			}
			return m, err
		}),
		goka.WithViewAutoReconnect(),
	)
	if !opening() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		t.Close()
		return nil, kafka.Explain(fmt.Errorf("open the group table: %w", err))
	}
	t.view = view
	return t, nil
}

// describeTable describes the topic of a group's table.
func describeTable(ctx context.Context, cluster kafka.Cluster, group string) (kafka.Topic, error) {
	info, found, err := cluster.Describe(ctx, kafka.TableTopic(group))
	if err == nil && (!found || info.Partitions == 0) {
		err = toll.Permanent("run: tollstream init; then: tollstream process",
			"the group table, topic %s, does not exist", kafka.TableTopic(group))
	}
	return info, err
}

// Close closes the connections of a table that is not to be run. Some of them goka may have closed
// by itself, which is no failure.
func (t *View) Close() {
	t.sever(nil)
	for _, c := range t.connections {
		_ = c.Close()
	}
	t.connections = nil
}

// judge takes an error of reading the topic.
func (t *View) judge(err error) {
	if err = kafka.ConsumeError(err); toll.IsPermanent(err) {
		t.sever(err)
	}
}

// Run keeps the table up to date until ctx ends, and returns nil then.
func (t *View) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { t.sever(nil) })()
	defer context.AfterFunc(t.connected, func() {
		t.mu.Lock()
		t.ended = true
		t.mu.Unlock()
		cancel()
	})()
	err := t.view.Run(inner)
	t.Close()
	switch refused := context.Cause(t.connected); {
	case ctx.Err() != nil:
		return nil
	case toll.IsPermanent(refused):
		return refused
	case err != nil:
		return kafka.Explain(fmt.Errorf("read the group table: %w", err))
	}
	return nil
}

// Recovered reports whether the table holds all that was in its topic when Run began.
func (t *View) Recovered() bool { return t.view.Recovered() }

// WaitRecovered waits until the table holds all that was in its topic when Run began. It fails once
// Run ends.
func (t *View) WaitRecovered(ctx context.Context) error {
	for {
		switch ended := context.Cause(t.connected); {
		case ended != nil:
			return ended
		case t.Recovered():
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.connected.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// States returns the state of every plaza. The caller owns them.
func (t *View) States() (map[int16]*toll.State, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.ended {
		return nil, errors.New("read the group table: it is not followed any more")
	}
	it, err := t.view.Iterator()
	if err != nil {
		return nil, fmt.Errorf("read the group table: %w", err)
	}
	defer it.Release()
	states := map[int16]*toll.State{}
	for it.Next() {
		plaza, err := strconv.ParseInt(it.Key(), 10, 16)
		if err != nil {
			continue // not ours
		}
		v, err := it.Value()
		if err != nil {
			return nil, fmt.Errorf("read plaza %d of the group table: %w", plaza, err)
		}
		if state, ok := v.(*toll.State); ok {
			states[int16(plaza)] = state
		}
	}
	return states, nil
}

// Scan reads the group table as its topic holds it at one moment. It takes less time than a
// [View], which goka has to set up and which follows the topic.
type Scan struct {
	// Progress has it keep of each state only how far the plaza has come. Set it before Advance.
	Progress bool

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
			p.next, err = t.client.Read(ctx, number, max(p.next, start), end,
				func(r *kgo.Record) { t.take(p, r) })
		}
		var refused *kerr.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &refused) && !refused.Retriable ||
			time.Since(began) > scanPatience || wait.For(ctx, 200*time.Millisecond) != nil {
			return err
		}
	}
}

func (t *Scan) take(p *scannedPartition, r *kgo.Record) {
	if r.Value == nil {
		delete(p.values, string(r.Key))
		return
	}
	v := p.values[string(r.Key)]
	if v == nil {
		v = new([]byte)
		p.values[string(r.Key)] = v
	}
	value := r.Value
	if t.Progress {
		// A state that can't be read stays as it is, for the reader to find out.
		if trimmed, err := wire.TrimState(value); err == nil {
			value = trimmed
		}
	}
	*v = append((*v)[:0], value...) // the record's own memory is that of its whole batch
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
