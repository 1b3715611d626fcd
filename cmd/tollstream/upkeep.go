package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tollstream/tollstream/internal/hint"
	"github.com/tollstream/tollstream/internal/maintenance"
	"github.com/tollstream/tollstream/internal/text"
	"github.com/tollstream/tollstream/sql"
	"github.com/tollstream/tollstream/toll"
	"github.com/tollstream/tollstream/topology"
)

// upkeepSettings say how long what is derived from the events is kept in the database. 0 is for
// ever.
type upkeepSettings struct {
	batches, minutes     time.Duration
	windows, deadLetters time.Duration
	every                time.Duration // how often the process looks for something to do
}

const day = 24 * time.Hour

// Defaults and least values of upkeep.
const (
	defaultKeepBatches = 2 * time.Hour
	minKeepBatches     = 10 * time.Minute
	defaultKeepMinutes = toll.MinKeptMinutes
	defaultKeepWindows = 400 * day
	defaultKeepLetters = 400 * day
	minKeepLetters     = 30 * day
)

// keptBytes is how many bytes of a partition's outboxes are kept as they are, whatever their age.
const keptBytes = 64 << 20

func defaultUpkeepSettings() upkeepSettings {
	return upkeepSettings{batches: defaultKeepBatches, minutes: defaultKeepMinutes,
		windows: defaultKeepWindows, deadLetters: defaultKeepLetters, every: upkeepEvery}
}

// upkeepFlags returns the flags that [upkeepSettingsFrom] reads.
func upkeepFlags() []cli.Flag {
	const category = "Retention"
	flag := func(name string, value time.Duration, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, EnvVars: env(name), Value: keepText(value), Category: category,
			Usage: usage + ", 0 for ever"}
	}
	return []cli.Flag{
		flag("keep-batches", defaultKeepBatches,
			"`TIME` that a batch is kept in toll_batch as it is; older ones are added up"),
		flag("keep-minutes", defaultKeepMinutes,
			"`TIME` of events for which the batches keep minutes, so that windows can be counted again"),
		flag("keep-windows", defaultKeepWindows,
			"`TIME` that windows of a quarter of an hour and more are kept, shorter ones a tenth of it, days ten times as long"),
		flag("keep-dead-letters", defaultKeepLetters, "`TIME` that dead letters are kept"),
		&cli.DurationFlag{Name: "maintenance-every", EnvVars: env("maintenance-every"),
			Value: upkeepEvery, Category: category,
			Usage: "`TIME` between rounds of maintenance: each compacts batches, every 60th deletes what is old"},
	}
}

func upkeepSettingsFrom(c *cli.Context) (upkeepSettings, error) {
	var s upkeepSettings
	for _, f := range []struct {
		name     string
		fallback time.Duration
		least    time.Duration
		into     *time.Duration
	}{
		{"keep-batches", defaultKeepBatches, minKeepBatches, &s.batches},
		{"keep-minutes", defaultKeepMinutes, toll.MinKeptMinutes, &s.minutes},
		{"keep-windows", defaultKeepWindows, sql.MinKeepWindows, &s.windows},
		{"keep-dead-letters", defaultKeepLetters, minKeepLetters, &s.deadLetters},
	} {
		d, err := parseKeep(setting(c, f.name, keepText(f.fallback)))
		if err != nil {
			return s, hint.Usagef("--%s: %v", f.name, err)
		}
		if d != 0 && d < f.least {
			return s, hint.Usagef("--%s is %s, want at least %s, or 0 for ever", f.name, keepText(d),
				keepText(f.least))
		}
		*f.into = d
	}
	if s.every = c.Duration("maintenance-every"); s.every <= 0 {
		return s, hint.Usagef("--maintenance-every is %v, want more than 0", s.every)
	}
	return s, nil
}

// parseKeep reads a duration such as 90d or 48h, or 0.
func parseKeep(text string) (time.Duration, error) {
	const most = 100_000 * day // room for what is added to it
	d, err := toll.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		return 0, fmt.Errorf("%q is no time such as 90d, 48h or 0", text)
	}
	return d, nil
}

// keepText writes a time as parseKeep reads it.
func keepText(d time.Duration) string {
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String() // 1h30m0s, 10m0s, 2h0m0s, 0s
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

// upkeep keeps the tables of a database from growing for ever, beside a processor: one process of a
// group does, the one that has the topic's first partition. Should two take themselves for it for a
// moment, nothing comes of it: each step is a small transaction that finds out whether it may.
type upkeep struct {
	con       connection
	settings  upkeepSettings
	kinds     []toll.WindowKind
	clocks    *clockReader
	store     *sql.Store
	writer    *sql.Writer
	compactor *sql.Compactor
	processor *topology.Processor
	stats     *maintenance.Stats
	log       *slog.Logger

	told   string // why nothing can be added up, or what failed
	skewed string // which clocks were wrong the last time, see clocksKey
}

// How often rows are packed, and after how many rounds batches are added up at the latest, and what
// is old is deleted. Packing is what bounds the rows: a partition may make fifty a second.
const (
	upkeepEvery  = time.Minute
	foldEvery    = 10
	retireEvery  = 60
	upkeepReadIn = time.Minute // bounds the reading of the group table
)

// foldRounds returns after how many rounds batches are added up that are kept for a time: after a
// tenth of it, so that no more is kept than a tenth too much. Each time the group table is read
// whole, so it is not done more often than need be.
func foldRounds(keep time.Duration) int {
	return int(min(max(keep/10/upkeepEvery, 1), foldEvery))
}

// run works until ctx ends.
func (u *upkeep) run(ctx context.Context) {
	ticker := time.NewTicker(cmp.Or(u.settings.every, upkeepEvery))
	defer ticker.Stop()
	marks := topology.NewWatermarkReader(u.con.cluster, u.con.topic)
	defer marks.Close()
	fold := foldRounds(u.settings.batches)
	for round := 1; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if _, first := u.processor.Stats().Read().ByPartition[0]; !first {
			u.stats.SetSkews(nil) // another process looks at the clocks
			round = 1
			continue
		}
		if err := u.round(ctx, marks, round%fold == 0, round%retireEvery == 0); err != nil &&
			ctx.Err() == nil {
			u.trouble(err)
		}
		round++
	}
}

// trouble tells of a failure. An outage is told by others; what no repetition mends is told once.
func (u *upkeep) trouble(err error) {
	var permanent *toll.PermanentError
	if errors.As(err, &permanent) {
		u.tell("old rows can't be compacted or deleted", topology.Brief(err), "hint", permanent.Hint)
		return
	}
	u.log.Debug("compact or delete old rows", "error", err)
}

// tell warns once of the same.
func (u *upkeep) tell(what, why string, more ...any) {
	if u.told != why {
		u.told = why
		u.log.Warn(what, append([]any{"reason", why}, more...)...)
	}
}

// round packs batches, adds old ones up and deletes what is old, the latter two where it is their
// turn. What fails is in the way of what needs it, and of nothing else.
func (u *upkeep) round(ctx context.Context, marks *topology.WatermarkReader, fold,
	retire bool) error {
	var mark toll.Watermark
	var states map[int16]*toll.State
	var clocks toll.Clocks
	var blocked string
	cursors, packing := u.writer.Cursors(ctx)
	if packing == nil {
		clocks, packing = u.readClocks(ctx, cursors)
	}
	reading := packing
	if packing == nil && (fold || retire) {
		mark, reading = await(ctx, func() (toll.Watermark, error) {
			return marks.Read(ctx, cursors, u.clocks.lateness, u.clocks.idle)
		})
		clocks.Event = eventTime(mark)
	}
	adding, retiring := reading, reading
	if adding == nil && fold && mark.Known && u.settings.batches > 0 {
		states, adding = u.readStates(ctx)
	}
	if packing == nil && u.settings.batches > 0 {
		blocked, packing = u.compact(ctx, cursors, states, clocks)
		adding = cmp.Or(adding, packing)
	}
	if retiring == nil && retire && mark.Known {
		retiring = u.retire(ctx, clocks)
	}
	u.ran(ctx, maintenance.Join, packing, "")
	if fold {
		u.ran(ctx, maintenance.Rollup, adding, blocked)
	}
	if retire {
		u.ran(ctx, maintenance.Expire, retiring, "")
	}
	return cmp.Or(packing, adding, retiring)
}

// ran counts a step that failed, or was blocked, or neither. The end of the process is no failure.
func (u *upkeep) ran(ctx context.Context, step maintenance.Step, err error, blocked string) {
	outcome := maintenance.Done
	switch {
	case err != nil && ctx.Err() != nil:
		return
	case err != nil:
		outcome = maintenance.Failed
	case blocked != "":
		outcome = maintenance.Blocked
	}
	u.stats.Ran(step, outcome, time.Now())
}

// readClocks reads the clocks, and warns where others are wrong than the last time.
func (u *upkeep) readClocks(ctx context.Context, cursors []toll.Cursor) (toll.Clocks, error) {
	clocks, err := u.clocks.read(ctx, cursors)
	if err != nil {
		return clocks, err
	}
	skews := clocks.Skews()
	u.stats.SetSkews(skews)
	if key := clocksKey(skews); key != u.skewed {
		u.skewed = key
		if key == "" {
			u.log.Info("the clocks agree again")
		} else {
			u.log.Warn(
				"clocks disagree by more than an hour; what is old is deleted by the earliest of them",
				"reason", strings.Join(clockWarnings(skews), "; "))
		}
	}
	return clocks, nil
}

func (u *upkeep) readStates(ctx context.Context) (map[int16]*toll.State, error) {
	ctx, cancel := context.WithTimeout(ctx, upkeepReadIn)
	defer cancel()
	return await(ctx, func() (map[int16]*toll.State, error) {
		return topology.ReadTable(ctx, u.con.cluster, u.con.group)
	})
}

// compact packs the batches of all partitions, and adds old ones up where there are states. It
// returns why not all that is due was added up, empty where all was.
func (u *upkeep) compact(ctx context.Context, cursors []toll.Cursor, states map[int16]*toll.State,
	clocks toll.Clocks) (blocked string, err error) {
	o := sql.CompactOptions{
		States: states, Before: noMinutes, Now: clocks.Wall(), Keep: u.settings.batches,
		KeepBytes: keptBytes,
	}
	if now, known := clocks.Now(); known && states != nil && u.settings.minutes > 0 {
		o.Before = toll.FoldHorizon(states, toll.MinuteAt(now.Unix()), u.settings.minutes)
	}
	var sum sql.Compacted
	for _, c := range cursors {
		done, err := u.compactor.Compact(ctx, c.Partition, o)
		u.stats.Compacted(done)
		if err != nil {
			return "", err
		}
		sum.Before += done.Before
		sum.After += done.After
		sum.Blocked = cmp.Or(done.Blocked, sum.Blocked)
	}
	switch {
	case sum.Blocked != "":
		u.tell("old batches wait to be added up", sum.Blocked)
	case states != nil:
		u.told = ""
	}
	if sum.Before > 0 {
		u.log.Debug("compacted batches", "rows", text.Number(sum.Before), "into", text.Number(sum.After))
	}
	return sum.Blocked, nil
}

// retire deletes what is older than it is to be kept.
func (u *upkeep) retire(ctx context.Context, clocks toll.Clocks) error {
	gone, err := u.store.Retire(ctx, sql.RetentionOptions{
		Clocks: clocks, Windows: u.kinds, KeepWindows: u.settings.windows,
		KeepDeadLetters: u.settings.deadLetters,
	})
	u.stats.Retired(gone)
	if err != nil {
		return err
	}
	if gone != (sql.Retired{}) {
		u.log.Info("deleted what is old", "windows", text.Number(gone.Windows), "changes_of_congestion",
			text.Number(gone.Transitions), "dead_letters", text.Number(gone.DeadLetters))
	}
	return nil
}

// noMinutes is a minute before which there is none.
const noMinutes = toll.Minute(-1 << 31)
