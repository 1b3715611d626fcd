package command

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/toll"
)

// Line is a command line, understood. urfave/cli stops reading flags at the first argument
// and lets unknown commands pass, so we read the line ourselves, in any order, and hand urfave a
// line that it can't misread.
type Line struct {
	Path      []*cli.Command // the command and its subcommands, outermost first
	flags     [][]string     // of each command in path, as --name=value
	arguments []string
	given     map[string]bool // names of the flags on the line
	Help      bool
	HelpAll   bool // with the flags of the connection
	Version   bool
}

// Parse reads the arguments after the program's name.
func Parse(root *cli.App, args []string) (*Line, error) {
	prepare(root)
	line := &Line{given: map[string]bool{}}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			line.arguments = append(line.arguments, args[i+1:]...)
			i = len(args)
		case strings.HasPrefix(arg, "-") && arg != "-":
			used, err := line.addFlag(root, arg, args[i+1:])
			if err != nil {
				return nil, err
			}
			i += used
		default:
			if err := line.addWord(root, arg); err != nil {
				return nil, err
			}
		}
	}
	if len(line.Path) == 0 && !line.Version {
		if len(line.arguments) > 0 {
			return nil, unknownCommand(root.Commands, "", line.arguments[0])
		}
		line.Help = true
	}
	if line.Help || line.Version {
		return line, nil
	}
	return line, line.check()
}

// Given reports whether a flag is on the line, or its variable in the environment.
func (l *Line) Given(f cli.DocGenerationFlag) bool {
	return l.given[f.Names()[0]] || Variable(f) != ""
}

// Variable returns the variable of the environment that sets a flag, "" for none. An empty
// variable, as compose files make them, counts as not set.
func Variable(f cli.DocGenerationFlag) string {
	for _, name := range f.GetEnvVars() {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}

// Value returns the value of a flag on the line, else that of its variable.
func (l *Line) Value(name string) string {
	f, level := l.find(name)
	if f == nil {
		return ""
	}
	for _, arg := range l.flags[level] {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	return os.Getenv(Variable(f))
}

// Set gives a flag of the command at a level of the path a value that comes from elsewhere. It does
// not count as given.
func (l *Line) Set(level int, name, value string) {
	l.flags[level] = append(l.flags[level], "--"+name+"="+value)
}

// args returns the line as urfave/cli reads it without traps: flags before arguments.
func (l *Line) args() []string {
	args := []string{"tollstream"}
	for i, c := range l.Path {
		args = append(args, c.Name)
		args = append(args, l.flags[i]...)
	}
	if len(l.arguments) > 0 {
		args = append(append(args, "--"), l.arguments...)
	}
	return args
}

func (l *Line) command() *cli.Command {
	if len(l.Path) == 0 {
		return nil
	}
	return l.Path[len(l.Path)-1]
}

// name returns the words that name the command: "tollstream emit".
func (l *Line) name() string { return nameOf(l.Path) }

// addWord takes a word that is no flag: a command, a subcommand or an argument.
func (l *Line) addWord(root *cli.App, word string) error {
	c := l.command()
	commands, parent := root.Commands, ""
	if c != nil {
		commands, parent = c.Subcommands, c.Name
	}
	if len(l.arguments) == 0 && len(commands) > 0 {
		if c == nil && word == "help" {
			l.Help = true
			return nil
		}
		for _, sub := range commands {
			if sub.HasName(word) {
				l.Path, l.flags = append(l.Path, sub), append(l.flags, nil)
				return nil
			}
		}
		if c == nil || c.ArgsUsage == "" {
			return unknownCommand(commands, parent, word)
		}
	}
	l.arguments = append(l.arguments, word)
	return nil
}

// addFlag takes a flag and returns how many of the words after it belong to it.
func (l *Line) addFlag(root *cli.App, arg string, rest []string) (used int, err error) {
	name, value, inline := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
	switch {
	case name == "help" || name == "h" || name == "help-all":
		l.Help, l.HelpAll = true, l.HelpAll || name == "help-all"
		return 0, nil
	case name == "version" && len(l.Path) == 0:
		l.Version = true
		return 0, nil
	}
	f, level := l.find(name)
	if f == nil {
		return 0, l.unknownFlag(root, name)
	}
	switch {
	case inline:
	case !f.TakesValue():
		value = "true"
	case len(rest) == 0 || l.isFlag(rest[0]):
		return 0, hint.Usagef("--%s needs a value", name)
	default:
		value, used = rest[0], 1
	}
	if err := CheckValue(f, "--"+name, value); err != nil {
		return 0, err
	}
	if value == "" {
		return 0, hint.Usagef("--%s: the value is empty", name)
	}
	for _, n := range f.Names() {
		l.given[n] = true
	}
	l.flags[level] = append(l.flags[level], "--"+name+"="+value)
	return used, nil
}

// find returns the flag of that name, of the innermost command that has it.
func (l *Line) find(name string) (cli.DocGenerationFlag, int) {
	for level := len(l.Path) - 1; level >= 0; level-- {
		for _, f := range l.Path[level].Flags {
			if d, ok := f.(cli.DocGenerationFlag); ok && slices.Contains(f.Names(), name) {
				return d, level
			}
		}
	}
	return nil, 0
}

// isFlag reports whether a word is one of the command's flags and so can't have been meant as a
// value.
func (l *Line) isFlag(word string) bool {
	name, dashed := strings.CutPrefix(word, "--")
	if !dashed {
		return false
	}
	name, _, _ = strings.Cut(name, "=")
	f, _ := l.find(name)
	return f != nil || name == "help" || name == "help-all"
}

// check looks at what can be judged only when the whole line is known.
func (l *Line) check() error {
	c := l.command()
	if len(l.arguments) > 0 && c.ArgsUsage == "" {
		return hint.With(hint.Usagef("unexpected argument %q", l.arguments[0]), l.name()+" --help")
	}
	if c.Action == nil && len(c.Subcommands) > 0 {
		return hint.With(hint.Usagef("%s needs a subcommand: %s", l.name(),
			strings.Join(commandNames(c.Subcommands), ", ")), l.name()+" --help")
	}
	for level, c := range l.Path {
		for _, f := range c.Flags {
			if err := l.checkSet(level, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSet judges a flag that is not on the line: its variable in the environment, and whether it
// may be missing.
func (l *Line) checkSet(level int, f cli.Flag) error {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok || l.given[f.Names()[0]] {
		return nil
	}
	if name := Variable(d); name != "" {
		return CheckValue(d, name, os.Getenv(name))
	}
	if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() {
		return hint.With(hint.Usagef("--%s is missing", f.Names()[0]), l.name()+" --help")
	}
	return nil
}

// CheckValue names a value that the flag's type can't hold, in words.
func CheckValue(f cli.Flag, source, value string) error {
	switch f := f.(type) {
	case *cli.BoolFlag:
		if _, err := strconv.ParseBool(value); err != nil {
			return hint.Usagef("%s: %q is neither true nor false", source, value)
		}
	case *cli.IntFlag, *cli.Int64Flag:
		if n, err := strconv.ParseInt(value, 10, 64); err != nil || value != strconv.FormatInt(n, 10) {
			return hint.Usagef("%s: %q is not a whole number", source, value)
		}
	case *cli.UintFlag, *cli.Uint64Flag:
		if n, err := strconv.ParseUint(value, 10, 64); err != nil || value != strconv.FormatUint(n, 10) {
			return hint.Usagef("%s: %q is not a whole number of 0 or more", source, value)
		}
	case *cli.Float64Flag:
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return hint.Usagef("%s: %q is not a number", source, value)
		}
	case *cli.GenericFlag:
		if _, err := toll.ParseDuration(value); err != nil && isDuration(f) {
			return hint.Usagef("%s: %q is not a duration such as 500ms, 5m or 1d12h", source, value)
		}
		if words := Choices(f); len(words) > 0 && !slices.Contains(words, strings.ToLower(value)) {
			return hint.Usagef("%s: %q is not one of %s", source, value, strings.Join(words, ", "))
		}
	}
	return nil
}

// asUsageError turns what urfave/cli still finds wrong with a line into our error.
func asUsageError(_ *cli.Context, err error, _ bool) error { return hint.Usagef("%v", err) }

func unknownCommand(commands []*cli.Command, parent, word string) error {
	what, help := "command", "tollstream --help"
	if parent != "" {
		what, help = parent+" command", "tollstream "+parent+" --help"
	}
	return hint.With(hint.Usagef("unknown %s %q", what, word),
		Suggestion(word, commandNames(commands), "", help))
}

func (l *Line) unknownFlag(root *cli.App, name string) error {
	err := hint.Usagef("unknown flag --%s", name)
	if len(l.Path) == 0 {
		for _, c := range root.Commands {
			for _, f := range c.Flags {
				if slices.Contains(f.Names(), name) {
					return hint.With(err, "flags come after the command: tollstream "+c.Name+" --"+name+" …")
				}
			}
		}
		return hint.With(err, "tollstream --help")
	}
	var names []string
	for _, c := range l.Path {
		for _, f := range c.Flags {
			names = append(names, f.Names()...)
		}
	}
	return hint.With(err, Suggestion(name, names, "--", l.name()+" --help"))
}

func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

// Suggestion returns a hint that names what is nearest to a mistyped word, or where to look.
func Suggestion(word string, known []string, prefix, help string) string {
	best, at := 3, ""
	for _, k := range known {
		if len(word) > 3 && strings.HasPrefix(k, word+"-") && at == "" {
			at = k // unless another one is nearer
		}
		if d := smetrics.WagnerFischer(word, k, 1, 1, 1); d < best && d < len(k) {
			best, at = d, k
		}
	}
	if at == "" {
		return help
	}
	return "did you mean " + prefix + at + "?"
}
