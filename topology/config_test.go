package topology

import (
	"log/slog"
	"sync"
)

func testConfig() *Config {
	cfg := DefaultConfig()
	cfg.BatchRows = 7
	cfg.Log = slog.New(slog.DiscardHandler)
	token := uint64(100)
	var mu sync.Mutex
	cfg.NewToken = func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		token++
		return token
	}
	return &cfg
}
