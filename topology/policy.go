package topology

import (
	"context"
	"slices"
	"time"

	"github.com/tollstream/tollstream/toll"
)

// policyEvery is how often the settings of the topic of events are looked at while it is consumed.
const policyEvery = 30 * time.Second

// watchPolicy ends the run when the topic of events is altered so that Kafka compacts it.
//
// A warning would be overlooked, and an end is not. It leaves time to alter the topic back: Kafka
// compacts no segment that it still writes to, which is one of up to a GiB or a week.
func (r *run) watchPolicy(ctx context.Context) {
	ticker := time.NewTicker(policyEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		warnings, err := r.brokers.CheckPolicy(ctx, r.cfg.Topic, r.cfg.MinRetention)
		switch {
		case ctx.Err() != nil:
			return
		case toll.IsPermanent(err):
			r.fail(err)
		case err == nil:
			r.policy.report(r.cfg, warnings)
		}
	}
}

// policyLog logs what is to be said of the topic's settings, each time that it changes.
type policyLog struct{ reported []string }

func (p *policyLog) report(cfg *Config, warnings []string) {
	if !slices.Equal(warnings, p.reported) {
		for _, w := range warnings {
			cfg.Log.Warn(w)
		}
		p.reported = warnings
	}
}
