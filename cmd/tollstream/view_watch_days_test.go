package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/board/live"
	"github.com/tollstream/tollstream/internal/simulate"
)

var daysFile = flag.String("days", "",
	"write the board of simulated days to `FILE`, for the picture of internal/tui")

// TestSimulatedDays runs the pipeline on three Tuesdays, and a fourth up to 08:23 on which one
// plaza is blocked. It takes a minute.
func TestSimulatedDays(t *testing.T) {
	t.Parallel()
	if *daysFile == "" {
		t.Skip("it only serves to make the picture of internal/tui")
	}
	p := newPipeline(t, time.UTC)
	plazas, err := codecs.ReadPlazas(strings.NewReader(simulate.SamplePlazas))
	if err != nil {
		t.Fatal(err)
	}
	p.windows.Plazas = plazas
	for _, day := range []string{"2026-03-03", "2026-03-10", "2026-03-17", "2026-03-24"} {
		args := []string{"emit", "--profile", "day", "--speed", "max", "--start", day, "--days", "1"}
		if day == "2026-03-24" {
			args = append(args[:len(args)-1], "0.3496", "--incident", "4003,+7h30m,50m,blockage,0.3",
				"--incident", "4010,+7h10m,70m,surge,3")
		}
		var out bytes.Buffer
		if code, stderr := p.command(t.Context(), "", &out, args...); code != 0 {
			t.Fatal(stderr)
		}
		p.process()
	}
	r, err := live.Open(t.Context(), live.Config{Connection: p.Connection(),
		Log: slog.New(slog.DiscardHandler), Silent: true, Repeated: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	r.Start()
	source := live.NewSource(nil)
	source.Open(r)
	b, err := source.Board(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := source.Plaza(t.Context(), 4007)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"Board": b, "Detail": d})
	if err == nil {
		err = os.WriteFile(*daysFile, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
