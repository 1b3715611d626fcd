// Package regex stands in for github.com/dolthub/go-icu-regex, which go-mysql-server uses for REGEXP and its relatives.
//
// The original compiles ICU from WebAssembly when the program starts: measured, 0.23 s and 21 MB for every command,
// whether or not it touches the embedded database. Nothing in tollstream's SQL uses a regular expression, so Go's
// package regexp does. It deviates in the dialect (RE2 instead of ICU: no look-around, no back-references), and Comments
// and Literal are not supported.
package regex

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Regex is one regular expression and the text that it is matched against. Positions and occurrences count characters
// from 1.
type Regex interface {
	SetRegexString(ctx context.Context, regexStr string, flags RegexFlags) error
	SetMatchString(ctx context.Context, matchStr string) error
	IndexOf(ctx context.Context, start int, occurrence int, endIndex bool) (int, error)
	Matches(ctx context.Context, start int, occurrence int) (bool, error)
	Replace(ctx context.Context, replacementStr string, position int, occurrence int) (string, error)
	Substring(ctx context.Context, start int, occurrence int) (string, bool, error)
	StringBufferSize() uint32
	Close() error
}

// RegexFlags are the original's values.
type RegexFlags uint32

// The flags that go-mysql-server sets.
const (
	RegexFlags_None             RegexFlags = 0
	RegexFlags_Unix_Lines       RegexFlags = 1
	RegexFlags_Case_Insensitive RegexFlags = 2
	RegexFlags_Multiline        RegexFlags = 8
	RegexFlags_Dot_All          RegexFlags = 32
)

var errNotSet = errors.New("the regular expression is not set")

// SetRegexLeakHandler does nothing: nothing can leak.
func SetRegexLeakHandler(func()) {}

// CreateRegex returns a Regex.
func CreateRegex(uint32) Regex { return new(goRegex) }

type goRegex struct {
	re   *regexp.Regexp
	text string
}

func (r *goRegex) SetRegexString(_ context.Context, pattern string, flags RegexFlags) error {
	prefix := ""
	for _, f := range []struct {
		flag RegexFlags
		name string
	}{{RegexFlags_Case_Insensitive, "i"}, {RegexFlags_Multiline, "m"}, {RegexFlags_Dot_All, "s"}} {
		if flags&f.flag != 0 {
			prefix += f.name
		}
	}
	if prefix != "" {
		pattern = "(?" + prefix + ")" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("the given regular expression is invalid: %w", err)
	}
	r.re = re
	return nil
}

func (r *goRegex) SetMatchString(_ context.Context, text string) error {
	if r.re == nil {
		return errNotSet
	}
	r.text = text
	return nil
}

// find returns the byte bounds of an occurrence at or behind a position, and false where there is none.
func (r *goRegex) find(start, occurrence int) (from, to int, ok bool) {
	begin := r.offset(start)
	found := r.re.FindAllStringIndex(r.text[begin:], max(occurrence, 1))
	if len(found) < max(occurrence, 1) {
		return 0, 0, false
	}
	last := found[len(found)-1]
	return begin + last[0], begin + last[1], true
}

// offset returns the byte offset of a character position.
func (r *goRegex) offset(position int) int {
	n := 1
	for i := range r.text {
		if n >= position {
			return i
		}
		n++
	}
	if position <= 1 {
		return 0
	}
	return len(r.text)
}

func (r *goRegex) IndexOf(_ context.Context, start, occurrence int, endIndex bool) (int, error) {
	if r.re == nil {
		return 0, errNotSet
	}
	from, to, ok := r.find(start, occurrence)
	if !ok {
		return 0, nil
	}
	if endIndex {
		from = to
	}
	return len([]rune(r.text[:from])) + 1, nil
}

func (r *goRegex) Matches(_ context.Context, start, occurrence int) (bool, error) {
	if r.re == nil {
		return false, errNotSet
	}
	_, _, ok := r.find(start, occurrence)
	return ok, nil
}

func (r *goRegex) Replace(_ context.Context, replacement string, position, occurrence int) (string, error) {
	if r.re == nil {
		return "", errNotSet
	}
	begin := r.offset(position)
	head, tail := r.text[:begin], r.text[begin:]
	if occurrence == 0 {
		return head + r.re.ReplaceAllString(tail, replacement), nil
	}
	n := 0
	var out strings.Builder
	at := 0
	for _, m := range r.re.FindAllStringSubmatchIndex(tail, -1) {
		if n++; n != occurrence {
			continue
		}
		out.WriteString(tail[at:m[0]])
		out.Write(r.re.ExpandString(nil, replacement, tail, m))
		at = m[1]
	}
	return head + out.String() + tail[at:], nil
}

func (r *goRegex) Substring(_ context.Context, start, occurrence int) (string, bool, error) {
	if r.re == nil {
		return "", false, errNotSet
	}
	from, to, ok := r.find(start, occurrence)
	return r.text[from:to], ok, nil
}

func (r *goRegex) StringBufferSize() uint32 { return 0 }

func (r *goRegex) Close() error { return nil }
