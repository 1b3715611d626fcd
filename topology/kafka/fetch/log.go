package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tollstream/tollstream/internal/wait"
	"github.com/tollstream/tollstream/toll"
)

// Finding is the outcome of comparing a partition's log with what was consumed of it. With both
// texts empty it is the same log.
type Finding struct {
	// Replaced says why it is another log, in one sentence.
	Replaced string
	// Unchecked says why it is not known. A difference would have shown where there was something to
	// compare.
	Unchecked string

	Start, End int64 // of the log
}

// Times of the check. They are variables for tests.
var (
	// confirmAfter is when a log that was found to be another one is looked at again: leaders change,
	// and one that was elected just now may not know all.
	confirmAfter = 2 * time.Second
	// behindPatience is how long the end that consumers may see may be behind the end of the leader's
	// log.
	behindPatience = 15 * time.Second
)

// errBehind says that a leader was elected and doesn't know yet what all in-sync replicas have.
var errBehind = errors.New("the leader does not know yet up to where its log is committed")

// CheckLog compares the log of a partition, of which everything below next was consumed, with the
// last record of that.
//
// The log is the same if the record is there. Where retention deleted the record, leader epochs are
// compared: the epoch of the record must not end at or below it.
//
// A leader that was elected just now may know of an end below that of its log, since it learns from
// the other replicas what all of them have. It may not yet have what is consumed only by its own
// account. So a log counts as shorter where the leader's own log is, which the end of its present
// epoch says; and any difference is looked at twice, with a pause, and with leaders that are asked
// for again.
func (c *Client) CheckLog(ctx context.Context, partition int32, next int64,
	last toll.LastRecord) (Finding, error) {
	confirmed := false
	for patience := time.Now().Add(behindPatience); ; {
		f, err := c.lookAt(ctx, partition, next, last)
		pause := confirmAfter
		switch {
		case errors.Is(err, errBehind) && time.Now().Before(patience):
			pause = 100 * time.Millisecond
		case err != nil, f.Replaced == "", confirmed:
			return f, err
		default:
			confirmed = true
		}
		if err := wait.For(ctx, pause); err != nil {
			return Finding{}, err
		}
		c.forgetLeader(partition)
	}
}

func (c *Client) lookAt(ctx context.Context, partition int32, next int64,
	last toll.LastRecord) (f Finding, err error) {
	replaced := func(format string, args ...any) (Finding, error) {
		f.Replaced = fmt.Sprintf("partition %d of topic %s: ", partition, c.topic) + fmt.Sprintf(format,
			args...)
		return f, nil
	}
	if f.Start, f.End, err = c.Bounds(ctx, partition); err != nil {
		return f, err
	}
	if f.End < next {
		end, _, err := c.epochEnd(ctx, partition, -1)
		if err != nil {
			return f, err
		}
		if end >= next {
			return f, fmt.Errorf("partition %d of topic %s: %w", partition, c.topic, errBehind)
		}
		return replaced("the log ends at offset %d, and up to %d was stored of it", f.End, next)
	}
	if !last.Known {
		f.Unchecked = "what the last record was is not known"
		return f, nil
	}
	if last.Offset < f.Start {
		return c.compareEpochs(ctx, partition, last, f, replaced)
	}
	r, err := c.record(ctx, partition, last.Offset)
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange): // retention deleted it just now
		return f, fmt.Errorf("partition %d of topic %s: %w", partition, c.topic, errBehind)
	case err != nil:
		return f, err
	case r == nil:
		return replaced(
			"the record at offset %d, which was stored last (%s), is not in the log, which begins at %d",
			last.Offset, describe(last), f.Start)
	}
	if now := Identify(r); !now.Same(last) {
		return replaced("the record at offset %d is not the one that was stored: that was %s, this is %s",
			last.Offset, describe(last), describe(now))
	}
	return f, nil
}

// compareEpochs checks a log that no longer holds the last record.
func (c *Client) compareEpochs(ctx context.Context, partition int32, last toll.LastRecord,
	f Finding,
	replaced func(string, ...any) (Finding, error)) (Finding, error) {
	f.Unchecked = fmt.Sprintf(
		"retention deleted the record at offset %d, which was stored last; the log begins at %d",
		last.Offset, f.Start)
	if last.LeaderEpoch < 0 {
		return f, nil
	}
	end, current, err := c.epochEnd(ctx, partition, last.LeaderEpoch)
	switch {
	case err != nil:
		return f, err
	case current >= 0 && last.LeaderEpoch > current:
		return replaced(
			"the log is of leader epoch %d, and the record at offset %d, which was stored last, of the "+
				"later epoch %d",
			current, last.Offset, last.LeaderEpoch)
	case end >= 0 && end <= last.Offset:
		return replaced(
			"leader epoch %d ends at offset %d, and the record at offset %d, which was stored last, "+
				"was of it",
			last.LeaderEpoch, end, last.Offset)
	}
	return f, nil
}

// Difference is where the log of a partition may differ from the one that was consumed.
type Difference struct {
	Start, End int64 // of the log
	// From is the offset from which the logs differ if no leader epoch was given twice; -1 where
	// leader epochs don't show it. A restored cluster may repeat epochs.
	From int64
	// Last identifies the record below the next one to consume, as the log holds it now.
	Last toll.LastRecord
}

// Differs returns where the log of a partition, of which everything below next was consumed before
// it was replaced, may differ from that.
func (c *Client) Differs(ctx context.Context, partition int32, next int64,
	last toll.LastRecord) (d Difference, err error) {
	d.From = -1
	if d.Start, d.End, err = c.Bounds(ctx, partition); err != nil {
		return d, err
	}
	if last.Known && last.LeaderEpoch >= 0 {
		end, _, err := c.epochEnd(ctx, partition, last.LeaderEpoch)
		if err != nil {
			return d, err
		}
		if end >= 0 && end <= last.Offset {
			d.From = end
		}
	}
	if d.Start < next && next <= d.End {
		r, err := c.record(ctx, partition, next-1)
		if err != nil {
			return d, err
		}
		if r != nil {
			d.Last = Identify(r)
		}
	}
	return d, nil
}

// Identify returns the identity of a record.
func Identify(r *kgo.Record) toll.LastRecord {
	return toll.LastRecord{Known: true, Offset: r.Offset, LeaderEpoch: r.LeaderEpoch,
		Timestamp: r.Timestamp.UnixMilli(),
		CRC:       toll.RecordCRC(r.Key, r.Value)}
}

// describe names what a record is recognized by.
func describe(r toll.LastRecord) string {
	return fmt.Sprintf("CRC %08x of %s", r.CRC,
		time.UnixMilli(r.Timestamp).UTC().Format("2006-01-02 15:04:05.000"))
}
