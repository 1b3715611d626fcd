package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/monitor"
)

// lagEvery is how often Kafka is asked how much there is to do. A consumer knows the end of a
// partition from its fetches, but fetches nothing while what it has can't be stored, which is when
// the lag matters.
const lagEvery = 5 * time.Second

// watchLag measures the lag of the partitions that this process has, until ctx ends.
func (r *run) watchLag(ctx context.Context) {
	logged := false
	open := kafka.NewOpenTransactions()
	long := kafka.NewTransactionLog(r.cfg.Log)
	for range wait.Every(ctx, lagEvery) {
		r.stats.CheckRejects() // which notices that it has fallen
		err := r.measureLag(ctx, open, long)
		if err != nil && !logged && ctx.Err() == nil {
			r.cfg.Log.Debug("measure the lag", "error", err)
		}
		logged = err != nil
	}
}

func (r *run) measureLag(ctx context.Context, transactions *kafka.OpenTransactions,
	long *kafka.TransactionLog) error {
	owned := r.stats.Owned()
	if len(owned) == 0 {
		return nil
	}
	loop := kafka.LoopTopic(r.cfg.Group)
	// goka marks a delta once the changelog of its plaza is acknowledged.
	merged, err := r.brokers.Committed(ctx, r.cfg.Group, loop, owned...)
	if err != nil {
		return err
	}
	ends, err := r.brokers.Offsets(ctx, r.cfg.Topic, kafka.Newest, owned...)
	if err != nil {
		return err
	}
	oldest, err := r.brokers.Offsets(ctx, loop, kafka.Oldest, owned...)
	if err != nil {
		return err
	}
	loopEnds, err := r.brokers.Offsets(ctx, loop, kafka.Newest, owned...)
	if err != nil {
		return err
	}
	behind := slices.DeleteFunc(slices.Clone(owned), func(p int32) bool {
		return !r.stats.Behind(p, ends[p])
	})
	stable, err := r.brokers.Offsets(ctx, r.cfg.Topic, kafka.Stable, behind...)
	if err != nil {
		return err
	}
	for _, partition := range owned {
		end := ends[partition]
		readable, found := stable[partition]
		if !found {
			readable = end
		}
		open, _ := transactions.Look(partition, readable, end)
		long.Note(partition, open, end, transactions.Now())
		next := max(oldest[partition], merged[partition].Offset)
		r.stats.Measured(partition, end, max(0, loopEnds[partition]-next), open)
	}
	return nil
}

// policyEvery is how often the settings of the topic of events are looked at while it is consumed.
const policyEvery = 30 * time.Second

// watchPolicy ends the run when the topic of events is altered so that Kafka compacts it.
//
// A warning would be overlooked, and an end is not. It leaves time to alter the topic back: Kafka
// compacts no segment that it still writes to, which is one of up to a GiB or a week.
func (r *run) watchPolicy(ctx context.Context) {
	for range wait.Every(ctx, policyEvery) {
		warnings, err := r.brokers.CheckPolicy(ctx, r.cfg.Topic, r.cfg.MinRetention)
		switch {
		case ctx.Err() != nil:
			return
		case toll.IsPermanent(err):
			r.fail(err)
		case err == nil:
			r.policy.report(r.cfg, warnings)
		}
	}
}

// policyLog logs what is to be said of the topic's settings, each time that it changes.
type policyLog struct{ reported []string }

func (p *policyLog) report(cfg *Config, warnings []string) {
	if !slices.Equal(warnings, p.reported) {
		for _, w := range warnings {
			cfg.Log.Warn(w)
		}
		p.reported = warnings
	}
}

// topicWatch is how often the topic of events is looked at while it is consumed.
const topicWatch = 3 * time.Second

// watchTopic ends the run when the topic of events is another one than at its start. sarama goes on
// in a topic that was deleted and recreated as if nothing had happened, in the middle of other
// records.
func (r *run) watchTopic(ctx context.Context) {
	for range wait.Every(ctx, topicWatch) {
		info, found, err := r.describeTopic(ctx)
		if ctx.Err() != nil {
			return
		}
		r.stats.Reached(err)
		if err == nil {
			r.kafka.Up(monitor.AllPartitions)
		}
		switch {
		case err != nil:
			r.kafka.Down(monitor.AllPartitions, err)
		case !found:
			r.fail(fmt.Errorf("topic %s is gone", r.cfg.Topic))
		case info.Partitions != len(r.partitions.slots):
			r.fail(fmt.Errorf("topic %s has %d partitions now, and had %d", r.cfg.Topic, info.Partitions,
				len(r.partitions.slots)))
		default:
			if err := r.cfg.checkTopicID(info); err != nil {
				r.fail(err)
			}
		}
	}
}

// kafkaPatience is how long Kafka may take to say what it knows of a topic before that is logged
// as an outage.
const kafkaPatience = 5 * time.Second

// describeTopic returns what the cluster says of the topic of events. A broker that is stalled
// does not answer for long.
func (r *run) describeTopic(ctx context.Context) (kafka.Topic, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, kafkaPatience)
	defer cancel()
	info, found, err := r.brokers.Topic(ctx, r.cfg.Topic)
	err = kafka.Explain(err)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer for %v", kafkaPatience)
	}
	return info, found, err
}
