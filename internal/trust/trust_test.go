package trust

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretDoesNotShow(t *testing.T) {
	s := Secret("5d1c")
	text, err := json.Marshal(map[string]any{"a": s, "b": &s, "c": struct{ S Secret }{s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		text = fmt.Appendf(text, format, s)
		text = fmt.Appendf(text, format, struct{ S Secret }{s})
	}
	for _, form := range []string{"5d1c", "35643163", fmt.Sprintf("%X", "5d1c")} {
		if strings.Contains(string(text), form) {
			t.Errorf("%s", text)
		}
	}
}

func TestReadSecret(t *testing.T) {
	for content, want := range map[string]string{
		"word":                         "word",
		"word\n":                       "word",
		" a word \r\n":                 " a word ",
		"":                             "error",
		"\n":                           "error",
		"two\nlines":                   "error",
		"a\x00b":                       "error",
		strings.Repeat("x", 4096):      strings.Repeat("x", 4096),
		strings.Repeat("x", 4097):      "error",
		strings.Repeat("x", 5_000_000): "error",
	} {
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		secret, err := ReadSecret(file)
		got := string(secret)
		if err != nil {
			got = "error"
			if strings.Contains(err.Error(), "lines\n") || strings.Contains(err.Error(), "xxxx") {
				t.Errorf("the error shows the secret: %v", err)
			}
		}
		if got != want {
			t.Errorf("%.20q: %.20q, %v", content, got, err)
		}
	}
	if _, err := ReadSecret(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestHint(t *testing.T) {
	verify := func(err error) error {
		return fmt.Errorf("connect: %w", &tls.CertificateVerificationError{Err: err})
	}
	for _, c := range []struct {
		err  error
		want string // "" for no hint
	}{
		{verify(x509.UnknownAuthorityError{}), "--kafka-ca"},
		{verify(x509.CertificateInvalidError{Reason: x509.Expired}), "renew"},
		{verify(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}), "another certificate"},
		{verify(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}), "--kafka-server-name"},
		{verify(errors.New("other")), "another certificate"},
		{tls.RecordHeaderError{Msg: "x"}, "TLS port"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}, "--kafka-cert"},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, ""},
		{errors.New("other"), ""},
		{nil, ""},
	} {
		if got := Hint(c.err, "--kafka"); (got == "") != (c.want == "") ||
			!strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

// MySQL's own certificates name no host: no name would help, another mode does.
func TestHintOfNamelessCertificate(t *testing.T) {
	err := x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}
	if got := Hint(err, "--mysql"); !strings.Contains(got, "--mysql-tls verify-ca") {
		t.Errorf("got %q", got)
	}
	err.Certificate = &x509.Certificate{DNSNames: []string{"other"}}
	if got := Hint(err, "--mysql"); !strings.Contains(got, "--mysql-server-name") {
		t.Errorf("got %q", got)
	}
}

func TestFilesRefusals(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Files{{CA: junk}, {CA: junk + "x"}, {Cert: junk, Key: junk},
		{Cert: junk + "x", Key: junk}} {
		if _, err := f.Config(); err == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
	cfg, err := Files{ServerName: "name"}.Config()
	if err != nil || cfg.ServerName != "name" || cfg.MinVersion != tls.VersionTLS12 ||
		cfg.InsecureSkipVerify {
		t.Errorf("%+v, %v", cfg, err)
	}
}
