package trust

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
)

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
