package kafka

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	kscram "github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/xdg-go/scram"

	"github.com/tollstream/tollstream/internal/trust"
	"github.com/tollstream/tollstream/toll"
)

// Security says how brokers are trusted, and who we are to them. The zero value is a plain
// connection without a name.
type Security struct {
	// TLS is the configuration of encrypted connections, nil for plain ones. Where it names no server,
	// each broker's certificate must be for the host that the broker is reached by.
	TLS *tls.Config
	// Mechanism of the authentication, None for none.
	Mechanism Mechanism
	User      string
	Password  trust.Secret
}

// Mechanism is a way to prove who one is, by SASL.
type Mechanism string

// The mechanisms. SCRAM never sends the password itself, and the broker has to prove that it knows
// it too.
const (
	NoSASL      Mechanism = ""
	Plain       Mechanism = "plain"
	ScramSHA256 Mechanism = "scram-sha-256"
	ScramSHA512 Mechanism = "scram-sha-512"
)

// ParseMechanism reads plain, scram-sha-256 or scram-sha-512, in any case. Nothing is NoSASL.
func ParseMechanism(s string) (Mechanism, error) {
	switch m := Mechanism(strings.ToLower(s)); m {
	case NoSASL, Plain, ScramSHA256, ScramSHA512:
		return m, nil
	}
	return NoSASL, fmt.Errorf("%q is none of plain, scram-sha-256, scram-sha-512", s)
}

// apply sets up the network side of a client's configuration.
func (s *Security) apply(cfg *sarama.Config) {
	if s.TLS != nil {
		cfg.Net.TLS.Enable = true
		cfg.Net.TLS.Config = s.TLS.Clone()
	}
	if s.Mechanism == NoSASL {
		return
	}
	sasl := &cfg.Net.SASL
	sasl.Enable, sasl.Handshake, sasl.Version = true, true, sarama.SASLHandshakeV1
	sasl.User, sasl.Password = s.User, string(s.Password)
	switch s.Mechanism {
	case Plain:
		sasl.Mechanism = sarama.SASLTypePlaintext
	case ScramSHA256:
		sasl.Mechanism = sarama.SASLTypeSCRAMSHA256
		sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient {
			return &scramClient{hash: sha256.New}
		}
	case ScramSHA512:
		sasl.Mechanism = sarama.SASLTypeSCRAMSHA512
		sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient {
			return &scramClient{hash: sha512.New}
		}
	}
}

// options are the same for a franz-go client.
func (s *Security) options(dial DialFunc) []kgo.Opt {
	options := []kgo.Opt{kgo.Dialer(dial)}
	if s.TLS != nil {
		options[0] = kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			cfg := s.TLS.Clone()
			if cfg.ServerName == "" {
				cfg.ServerName, _, _ = net.SplitHostPort(addr)
			}
			encrypted := tls.Client(conn, cfg)
			if err := encrypted.HandshakeContext(ctx); err != nil {
				_ = conn.Close()
				return nil, err
			}
			return encrypted, nil
		})
	}
	user, password := s.User, string(s.Password)
	switch s.Mechanism {
	case Plain:
		options = append(options, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	case ScramSHA256:
		options = append(options, kgo.SASL(kscram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case ScramSHA512:
		options = append(options, kgo.SASL(kscram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	}
	return options
}

// scramClient is one conversation of RFC 5802.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

// scramIterations is the least that the RFC asks for: a broker that asks for fewer would make the
// password cheap to guess for whoever listens.
const scramIterations = 4096

// Begin implements sarama.SCRAMClient.
func (c *scramClient) Begin(user, password, authzID string) error {
	client, err := c.hash.NewClient(user, password, authzID)
	if err != nil {
		// err quotes them
		return errors.New("the Kafka user or password holds characters that SCRAM does not allow")
	}
	c.conversation = client.WithMinIterations(scramIterations).NewConversation()
	return nil
}

// Step implements sarama.SCRAMClient.
func (c *scramClient) Step(challenge string) (string, error) {
	return c.conversation.Step(challenge)
}

// Done implements sarama.SCRAMClient.
func (c *scramClient) Done() bool { return c.conversation.Done() }

// explainConnect says of a failure to connect where to, and makes a [toll.PermanentError] of one
// that is non-retryable: certificates and names that either side does not accept.
//
// With several brokers sarama joins what each of them said. As long as one of them was merely away,
// trying again may help.
func (c Cluster) explainConnect(err error) error {
	if err == nil {
		return nil
	}
	why, hint := err, ""
	for _, cause := range causes(err) {
		if unclear(cause) {
			hint, why = c.diagnose(cause)
		} else {
			why, hint = cause, connectHint(cause)
		}
		if hint == "" {
			why = err
			break
		}
	}
	err = fmt.Errorf("connect to Kafka at %s: %w", strings.Join(c.Brokers, ","), why)
	if hint == "" {
		return Explain(err)
	}
	return &toll.PermanentError{Err: err, Hint: hint}
}

// connectHint returns what to do about a refusal of TLS or SASL, "" where it is none.
func connectHint(err error) string {
	switch {
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		return "check --kafka-user, the password, and that the broker has this user for the mechanism " +
			"in --kafka-sasl"
	case errors.Is(err, sarama.ErrUnsupportedSASLMechanism):
		return "choose a mechanism that the broker offers: plain, scram-sha-256 or scram-sha-512 in " +
			"--kafka-sasl"
	case errors.Is(err, sarama.ErrIllegalSASLState):
		return "this port of the broker asks for no user: use its SASL port, or leave --kafka-sasl out"
	}
	return trust.Hint(err, "--kafka")
}

// causes returns what each broker said where sarama reached none: of one that it says nothing
// about, that.
func causes(err error) []error {
	if !errors.Is(err, sarama.ErrOutOfBrokers) {
		return []error{err}
	}
	for e := errors.Unwrap(err); e != nil; e = errors.Unwrap(e) {
		if joined, ok := e.(interface{ Unwrap() []error }); ok {
			return slices.Clone(joined.Unwrap())
		}
	}
	return []error{sarama.ErrOutOfBrokers}
}
