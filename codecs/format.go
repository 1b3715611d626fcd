package codecs

import (
	"fmt"
	"strings"
)

// Format is how an event is written.
type Format uint8

// The formats of events. Auto is for reading only: CSV or JSON, distinguished by the first byte.
const (
	Auto Format = iota
	CSV
	JSON
	Protobuf
)

// ContentTypeHeader is the header of a Kafka record that names the format of its value, see
// [Format.ContentType].
const ContentTypeHeader = "content-type"

var formatNames = [...]string{Auto: "auto", CSV: "csv", JSON: "json", Protobuf: "protobuf"}

var contentTypes = [...]string{CSV: "text/csv", JSON: "application/json",
	Protobuf: "application/x-protobuf"}

// ParseFormat returns the format of a name as [Format.String] gives it, in upper or lower case;
// Auto for an empty one.
func ParseFormat(s string) (Format, error) {
	if s == "" {
		return Auto, nil
	}
	for f, name := range formatNames {
		if strings.EqualFold(s, name) {
			return Format(f), nil
		}
	}
	return Auto, fmt.Errorf("format %s is not one of auto, csv, json, protobuf", clip(s))
}

func (f Format) String() string {
	if int(f) >= len(formatNames) {
		return fmt.Sprintf("Format(%d)", uint8(f))
	}
	return formatNames[f]
}

// ContentType returns the media type of the format, empty for Auto.
func (f Format) ContentType() string {
	if int(f) >= len(contentTypes) {
		return ""
	}
	return contentTypes[f]
}

// formatOf returns the format that a content type names; Auto if it names none.
func formatOf(contentType string) Format {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	for f := CSV; f <= Protobuf; f++ {
		if strings.EqualFold(media, contentTypes[f]) {
			return f
		}
	}
	if strings.EqualFold(media, "application/protobuf") {
		return Protobuf
	}
	return Auto
}
