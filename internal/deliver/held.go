package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"eventhooks/internal/hook"
)

// Limits of what is done each minute for a hook whose breaker holds rows back.
const (
	// probePatience is how long a probe's wake-up may take until it is sent again.
	probePatience = 5 * time.Minute
	// releaseRows is how many rows are woken at a time after the breaker has
	// closed: what was just dead is not buried under its backlog.
	releaseRows = 1000
	// scanRows is how many pending rows are looked at for some to wake, in pages
	// of scanPage.
	scanRows = 5000
	scanPage = 1000
)

// tendBreakers does for each breaker what is to be done each minute, of a sweep
// that began then. What there is no time for is the next sweep's.
func (s *Service) tendBreakers(ctx context.Context, breakers []hook.Breaker, begun time.Time) error {
	errs := make([]error, len(breakers))
	each(len(breakers), func(i int) {
		b := breakers[i]
		if end, ok := ctx.Deadline(); b.WakeMS > begun.UnixMilli() || ctx.Err() != nil || ok && end.Sub(s.o.Now()) < sweepMargin {
			return
		}
		if err := s.tendBreaker(ctx, b, nextProbe(begun)); err != nil && !errors.Is(err, hook.ErrStale) { // else someone else did
			errs[i] = fmt.Errorf("breaker of hook %s: %w", b.HookID, err)
		}
	})
	return errors.Join(errs...)
}

func (s *Service) tendBreaker(ctx context.Context, b hook.Breaker, wakeMS int64) error {
	if b.State == hook.BreakerReleasing {
		return s.releaseHeld(ctx, b, wakeMS)
	}
	h, status, _, err := s.hookOf(ctx, b.HookID, b.Gen)
	switch {
	case err != nil:
		return err
	case status != hook.Pending || !h.Enabled:
		return s.startRelease(ctx, b) // what waits is woken, and ends
	}
	return s.probeHeld(ctx, b, wakeMS)
}

// probeHeld wakes one row of a hook whose breaker is open, that of the oldest
// event, unless the last one is still on its way. A breaker that holds nothing
// back is forgotten: the next event finds out.
func (s *Service) probeHeld(ctx context.Context, b hook.Breaker, wakeMS int64) error {
	row, onWay, err := s.probing(ctx, b)
	switch {
	case err != nil:
		return err
	case onWay:
		return s.moveOn(ctx, b, b.Event, b.Seq, wakeMS)
	}
	if row == nil {
		from := ""
		if b.Seq == 0 { // the last look did not come to the end
			from = b.Event
		}
		found, err := s.findHeld(ctx, b.HookID, from)
		switch {
		case err != nil:
			return err
		case found.row != nil:
			row = found.row
		case from == "" && found.last == "":
			return s.o.Store.DeleteBreaker(ctx, b)
		case found.more:
			return s.moveOn(ctx, b, found.last, 0, wakeMS)
		default:
			return s.moveOn(ctx, b, "", 0, wakeMS)
		}
	}
	row.Probe = true
	later := s.o.Now().Add(probePatience).UnixMilli()
	if _, err := s.nudge(ctx, []nudge{{row: *row, later: later, wake: true}}); err != nil {
		return err
	}
	return s.moveOn(ctx, b, row.EventID, row.Seq, wakeMS)
}

// passProbe wakes another row at once when a probe has ended without a word about
// the receiver: else a minute would go by for each such row.
func (s *Service) passProbe(ctx context.Context, hookID string, gen int64) {
	b, err := s.o.Store.Breaker(ctx, hookID, gen, s.nowMS())
	if err == nil && b.State == hook.BreakerOpen {
		err = s.probeHeld(ctx, b, b.WakeMS)
	}
	if err != nil && !errors.Is(err, hook.ErrNotFound) && !errors.Is(err, hook.ErrStale) {
		s.o.Log.WarnContext(ctx, "probe not passed on; the sweep will", slog.String("hook_id", hookID), slog.Any("err", err))
	}
}

// probing returns what is left of the breaker's last probe: its row when it must
// be woken again, or whether it is still on its way or under way.
func (s *Service) probing(ctx context.Context, b hook.Breaker) (row *hook.Overdue, onWay bool, err error) {
	if b.Seq == 0 {
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

// found is what a look at a hook's pending rows came to.
type found struct {
	row  *hook.Overdue // to probe with; nil for none
	last string        // the last event looked at, "" when there was none
	more bool          // there are more after it
}

// findHeld looks for a row to probe with, from the oldest event after `after` on:
// the first that its breaker holds back, or else one that is due. Those may have
// a wake-up of their own on its way.
func (s *Service) findHeld(ctx context.Context, hookID, after string) (f found, err error) {
	now := s.nowMS()
	for scanned := 0; scanned < scanRows; {
		page, more, err := s.o.Store.PendingDeliveries(ctx, hookID, after, scanPage)
		if err != nil {
			return f, fmt.Errorf("read pending rows: %w", err)
		}
		for _, w := range page {
			f.last, after = w.EventID, w.EventID
			switch {
			case !heldBack(w, now):
			case w.Reason == hook.ReasonBreaker:
				f.row = &w.Overdue
				return f, nil
			case f.row == nil:
				f.row = &w.Overdue
			}
		}
		scanned += len(page)
		if f.more = more; f.row != nil || !more {
			return f, nil
		}
	}
	return f, nil
}

// heldBack reports whether a row waits for nothing but its breaker: no attempt is
// early. What has expired is woken anyway, and ends.
func heldBack(w hook.Waiting, now int64) bool {
	return (w.Reason == hook.ReasonBreaker || w.DueMS <= now) && w.LeaseMS <= now && w.DeadlineMS > now
}

// releaseHeld wakes rows that a hook's breaker held back, each once, and forgets
// the breaker when there are no more.
func (s *Service) releaseHeld(ctx context.Context, b hook.Breaker, wakeMS int64) error {
	now := s.o.Now()
	later := now.Add(hook.WakeSlack).UnixMilli()
	var nudges []nudge
	last, more := b.Event, true
	for scanned := 0; more && scanned < scanRows && len(nudges) < releaseRows; {
		var page []hook.Waiting
		var err error
		page, more, err = s.o.Store.PendingDeliveries(ctx, b.HookID, last, min(scanPage, releaseRows-len(nudges)))
		if err != nil {
			return fmt.Errorf("read pending rows: %w", err)
		}
		for _, w := range page {
			last = w.EventID
			if heldBack(w, now.UnixMilli()) {
				nudges = append(nudges, nudge{row: w.Overdue, later: later, wake: true})
			}
		}
		scanned += len(page)
	}
	if last == b.Event {
		return s.o.Store.DeleteBreaker(ctx, b)
	}
	if _, err := s.nudge(ctx, nudges); err != nil {
		return err // the next sweep goes over them again
	}
	return s.moveOn(ctx, b, last, 0, wakeMS)
}

// moveOn writes down how far the sweep has come with a breaker. One that has left
// its state meanwhile is left alone: what was woken has been woken.
func (s *Service) moveOn(ctx context.Context, b hook.Breaker, event string, seq, wakeMS int64) error {
	state := b.State
	for range breakerTries {
		b.Event, b.Seq, b.WakeMS = event, seq, wakeMS
		_, err := s.o.Store.UpdateBreaker(ctx, b, s.nowMS())
		if !errors.Is(err, hook.ErrStale) {
			return err
		}
		b, err = s.o.Store.Breaker(ctx, b.HookID, b.Gen, s.nowMS())
		if errors.Is(err, hook.ErrNotFound) || err == nil && b.State != state {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return hook.ErrBusy
}
