package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
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
