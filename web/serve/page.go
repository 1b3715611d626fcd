package serve

import (
	"encoding/base64"
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// How long a page of a list is.
const (
	defaultLimit = 50
	MaxLimit     = 500
)

// Limit reads how long a page is to be.
func Limit(query url.Values, errs *ParameterErrors) int {
	text := query.Get("limit")
	if text == "" {
		return defaultLimit
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxLimit {
		errs.Add("limit", "want a number from 1 to %d", MaxLimit)
	}
	return n
}

// Errors about cursors.
var (
	errNoCursor  = errors.New("is no cursor; take it as it stands in the page before")
	ErrOtherList = errors.New("is a cursor of another list")
)

// Longer than any cursor.
const maxCursor = 200

// EncodeCursor returns a cursor, which names the last element of a page and what list it is of. To
// clients it is opaque.
func EncodeCursor(parts ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, "|")))
}

// DecodeCursor returns the parts of a cursor, of which there must be so many.
func DecodeCursor(cursor string, parts int) ([]string, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	of := strings.Split(string(text), "|")
	if err != nil || len(cursor) > maxCursor || len(of) != parts {
		return nil, errNoCursor
	}
	return of, nil
}
