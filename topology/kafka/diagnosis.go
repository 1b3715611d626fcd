package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
)

// diagnosisTimeout bounds each question of a diagnosis.
const diagnosisTimeout = 3 * time.Second

// unclear reports whether an error is what a broker does that is spoken to in the wrong way: it
// hangs up, at once or after an alert of TLS, which is no answer of Kafka's. kgo has no type for
// that, so an error of no known kind counts too. sarama also keeps to itself that a broker refused
// the mechanism.
func unclear(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, sarama.ErrOutOfBrokers) {
		return true
	}
	var network net.Error
	var refused *kerr.Error
	var code sarama.KError
	known := errors.As(err, &network) || errors.As(err, &refused) || errors.As(err, &code) ||
		errors.Is(err, context.Canceled) || connectHint(err) != ""
	return !known
}

// diagnose asks the brokers what way they want to be spoken to, after they hung up. It returns what
// to do and what is wrong, or "" and the error where it can't tell, as with a broker that is about
// to stop. Nothing secret is sent.
func (c Cluster) diagnose(err error) (hint string, why error) {
	for _, broker := range c.Brokers {
		if hint, why := c.diagnoseBroker(broker); hint != "" {
			return hint, why
		}
	}
	return "", err
}

func (c Cluster) diagnoseBroker(addr string) (hint string, why error) {
	s := c.Security
	if s.TLS == nil && speaksTLS(addr) {
		return "add --kafka-tls, and --kafka-ca where the system does not know the authority",
			errors.New("the broker hangs up: it speaks TLS, and we do not")
	}
	if s.TLS != nil && c.asks(addr, Security{}) == nil {
		return "use its TLS port, or leave the flags for TLS out",
			errors.New("the broker hangs up: it does not speak TLS on this port")
	}
	if s.Mechanism != NoSASL {
		err := c.asks(addr, s)
		return connectHint(err), err
	}
	s.Mechanism, s.User = ScramSHA256, "diagnosis"
	switch err := c.asks(addr, s); {
	case errors.Is(err, errDiagnosed), errors.Is(err, sarama.ErrUnsupportedSASLMechanism):
		return "add --kafka-sasl and --kafka-user, and set TOLLSTREAM_KAFKA_PASSWORD",
			errors.New("the broker hangs up: it asks for a user")
	}
	return "", nil
}

// errDiagnosed ends an authentication before it has begun: the broker has agreed to a mechanism,
// and that is all that was asked.
var errDiagnosed = errors.New("diagnosed")

type diagnosis struct{ sarama.SCRAMClient }

func (diagnosis) Begin(string, string, string) error { return errDiagnosed }

// asks opens a connection to one broker and returns how that went. A user without a password is not
// logged in.
func (c Cluster) asks(addr string, s Security) error {
	c.Security = s
	cfg := c.Config("diagnosis")
	cfg.Net.DialTimeout, cfg.Net.ReadTimeout, cfg.Net.WriteTimeout = diagnosisTimeout,
		diagnosisTimeout, diagnosisTimeout
	if s.Mechanism != NoSASL && s.Password == "" {
		cfg.Net.SASL.Password = "none"
		cfg.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return diagnosis{} }
	}
	b := sarama.NewBroker(addr)
	if err := b.Open(cfg); err != nil {
		return err
	}
	_, err := b.Connected()
	_ = b.Close() // that it is closed already is fine
	return err
}

// speaksTLS reports whether a server answers to TLS, with whatever certificate.
func speaksTLS(addr string) bool {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: diagnosisTimeout}, "tcp", addr, &tls.Config{
		InsecureSkipVerify: true, // nothing is sent or believed
	})
	if err == nil {
		_ = conn.Close()
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" // it refuses us in TLS
}
