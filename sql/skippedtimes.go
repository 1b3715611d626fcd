package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"tollstream/toll"
)

// skippedRanges is of how many ranges of time one query counts rows.
const skippedRanges = 250

// reportSkippedTimes looks for rows whose times the database's clock never shows. Tables of version 3 counted them an hour
// later than those of version 4 do, and a batch's outbox does not say which of its events those were. So they can't be
// moved; a replay counts them again.
func reportSkippedTimes(ctx context.Context, s *Store) (string, error) {
	m, err := readMeta(ctx, s.db)
	if errors.Is(err, dbsql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	loc, err := m.location()
	if err != nil {
		return "", err
	}
	var first, last dbsql.Null[int64]
	if err := s.db.QueryRowContext(ctx, `SELECT MIN(first_minute), MAX(last_minute) FROM toll_batch`).Scan(&first, &last); err != nil {
		return "", err
	}
	if !first.Valid || !last.Valid {
		return "", nil
	}
	// A wrong clock may have said any year.
	const day = 1440
	earliest, latest := time.Date(1840, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	gaps := toll.NewZone(loc).Skipped(toll.Window{
		Start: max(addMinutes(toll.Minute(first.V), -2*day), toll.MinuteAt(earliest.Unix())),
		End:   min(addMinutes(toll.Minute(last.V), 2*day), toll.MinuteAt(latest.Unix())),
	})
	var rows int64
	for len(gaps) > 0 {
		some := gaps[:min(len(gaps), skippedRanges)]
		gaps = gaps[len(some):]
		ranges := make([]string, len(some))
		var args []any
		for i, g := range some {
			ranges[i] = "timestamp >= ? AND timestamp < ?"
			args = append(args, g[0].String(), g[1].String())
		}
		var n int64
		err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+eventTable+` WHERE `+strings.Join(ranges, " OR "), args...).Scan(&n)
		if err != nil {
			return "", err
		}
		rows += n
	}
	if rows == 0 {
		return "", nil
	}
	return fmt.Sprintf("%s stored in livetolldata at times that the clocks of %s skip: windows count them too late, by as much as the clocks were set forward, "+
		"until the topic is replayed with: tollstream reset --yes; until then tollstream verify --deep names the minutes", wereWas(rows, "row"), m.Timezone), nil
}
