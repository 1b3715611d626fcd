//go:build noembedded

package devstack

import (
	"strings"
	"testing"
)

var testEngines = []string{engineMariaDB, engineMySQL}

func TestNoEmbedded(t *testing.T) {
	_, err := StartDatabase(t.Context(), DatabaseConfig{Engine: "embedded"})
	if err == nil || !strings.Contains(err.Error(), "noembedded") {
		t.Errorf("%v, want an error that names the build tag", err)
	}
}
