package ingest

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/kafka/fetch"
)

// AddAll adds records to the open batch, as bundles of them are added.
func (p *Partition) AddAll(records fetch.Records) { p.addBundle(bundle{records: records}) }

// Steps drives a partition step by step, without its goroutines, for simulations.
type Steps struct {
	p       *Partition
	taken   *builder
	pending []Stored // to be published
}

// Steps returns the steps of a partition that has not started, with what is left to publish.
func (p *Partition) Steps(left ...toll.StoredBatch) (*Steps, error) {
	p.ctx, p.grace = context.Background(), context.Background()
	p.open, p.spare = newBuilder(p.Store.NewRows(), p.cfg), newBuilder(p.Store.NewRows(), p.cfg)
	p.open.begin(&p.clock)
	steps := &Steps{p: p}
	for i := range left {
		b, err := p.decode(&left[i])
		if err != nil {
			return nil, err
		}
		steps.pending = append(steps.pending, b)
	}
	return steps, nil
}

// Full reports whether the open batch has room for no further record.
func (s *Steps) Full() bool { return s.p.isFull(s.p.open) }

// Empty reports whether the open batch has no record.
func (s *Steps) Empty() bool { return s.p.open.empty() }

// Add adds a record to the open batch.
func (s *Steps) Add(r *kgo.Record) {
	s.p.AddAll(fetch.RecordsOf(r))
}

// Take closes the open batch and reports whether it holds anything; records that are added from
// then on belong to the next one.
func (s *Steps) Take() bool {
	s.taken = s.p.take()
	return s.taken != nil
}

// Store stores the batch that was taken.
func (s *Steps) Store() error {
	stored, err := s.p.storeBatch(s.taken)
	if err == nil {
		s.pending = append(s.pending, stored)
		s.p.giveBack(s.taken)
	}
	return err
}

// Pending returns how many batches are stored and not published.
func (s *Steps) Pending() int { return len(s.pending) }

// Publish publishes the next n batches together.
func (s *Steps) Publish(n int) error {
	next := s.pending[:n]
	s.pending = s.pending[n:]
	return s.p.publishBatches(next)
}

// MarkAcked marks as published what was acknowledged.
func (s *Steps) MarkAcked() error { return s.p.markAcked() }
