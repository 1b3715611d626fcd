package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/hint"
)

// healthLimit is how long an answer may take: it is ready at once, or something is wrong.
const healthLimit = 5 * time.Second

// Ready asks a running process or view whether it is ready: nil means that it is. Of an HTTPS
// server it trusts the certificate in certFile, where there is one.
func Ready(ctx context.Context, target *url.URL, certFile string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if certFile != "" && target.Scheme == "https" {
		var err error
		if client, err = trusting(certFile); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v", healthLimit)
		}
		return fmt.Errorf("ask %s: %w", target.Redacted(), err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("ask %s: %w", target.Redacted(), err)
	}
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	var problem struct{ Detail string }
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		problem.Detail = answer.Status
	}
	return fmt.Errorf("not ready: %s", strings.TrimSpace(problem.Detail))
}

// trusting returns a client that trusts a server which shows the first certificate of a file. It is
// asked by this machine's own name, which such a certificate need not have.
func trusting(file string) (*http.Client, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --tls-cert: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, hint.Usagef("--tls-cert: %s holds no certificate", file)
	}
	known, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read --tls-cert: %w", err)
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, // of names and issuers, for the comparison below
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) == 0 || !s.PeerCertificates[0].Equal(known) {
					return errors.New("the server shows another certificate than that of --tls-cert")
				}
				return nil
			},
		}}}, nil
}
