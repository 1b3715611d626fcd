package devstack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var testEngines = []string{engineMariaDB, engineMySQL, engineEmbedded}

// TestEmbeddedTransactions fails without the embedded server's lock: most of the rows go missing.
func TestEmbeddedTransactions(t *testing.T) {
	t.Parallel()
	needDatabase(t, engineEmbedded)
	d := startTestDatabase(t, DatabaseConfig{Engine: engineEmbedded})
	checkTransactions(t, openSQL(t, d.DSN()))
}

func TestEmbeddedProcess(t *testing.T) {
	t.Parallel()
	needDatabase(t, engineEmbedded)
	d := startTestDatabase(t, DatabaseConfig{Engine: engineEmbedded})
	if second, err := StartDatabase(t.Context(),
		DatabaseConfig{Engine: engineEmbedded, Addr: d.Addr()}); err == nil {
		second.Close()
		t.Error("started on a taken port")
	} else if !strings.Contains(err.Error(), "is taken by another program") {
		t.Error(err)
	}
	if !alive(d.Pid()) || d.Persistent() {
		t.Errorf("runs %v, persistent %v", alive(d.Pid()), d.Persistent())
	}
	if err := d.Kill(); !errors.Is(err, errNotExternal) {
		t.Error(err)
	}
	if err := d.Restart(t.Context()); !errors.Is(err, errNotExternal) {
		t.Error(err)
	}
	began := time.Now()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if alive(d.Pid()) {
		t.Error("process is still there after Close")
	}
	if took := time.Since(began); took > embeddedStop/2 {
		t.Errorf("closing took %v", took)
	}
}

// TestEmbeddedMissing wants errors that say what to do where the command does not exist or fails.
func TestEmbeddedMissing(t *testing.T) {
	script := filepath.Join(t.TempDir(), EmbeddedCommand)
	t.Setenv("TOLLSTREAM_EMBEDDED", script)
	start := func() error {
		d, err := StartDatabase(t.Context(), DatabaseConfig{Engine: engineEmbedded})
		if err == nil {
			d.Close()
		}
		return err
	}
	if HasDatabase(engineEmbedded) {
		t.Error("has an embedded database")
	}
	if err := start(); !errors.Is(err, errNoEmbedded) {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"echo no memory >&2; exit 1": "ended: no memory",
		"exit 0":                     "ended: EOF",
	} {
		if err := os.WriteFile(script, []byte("#!/bin/sh\nread settings\n"+text+"\n"),
			0o700); err != nil {
			t.Fatal(err)
		}
		if err := start(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
