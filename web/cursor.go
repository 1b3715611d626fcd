package web

import (
	"strconv"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/web/serve"
)

// A cursor names the last element of a page, and what list it is of. To clients it is opaque.

// windowCursor returns the cursor behind a window of a plaza.
func windowCursor(plaza int16, kind string, w *board.Window) string {
	return serve.EncodeCursor("w", strconv.Itoa(int(plaza)), kind,
		strconv.FormatInt(w.Start.Unix(), 10),
		w.Kind)
}

// windowPosition reads a cursor of the same plaza and kind.
func windowPosition(cursor string, plaza int16, kind string) (*board.WindowPosition, error) {
	of, err := serve.DecodeCursor(cursor, 5)
	if err != nil {
		return nil, err
	}
	start, err := strconv.ParseInt(of[3], 10, 64)
	if err != nil || of[0] != "w" || of[1] != strconv.Itoa(int(plaza)) || of[2] != kind {
		return nil, serve.ErrOtherList
	}
	return &board.WindowPosition{Start: time.Unix(start, 0).UTC(), Kind: of[4]}, nil
}

// changeCursor returns the cursor behind a plaza's change of congestion.
func changeCursor(plaza int16, c *board.Change) string {
	return serve.EncodeCursor("c", strconv.Itoa(int(plaza)), strconv.FormatInt(c.Detected.Unix(), 10))
}

// changePosition reads a cursor of the same plaza.
func changePosition(cursor string, plaza int16) (*time.Time, error) {
	of, err := serve.DecodeCursor(cursor, 3)
	if err != nil {
		return nil, err
	}
	detected, err := strconv.ParseInt(of[2], 10, 64)
	if err != nil || of[0] != "c" || of[1] != strconv.Itoa(int(plaza)) {
		return nil, serve.ErrOtherList
	}
	return new(time.Unix(detected, 0).UTC()), nil
}

// letterCursor returns the cursor behind a dead letter.
func letterCursor(d *board.DeadLetter) string {
	return serve.EncodeCursor("d", strconv.FormatInt(int64(d.Partition), 10),
		strconv.FormatInt(d.Offset, 10))
}

func letterPosition(cursor string) (*toll.Origin, error) {
	of, err := serve.DecodeCursor(cursor, 3)
	if err != nil {
		return nil, err
	}
	partition, errPartition := strconv.ParseInt(of[1], 10, 32)
	offset, errOffset := strconv.ParseInt(of[2], 10, 64)
	if of[0] != "d" || errPartition != nil || errOffset != nil {
		return nil, serve.ErrOtherList
	}
	return &toll.Origin{Partition: int32(partition), Offset: offset}, nil
}
