package pipeline

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/emit"
	"github.com/tollstream/tollstream/toll"
)

func TestRetryOutage(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	calls := 0
	if err := retryOutage(t.Context(), logger, func() error {
		if calls++; calls < 3 {
			return errors.New("no answer\nat all")
		}
		return nil
	}); err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if got := log.String(); strings.Count(got, "waiting for the servers") != 1 ||
		strings.Count(got, "the servers recovered") != 1 {
		t.Errorf("logged %s", got)
	}

	log.Reset()
	broken := toll.Permanent("repair it", "broken")
	if err := retryOutage(t.Context(), logger, func() error { return broken }); err != broken {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := retryOutage(ctx, logger, func() error {
		cancel()
		return ctx.Err()
	}); err != nil {
		t.Errorf("got %v where the context ended", err)
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", &log)
	}
}

// Plain simulated events pass all plazas alike: then the plazas' capacities mean nothing.
func TestEvenlySpread(t *testing.T) {
	plazas := emit.SamplePlazas()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		even, day := map[int16]int64{}, map[int16]int64{}
		perDay := 0.0
		for i := range plazas {
			perDay += plazas[i].VehiclesPerDay
		}
		for range 100 {
			even[plazas[r.IntN(len(plazas))].ID]++
			x := r.Float64() * perDay
			for i := range plazas {
				if x -= plazas[i].VehiclesPerDay; x < 0 {
					day[plazas[i].ID]++
					break
				}
			}
		}
		if !evenlySpread(plazas, even) || evenlySpread(plazas, day) {
			t.Errorf("seed %d: %v, %v", seed, even, day)
		}
	}
}
