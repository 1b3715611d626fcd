package kafka

import (
	"errors"
	"strings"

	"github.com/IBM/sarama"
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
