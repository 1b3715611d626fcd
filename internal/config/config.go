// Package config reads the configuration file: YAML, whose keys are the names of flags.
//
// What may stand in the file follows from the commands' flags: each flag that has an environment
// variable is a setting. Those of connections and of the log stand at the top, for all commands;
// all others in the section of their command, which may also differ from the top. A flag overrides
// an environment variable, which overrides the file.
package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"github.com/tollstream/tollstream/codecs"
	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
)

const (
	// configFlag names the file.
	configFlag = "config"
	// plazasKey is the list of plazas that may stand in the file, in place of plazasFlag.
	plazasKey  = "plazas"
	plazasFlag = "plazas-file"

	maxBytes = codecs.MaxPlazasBytes
)

// AddFlag gives --config to each command that has settings.
func AddFlag(commands []*cli.Command) []*cli.Command {
	for _, c := range commands {
		if hasSettings(c) {
			c.Flags = append(c.Flags, Flag())
		}
	}
	return commands
}

// Flag returns the flag --config.
func Flag() cli.Flag {
	return &cli.StringFlag{Name: configFlag, EnvVars: command.Env(configFlag),
		Usage: "YAML `FILE` of settings, which variables and flags override"}
}

func hasSettings(c *cli.Command) bool {
	return len(settings(c)) > 0 || slices.ContainsFunc(c.Subcommands, hasSettings)
}

// settings returns the flags of a command that may stand in a file: those with a variable. What
// makes sense for one call only has none.
func settings(c *cli.Command) []cli.DocGenerationFlag {
	var all []cli.DocGenerationFlag
	for _, f := range c.Flags {
		d, ok := f.(cli.DocGenerationFlag)
		if ok && len(d.GetEnvVars()) > 0 && d.Names()[0] != configFlag {
			all = append(all, d)
		}
	}
	return all
}

// shared returns the settings that stand at the top of the file.
func shared(root *cli.App) []cli.DocGenerationFlag {
	var all []cli.DocGenerationFlag
	for _, category := range []string{command.ConnectionCategory, command.LogCategory} {
		// `up` has only some of them: order them as most commands do.
		for _, c := range slices.Backward(root.Commands) {
			for _, f := range settings(c) {
				if command.Category(f) == category && find(all, f.Names()[0]) == nil {
					all = append(all, f)
				}
			}
		}
	}
	return all
}

func find(flags []cli.DocGenerationFlag, name string) cli.DocGenerationFlag {
	for _, f := range flags {
		if f.Names()[0] == name {
			return f
		}
	}
	return nil
}

// File is a configuration file that was checked.
type File struct {
	Name     string
	sections map[string]map[string]value // by the names of commands, "" for the top
	plazas   *yaml.Node                  // the list, nil for none
	root     *cli.App
	problems []error
}

// value is what the file says of a setting.
type value struct {
	texts []string // one, but for a list
	at    string   // FILE:LINE:COLUMN
}

// Read reads a file and checks it against the flags of all commands. The error is of usage and
// joins all problems, each with its line and column.
func Read(root *cli.App, name string) (*File, error) {
	doc, err := parse(name)
	if err != nil {
		return nil, err
	}
	f := &File{Name: name, sections: map[string]map[string]value{}, root: root}
	if doc != nil {
		f.section(doc, nil)
	}
	if f.plazas != nil {
		f.checkPlazas()
	}
	if len(f.problems) > 0 {
		return nil, errors.Join(f.problems...)
	}
	return f, nil
}

// parse returns the mapping of a file, nil where it is empty.
func parse(name string) (*yaml.Node, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read --config: %w", err)
	}
	defer in.Close()
	decoder := yaml.NewDecoder(io.LimitReader(in, maxBytes))
	var doc, next yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntax(name, err)
	}
	if err := decoder.Decode(&next); err == nil {
		return nil, hint.Usagef("%s: a second document; there is one", place(name, &next))
	} else if !errors.Is(err, io.EOF) {
		return nil, syntax(name, err)
	}
	content := doc.Content[0]
	if content.Tag == "!!null" {
		return nil, nil
	}
	if content.Kind != yaml.MappingNode {
		return nil, hint.Usagef("%s: want settings, such as topic: toll", place(name, content))
	}
	return content, nil
}

// syntax returns an error of the YAML library as one of usage: "yaml: line 3: …".
func syntax(name string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if line, after, ok := strings.Cut(strings.TrimPrefix(text, "line "), ": "); ok &&
		strings.HasPrefix(text, "line ") {
		return hint.Usagef("%s:%s: %s", name, line, after)
	}
	return hint.Usagef("%s: %s", name, text)
}

func place(name string, n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", name, n.Line, n.Column)
}

func (f *File) add(err error) {
	if err != nil {
		f.problems = append(f.problems, err)
	}
}

func (f *File) problem(n *yaml.Node, format string, args ...any) {
	f.add(hint.Usagef("%s: %s", place(f.Name, n), fmt.Sprintf(format, args...)))
}

// section reads the settings of a command, or those at the top where path is empty.
func (f *File) section(n *yaml.Node, path []*cli.Command) {
	flags, commands := shared(f.root), f.root.Commands
	if len(path) > 0 {
		c := path[len(path)-1]
		flags, commands = settings(c), c.Subcommands
	}
	values := map[string]value{}
	f.sections[sectionName(path)] = values
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, content := n.Content[i], n.Content[i+1]
		name := key.Value
		sub := slices.IndexFunc(commands, func(c *cli.Command) bool {
			return c.Name == name && hasSettings(c)
		})
		flag := find(flags, name)
		switch {
		case key.Kind != yaml.ScalarNode:
			f.problem(key, "want the name of a setting")
		case seen[name]:
			f.problem(key, "%s is there twice", name)
		case len(path) == 0 && name == plazasKey:
			f.plazas = content
		case sub >= 0 && content.Kind == yaml.MappingNode:
			f.section(content, append(slices.Clone(path), commands[sub]))
		case sub >= 0 && content.Tag != "!!null":
			f.problem(content, "%s: want the settings of the command %s, indented below it", name, name)
		case sub >= 0: // an empty section
		case flag != nil:
			if texts, err := f.texts(flag, content); err != nil {
				f.add(err)
			} else {
				values[name] = value{texts, place(f.Name, content)}
			}
		default:
			f.unknown(key, path, flags, commands)
		}
		seen[name] = true
	}
}

func sectionName(path []*cli.Command) string {
	names := make([]string, len(path))
	for i, c := range path {
		names[i] = c.Name
	}
	return strings.Join(names, " ")
}

// unknown reports a key that is no setting here, and what was meant.
func (f *File) unknown(key *yaml.Node, path []*cli.Command, flags []cli.DocGenerationFlag,
	commands []*cli.Command) {
	name, of := key.Value, "setting"
	if len(path) > 0 {
		of = "setting of " + sectionName(path)
		for _, flag := range path[len(path)-1].Flags {
			if flag.Names()[0] == name {
				f.problem(key, "%s is for one call, as a flag: tollstream %s --%s", name, sectionName(path),
					name)
				return
			}
		}
	} else {
		for _, c := range commands {
			if find(settings(c), name) != nil {
				f.problem(key, "%s is a setting of a command: it belongs into a section, such as %s", name,
					c.Name)
				return
			}
		}
	}
	known := []string{}
	for _, flag := range flags {
		known = append(known, flag.Names()[0])
	}
	for _, c := range commands {
		if hasSettings(c) {
			known = append(known, c.Name)
		}
	}
	if len(path) == 0 {
		known = append(known, plazasKey)
	}
	help := "tollstream config print lists all"
	if len(path) > 0 && find(shared(f.root), name) != nil {
		help = sectionName(path) + " does not use it"
	}
	f.problem(key, "unknown %s %q; %s", of, name, command.Suggestion(name, known, "", help))
}

// texts returns a value as it would stand on a command line.
func (f *File) texts(flag cli.DocGenerationFlag, n *yaml.Node) ([]string, error) {
	name := flag.Names()[0]
	where := place(f.Name, n) + ": " + name
	nodes := []*yaml.Node{n}
	switch {
	case n.Kind == yaml.SequenceNode && command.IsList(flag):
		nodes = n.Content
	case n.Kind == yaml.AliasNode:
		return nil, hint.Usagef("%s: aliases are not read", where)
	case n.Kind != yaml.ScalarNode:
		return nil, hint.Usagef("%s: want one value", where)
	}
	var texts []string
	for _, n := range nodes {
		switch {
		case n.Kind != yaml.ScalarNode:
			return nil, hint.Usagef("%s: want one value", where)
		case n.Tag == "!!null" || n.Value == "":
			return nil, hint.Usagef("%s: the value is empty", where)
		}
		want := command.TypeOf(flag)
		// Of YAML's types only those count that JSON has too: yes and off are text.
		is := n.Tag == "!!bool" && (n.Value == "true" || n.Value == "false")
		if is != (want == command.Boolean) {
			return nil, hint.Usagef("%s: %q is not %s", where, n.Value, want)
		}
		if n.Tag == "!!str" && (want == command.Whole || want == command.Number) {
			return nil, hint.Usagef("%s: %q is text, want %s", where, n.Value, want)
		}
		if err := command.CheckValue(flag, where, n.Value); err != nil {
			return nil, err
		}
		texts = append(texts, n.Value)
	}
	if _, repeated := flag.(*cli.StringSliceFlag); !repeated {
		texts = []string{strings.Join(texts, ",")}
	}
	return texts, nil
}

// lookup returns what the file says of the setting of a command.
func (f *File) lookup(path []*cli.Command, flag cli.DocGenerationFlag) (value, bool) {
	name := flag.Names()[0]
	if v, ok := f.sections[sectionName(path)][name]; ok {
		return v, true
	}
	if command.Shared(flag) {
		v, ok := f.sections[""][name]
		return v, ok
	}
	if name == plazasFlag && f.plazas != nil {
		return value{[]string{f.Name}, place(f.Name, f.plazas)}, true
	}
	return value{}, false
}

// checkPlazas reports what is wrong with the plazas of the file.
func (f *File) checkPlazas() {
	if !IsYAML(f.Name) {
		f.problem(f.plazas, "a file with plazas must have a name that ends in .yaml or .yml")
	}
	rows, err := plazaRows(f.Name, f.plazas)
	if err != nil {
		f.add(err)
		return
	}
	if _, _, err := codecs.PlazasOf(rows); err != nil {
		for _, err := range Problems(err) {
			f.add(hint.Usagef("%s: plazas: %v", f.Name, err))
		}
	}
}

// IsYAML reports whether a plazas file is YAML, such as a configuration file, by its name.
func IsYAML(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml":
		return true
	}
	return false
}

// Plazas reads the plazas of a YAML file.
func Plazas(name string) ([]codecs.PlazaRow, error) {
	doc, err := parse(name)
	if err != nil {
		return nil, err
	}
	if doc != nil {
		for i := 0; i+1 < len(doc.Content); i += 2 {
			if doc.Content[i].Value == plazasKey {
				return plazaRows(name, doc.Content[i+1])
			}
		}
	}
	return nil, hint.Usagef("%s has no list %s", name, plazasKey)
}

func plazaRows(name string, list *yaml.Node) ([]codecs.PlazaRow, error) {
	const like = "want a list of plazas, such as - {id: 4856, lanes: 6}"
	if list.Kind != yaml.SequenceNode {
		return nil, hint.Usagef("%s: plazas: %s", place(name, list), like)
	}
	rows := []codecs.PlazaRow{}
	for _, n := range list.Content {
		if n.Kind != yaml.MappingNode {
			return nil, hint.Usagef("%s: plazas: %s", place(name, n), like)
		}
		row := codecs.PlazaRow{Line: n.Line, Fields: map[string]string{}}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, field := n.Content[i], n.Content[i+1]
			if _, twice := row.Fields[key.Value]; twice || field.Kind != yaml.ScalarNode {
				return nil, hint.Usagef("%s: plazas: %s: want one value", place(name, field), key.Value)
			}
			if field.Tag != "!!null" {
				row.Fields[key.Value] = field.Value
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Hide returns a value as it may be shown: without the password of a DSN, and of a URL only where
// it leads.
func Hide(text string) string {
	const dots = "•••"
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil {
			return dots
		}
		if u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
			return u.Scheme + "://" + u.Host + "/" + dots
		}
		return text
	}
	at := strings.LastIndexByte(text, '@')
	if colon := strings.IndexByte(text[:max(at, 0)], ':'); colon >= 0 {
		return text[:colon+1] + dots + text[at:]
	}
	return text
}
