package command

import (
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// TestDurationsWithDays reads a duration from the command line, from its variable, and the default.
func TestDurationsWithDays(t *testing.T) {
	const fallback = 90 * time.Minute
	read := func(args ...string) (d time.Duration, set bool) {
		t.Helper()
		c := &cli.Command{Name: "wait", Flags: []cli.Flag{
			&cli.DurationFlag{Name: "for-long", EnvVars: Env("for-long"), Value: fallback},
		}, Action: func(c *cli.Context) error {
			d, set = c.Duration("for-long"), c.IsSet("for-long")
			return nil
		}}
		root := &cli.App{Name: "tollstream", Commands: []*cli.Command{c}}
		line, err := Parse(root, append([]string{"wait"}, args...))
		if err != nil {
			t.Fatal(err)
		}
		if err := root.Run(line.args()); err != nil {
			t.Fatal(err)
		}
		return d, set
	}
	check := func(want time.Duration, wantSet bool, args ...string) {
		t.Helper()
		if got, set := read(args...); got != want || set != wantSet {
			t.Errorf("%v: got %v, set %v; want %v, %v", args, got, set, want, wantSet)
		}
	}
	check(fallback, false)
	check(26*24*time.Hour+8*time.Hour, true, "--for-long", "26d8h")
	check(0, true, "--for-long=0")
	t.Setenv("TOLLSTREAM_FOR_LONG", "2d")
	check(48*time.Hour, true)
	check(time.Second, true, "--for-long", "1s")
}
