// Package tollpb is the Protobuf schema of an event, for producers in any language, and the Go code
// generated from it.
//
// Package codecs reads and writes the same bytes by hand; its tests hold the two against each
// other. To generate it again, have protoc (Debian's protobuf-compiler) on PATH.
package tollpb

//go:generate sh -c "go build -o protoc-gen-go.tmp google.golang.org/protobuf/cmd/protoc-gen-go && protoc --plugin=protoc-gen-go=protoc-gen-go.tmp --go_out=. --go_opt=paths=source_relative toll.proto; status=$?; rm -f protoc-gen-go.tmp; exit $status"
