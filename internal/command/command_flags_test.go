package command

import "testing"

func TestEnv(t *testing.T) {
	if got := Env("batch-rows"); len(got) != 1 || got[0] != "TOLLSTREAM_BATCH_ROWS" {
		t.Error(got)
	}
}
