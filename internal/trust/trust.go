// Package trust is how a server is trusted and how we prove who we are to it: TLS from PEM files,
// secrets that don't show, and what to do where either side refuses the other.
package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// Hint returns what to do about a non-retryable error of TLS, "" for any other. prefix begins the
// names of the flags that say how the server is trusted: --kafka for --kafka-ca.
func Hint(err error, prefix string) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var verify *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &unknown):
		return "name the authority that signed the server's certificate, with " + prefix + "-ca"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the server's certificate, or that of its authority; or this machine's clock " +
			"is wrong"
	case errors.As(err, &host) && prefix == "--mysql" &&
		len(host.Certificate.DNSNames)+len(host.Certificate.IPAddresses) == 0:
		return "the certificate is for no host, as those that MySQL generates for itself: use " +
			"--mysql-tls verify-ca"
	case errors.As(err, &host):
		return "reach the server by a name that its certificate holds, or name that one with " + prefix +
			"-server-name"
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "the server needs another certificate"
	case errors.As(err, &header):
		return "this port of the server does not speak TLS: use its TLS port, or leave the flags for " +
			"TLS out"
	// an alert of TLS: the server ends the connection
	case errors.As(err, &op) && op.Op == "remote error":
		return "the server refuses us: it wants a certificate that it trusts, with " + prefix +
			"-cert and " + prefix + "-key"
	}
	return ""
}

// Secret is a text that must not be shown. Printed in whatever way, it is dots.
type Secret string

const shown = "•••"

// Format implements fmt.Formatter, for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, shown) }

// MarshalText keeps JSON and structured logs from showing it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(shown), nil }

// maxSecretBytes is far more than any password has.
const maxSecretBytes = 4096

// ReadSecret reads a file that holds a secret and nothing else, less a newline at its end. The
// error does not quote it.
func ReadSecret(file string) (Secret, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(b), "\r\n")
	switch {
	case len(b) > maxSecretBytes:
		return "", fmt.Errorf("%s holds more than %d bytes, which is no password", file, maxSecretBytes)
	case text == "":
		return "", fmt.Errorf("%s is empty", file)
	case strings.ContainsAny(text, "\r\n\x00"):
		return "", errors.New(file + " holds several lines, and a password is one")
	}
	return Secret(text), nil
}

// Files sets which PEM files an encrypted connection is made from. The zero value trusts the
// system's authorities and shows no certificate.
type Files struct {
	// CA is a file of the authorities that may have signed the server's certificate, in place of the
	// system's. Optional.
	CA string
	// Cert and Key are the files of our own certificate, for servers that want one. Both or neither.
	Cert, Key string
	// ServerName is what the server's certificate must be for. "" is the host that the server is
	// reached by.
	ServerName string
}

// maxPEMBytes is more than all authorities of the world take.
const maxPEMBytes = 4 << 20

// Config reads the files. Versions before TLS 1.2 are refused, and so is a server whose certificate
// does not hold.
func (f Files) Config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CA != "" {
		pem, err := readPEM(f.CA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", f.CA)
		}
	}
	if f.Cert != "" {
		cert, err := readPEM(f.Cert)
		if err != nil {
			return nil, err
		}
		key, err := readPEM(f.Key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", f.Cert, f.Key, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// AnyName lets a server's certificate be for any name, or none, as those are that MySQL generates
// for itself. That an authority signed it which cfg trusts is verified as before.
func AnyName(cfg *tls.Config) {
	cfg.InsecureSkipVerify = true // and verified here instead
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		others := x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			others.AddCert(cert)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: cfg.RootCAs,
			Intermediates: others})
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates,
				Err: err}
		}
		return nil
	}
}

func readPEM(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPEMBytes+1))
	if err == nil && len(b) > maxPEMBytes {
		err = fmt.Errorf("%s holds more than %d bytes, which is no PEM file", name, maxPEMBytes)
	}
	return b, err
}
