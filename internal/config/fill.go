package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
)

// loaded is the file of a running command, in the application's metadata.
type loaded struct {
	name string
	line *command.Line
	now  map[string]value // of the command's settings, by name
}

const loadedKey = "config"

// Fill completes a command line by the file that it, or the environment, names. explain adds to an
// error of usage where in the file the setting stands.
func Fill(root *cli.App, l *command.Line) (explain func(error) error, err error) {
	explain = func(err error) error { return err }
	name := l.Value(configFlag)
	if name == "" || l.Path[0].Name == Command {
		root.Metadata[loadedKey] = &loaded{"", l, nil}
		return explain, nil
	}
	f, err := Read(root, name)
	if err != nil {
		return explain, first(name, err)
	}
	f.warnOfSecrets(root)
	now := map[string]value{}
	for level := range l.Path {
		path := l.Path[:level+1]
		for _, flag := range settings(path[level]) {
			if v, ok := f.lookup(path, flag); ok && !l.Given(flag) {
				now[flag.Names()[0]] = v
				for _, text := range v.texts {
					l.Set(level, flag.Names()[0], text)
				}
			}
		}
	}
	root.Metadata[loadedKey] = &loaded{name, l, now}
	return func(err error) error {
		if m := flagInError.FindStringSubmatch(err.Error()); m != nil && hint.IsUsage(err) {
			if v, ok := now[m[1]]; ok {
				return fmt.Errorf("%s: %w", v.at, err)
			}
		}
		return err
	}, nil
}

var flagInError = regexp.MustCompile(`^--([a-z-]+)`)

// first returns the first of the problems, and how to see the others.
func first(name string, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if all := joined.Unwrap(); len(all) > 1 {
			return hint.With(all[0], fmt.Sprintf("tollstream config check %s lists all %d problems", name,
				len(all)))
		} else if len(all) == 1 {
			return all[0]
		}
	}
	return err
}

// warnOfSecrets warns of a file with a password that everyone may read.
func (f *File) warnOfSecrets(root *cli.App) {
	info, err := os.Stat(f.Name)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return
	}
	for _, s := range f.Settings() {
		if s.secret() && s.From(f) {
			fmt.Fprintf(root.ErrWriter, "tollstream: %s: %s holds a secret, and everyone may read the "+
				"file: chmod o= %s\n", s.Origin, s.Name(), f.Name)
			return
		}
	}
}

// Change is a setting that differs in the file from what a running command has.
type Change struct {
	Name  string
	Value string // "" where the file sets it no longer
	At    string // where the file sets it
}

// Reload reads the file of a running command again and returns which of the command's settings
// changed since it was read last. Those that flags or variables set don't.
func Reload(c *cli.Context) ([]Change, error) {
	old, ok := c.App.Metadata[loadedKey].(*loaded)
	if !ok || old.name == "" {
		return nil, nil
	}
	f, err := Read(c.App, old.name)
	if err != nil {
		return nil, err
	}
	next := &loaded{old.name, old.line, map[string]value{}}
	var changes []Change
	for level := range old.line.Path {
		path := old.line.Path[:level+1]
		for _, flag := range settings(path[level]) {
			name := flag.Names()[0]
			if old.line.Given(flag) {
				continue
			}
			v, ok := f.lookup(path, flag)
			if ok {
				next.now[name] = v
			}
			if was := old.now[name]; !slices.Equal(was.texts, v.texts) {
				changes = append(changes, Change{name, strings.Join(v.texts, ","), v.at})
			}
		}
	}
	c.App.Metadata[loadedKey] = next
	return changes, nil
}

// Setting is a setting with its value and where that comes from.
type Setting struct {
	Section string // the command, "" for the top of the file
	Flag    cli.DocGenerationFlag
	Texts   []string // none where it is not set and has no default
	Origin  string   // default, a variable, or FILE:LINE:COLUMN
}

// Name returns the setting's key in the file.
func (s *Setting) Name() string { return s.Flag.Names()[0] }

// From reports whether the value comes from the file.
func (s *Setting) From(f *File) bool { return strings.HasPrefix(s.Origin, f.Name+":") }

func (s *Setting) secret() bool {
	return slices.ContainsFunc(s.Texts, func(text string) bool {
		return Hide(text) != text && text != command.Default(s.Flag)
	})
}

// Settings returns the settings of all commands: those at the top, then each command's own. One
// that stands at the top is listed with a command where its section differs.
func (f *File) Settings() []Setting {
	var all []Setting
	for _, flag := range shared(f.root) {
		all = append(all, f.setting(nil, flag))
	}
	var add func(path []*cli.Command)
	add = func(path []*cli.Command) {
		c := path[len(path)-1]
		for _, flag := range settings(c) {
			_, differs := f.sections[sectionName(path)][flag.Names()[0]]
			if !command.Shared(flag) || differs {
				all = append(all, f.setting(path, flag))
			}
		}
		for _, sub := range c.Subcommands {
			add(append(slices.Clone(path), sub))
		}
	}
	for _, c := range f.root.Commands {
		add([]*cli.Command{c})
	}
	return all
}

// OfCommands returns the settings of commands, and those for all.
func OfCommands(all []Setting, names []string) []Setting {
	return slices.DeleteFunc(all, func(s Setting) bool {
		name, _, _ := strings.Cut(s.Section, " ")
		return s.Section != "" && !slices.Contains(names, name)
	})
}

func (f *File) setting(path []*cli.Command, flag cli.DocGenerationFlag) Setting {
	s := Setting{Section: sectionName(path), Flag: flag, Origin: "default"}
	if variable := command.Variable(flag); variable != "" {
		s.Texts, s.Origin = []string{os.Getenv(variable)}, variable
	} else if v, ok := f.lookup(path, flag); ok {
		s.Texts, s.Origin = v.texts, v.at
	} else if text := command.Default(flag); text != "" {
		s.Texts = []string{text}
	}
	return s
}

// Open reads the file that a command line of config names, or the environment; without one it
// returns an empty file.
func Open(root *cli.App, name string) (*File, error) {
	if name == "" {
		return &File{root: root}, nil
	}
	return Read(root, name)
}

// Problems returns the problems of [Read], one by one.
func Problems(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}
