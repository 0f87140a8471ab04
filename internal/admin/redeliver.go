package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/schema"
)

// Bounds of one redelivery of many.
const (
	maxRedelivered = 500 // rows
	atOnce         = 16  // writes in flight
	// maxRedelivering is how long rows are begun, and answerMargin what is kept
	// of the invocation's time to send wake-ups and answer: API Gateway waits
	// 30 s.
	maxRedelivering = 20 * time.Second
	answerMargin    = 5 * time.Second
)

// redeliver begins another run of one delivery.
func (s *Service) redeliver(ctx context.Context, c *call) (*answer, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	key, err := c.deliveryKey()
	if err != nil {
		return nil, err
	}
	h, err := s.hook(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	d, err := s.delivery(ctx, key)
	if err != nil {
		return nil, err
	}
	doc, err := c.document(schema.Form{})
	if err != nil {
		return nil, err
	}
	if err := schema.NoFields(doc); err != nil {
		return nil, err
	}
	if !h.Enabled {
		return nil, isDisabled()
	}
	d, began, err := s.rerun(ctx, h, d, func(hook.Delivery) bool { return true })
	if err != nil {
		return nil, err
	}
	if began {
		s.wake(ctx, d)
	}
	return accepted(schema.ShowDelivery(d)), nil
}

func isDisabled() error {
	return refuse(http.StatusConflict, "the hook is disabled: enable it first")
}

// again is the row of another run, which begins now: it is attempted by the
// hook as it is, whatever it has been.
func again(d hook.Delivery, h hook.Hook, now time.Time) hook.Delivery {
	d.Gen, d.Status, d.Reason = h.Gen, hook.Pending, ""
	d.Run++
	d.Attempt, d.Tries, d.Parks, d.Nudges = 0, 0, 0, 0
	d.DueMS, d.WakeMS, d.DeadlineMS = now.UnixMilli(), now.Add(hook.WakeSlack).UnixMilli(), h.Retry.Deadline(now).UnixMilli()
	d.LeaseMS, d.ExpiresAt = 0, 0
	return d
}

// rerun stores another run of a row (W5), if it is wanted. began is false when
// it is not any more, or when another request began one since the row was read:
// that one is as good. A row that changed otherwise, because an attempt of it
// ended or began, is judged by what it is then.
//
// An attempt that is in flight is not waited for. Its outcome finds another run
// and is dropped, so the event may be received twice, under one webhook-id.
func (s *Service) rerun(ctx context.Context, h hook.Hook, d hook.Delivery, wanted func(hook.Delivery) bool) (row hook.Delivery, began bool, err error) {
	run := d.Run
	for range maxTries {
		if !wanted(d) {
			return d, false, nil
		}
		next := again(d, h, s.o.Now())
		next.Seq, err = s.o.Store.RedeliverDelivery(ctx, next, s.now())
		if err == nil {
			return next, true, nil
		}
		if !errors.Is(err, hook.ErrStale) {
			return d, false, fmt.Errorf("redeliver %s: %w", d.Key(), err)
		}
		if d, err = s.delivery(ctx, d.Key()); err != nil || d.Run > run {
			return d, false, err
		}
	}
	return d, false, hook.ErrBusy
}

// wake sends the wake-ups of rows that are due now. Those that cannot be sent
// are logged only: the row was stored before, and the sweep finds it.
func (s *Service) wake(ctx context.Context, rows ...hook.Delivery) {
	if len(rows) == 0 {
		return
	}
	msgs := make([]hook.Message, len(rows))
	for i, d := range rows {
		msgs[i] = hook.Message{Body: message.Wake(hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}), Group: d.HookID}
	}
	failed, err := s.o.RetryQueue.Send(ctx, msgs)
	if err != nil || len(failed) > 0 {
		s.o.Log.WarnContext(ctx, "wake-ups not sent; the sweep will find the rows",
			slog.String("hook_id", rows[0].HookID), slog.Int("wake_ups", len(msgs)), slog.Int("not_sent", len(failed)), slog.Any("err", err))
	}
}

// redeliverMany begins another run of the deliveries that the body names,
// newest first. Whatever ends it early, every row is either as it was or on
// record with its new run; a repeat of the request finds those pending, and
// goes on with the others.
func (s *Service) redeliverMany(ctx context.Context, c *call) (*answer, error) {
	if err := c.noQuery("offset"); err != nil {
		return nil, err
	}
	h, err := s.hook(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	doc, err := c.document(schema.RedeliveryForm())
	if err != nil {
		return nil, err
	}
	ask, err := schema.NewRedelivery(doc)
	if err != nil {
		return nil, err
	}
	p, err := c.paging(isID)
	if err != nil {
		return nil, err
	}
	if !h.Enabled && !ask.DryRun {
		return nil, isDisabled()
	}
	before := p.after
	if ask.UntilMS < math.MaxInt64 && (before == "" || firstID(ask.UntilMS) < before) {
		before = firstID(ask.UntilMS)
	}
	patience := maxRedelivering
	if end, bounded := ctx.Deadline(); bounded {
		patience = min(patience, time.Until(end)-answerMargin)
	}
	work, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b := bulk{s: s, h: h, ask: ask, work: work}
	left, err := b.run(ctx, before)
	if err != nil {
		return nil, err
	}
	shown := schema.ShownRedelivery{Matched: b.matched, Queued: b.queued}
	if left != "" {
		next := "/event-hooks/" + h.ID + "/redeliver?offset=" + encodeOffset(left)
		shown.Next = &next
	}
	return ok(shown), nil
}

// firstID is the least id of an event that was received at the time.
func firstID(ms int64) string {
	return fmt.Sprintf("%08x-%04x-0000-0000-000000000000", ms>>16, ms&0xffff)
}

// bulk is one redelivery of many.
type bulk struct {
	s    *Service
	h    hook.Hook
	ask  schema.Redelivery
	work context.Context // ends when no more rows are to be begun

	matched, queued int
}

// run goes through the rows whose event ids come before `before`, and returns
// from where to go on, "" at the end.
func (b *bulk) run(ctx context.Context, before string) (left string, err error) {
	begin := before
	for {
		rows, more, err := b.s.o.Store.ListDeliveries(ctx, b.h.ID, b.ask.Status, before, min(rowsAtOnce, maxRedelivered-b.matched), b.s.now())
		if err != nil {
			return "", fmt.Errorf("list deliveries of %s: %w", b.h.ID, err)
		}
		if i := slices.IndexFunc(rows, func(d hook.Delivery) bool { return d.Event.ID < firstID(b.ask.SinceMS) }); i >= 0 {
			rows, more = rows[:i], false
		}
		n, err := b.page(ctx, rows)
		if err != nil {
			return "", err
		}
		if n > 0 {
			before = rows[n-1].Event.ID
		}
		switch {
		case n == len(rows) && !more || len(rows) == 0:
			return "", nil
		case n < len(rows) && before == begin: // not one row could be begun
			return "", cmp.Or(b.work.Err(), context.DeadlineExceeded)
		case n < len(rows), b.matched >= maxRedelivered, b.work.Err() != nil:
			return before, nil
		}
	}
}

// page begins another run of rows, as many as time allows, and returns how many
// of them, from the first, it looked at.
func (b *bulk) page(ctx context.Context, rows []hook.Delivery) (looked int, err error) {
	if b.ask.DryRun {
		b.matched += len(rows)
		return len(rows), nil
	}
	wanted := func(d hook.Delivery) bool { return d.Status == b.ask.Status }
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		began []hook.Delivery
	)
	one := func() bool {
		mu.Lock()
		i := looked
		if i == len(rows) || err != nil || b.work.Err() != nil {
			mu.Unlock()
			return false
		}
		looked++
		mu.Unlock()
		d, ours, fault := b.s.rerun(ctx, b.h, rows[i], wanted)
		mu.Lock()
		defer mu.Unlock()
		switch _, gone := errors.AsType[*refusal](fault); {
		case gone: // it expired meanwhile
		case errors.Is(fault, hook.ErrBusy): // its attempts end one after another: it is being told
		case fault != nil:
			err = fault
		case ours:
			began = append(began, d)
			b.matched++
			b.queued++
		case wanted(d): // pending rows are meant, and another request began its next run
			b.matched++
			b.queued++
		}
		return true
	}
	for range min(atOnce, len(rows)) {
		wg.Go(func() {
			for one() {
			}
		})
	}
	wg.Wait()
	// Also beside an error: what is stored is on its way, and should not wait
	// for the sweep.
	b.s.wake(ctx, began...)
	return looked, err
}
