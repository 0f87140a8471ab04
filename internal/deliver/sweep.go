package deliver

import (
	"context"
	"errors"
	"fmt"
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
)

// Sweep wakes every pending delivery whose wake time has come: long waits
// start this way, and so does whatever a crash left between its row and its
// wake-up. It is called every minute. Overlapping sweeps are harmless.
func (s *Service) Sweep(ctx context.Context) error {
	var errs []error
	left := sweepRows
	for shard := range hook.WakeShards {
		for left > 0 && ctx.Err() == nil {
			n, more, err := s.sweepShard(ctx, shard, min(sweepPage, left))
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

// sweepShard wakes up to limit rows of one shard, and says whether to go on.
func (s *Service) sweepShard(ctx context.Context, shard, limit int) (woken int, more bool, err error) {
	rows, err := s.o.Store.OverdueDeliveries(ctx, shard, s.nowMS(), limit)
	if err != nil {
		return 0, false, err
	}
	var msgs []hook.Message
	for _, o := range rows {
		later := s.o.Now().Add(min(nudgeLatest, nudgeFirst<<min(o.Nudges, 8))).UnixMilli()
		// The wake time moves first (W6): a crash before the send costs the
		// row one more wait, the other order would send again and again while
		// a backlog keeps the wake-ups from being read.
		nudged, err := s.o.Store.NudgeDelivery(ctx, o, later)
		if err != nil {
			return len(msgs), false, errors.Join(err, s.sendWakes(ctx, msgs))
		}
		if nudged { // else someone else did, or the index was old
			msgs = append(msgs, hook.Message{Body: message.Wake(o.Wake), Group: o.HookID})
		}
	}
	// A page on which nothing could be nudged means that the index lags; going
	// on at once would read the same page.
	return len(msgs), len(rows) == limit && len(msgs) > 0, s.sendWakes(ctx, msgs)
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
