package endpoint

import (
	"strings"
	"testing"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/corpus"
)

// FuzzMySQLSetting: the refusal of a DSN shows nothing of it, and its password is found whole.
func FuzzMySQLSetting(f *testing.F) {
	corpus.Add(f)
	for _, dsn := range []string{"u:QQSECRETQQ@tcp(h:1)/d", "QQSECRETQQ", "u:QQSECRETQQ@tcp(h:1/d",
		"u:QQSECRETQQ@/", "u:p@tcp(h:1)/d?tls=QQSECRETQQ", "u:p@QQSECRETQQ/d",
		"u:p@tcp(h:1)/d?x=%QQSECRETQQ"} {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		if from, to, ok := passwordIn(dsn); ok && (from > to || to >= len(dsn) || dsn[to] != '@') {
			t.Fatalf("the password of %q is [%d, %d)", dsn, from, to)
		}
		clearAccess(t)
		t.Setenv("TOLLSTREAM_MYSQL", strings.ReplaceAll(dsn, "\x00", ""))
		_, err := connect(t)
		if err == nil || !strings.Contains(dsn, "QQSECRETQQ") {
			return
		}
		var out strings.Builder
		command.Report(&out, err)
		if strings.Contains(out.String(), "QQSECRETQQ") {
			t.Fatalf("%q is refused with %q", dsn, out.String())
		}
	})
}
