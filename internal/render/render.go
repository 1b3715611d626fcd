// Package render writes boards as text for a terminal or a file, and as the JSON of the command
// line. Text that is not ours comes out escaped.
package render
