package main

import (
	"strings"
	"testing"
	"time"

	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/pipeline"
	"github.com/tollstream/tollstream/sql/retention"
	"github.com/tollstream/tollstream/toll"
)

func TestRetentionSettings(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--keep-batches 5m", "--keep-batches is 5m, want at least 10m, or 0 to keep all"},
		{"--keep-minutes 1d", "--keep-minutes is 1d, want at least 4d, or 0 to keep all"},
		{"--keep-windows 30d", "--keep-windows is 30d, want at least 60d, or 0 to keep all"},
		{"--keep-dead-letters 1d", "--keep-dead-letters is 1d, want at least 30d, or 0 to keep all"},
		{"--keep-windows soon", `--keep-windows: "soon" is not a time such as 90d, 48h or 0`},
	} {
		var out, stderr strings.Builder
		code := run(t.Context(), append([]string{"tollstream", "process"}, strings.Fields(c.args)...),
			strings.NewReader(""), &out, &stderr)
		if code != 2 || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: %d, %s", c.args, code, stderr.String())
		}
	}
	if maintenance.DefaultRetention().Minutes != toll.MinKeptMinutes ||
		retention.KeepWindows(&pipeline.DefaultWindows().Kinds[0],
			maintenance.DefaultRetention().Windows) != 40*24*time.Hour {
		t.Error("the help differs")
	}
}
