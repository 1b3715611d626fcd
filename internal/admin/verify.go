// Package admin is what an operator does on the servers once: rebuild, reset, prune, accept a
// replaced log, ask whether a process is ready.
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
	"sync"
	"time"

	"github.com/tollstream/tollstream/internal/clocks"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/sql/verify"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka"
	"github.com/tollstream/tollstream/topology/table"
)

// Verify compares the group table and the database while processes may go on to write. Each step
// reads only what the step before makes certain:
//
//  1. what is published by now, from the database
//  2. whether the group has consumed the loop up to its present end; then all of 1 is in the group
//     table's topic
//  3. the group table, up to that topic's present end; most of it was read before, in parallel with
//     1 and 2
//  4. the database in one snapshot, which holds all that 3 has merged
func Verify(ctx context.Context, con endpoint.Connection, store *sql.Store,
	scan *table.Scan, deep bool,
	steps *command.Steps) (*verify.Report, error) {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	table := begin(&running, func() (struct{}, error) { return struct{}{}, scan.Advance(ctx) })
	logs := begin(&running, func() (map[int32]verify.LogCheck, error) {
		return checkLogs(ctx, con, store)
	})
	steps.Begin("reading from MySQL what is published")
	published, err := store.Published(ctx)
	if err != nil {
		return nil, err
	}
	loop := begin(&running, func() (bool, error) {
		if len(published.Next) == 0 {
			return true, nil // there may be no group yet
		}
		return con.Cluster.LoopConsumed(ctx, con.Group)
	})
	progress, err := store.Progress(ctx)
	if err != nil {
		return nil, err
	}
	meta, err := store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	now, passed, err := clocks.Read(ctx, store, clocks.Cursors(progress), meta.Lateness,
		toll.DefaultIdle)
	if err != nil {
		return nil, err
	}
	in := verify.Input{Deep: deep, Passed: passed}
	if in.Windows, in.Zones, err = store.StoredWindows(ctx, con.Location); err != nil {
		return nil, err
	}
	steps.Begin("comparing the topic's log with what is stored")
	if in.Logs, err = logs(); err != nil {
		return nil, err
	}
	steps.Begin("asking Kafka how far the group has come")
	consumed, err := loop()
	if err != nil {
		return nil, err
	}
	if consumed {
		in.Consumed = published
	}
	steps.Begin("reading the group table from Kafka")
	if _, err := table(); err != nil {
		return nil, err
	}
	if err := scan.Advance(ctx); err != nil {
		return nil, err
	}
	if in.States, err = scan.States(); err != nil {
		return nil, err
	}
	steps.Begin("reading and comparing what MySQL holds")
	report, err := store.Verify(ctx, in)
	if err != nil {
		return nil, err
	}
	report.Notes = append(report.Notes, clocks.Warnings(now.Skews())...)
	if !consumed {
		report.Notes = append(report.Notes, fmt.Sprintf(
			"the group has not consumed %s to its end: only then can a lost delta be noticed",
			kafka.LoopTopic(con.Group)))
	}
	return report, nil
}

// begin does something in parallel, as one of those that are running. The returned function waits
// for its result.
func begin[T any](running *sync.WaitGroup, do func() (T, error)) func() (T, error) {
	result := sync.OnceValues(do)
	running.Go(func() { _, _ = result() })
	return result
}

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
