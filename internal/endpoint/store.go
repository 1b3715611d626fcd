package endpoint

import (
	"fmt"
	"log/slog"

	"github.com/tollstream/tollstream/sql/ingest"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

func (con Connection) Identity(topicID string) sql.Identity {
	return sql.Identity{Group: con.Group, Topic: con.Topic, TopicID: topicID,
		Timezone: con.Location.String()}
}

func (con Connection) OpenStore(load ingest.LoadMode, log *slog.Logger) (*sql.Store, error) {
	return sql.Open(sql.Config{
		DSN:        con.DSN,
		TLS:        con.MySQLTLS,
		Load:       load,
		Decode:     wire.DecodePlazaDeltas,
		Encode:     encodeOutbox,
		DecodeSums: wire.DecodePlazaSums,
		Logf:       func(format string, args ...any) { log.Info(fmt.Sprintf(format, args...)) },
	})
}

func encodeOutbox(deltas []toll.PlazaDelta) []byte { return wire.AppendPlazaDeltas(nil, deltas) }
