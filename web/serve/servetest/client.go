// Package servetest has what tests of servers need: a client, and a certificate.
package servetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long anything may take that takes a moment on an idle machine.
const Patience = time.Minute

// Server is a server that [Run] runs.
type Server interface {
	Listen() error
	URL() string
	Run(context.Context) error
}

// Client is a client of a server that runs. It follows no redirects and trusts every certificate.
type Client struct {
	Base string // http://127.0.0.1:PORT
	HTTP *http.Client
	Stop func() error // stops the server and returns what its Run did
	t    testing.TB
}

// Run runs a server until the test ends, or Stop is called, and returns a client of it.
func Run(t testing.TB, s Server) *Client {
	t.Helper()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	c := &Client{t: t, Base: strings.TrimSuffix(s.URL(), "/"),
		HTTP: &http.Client{Transport: transport, Timeout: 2 * Patience,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			}}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c.Stop = sync.OnceValue(func() error {
		cancel()
		err := <-done
		transport.CloseIdleConnections()
		return err
	})
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return c
}

// Response is the response to a request.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Get requests a path, with headers as name, value, name, value.
func (c *Client) Get(path string, headers ...string) Response {
	c.t.Helper()
	return c.Do(http.MethodGet, path, nil, headers...)
}

// Do sends a request.
func (c *Client) Do(method, path string, body io.Reader, headers ...string) Response {
	c.t.Helper()
	req, err := http.NewRequest(method, c.Base+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return Response{resp.StatusCode, resp.Header, all}
}

// Want fails the test if the status is another one.
func (c *Client) Want(status int, r Response) Response {
	c.t.Helper()
	if r.Status != status {
		c.t.Fatalf("status %d, want %d: %s", r.Status, status, r.Body)
	}
	return r
}

// Certificate writes a certificate of 127.0.0.1 and its key and returns their files.
func Certificate(t testing.TB) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}),
			0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}
