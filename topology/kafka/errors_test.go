package kafka

import (
	"errors"
	"fmt"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
)

func TestCoded(t *testing.T) {
	plain := errors.New("plain")
	if err := Coded(plain); err != plain {
		t.Error(err)
	}
	err := Coded(Coded(fmt.Errorf("describe topic toll: %w", kerr.TopicAuthorizationFailed)))
	if !errors.Is(err, sarama.ErrTopicAuthorizationFailed) ||
		!errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Error(err)
	}
	if want := "describe topic toll: " +
		sarama.ErrTopicAuthorizationFailed.Error(); err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
