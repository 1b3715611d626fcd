package closing

import (
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology/ingest"
)

// testConfig configures what closes windows, and the sources that go with it.
type testConfig struct {
	Config
	BatchRows int
	newToken  func() uint64
}

func newTestConfig() *testConfig {
	token := uint64(100)
	return &testConfig{
		Config: Config{Topic: "toll", Zone: toll.NewZone(time.UTC), Lateness: toll.DefaultLateness,
			Idle: toll.DefaultIdle, Log: slog.New(slog.DiscardHandler),
			Backoff: func() backoff.BackOff { return backoff.NewExponentialBackOff() }},
		BatchRows: 7,
		newToken:  func() uint64 { token++; return token },
	}
}

func (c *testConfig) ingest() *ingest.Config {
	return &ingest.Config{Topic: c.Topic, Format: codecs.Auto, Zone: c.Zone, Windows: c.Windows,
		PlazaZones: c.PlazaZones, Lateness: c.Lateness, BatchRows: c.BatchRows, BatchBytes: 8 << 20,
		Log: c.Log, NewToken: c.newToken, Backoff: c.Backoff}
}
