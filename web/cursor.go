package web

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tollstream/tollstream/internal/board"
	"github.com/tollstream/tollstream/toll"
)

// A cursor names the last element of a page, and what list it is of. To clients it is opaque.

// windowCursor returns the cursor behind a window of a plaza.
func windowCursor(plaza int16, kind string, w *board.Window) string {
	return encodeCursor("w", strconv.Itoa(int(plaza)), kind, strconv.FormatInt(w.Start.Unix(), 10),
		w.Kind)
}

// windowPosition reads a cursor of the same plaza and kind.
func windowPosition(cursor string, plaza int16, kind string) (*board.WindowPosition, error) {
	of, err := decodeCursor(cursor, 5)
	if err != nil {
		return nil, err
	}
	start, err := strconv.ParseInt(of[3], 10, 64)
	if err != nil || of[0] != "w" || of[1] != strconv.Itoa(int(plaza)) || of[2] != kind {
		return nil, errOtherList
	}
	return &board.WindowPosition{Start: time.Unix(start, 0).UTC(), Kind: of[4]}, nil
}

// changeCursor returns the cursor behind a plaza's change of congestion.
func changeCursor(plaza int16, c *board.Change) string {
	return encodeCursor("c", strconv.Itoa(int(plaza)), strconv.FormatInt(c.Detected.Unix(), 10))
}

// changePosition reads a cursor of the same plaza.
func changePosition(cursor string, plaza int16) (*time.Time, error) {
	of, err := decodeCursor(cursor, 3)
	if err != nil {
		return nil, err
	}
	detected, err := strconv.ParseInt(of[2], 10, 64)
	if err != nil || of[0] != "c" || of[1] != strconv.Itoa(int(plaza)) {
		return nil, errOtherList
	}
	return new(time.Unix(detected, 0).UTC()), nil
}

// letterCursor returns the cursor behind a dead letter.
func letterCursor(d *board.DeadLetter) string {
	return encodeCursor("d", strconv.FormatInt(int64(d.Partition), 10),
		strconv.FormatInt(d.Offset, 10))
}

func letterPosition(cursor string) (*toll.Origin, error) {
	of, err := decodeCursor(cursor, 3)
	if err != nil {
		return nil, err
	}
	partition, errPartition := strconv.ParseInt(of[1], 10, 32)
	offset, errOffset := strconv.ParseInt(of[2], 10, 64)
	if of[0] != "d" || errPartition != nil || errOffset != nil {
		return nil, errOtherList
	}
	return &toll.Origin{Partition: int32(partition), Offset: offset}, nil
}

var (
	errNoCursor  = fmt.Errorf("is no cursor; take it as it stands in the page before")
	errOtherList = fmt.Errorf("is a cursor of another list")
)

// Longer than any cursor.
const maxCursor = 200

func encodeCursor(parts ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, "|")))
}

func decodeCursor(cursor string, parts int) ([]string, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	of := strings.Split(string(text), "|")
	if err != nil || len(cursor) > maxCursor || len(of) != parts {
		return nil, errNoCursor
	}
	return of, nil
}
