package kafka

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
)

// goka and sarama retry after every error, and goka only logs them. So errors pass by a judge,
// which ends what can't go on.

// errorsKept is how many errors may wait for goka, as many as sarama keeps.
const errorsKept = 256

// TapErrors passes errors on, by judge, until their channel is closed.
func TapErrors[E error](from <-chan E, judge func(error)) <-chan E {
	passed := make(chan E, errorsKept)
	go func() {
		defer close(passed)
		for err := range from {
			judge(err)
			select {
			case passed <- err:
			default: // nobody has listened for long
			}
		}
	}()
	return passed
}

// ConsumeError says what could not be read, in one line.
func ConsumeError(err error) error {
	var of *sarama.ConsumerError
	if errors.As(err, &of) {
		err = fmt.Errorf("read partition %d of topic %s: %w", of.Partition, of.Topic, of.Err)
	}
	return Explain(err)
}

// TapConsumer makes consumers whose errors pass by judge before goka sees them.
func TapConsumer(build goka.SaramaConsumerBuilder, judge func(error)) goka.SaramaConsumerBuilder {
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
	return &tappedPartition{p, TapErrors(p.Errors(), c.judge)}, nil
}

type tappedPartition struct {
	sarama.PartitionConsumer
	errors <-chan *sarama.ConsumerError
}

// Errors implements sarama.PartitionConsumer.
func (p *tappedPartition) Errors() <-chan *sarama.ConsumerError { return p.errors }
