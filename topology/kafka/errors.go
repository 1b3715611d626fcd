package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/tollstream/tollstream/toll"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Coded makes of an error of the protocol, as kgo has it, one that is sarama's too, and reads like
// it.
func Coded(err error) error {
	var refused *kerr.Error
	var known sarama.KError
	if !errors.As(err, &refused) || errors.As(err, &known) {
		return err
	}
	return &codedError{err, refused}
}

type codedError struct {
	err     error
	refused *kerr.Error
}

func (e *codedError) code() sarama.KError { return sarama.KError(e.refused.Code) }

// Error implements error.
func (e *codedError) Error() string {
	return strings.Replace(e.err.Error(), e.refused.Error(), e.code().Error(), 1)
}

// Unwrap returns the same error of both libraries.
func (e *codedError) Unwrap() []error { return []error{e.err, e.code()} }

// Explain turns a non-retryable error of Kafka into a [toll.PermanentError] that says what to do,
// and leaves others as they are.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	err = Coded(err)
	if toll.IsPermanent(err) {
		return err
	}
	is := func(targets ...sarama.KError) bool {
		return slices.ContainsFunc(targets, func(t sarama.KError) bool {
			// goka joins some errors as text
			return errors.Is(err, t) || strings.Contains(err.Error(), t.Error())
		})
	}
	switch {
	case is(sarama.ErrTopicAuthorizationFailed, sarama.ErrGroupAuthorizationFailed,
		sarama.ErrClusterAuthorizationFailed,
		sarama.ErrTransactionalIDAuthorizationFailed):
		if strings.Contains(err.Error(), "\n") { // a list of goka's
			err = errors.New(Brief(err))
		}
		return &toll.PermanentError{Err: err,
			Hint: "grant the Kafka user what docs/security.md lists for this command"}
	case is(sarama.ErrSASLAuthenticationFailed):
		return &toll.PermanentError{Err: err, Hint: connectHint(sarama.ErrSASLAuthenticationFailed)}
	case is(sarama.ErrFencedInstancedId):
		return &toll.PermanentError{Err: fmt.Errorf(
			"another process took the place of this one in the group: %w", err),
			Hint: "give each process its own --instance"}
	case is(sarama.ErrInvalidSessionTimeout):
		return &toll.PermanentError{Err: err,
			Hint: "choose --session-timeout between the broker's group.min.session.timeout.ms (6 s by " +
				"default) and group.max.session.timeout.ms"}
	case is(sarama.ErrInvalidTimestamp): // a clock that is set right mends it
		return fmt.Errorf(
			"the time of our messages is refused by Kafka: this machine's clock says %s, which the "+
				"broker's is behind by more than "+
				// goka's list has several lines
				"message.timestamp.after.max.ms allows (an hour by default); set the one that is wrong: %s",
			time.Now().UTC().Format("2006-01-02 15:04 MST"), Brief(err))
	case is(sarama.ErrInvalidReplicationFactor):
		return &toll.PermanentError{Err: err,
			Hint: "the cluster has fewer brokers than --replication asks for"}
	}
	return err
}
