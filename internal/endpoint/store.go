package endpoint

import (
	"fmt"
	"log/slog"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

// Identity is what a database must serve: the group, the topic with its id, and the timezone.
func (con Connection) Identity(topicID string) sql.Identity {
	return sql.Identity{Group: con.Group, Topic: con.Topic, TopicID: topicID,
		Timezone: con.Location.String()}
}

// OpenStore opens the database, without connecting to it yet. What an operator must know goes to
// the log.
func (con Connection) OpenStore(log *slog.Logger) (*sql.Store, error) {
	return sql.Open(sql.Config{
		DSN:        con.DSN,
		TLS:        con.MySQLTLS,
		Load:       con.Load,
		Decode:     wire.DecodePlazaDeltas,
		Encode:     encodeOutbox,
		DecodeSums: wire.DecodePlazaSums,
		Logf:       func(format string, args ...any) { log.Info(fmt.Sprintf(format, args...)) },
	})
}

func encodeOutbox(deltas []toll.PlazaDelta) []byte { return wire.AppendPlazaDeltas(nil, deltas) }
