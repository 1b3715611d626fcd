package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/toll"
)

// TestDiagnosis speaks to brokers in the wrong way. Each hangs up, and what is wrong is told all
// the same. TLS to a plain port is left to a real Kafka: the broker used here waits for the rest of
// it.
func TestDiagnosis(t *testing.T) {
	cert, roots := selfSigned(t)
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	client := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	user := Security{Mechanism: ScramSHA256, User: "toll", Password: "5d1c"}
	for _, c := range []struct {
		name     string
		broker   []kfake.Opt
		security Security
		want     []string // nil for a connection
	}{
		{"plain", nil, Security{}, nil},
		{"TLS", []kfake.Opt{kfake.TLS(server)}, Security{TLS: client}, nil},
		{"plain to TLS", []kfake.Opt{kfake.TLS(server)}, Security{},
			[]string{"speaks TLS", "--kafka-tls"}},
		{"SCRAM", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "toll", "5d1c")}, user,
			nil},
		{"no user", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "toll", "5d1c")},
			Security{}, []string{"asks for a user", "--kafka-sasl"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			broker, err := kfake.NewCluster(append(c.broker, kfake.NumBrokers(1))...)
			if err != nil {
				t.Fatal(err)
			}
			defer broker.Close()
			cluster := Cluster{Brokers: broker.ListenAddrs(), ClientID: "test", Security: c.security}
			admin, err := cluster.Connect(t.Context())
			if err == nil {
				defer admin.Close()
			}
			var permanent *toll.PermanentError
			if (err == nil) != (c.want == nil) || err != nil && !errors.As(err, &permanent) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			for _, text := range c.want {
				if told := err.Error() + "\n" + permanent.Hint; !strings.Contains(told, text) ||
					strings.Contains(told, "5d1c") {
					t.Errorf("%s; want %q", told, text)
				}
			}
			if c.want != nil {
				return
			}
			// The client that looks at batches gets in by the same settings.
			k, err := kgo.NewClient(cluster.Options("test")...)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := k.Ping(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// selfSigned returns a certificate for this machine, and who has to trust it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

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
