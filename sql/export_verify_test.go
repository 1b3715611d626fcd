package sql

import (
	"context"

	"github.com/tollstream/tollstream/toll"
)

// StartAndStopScan starts a deep scan, waits for its first groups and stops it.
func StartAndStopScan(ctx context.Context, rows reader, zone *toll.Zone) {
	scan := &rowScan{zone: zone, deep: true, many: true}
	stop := scan.start(ctx, rows)
	<-scan.groups
	stop()
}

// Group is what livetolldata holds of a plaza in a minute.
type Group struct {
	Plaza  int
	Minute toll.Minute
	Timed  bool
	rowCount
}

func groupOf(each func(Group) error) func(*rowGroup) error {
	return func(g *rowGroup) error { return each(Group{g.plaza, g.minute, g.timed, g.rowCount}) }
}

// ReadGroups reads groups as the server makes them.
func ReadGroups(ctx context.Context, q reader, zone *toll.Zone, from, to int, each func(Group) error) error {
	return readGroups(ctx, q, zone, from, to, groupOf(each))
}

// TallyRows adds rows up by itself.
func TallyRows(ctx context.Context, q reader, zone *toll.Zone, each func(Group) error) error {
	return tallyRows(ctx, q, zone, groupOf(each))
}
