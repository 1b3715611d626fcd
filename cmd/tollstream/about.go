package main

import (
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/text"
)

func completionCommand() *cli.Command {
	scripts := command.Completions()
	shells := slices.Sorted(maps.Keys(scripts))
	c := &cli.Command{
		Name:  "completion",
		Usage: "prints the script by which a shell completes the command line",
		Description: `The shell then completes commands, flags, their values where these are few words,
			and files.`,
		UsageText: `source <(tollstream completion bash)
			tollstream completion zsh > "${fpath[1]}/_tollstream"
			tollstream completion fish > ~/.config/fish/completions/tollstream.fish`,
		Action: func(*cli.Context) error {
			return hint.Usagef("completion needs a shell: %s", strings.Join(shells, ", "))
		},
	}
	for _, shell := range shells {
		c.Subcommands = append(c.Subcommands, &cli.Command{
			Name: shell, Usage: "prints that of " + shell,
			UsageText: "tollstream completion " + shell,
			Action: func(c *cli.Context) error {
				_, err := fmt.Fprint(c.App.Writer, scripts[shell])
				return err
			},
		})
	}
	return c
}

// completeCommand is what those scripts ask.
func completeCommand() *cli.Command {
	return &cli.Command{
		Name:      "complete",
		Hidden:    true,
		Usage:     "completes the last of some words, for the scripts of completion",
		UsageText: "tollstream complete -- emit --fo",
		ArgsUsage: "-- WORD …",
		Action: func(c *cli.Context) error {
			return command.Complete(c.App.Writer, c.App, c.Args().Slice())
		},
	}
}

func manCommand() *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "prints the manual page of tollstream, or of a command",
		ArgsUsage: "[COMMAND]",
		UsageText: `tollstream man | man -l -
			tollstream man process > tollstream-process.1`,
		Action: func(c *cli.Context) error {
			var path []*cli.Command
			for _, name := range c.Args().Slice() {
				sub := c.App.Command(name)
				if sub == nil || len(path) > 0 {
					return hint.With(hint.Usagef("there is no manual page of %q",
						strings.Join(c.Args().Slice(), " ")), "tollstream man COMMAND")
				}
				path = append(path, sub)
			}
			return command.Man(c.App.Writer, c.App, path)
		},
	}
}

// These are set at build time, by -ldflags '-X main.version=v1.2.3'. What of them is not is taken
// from what Go writes into a build, if it does: not in a worktree of Git's, nor outside of one.
var (
	version    string
	commit     string
	commitTime string // Unix seconds
)

// buildVersion returns the version of this build.
func buildVersion() string {
	v := version
	info, ok := debug.ReadBuildInfo()
	if v == "" && ok {
		v = info.Main.Version
	}
	if v == "" {
		v = "(devel)"
	}
	return v
}

// versionJSON is what version --json prints. Of a build outside of a repository the commit is "".
type versionJSON struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Time     string `json:"time"`     // of the commit, RFC 3339
	Modified bool   `json:"modified"` // whether files differed from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// readCommit reads which commit was built.
func (v *versionJSON) readCommit() {
	if seconds, err := strconv.ParseInt(commitTime, 10, 64); err == nil {
		v.Commit, v.Time = commit, time.Unix(seconds, 0).UTC().Format(time.RFC3339)
		v.Modified = strings.HasSuffix(version, "-dirty")
		return
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "prints the version of tollstream and of Go",
		UsageText: "tollstream version\ntollstream version --json",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print it as JSON, with the commit"}},
		Action: func(c *cli.Context) error {
			v := versionJSON{Version: buildVersion(), Go: runtime.Version(),
				Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if !c.Bool("json") {
				_, err := fmt.Fprintln(c.App.Writer, c.App.Name, v.Version, v.Go, v.Platform)
				return err
			}
			v.readCommit()
			return text.WriteJSON(c.App.Writer, v)
		},
	}
}
