package main

import (
	"fmt"
	"log/slog"

	"github.com/tollstream/tollstream/codecs/wire"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
)

func (con connection) identity(topicID string) sql.Identity {
	return sql.Identity{Group: con.group, Topic: con.topic, TopicID: topicID,
		Timezone: con.location.String()}
}

func (con connection) openStore(load sql.LoadMode, log *slog.Logger) (*sql.Store, error) {
	return sql.Open(sql.Config{
		DSN:        con.dsn,
		TLS:        con.mysqlTLS,
		Load:       load,
		Decode:     wire.DecodePlazaDeltas,
		Encode:     encodeOutbox,
		DecodeSums: wire.DecodePlazaSums,
		Logf:       func(format string, args ...any) { log.Info(fmt.Sprintf(format, args...)) },
	})
}

func encodeOutbox(deltas []toll.PlazaDelta) []byte { return wire.AppendPlazaDeltas(nil, deltas) }
