package codecs

import "testing"

func TestParseFormat(t *testing.T) {
	for name, want := range map[string]Format{
		"": Auto, "auto": Auto, "csv": CSV, "json": JSON, "protobuf": Protobuf, "CSV": CSV,
		"Protobuf": Protobuf,
	} {
		if got, err := ParseFormat(name); err != nil || got != want {
			t.Errorf("ParseFormat(%q) = %v, %v; want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"xml", " csv", "csv\x00"} {
		if got, err := ParseFormat(name); err == nil {
			t.Errorf("ParseFormat(%q) = %v, want an error", name, got)
		}
	}
}

func TestFormatNames(t *testing.T) {
	for f := Auto; f <= Protobuf; f++ {
		if got, err := ParseFormat(f.String()); err != nil || got != f {
			t.Errorf("ParseFormat(%q) = %v, %v", f.String(), got, err)
		}
		if got := formatOf(f.ContentType()); got != f {
			t.Errorf("formatOf(%q) = %v", f.ContentType(), got)
		}
	}
	if s := Format(9).String(); s != "Format(9)" {
		t.Errorf("unknown format is named %q", s)
	}
	if s := Format(9).ContentType(); s != "" {
		t.Errorf("unknown format has the content type %q", s)
	}
}

func TestFormatOfContentType(t *testing.T) {
	for contentType, want := range map[string]Format{
		"text/csv":                              CSV,
		"Text/CSV; header=absent":               CSV,
		"application/json;charset=utf-8":        JSON,
		" application/json ":                    JSON,
		"application/x-protobuf":                Protobuf,
		"application/protobuf; messageType=x.Y": Protobuf,
		"application/octet-stream":              Auto,
		";":                                     Auto,
		"json":                                  Auto,
	} {
		if got := formatOf(contentType); got != want {
			t.Errorf("formatOf(%q) = %v, want %v", contentType, got, want)
		}
	}
}
