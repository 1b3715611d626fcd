package config

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/command"
)

// Schema returns the JSON Schema of the file, for editors.
func Schema(root *cli.App) map[string]any {
	top := object(shared(root), root.Commands)
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = "settings of tollstream"
	columns := map[string]any{}
	for _, name := range codecs.PlazaColumns() {
		columns[name] = map[string]any{"type": []string{"string", "number", "null"}}
	}
	top["properties"].(map[string]any)[plazasKey] = map[string]any{
		"description": "the plazas, in place of a plazas file",
		"type":        "array",
		"items": map[string]any{"type": "object", "properties": columns, "required": []string{"id"},
			"additionalProperties": false},
	}
	return top
}

// object returns the schema of a section.
func object(flags []cli.DocGenerationFlag, commands []*cli.Command) map[string]any {
	properties := map[string]any{}
	for _, c := range commands {
		if hasSettings(c) {
			section := object(settings(c), c.Subcommands)
			section["description"] = c.Usage
			section["type"] = []string{"object", "null"}
			properties[c.Name] = section
		}
	}
	for _, f := range flags {
		properties[f.Names()[0]] = property(f)
	}
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}

// property returns the schema of a setting.
func property(f cli.DocGenerationFlag) map[string]any {
	p := map[string]any{}
	switch command.TypeOf(f) {
	case command.Boolean:
		p["type"] = "boolean"
	case command.Whole:
		p["type"] = "integer"
	case command.Number:
		p["type"] = "number"
	default: // numbers are text too: keep-batches: 0
		p["type"] = []string{"string", "number"}
	}
	if words := command.Choices(f); words != nil {
		p["enum"] = words
		p["type"] = "string"
	}
	if command.IsList(f) {
		p = map[string]any{"oneOf": []any{p,
			map[string]any{"type": "array", "items": p, "minItems": 1}}}
	}
	p["description"] = strings.ReplaceAll(f.GetUsage(), "`", "")
	if text := command.Default(f); text != "" {
		p["default"] = typed(command.TypeOf(f), text)
	}
	return p
}

// typed returns a default as JSON has it.
func typed(t command.Type, text string) any {
	switch t {
	case command.Boolean:
		return text == "true"
	case command.Whole, command.Number:
		n, _ := strconv.ParseFloat(text, 64)
		return n
	}
	return text
}
