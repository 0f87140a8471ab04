package deliver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// Limits of one sweep.
const (
	sweepPage   = 100 // rows asked for at once
	nudgeFirst  = 15 * time.Minute
	nudgeLatest = 4 * time.Hour
	// nudgesAtOnce bounds the rows, and the breakers, in hand.
	nudgesAtOnce = 16
	// overdueAfter is how late a row is that tells of sweeps that do not keep up.
	overdueAfter = 5 * time.Minute

	// What is left for the next sweep, in each shard: rows beyond so many that
	// were woken, or that were moved on because a breaker holds them back.
	shardWakes = 250
	shardMoves = 2000

	// sweepBreakers is how many breakers are looked at.
	sweepBreakers = 1000
	// sweepMargin is kept of the function's time when another breaker is begun.
	sweepMargin = 20 * time.Second
)

// Sweep wakes every pending delivery whose wake time has come: long waits
// start this way, and so does whatever a crash left between its row and its
// wake-up. Deliveries that an open breaker holds back it puts off once more, but
// for one of each hook, which finds out whether the receiver is back. It is
// called every minute. Overlapping sweeps are harmless.
func (s *Service) Sweep(ctx context.Context) error {
	defer s.report()
	begun := s.o.Now()
	var errs []error
	if err := s.feed.Refresh(ctx); err != nil { // rows can be woken without it
		errs = append(errs, fmt.Errorf("load hooks: %w", err))
	}
	// A breaker that is not closed is due within the minute, so this is all of
	// them, or as many as a sweep looks at. Rows of the others are woken as ever.
	breakers, err := s.o.Store.OverdueBreakers(ctx, begun.Add(probeEvery).UnixMilli(), sweepBreakers)
	if err != nil {
		errs = append(errs, fmt.Errorf("read breakers: %w", err))
	}
	probes := map[string]string{} // of hooks whose breakers are open: the row that probes
	for _, b := range breakers {
		if b.State != hook.BreakerOpen {
			continue
		}
		probes[b.HookID] = ""
		if b.Seq != 0 { // else Event is but where the last look ended
			probes[b.HookID] = b.Event
		}
	}
	for shard := range hook.WakeShards {
		if err := s.sweepShard(ctx, shard, probes); err != nil {
			errs = append(errs, fmt.Errorf("sweep shard %d: %w", shard, err))
		}
	}
	return errors.Join(append(errs, s.tendBreakers(ctx, breakers, begun), ctx.Err())...)
}

// sweepShard wakes the rows of a shard whose time has come, and moves those on
// that breakers hold back; probes says whose.
func (s *Service) sweepShard(ctx context.Context, shard int, probes map[string]string) error {
	for woken, moved := 0, 0; woken < shardWakes && moved < shardMoves; {
		now := s.o.Now()
		rows, err := s.o.Store.OverdueDeliveries(ctx, shard, now.UnixMilli(), sweepPage)
		if err != nil {
			return err
		}
		var nudges []nudge
		for _, o := range rows {
			if now.UnixMilli()-o.WakeMS > overdueAfter.Milliseconds() {
				s.count(metricOverdue, 1)
			}
			probe, open := probes[o.HookID]
			switch {
			case open && o.Reason == hook.ReasonBreaker && o.EventID == probe:
				// The breaker wakes it, or another.
			case open && o.Reason == hook.ReasonBreaker && o.DeadlineMS > now.UnixMilli():
				wait := min(nudgeLatest, BreakerWait<<min(o.Nudges, 8))
				nudges = append(nudges, nudge{row: o, later: min(now.Add(wait).UnixMilli(), o.DeadlineMS+1)})
			default:
				wait := min(nudgeLatest, nudgeFirst<<min(o.Nudges, 8))
				nudges = append(nudges, nudge{row: o, later: now.Add(wait).UnixMilli(), wake: true})
			}
		}
		n, err := s.nudge(ctx, nudges)
		if err != nil {
			return err
		}
		// A page on which nothing could be nudged means that the index lags;
		// going on at once would read the same page.
		if len(rows) < sweepPage || n.moved+n.woken == 0 {
			return nil
		}
		woken, moved = woken+n.woken, moved+n.moved
	}
	return ctx.Err()
}

// nudge moves the wake time of a row on, and wakes it if it says so.
type nudge struct {
	row   hook.Overdue
	later int64
	wake  bool
}

// nudged counts the rows that were woken, and those that were only moved.
type nudged struct{ woken, moved int }

// nudge moves rows on (W6), and wakes those that it moved and that are to be
// woken, whatever becomes of the others. Rows that someone else has moved
// meanwhile, or that an index was wrong about, are left alone.
//
// The wake time moves first: a crash before the wake-up is sent costs the row one
// more wait, the other order would send again and again while a backlog keeps
// the wake-ups from being read.
func (s *Service) nudge(ctx context.Context, nudges []nudge) (n nudged, err error) {
	held := make([]bool, len(nudges))
	errs := make([]error, len(nudges))
	each(len(nudges), func(i int) {
		held[i], errs[i] = s.o.Store.NudgeDelivery(ctx, nudges[i].row, nudges[i].later)
	})
	var wakes []hook.Message
	for i, u := range nudges {
		switch {
		case !held[i]:
		case u.wake:
			wakes = append(wakes, hook.Message{Body: message.Wake(u.row.Wake), Group: u.row.HookID})
			n.woken++
		default:
			n.moved++
		}
	}
	if len(wakes) > 0 {
		failed, err := s.o.Retry.Send(ctx, wakes)
		if err != nil || len(failed) > 0 {
			errs = append(errs, fmt.Errorf("send %d of %d wake-ups: %w", len(failed), len(wakes), errors.Join(err, errors.New("the next wake time will"))))
		}
	}
	return n, errors.Join(errs...)
}

// each calls do for 0 to n-1, some at once, and returns when all are done.
func each(n int, do func(i int)) {
	var wg sync.WaitGroup
	places := make(chan struct{}, nudgesAtOnce)
	for i := range n {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			do(i)
		})
	}
	wg.Wait()
}
