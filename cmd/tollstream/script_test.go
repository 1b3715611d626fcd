package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) {
	testscript.Main(stopsServers{m}, map[string]func(){"tollstream": main})
}

// TestScript runs testdata/script. Each script has a broker of its own, with a topic toll of one
// partition, where the command looks for it by default.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "toll"))
			if err != nil {
				return err
			}
			env.Defer(c.Close)
			env.Setenv("TOLLSTREAM_BROKERS", strings.Join(c.ListenAddrs(), ","))
			env.Setenv("TOLLSTREAM_EMBEDDED", os.Getenv("TOLLSTREAM_EMBEDDED"))
			env.Setenv("ESCAPE", "\x1b[31mred")
			return nil
		},
		Condition: serverCondition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"records": recordsCommand,
			"emitted": emittedCommand,
			"status":  statusCommand,
			"mysql":   mysqlCommand,
			"servers": serversCommand,
		},
	})
}

// recordsCommand is `records N FILE`: reads the topic toll, which must hold N records, and writes
// them into a file, one a line: key, headers, value.
func recordsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: records N FILE")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(ts.Getenv("TOLLSTREAM_BROKERS"), ",")...),
		kgo.ConsumeTopics("toll"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ts.Check(err)
	defer c.Close()
	var lines []string
	wait := time.Minute
	for {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		fetches := c.PollFetches(ctx)
		cancel()
		for _, r := range fetches.Records() {
			var headers []string
			for _, h := range r.Headers {
				headers = append(headers, h.Key+"="+string(h.Value))
			}
			slices.Sort(headers)
			lines = append(lines, fmt.Sprintf("%s [%s] %s", r.Key, strings.Join(headers, " "), r.Value))
		}
		if len(lines) >= want {
			if wait < time.Second {
				break
			}
			wait = 200 * time.Millisecond // for what should not be there
		} else if fetches.Err() != nil {
			break
		}
	}
	if len(lines) != want {
		ts.Fatalf("the topic holds %d records, want %d", len(lines), want)
	}
	ts.Check(writeFile(ts.MkAbs(args[1]), strings.Join(lines, "\n")+"\n"))
}

// emittedCommand is `emitted`: waits until the topic toll holds a record.
func emittedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: emitted")
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(ts.Getenv("TOLLSTREAM_BROKERS"), ",")...),
		kgo.ConsumeTopics("toll"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ts.Check(err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if c.PollFetches(ctx).NumRecords() == 0 {
		ts.Fatalf("the topic holds no record after a minute")
	}
}

// statusCommand is `status CODE COMMAND…`: runs a command, which must end with that exit status.
func statusCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND [ARGUMENT…]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "exit status 0"
	if err != nil {
		got = err.Error()
	}
	if got != "exit status "+args[0] {
		ts.Fatalf("%s, want %s", got, args[0])
	}
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o644) }
