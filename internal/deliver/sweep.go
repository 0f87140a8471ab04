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
	sweepPage   = 100  // rows asked for at once
	sweepRows   = 2000 // rows woken in one sweep; the next one goes on
	nudgeFirst  = 15 * time.Minute
	nudgeLatest = 4 * time.Hour
	// nudgesAtOnce bounds the rows, and the breakers, in hand.
	nudgesAtOnce = 16
	// overdueAfter is how late a row is that tells of sweeps that do not keep up.
	overdueAfter = 5 * time.Minute

	sweepBreakers = 1000 // breakers looked at in one sweep
	// releaseRows is how many rows of a hook are woken in one sweep after its
	// breaker has closed: what was just dead is not buried under its backlog.
	releaseRows = 1000
	// scanRows is how many of a hook's pending rows are looked at for some to wake.
	scanRows = 5000
)

// Sweep wakes every pending delivery whose wake time has come: long waits
// start this way, and so does whatever a crash left between its row and its
// wake-up. Deliveries that an open breaker holds back it puts off once more, but
// for one of each hook, which finds out whether the receiver is back. It is
// called every minute. Overlapping sweeps are harmless.
func (s *Service) Sweep(ctx context.Context) error {
	defer s.report()
	var errs []error
	if err := s.feed.Refresh(ctx); err != nil { // rows can be woken without it
		errs = append(errs, fmt.Errorf("load hooks: %w", err))
	}
	open, err := s.sweepBreakers(ctx)
	errs = append(errs, err)
	left := sweepRows
	for shard := range hook.WakeShards {
		for left > 0 && ctx.Err() == nil {
			n, more, err := s.sweepShard(ctx, shard, min(sweepPage, left), open)
			left -= n
			if err != nil {
				errs = append(errs, fmt.Errorf("sweep shard %d: %w", shard, err))
				break
			}
			if !more {
				break
			}
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// sweepShard moves up to limit rows of one shard on, and says whether to go on.
func (s *Service) sweepShard(ctx context.Context, shard, limit int, open map[string]bool) (moved int, more bool, err error) {
	now := s.o.Now()
	rows, err := s.o.Store.OverdueDeliveries(ctx, shard, now.UnixMilli(), limit)
	if err != nil {
		return 0, false, err
	}
	nudges := make([]nudge, len(rows))
	for i, o := range rows {
		if now.UnixMilli()-o.WakeMS > overdueAfter.Milliseconds() {
			s.count(metricOverdue, 1)
		}
		nudges[i] = nudge{row: o, later: s.patience(o.Nudges), wake: true}
		if open[o.HookID] && o.DeadlineMS > now.UnixMilli() {
			wait := min(nudgeLatest, BreakerWait<<min(o.Nudges, 8))
			nudges[i].later, nudges[i].wake = min(now.Add(wait).UnixMilli(), o.DeadlineMS+1), false
		}
	}
	msgs, err := s.nudge(ctx, nudges)
	for _, n := range nudges {
		if n.nudged {
			moved++
		}
	}
	// A page on which nothing could be nudged means that the index lags; going
	// on at once would read the same page.
	return moved, len(rows) == limit && moved > 0, errors.Join(err, s.sendWakes(ctx, msgs))
}

// patience returns when the sweep looks again at a row that it wakes now and has
// woken before.
func (s *Service) patience(nudges int64) int64 {
	return s.o.Now().Add(min(nudgeLatest, nudgeFirst<<min(nudges, 8))).UnixMilli()
}

// nudge moves the wake time of a row on, to wake it or not.
type nudge struct {
	row    hook.Overdue
	later  int64
	wake   bool
	nudged bool // what came of it
}

// nudge moves rows on (W6), and returns the wake-ups of those that it moved and
// that are to be woken. Rows that someone else has moved meanwhile, or that an
// index was wrong about, are left alone.
//
// The wake time moves first: a crash before the wake-up is sent costs the row one
// more wait, the other order would send again and again while a backlog keeps
// the wake-ups from being read.
func (s *Service) nudge(ctx context.Context, nudges []nudge) (wakes []hook.Message, err error) {
	errs := make([]error, len(nudges))
	var wg sync.WaitGroup
	places := make(chan struct{}, nudgesAtOnce)
	for i := range nudges {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			n := &nudges[i]
			n.nudged, errs[i] = s.o.Store.NudgeDelivery(ctx, n.row, n.later)
		})
	}
	wg.Wait()
	for _, n := range nudges {
		if n.nudged && n.wake {
			wakes = append(wakes, hook.Message{Body: message.Wake(n.row.Wake), Group: n.row.HookID})
		}
	}
	return wakes, errors.Join(errs...)
}

// sweepBreakers looks at every breaker that is not closed: those that are due
// probe or release. It returns the hooks whose breakers are open.
func (s *Service) sweepBreakers(ctx context.Context) (open map[string]bool, err error) {
	now := s.nowMS()
	// A breaker is looked at within the next minute as long as it is not closed,
	// so this is all of them.
	all, err := s.o.Store.OverdueBreakers(ctx, now+probeEvery.Milliseconds(), sweepBreakers)
	if err != nil {
		return nil, fmt.Errorf("read breakers: %w", err)
	}
	open = map[string]bool{}
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	places := make(chan struct{}, nudgesAtOnce)
	for i, b := range all {
		if b.State == hook.BreakerOpen {
			open[b.HookID] = true
		}
		if b.WakeMS > now {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if err := s.tendBreaker(ctx, b); err != nil && !errors.Is(err, hook.ErrStale) { // else someone else does
				errs[i] = fmt.Errorf("breaker of hook %s: %w", b.HookID, err)
			}
		})
	}
	wg.Wait()
	return open, errors.Join(errs...)
}

// tendBreaker does for a breaker what is to be done each minute. Rows are nudged
// before the breaker is written, and wake-ups sent after it: of two sweeps one
// goes on, and what a crash in between leaves nudged the sweep wakes.
func (s *Service) tendBreaker(ctx context.Context, b hook.Breaker) error {
	if b.State == hook.BreakerReleasing {
		return s.releaseHeld(ctx, b)
	}
	h, status, _, err := s.hookOf(ctx, b.HookID, b.Gen)
	switch {
	case err != nil:
		return err
	case status != hook.Pending || !h.Enabled:
		return s.startRelease(ctx, b) // what waits is woken, and ends
	}
	return s.probeHeld(ctx, b)
}

// probeHeld wakes one row of a hook whose breaker is open, that of the oldest
// event, unless the last one is still on its way. A breaker that holds nothing
// back is forgotten: the next event finds out.
func (s *Service) probeHeld(ctx context.Context, b hook.Breaker) error {
	row, under, err := s.probing(ctx, b)
	if err != nil {
		return err
	}
	if row == nil && !under {
		waiting := false
		err = s.eachHeld(ctx, b.HookID, "", func(w hook.Waiting, held bool) bool {
			waiting = true
			if held {
				row = &w.Overdue
			}
			return !held
		})
		switch {
		case err != nil:
			return err
		case !waiting:
			return s.o.Store.DeleteBreaker(ctx, b)
		}
	}
	var msgs []hook.Message
	if row != nil {
		later := s.o.Now().Add(hook.WakeSlack).UnixMilli()
		if row.Nudges > 0 {
			later = s.patience(row.Nudges - 1)
		}
		row.Probe = true
		if msgs, err = s.nudge(ctx, []nudge{{row: *row, later: later, wake: true}}); err != nil {
			return err
		}
		b.Event, b.Seq = row.EventID, row.Seq
	}
	b.WakeMS = s.nowMS() + probeEvery.Milliseconds()
	if _, err := s.o.Store.UpdateBreaker(ctx, b, s.nowMS()); err != nil {
		return err
	}
	return s.sendWakes(ctx, msgs)
}

// probing returns what is left of the breaker's last probe: its row when it must
// be woken again, or whether it is still on its way or under way.
func (s *Service) probing(ctx context.Context, b hook.Breaker) (row *hook.Overdue, under bool, err error) {
	if b.Event == "" {
		return nil, false, nil
	}
	rows, err := s.o.Store.Deliveries(ctx, []hook.DeliveryKey{{HookID: b.HookID, EventID: b.Event}}, s.nowMS())
	if err != nil || len(rows) == 0 {
		return nil, false, err
	}
	d, now := rows[0], s.nowMS()
	switch {
	case d.Status != hook.Pending:
		return nil, false, nil
	case d.LeaseMS > now:
		return nil, true, nil
	case d.Seq != b.Seq:
		return nil, false, nil
	case d.WakeMS > now:
		return nil, true, nil
	}
	return &hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, WakeMS: d.WakeMS, Nudges: d.Nudges}, false, nil
}

// releaseHeld wakes rows that a hook's breaker held back, each once, and forgets
// the breaker when there are no more.
func (s *Service) releaseHeld(ctx context.Context, b hook.Breaker) error {
	later := s.o.Now().Add(hook.WakeSlack).UnixMilli()
	var nudges []nudge
	last := b.Event
	err := s.eachHeld(ctx, b.HookID, b.Event, func(w hook.Waiting, held bool) bool {
		last = w.EventID
		if held {
			nudges = append(nudges, nudge{row: w.Overdue, later: later, wake: true})
		}
		return len(nudges) < releaseRows
	})
	if err != nil {
		return err
	}
	if len(nudges) == 0 && last == b.Event {
		return s.o.Store.DeleteBreaker(ctx, b)
	}
	msgs, err := s.nudge(ctx, nudges)
	if err != nil {
		return err
	}
	b.Event, b.WakeMS = last, s.nowMS()+probeEvery.Milliseconds()
	if _, err := s.o.Store.UpdateBreaker(ctx, b, s.nowMS()); err != nil {
		return err
	}
	return s.sendWakes(ctx, msgs)
}

// eachHeld goes through a hook's pending rows, from the oldest event after
// `after` on, as long as each wants more and at most scanRows of them. held says
// that the row waits for nothing but the breaker: no attempt is early.
func (s *Service) eachHeld(ctx context.Context, hookID, after string, each func(w hook.Waiting, held bool) (more bool)) error {
	now := s.nowMS()
	for scanned := 0; scanned < scanRows; {
		page, more, err := s.o.Store.PendingDeliveries(ctx, hookID, after, sweepPage)
		if err != nil {
			return fmt.Errorf("read pending rows: %w", err)
		}
		for _, w := range page {
			held := (w.Reason == hook.ReasonBreaker || w.DueMS <= now) && w.LeaseMS <= now
			if !each(w, held) {
				return nil
			}
			after = w.EventID
		}
		if scanned += len(page); !more {
			return nil
		}
	}
	return nil
}

func (s *Service) sendWakes(ctx context.Context, msgs []hook.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	failed, err := s.o.Retry.Send(ctx, msgs)
	if err != nil || len(failed) > 0 {
		return fmt.Errorf("send %d of %d wake-ups: %w", len(failed), len(msgs), errors.Join(err, errors.New("the next wake time will")))
	}
	return nil
}
