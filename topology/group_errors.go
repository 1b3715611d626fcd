package topology

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"github.com/tollstream/tollstream/toll"
)

// groupErrorsKept is how many errors may wait for goka, as many as sarama keeps.
const groupErrorsKept = 256

// groupErrors is what sarama reports while a group consumes. It goes on trying after all of them,
// and goka only logs them; those that no retry mends end the run.
type groupErrors struct {
	passed chan error // for goka
}

// watchGroupErrors passes a group's errors on until the group is closed.
func (r *run) watchGroupErrors(group sarama.ConsumerGroup) *groupErrors {
	g := &groupErrors{passed: make(chan error, groupErrorsKept)}
	go func() {
		defer close(g.passed)
		for err := range group.Errors() {
			r.judge(err)
			select {
			case g.passed <- err:
			default: // nobody has listened for long
			}
		}
	}()
	return g
}

// consumeError says what could not be read, in one line.
func consumeError(err error) error {
	var of *sarama.ConsumerError
	if errors.As(err, &of) {
		err = fmt.Errorf("read partition %d of topic %s: %w", of.Partition, of.Topic, of.Err)
	}
	return explainKafka(err)
}

func (r *run) judge(err error) {
	err = consumeError(err)
	if toll.IsPermanent(err) {
		r.fail(err)
	}
}

// Errors implements sarama.ConsumerGroup.
func (g *groupConsumer) Errors() <-chan error { return g.errors.passed }

// tapConsumer makes consumers whose errors pass by judge before goka sees them, which tries again
// after every error.
func tapConsumer(build goka.SaramaConsumerBuilder, judge func(error)) goka.SaramaConsumerBuilder {
	return func(brokers []string, clientID string) (sarama.Consumer, error) {
		c, err := build(brokers, clientID)
		if err != nil {
			return nil, err
		}
		return &tappedConsumer{c, judge}, nil
	}
}

type tappedConsumer struct {
	sarama.Consumer
	judge func(error)
}

// ConsumePartition implements sarama.Consumer.
func (c *tappedConsumer) ConsumePartition(topic string, partition int32,
	offset int64) (sarama.PartitionConsumer, error) {
	p, err := c.Consumer.ConsumePartition(topic, partition, offset)
	if err != nil {
		c.judge(&sarama.ConsumerError{Topic: topic, Partition: partition, Err: err})
		return nil, err
	}
	tapped := &tappedPartition{p, make(chan *sarama.ConsumerError, groupErrorsKept)}
	go func() { // until the partition is closed
		defer close(tapped.errors)
		for err := range p.Errors() {
			c.judge(err)
			select {
			case tapped.errors <- err:
			default: // nobody has listened for long
			}
		}
	}()
	return tapped, nil
}

type tappedPartition struct {
	sarama.PartitionConsumer
	errors chan *sarama.ConsumerError
}

// Errors implements sarama.PartitionConsumer.
func (p *tappedPartition) Errors() <-chan *sarama.ConsumerError { return p.errors }
