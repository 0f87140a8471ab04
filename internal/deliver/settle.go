package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/retry"
)

// rowOf returns the row of a unit before the outcome that is about to be
// recorded.
func (s *Service) rowOf(u unit, at time.Time) hook.Delivery {
	if u.row != nil {
		return *u.row
	}
	return newRow(u.h, u.ev, at)
}

// newRow returns the row of a delivery that begins now.
func newRow(h hook.Hook, ev hook.Event, now time.Time) hook.Delivery {
	return hook.Delivery{
		HookID: h.ID, Event: ev, Gen: h.Gen, Status: hook.Pending, Run: 1, Seq: 1,
		CreatedMS: now.UnixMilli(), DeadlineMS: h.Retry.Deadline(now).UnixMilli(),
	}
}

// claimedRow returns the row of a delivery that is attempted by this invocation,
// claimed from its first moment.
func (s *Service) claimedRow(ctx context.Context, h hook.Hook, ev hook.Event) hook.Delivery {
	now := s.o.Now()
	d := newRow(h, ev, now)
	d.Tries, d.LeaseMS, d.WakeMS, d.DueMS = 1, s.leaseMS(ctx), s.leaseMS(ctx), now.UnixMilli()
	return d
}

// logged writes what the functions of a lambda hook logged into our log: that
// is why they do.
func (s *Service) logged(ctx context.Context, u unit, lines []hook.LogLine) {
	for _, l := range lines {
		level := slog.LevelInfo
		switch l.Level {
		case "alert", "crit", "err":
			level = slog.LevelError
		case "warn":
			level = slog.LevelWarn
		case "debug":
			level = slog.LevelDebug
		}
		s.o.Log.LogAttrs(ctx, level, "lambda hook logged",
			slog.String("hook_id", u.h.ID), slog.String("event_id", u.ev.ID),
			slog.String("lua_level", l.Level), slog.String("line", l.Message))
	}
}

// settle records what came of an attempt. An error means that it is not on
// record and the message must come again.
func (s *Service) settle(ctx context.Context, u unit, at time.Time, out hook.Outcome) error {
	d := s.rowOf(u, at)
	d.Attempt++
	d.Tries, d.Parks, d.Nudges, d.LeaseMS, d.Reason = 0, 0, 0, 0, ""
	d.Attempts = append(d.Attempts[:len(d.Attempts):len(d.Attempts)], hook.Attempt{
		AtMS: at.UnixMilli(), TookMS: out.Took.Milliseconds(), Code: out.Code, Error: out.Error, IP: out.IP,
	})
	if n := len(d.Attempts) - hook.MaxAttemptsKept; n > 0 {
		d.Attempts = d.Attempts[n:]
	}

	if out.Verdict == hook.Success {
		// The response of the last failed attempt stays, for whoever asks what
		// went wrong before.
		end(&d, hook.Delivered, "", s.o.Now())
		defer s.attemptSucceeded(ctx, u, len(d.Attempts) > 1 || d.Run > 1)
		if u.row != nil || !s.o.FailuresOnly {
			if err := s.recordSuccess(ctx, d); err != nil {
				return err
			}
		}
		s.count(metricDelivered, 1)
		return nil
	}

	d.Response = out.Response
	s.next(&d, u.h, out)
	s.count(metricAttempts, 1)
	s.o.Log.LogAttrs(ctx, slog.LevelWarn, "delivery attempt failed",
		slog.String("hook_id", d.HookID), slog.String("event_id", d.Event.ID),
		slog.String("source", d.Event.Source), slog.String("event", d.Event.Event),
		slog.Int64("run", d.Run), slog.Int64("attempt", d.Attempt), slog.Int("status", out.Code), slog.String("err", out.Error),
		slog.Int64("took_ms", out.Took.Milliseconds()), slog.Bool("will_retry", !d.Terminal()), slog.String("reason", d.Reason))
	if u.probe && out.Verdict == hook.Final {
		defer s.passProbe(ctx, u.h.ID, u.h.Gen)
	}
	switch {
	case out.Verdict == hook.Retryable:
		defer s.attemptFailed(ctx, u, out.Error)
	case out.Reason == hook.ReasonGone && u.h.Handler == hook.HandlerWebhook:
		// A failure to disable it is no reason to lose the record of the attempt:
		// the next 410 tries again.
		if err := s.disable(ctx, u.h, "the receiver answered 410 Gone"); err != nil {
			s.o.Log.ErrorContext(ctx, "hook not disabled", slog.String("hook_id", u.h.ID), slog.Any("err", err))
		}
	}
	return s.write(ctx, u, d)
}

// next plans what follows a failed attempt: another one when the schedule and
// the deadline allow it, else the end.
func (s *Service) next(d *hook.Delivery, h hook.Hook, out hook.Outcome) {
	now := s.o.Now()
	if out.Verdict == hook.Final {
		end(d, hook.Failed, out.Reason, now)
		return
	}
	wait, more := s.o.Schedule.Next(d.Attempt, h.Retry)
	if !more {
		end(d, hook.Failed, hook.ReasonExhausted, now)
		return
	}
	due := now.Add(retry.Due(wait, out.RetryAfter, s.o.Jitter)).UnixMilli()
	if due > d.DeadlineMS {
		end(d, hook.Failed, hook.ReasonExpired, now)
		return
	}
	put(d, due, now)
}

// put plans the next look at a pending delivery.
func put(d *hook.Delivery, due int64, now time.Time) {
	d.Status, d.LeaseMS, d.Nudges = hook.Pending, 0, 0
	d.DueMS, d.WakeMS = due, due
	if wakes(*d, now) {
		d.WakeMS = due + hook.WakeSlack.Milliseconds()
	}
}

// wakes reports whether a wake-up is sent for the row: longer waits are left to
// the sweep.
func wakes(d hook.Delivery, now time.Time) bool {
	return d.DueMS-now.UnixMilli() <= hook.MaxDelay.Milliseconds()
}

// end makes the row terminal.
func end(d *hook.Delivery, status hook.Status, reason string, now time.Time) {
	d.Status, d.Reason = status, reason
	d.DueMS, d.WakeMS, d.LeaseMS = 0, 0, 0
	d.ExpiresAt = now.Add(Retention).Unix()
}

// park puts a unit off without an attempt: its time did not come in this
// invocation.
func (s *Service) park(ctx context.Context, u unit) error {
	now := s.o.Now()
	d := s.rowOf(u, now)
	wait := min(15*time.Minute, 5*time.Second<<min(d.Parks, 8))
	return s.putOff(ctx, u, d, now.Add(retry.Due(wait, 0, s.o.Jitter)).UnixMilli(), hook.ReasonParked)
}

// parkForBreaker puts a unit off until its hook's breaker closes.
func (s *Service) parkForBreaker(ctx context.Context, u unit) error {
	now := s.o.Now()
	return s.putOff(ctx, u, s.rowOf(u, now), s.breakerDue(now), hook.ReasonBreaker)
}

// putOff records that a unit waits until due, or until it expires, whichever
// comes first.
func (s *Service) putOff(ctx context.Context, u unit, d hook.Delivery, due int64, why string) error {
	d.Parks++
	d.Tries = max(0, d.Tries-1) // this claim ended in order: only those that did not are counted
	put(&d, min(due, d.DeadlineMS+1), s.o.Now())
	d.Reason = why
	s.count(metricParked, 1)
	return s.write(ctx, u, d)
}

// write records a row that is pending, failed or superseded (W1, W3), and sets
// the alarm clock for a pending one.
func (s *Service) write(ctx context.Context, u unit, d hook.Delivery) error {
	if d.Status == hook.Failed {
		if err := s.tellFailed(ctx, u, d); err != nil {
			// The row is the truth, and the log has what it says.
			s.o.Log.ErrorContext(ctx, "failure not told", slog.String("hook_id", d.HookID), slog.String("event_id", d.Event.ID), slog.Any("err", err))
		}
	}
	if (d.Status == hook.Failed || d.Status == hook.Superseded) && (d.SlotKey != "" || d.SnoozeKey != "") {
		// First (W9): a crash before the row is written leaves it pending, and
		// giving back twice is harmless. The other order could leave a window
		// open that silences the next event though nobody was told.
		if err := s.persist(ctx, "give back", func() error { return s.o.Store.GiveBack(ctx, d) }); err != nil {
			return err
		}
	}
	// The row before the wake-up: a crash in between is healed by the sweep,
	// which finds every overdue row; the other order would wake a row that is
	// not there.
	if u.row == nil {
		var created bool
		err := s.persist(ctx, "record delivery", func() (err error) {
			created, err = s.o.Store.CreateDelivery(ctx, d, s.nowMS())
			return err
		})
		if err != nil {
			return err
		}
		if !created {
			return nil // someone else has it, and its row carries it
		}
	} else {
		var seq int64 // not d.Seq: a write that is tried again asks for the same one
		err := s.persist(ctx, "record delivery", func() (err error) {
			seq, err = s.o.Store.UpdateDelivery(ctx, d, s.nowMS())
			return err
		})
		if errors.Is(err, hook.ErrStale) {
			return nil // redelivered, delivered or claimed by someone else meanwhile
		}
		if err != nil {
			return err
		}
		d.Seq = seq
	}
	if d.Terminal() {
		switch d.Status {
		case hook.Failed:
			s.count(metricFailed, 1)
		case hook.Superseded:
			s.count(metricSuperseded, 1)
		}
		s.o.Log.LogAttrs(ctx, slog.LevelWarn, "delivery ended",
			slog.String("hook_id", d.HookID), slog.String("event_id", d.Event.ID), slog.String("source", d.Event.Source),
			slog.String("event", d.Event.Event), slog.String("delivery_status", string(d.Status)), slog.String("reason", d.Reason),
			slog.Int64("run", d.Run), slog.Int64("attempts", d.Attempt))
		return nil
	}
	if wakes(d, s.o.Now()) {
		s.wake(ctx, d)
	}
	return nil
}

// recordSuccess writes a delivered row (W4). When the store does not take it,
// the row goes to the queue, and the message comes again as well: whichever
// arrives first ends the delivery.
func (s *Service) recordSuccess(ctx context.Context, d hook.Delivery) error {
	err := s.recordLate(ctx, d)
	if err == nil {
		return nil
	}
	if failed, qerr := s.o.Retry.Send(ctx, []hook.Message{{Body: message.Record(d), Group: d.HookID}}); qerr != nil || len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("queue record: %w", errors.Join(qerr, errors.New("not taken"))))
	}
	return err
}

// recordLate writes a delivered row. Something else in its place (another run,
// or delivered already) is the truth, and stays.
func (s *Service) recordLate(ctx context.Context, d hook.Delivery) error {
	return s.persist(ctx, "record success", func() error {
		_, err := s.o.Store.RecordDelivered(ctx, d, s.nowMS())
		return err
	})
}
