// Package registry reads schemas from a schema registry that speaks Confluent's API.
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/trust"
	"github.com/tollstream/tollstream/toll"
)

// Config says where the registry is, and who we are to it.
type Config struct {
	URLs     []string
	TLS      *tls.Config // nil for the system's authorities
	User     string      // "" for no authentication
	Password trust.Secret
}

const (
	// timeout bounds one request.
	timeout = 5 * time.Second
	// maxSchemas bounds what is remembered; beyond it is asked for again.
	maxSchemas = 1000
	// missingFor is how long an id that the registry does not know is not asked for again.
	missingFor = 10 * time.Second
)

// Registry remembers the schemas of a registry. Several goroutines may use it at once.
type Registry struct {
	client *sr.Client
	now    func() time.Time

	mu      sync.Mutex
	schemas map[uint32]entry
}

type entry struct {
	schema *codecs.Schema
	until  time.Time // zero for as long as there is room: a schema never changes
}

// New returns a registry, to which it does not connect yet.
func New(cfg Config) (*Registry, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg.TLS
	options := []sr.ClientOpt{sr.URLs(cfg.URLs...), sr.UserAgent("tollstream"),
		sr.HTTPClient(&http.Client{Timeout: timeout, Transport: transport})}
	if cfg.User != "" {
		options = append(options, sr.BasicAuth(cfg.User, string(cfg.Password)))
	}
	client, err := sr.NewClient(options...)
	return &Registry{client: client, now: time.Now, schemas: map[uint32]entry{}}, err
}

// Schema returns the schema of an id. One that the registry does not have, or that can't be read,
// makes dead letters. An error is an outage, or permanent where the registry refuses us.
func (r *Registry) Schema(ctx context.Context, id uint32) (*codecs.Schema, error) {
	r.mu.Lock()
	known, ok := r.schemas[id]
	r.mu.Unlock()
	if ok && (known.until.IsZero() || r.now().Before(known.until)) {
		return known.schema, nil
	}
	var until time.Time
	text, err := r.client.SchemaByID(ctx, int(id))
	var refused *sr.ResponseError
	errors.As(err, &refused)
	var schema *codecs.Schema
	if err == nil {
		schema, err = r.read(ctx, text)
		errors.As(err, &refused)
	}
	switch {
	case err == nil:
	case refused != nil && refused.StatusCode == http.StatusNotFound:
		schema, until = codecs.UnreadableSchema("is not in the schema registry"),
			r.now().Add(missingFor)
	case refused != nil && (refused.StatusCode == http.StatusUnauthorized ||
		refused.StatusCode == http.StatusForbidden):
		return nil, toll.Permanent("check --schema-registry-user and its password",
			"the schema registry refuses us: %w", err)
	default:
		err = fmt.Errorf("read schema %d: %w", id, err)
		if hint := trust.Hint(err, "--schema-registry"); hint != "" {
			return nil, toll.Permanent(hint, "%w", err)
		}
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.schemas) >= maxSchemas {
		clear(r.schemas)
	}
	r.schemas[id] = entry{schema, until}
	return schema, nil
}

const (
	// maxText bounds the text of a schema, with all that it imports.
	maxText = 1 << 20
	// maxImports bounds how many files those are.
	maxImports = 100
)

func (r *Registry) read(ctx context.Context, s sr.Schema) (*codecs.Schema, error) {
	switch {
	case len(s.Schema) > maxText:
		return codecs.UnreadableSchema("is longer than 1 MiB"), nil
	case s.Type == sr.TypeJSON:
		return codecs.JSONSchema, nil
	case s.Type == sr.TypeProtobuf:
		return r.readProtobuf(ctx, s)
	case s.Type != sr.TypeAvro:
		return codecs.UnreadableSchema("is of an unknown type"), nil
	case len(s.References) > 0:
		return codecs.UnreadableSchema("refers to other schemas, which is not supported"), nil
	}
	return codecs.AvroSchema(s.Schema), nil
}

// readProtobuf reads a schema with those that it imports, and those that they import.
func (r *Registry) readProtobuf(ctx context.Context, s sr.Schema) (*codecs.Schema, error) {
	imports := map[string]string{}
	size := len(s.Schema)
	for next := s.References; len(next) > 0; next = next[1:] {
		reference := next[0]
		if _, ok := imports[reference.Name]; ok {
			continue
		}
		imported, err := r.client.SchemaByVersion(ctx, reference.Subject, reference.Version)
		if err != nil {
			return nil, fmt.Errorf("its import %s: %w", reference.Name, err)
		}
		size += len(imported.Schema.Schema)
		if size > maxText || len(imports) == maxImports {
			return codecs.UnreadableSchema("imports more than 1 MiB, or more than 100 files"), nil
		}
		imports[reference.Name] = imported.Schema.Schema
		next = append(next, imported.References...)
	}
	return codecs.ProtobufSchema(ctx, s.Schema, imports)
}
