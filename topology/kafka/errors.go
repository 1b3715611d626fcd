package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tollstream/tollstream/toll"
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
	case is(sarama.ErrInvalidTimestamp): // passes once the clock is right
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
// to do and what is wrong, or "" and the error where the cause stays unknown, as with a broker that
// is about to stop. Nothing secret is sent.
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

// GokaLogger routes goka's log to ours, at debug level: what matters of it reaches us as errors.
type GokaLogger struct{ Log *slog.Logger }

// Print implements goka's logger.
func (l GokaLogger) Print(args ...any) { l.debug(fmt.Sprint(args...)) }

// Println implements goka's logger.
func (l GokaLogger) Println(args ...any) { l.debug(fmt.Sprintln(args...)) }

// Printf implements goka's logger.
func (l GokaLogger) Printf(format string, args ...any) {
	if l.Log.Enabled(context.Background(), slog.LevelDebug) {
		l.debug(fmt.Sprintf(format, args...))
	}
}
func (l GokaLogger) debug(text string) { l.Log.Debug(strings.TrimSpace(text), "library", "goka") }

// Brief returns the first thing that an error says, on one line. goka and the library that it joins
// errors with put lists, stacks and their own headings around it.
func Brief(err error) string {
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimLeft(strings.TrimSpace(line), "* ")
		for {
			head, tail, found := strings.Cut(line, "occurred:")
			if !found || !strings.HasSuffix(strings.TrimSpace(head), "error") &&
				!strings.HasSuffix(strings.TrimSpace(head), "errors") {
				break
			}
			line = strings.TrimLeft(strings.TrimSpace(tail), "* ")
		}
		// goka's way to pass on an error of a callback
		line = strings.ReplaceAll(line, "panic in callback: ", "")
		if line != "" {
			return line
		}
	}
	return "unknown error"
}
