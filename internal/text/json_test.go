package text

import (
	"strings"
	"testing"
)

func TestWriteJSON(t *testing.T) {
	var b strings.Builder
	if err := WriteJSON(&b, map[string]any{"a": "<&>"}); err != nil ||
		b.String() != "{\n  \"a\": \"<&>\"\n}\n" {
		t.Errorf("%q %v", b.String(), err)
	}
}
