package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/sql/results"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/toll/traffic"
	"github.com/tollstream/tollstream/topology/closing"
)

// simulatedEvery is how often it is looked at which plazas there are, until that decides.
const simulatedEvery = 200 * time.Millisecond

// simulated are results that take the plazas of the simulator from its built-in file, once these
// are all the plazas that there are. Each of them must have sent something and no other one may
// have: a network of the same dozen numbers that is not simulated does not exist, whereas one of
// these numbers may well be somebody's plaza, whose capacity must not be made up.
type simulated struct {
	closing.Results // of what is configured: nothing, before it is decided
	p               *pipeline
	cfg             results.Config
	cursors         func(context.Context) ([]toll.Cursor, error)
	looked          time.Time
	decided         bool
}

// Store looks at the plazas before it stores. One goroutine uses it, as [results.Writer] asks for.
func (s *simulated) Store(ctx context.Context, closings []toll.Closing,
	published []traffic.NoticeRef) ([]traffic.Notice, bool, error) {
	if !s.decided && time.Since(s.looked) >= simulatedEvery {
		if err := s.look(ctx); err != nil {
			return nil, false, err
		}
	}
	return s.Results.Store(ctx, closings, published)
}

// look decides where it can.
func (s *simulated) look(ctx context.Context) error {
	cursors, err := s.cursors(ctx)
	if err != nil {
		return err
	}
	wanted, seen := map[int16]toll.Plaza{}, map[int16]bool{}
	for _, p := range s.p.cfg.Windows.Simulated {
		wanted[p.ID] = p
	}
	for i := range cursors {
		chain, err := wire.DecodeChain(cursors[i].Chain)
		if err != nil {
			return fmt.Errorf("read the plazas of partition %d: %w", cursors[i].Partition, err)
		}
		for plaza := range chain {
			if _, ok := wanted[plaza]; !ok {
				s.decided = true
				return nil
			}
			seen[plaza] = true
		}
	}
	if len(seen) < len(wanted) {
		if len(seen) > 0 {
			s.looked = time.Now()
		}
		return nil
	}
	s.decided = true
	log := s.p.cfg.Topology.Log
	// Another process may have been first, or have a file.
	configured, err := s.p.cfg.Store.ConfiguredPlazas(ctx)
	if err != nil {
		return err
	}
	if len(configured) == 0 {
		if err := s.p.cfg.Store.SetPlazas(ctx, s.p.cfg.Windows.Simulated); err != nil {
			log.Warn("the plazas are the simulated ones and stay without names and capacities", "err", err)
			return nil
		}
		log.Info("the plazas are the simulated ones: took names, lanes and capacities from the " +
			"built-in file; --plazas-file chooses another")
		configured = s.p.cfg.Windows.Simulated
	}
	for _, p := range configured {
		s.cfg.Plazas[p.ID] = p
	}
	s.Results = s.p.cfg.Store.Results(s.p.cfg.Topology.TopicID, s.cfg)
	return nil
}
