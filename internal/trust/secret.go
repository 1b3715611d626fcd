package trust

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Secret is a text that must not be shown. Printed in whatever way, it is dots.
type Secret string

const shown = "•••"

// Format implements fmt.Formatter, for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, shown) }

// MarshalText keeps JSON and structured logs from showing it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(shown), nil }

// maxSecretBytes is far more than any password has.
const maxSecretBytes = 4096

// ReadSecret reads a file that holds a secret and nothing else, less a newline at its end. The
// error does not quote it.
func ReadSecret(file string) (Secret, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(b), "\r\n")
	switch {
	case len(b) > maxSecretBytes:
		return "", fmt.Errorf("%s holds more than %d bytes, which is no password", file, maxSecretBytes)
	case text == "":
		return "", fmt.Errorf("%s is empty", file)
	case strings.ContainsAny(text, "\r\n\x00"):
		return "", errors.New(file + " holds several lines, and a password is one")
	}
	return Secret(text), nil
}
