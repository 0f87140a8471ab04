package deliver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// Deliver handles a batch of messages and returns the ids of those that must
// come again: what they ask for is neither done nor on record. An unreadable
// message is among them, so that it ends in the dead-letter queue.
func (s *Service) Deliver(ctx context.Context, msgs []hook.Received) (failed []string) {
	b := &batch{s: s, ids: make(map[string]error, len(msgs)), gates: map[string]chan struct{}{}, all: make(chan struct{}, MaxInFlight)}
	if err := s.feed.Refresh(ctx); err != nil {
		// Without the hooks nothing can be decided; the messages come again.
		s.o.Log.ErrorContext(ctx, "hooks cannot be read", slog.Any("err", err))
		for _, m := range msgs {
			failed = append(failed, m.ID)
		}
		return failed
	}
	b.run(ctx, b.plan(ctx, msgs))
	for _, m := range msgs {
		if err, bad := b.ids[m.ID]; bad {
			s.o.Log.ErrorContext(ctx, "message comes again",
				slog.String("message_id", m.ID), slog.Int("receives", m.Receives), slog.Any("err", err))
			failed = append(failed, m.ID)
		}
	}
	return failed
}

// batch is the work of one invocation.
type batch struct {
	s   *Service
	all chan struct{} // a place for each attempt in flight

	mu    sync.Mutex
	gates map[string]chan struct{} // the same per hook
	ids   map[string]error         // messages that must come again, and why
}

// unit is one event on its way to one hook in this batch.
type unit struct {
	msg string // id of the message it came with
	h   hook.Hook
	ev  hook.Event
	// row is the unit's delivery row, claimed by this batch; nil for a first
	// attempt of a hook that needs no row before it.
	row *hook.Delivery
}

func (u unit) key() hook.DeliveryKey { return hook.DeliveryKey{HookID: u.h.ID, EventID: u.ev.ID} }

// fail notes that a message must come again.
func (b *batch) fail(msg string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids[msg] = errors.Join(b.ids[msg], err)
}

// plan turns messages into chains of units. The units of one chain run one
// after another, the chains at once.
func (b *batch) plan(ctx context.Context, msgs []hook.Received) (chains [][]unit) {
	var fresh []unit
	var check []unit // fresh ones that may have a row already
	var wakes []wakeUp
	for _, m := range msgs {
		body, err := message.Decode(m.Body)
		switch {
		case err != nil:
			b.fail(m.ID, fmt.Errorf("read message: %w", err))
		case body.Wake != nil:
			wakes = append(wakes, wakeUp{m.ID, *body.Wake})
		case body.Record != nil:
			if err := b.s.recordLate(ctx, *body.Record); err != nil {
				b.fail(m.ID, err)
			}
		case m.Receives > 1 && len(body.Events) > 1:
			// One event that kills its process must not take the others of
			// its message along, again and again.
			if err := b.s.unpack(ctx, body.Events); err != nil {
				b.fail(m.ID, err)
			}
		default:
			for _, ev := range body.Events {
				for _, h := range b.s.hooks.match(ev) {
					if h.ID < body.Lo || body.Hi != "" && h.ID >= body.Hi {
						continue // another piece of the event has this hook
					}
					u := unit{msg: m.ID, h: h, ev: ev}
					if m.Receives > 1 || body.Again {
						check = append(check, u)
					} else {
						fresh = append(fresh, u)
					}
				}
			}
		}
	}
	for _, u := range b.claimAll(ctx, wakes) {
		chains = append(chains, []unit{u})
	}
	fresh = once(append(fresh, b.withoutRow(ctx, check)...), len(msgs))

	judged := map[string][]unit{}
	for _, u := range fresh {
		if u.h.ComparesChanges() || u.h.Snoozed() > 0 {
			judged[u.h.ID] = append(judged[u.h.ID], u)
			continue
		}
		chains = append(chains, []unit{u})
	}
	return append(chains, b.admitAll(ctx, judged)...)
}

// once drops the units that a batch holds twice. The first of them answers for
// both: should it fail to be recorded, its message comes again.
func once(units []unit, messages int) []unit {
	if messages < 2 {
		return units // ingest gives each event of a message its own id
	}
	seen := make(map[hook.DeliveryKey]bool, len(units))
	return slices.DeleteFunc(units, func(u unit) bool {
		twice := seen[u.key()]
		seen[u.key()] = true
		return twice
	})
}

// withoutRow drops the units that have a row: the row carries them.
func (b *batch) withoutRow(ctx context.Context, units []unit) []unit {
	if len(units) == 0 {
		return nil
	}
	keys := make([]hook.DeliveryKey, len(units))
	for i, u := range units {
		keys[i] = u.key()
	}
	rows, err := b.s.o.Store.Deliveries(ctx, keys, b.s.nowMS())
	if err != nil {
		for _, u := range units {
			b.fail(u.msg, fmt.Errorf("read rows of a message that came again: %w", err))
		}
		return nil
	}
	have := make(map[hook.DeliveryKey]bool, len(rows))
	for _, d := range rows {
		have[d.Key()] = true
	}
	return slices.DeleteFunc(units, func(u unit) bool { return have[u.key()] })
}

// unpack sends the events of a message one by one.
func (s *Service) unpack(ctx context.Context, events []hook.Event) error {
	msgs := make([]hook.Message, len(events))
	for i, ev := range events {
		msgs[i] = hook.Message{Body: message.PackAgain(events[i : i+1])[0].Body, Group: ev.Source}
	}
	return s.persist(ctx, "unpack message", func() error {
		failed, err := s.o.Events.Send(ctx, msgs)
		if len(failed) == 0 {
			return err
		}
		rest := make([]hook.Message, len(failed))
		for i, f := range failed {
			rest[i] = msgs[f]
		}
		msgs = rest
		return cmp.Or(err, errors.New("the queue took only some of them"))
	})
}

// run makes the attempts of all chains and records their outcomes.
func (b *batch) run(ctx context.Context, chains [][]unit) {
	work, cancel := ctx, context.CancelFunc(func() {})
	if end, ok := ctx.Deadline(); ok {
		work, cancel = context.WithDeadline(ctx, end.Add(-Margin)) // time left to record outcomes
	}
	defer cancel()
	var wg sync.WaitGroup
	for _, chain := range chains {
		wg.Go(func() {
			for _, u := range chain {
				if err := b.attempt(ctx, work, u); err != nil {
					b.fail(u.msg, err)
				}
			}
		})
	}
	wg.Wait()
}

// attempt waits for a place, makes one attempt and records what came of it. ctx
// is the invocation's, work ends a margin before it.
func (b *batch) attempt(ctx, work context.Context, u unit) error {
	release, ok := b.enter(work, u.h)
	if !ok {
		return b.s.park(ctx, u)
	}
	defer release()
	at := b.s.o.Now()
	out := b.s.o.Action.Do(work, u.h, u.ev, at)
	b.s.logged(ctx, u, out.Log)
	if out.Verdict != hook.Success && work.Err() != nil && out.Took < time.Duration(u.h.Config.TimeoutSeconds())*time.Second {
		// Cut off by the invocation's end, not by the receiver's fault. It
		// may have been received, so it counts as an attempt all the same.
		out.Error = "cut off: the function's time was up"
	}
	return b.s.settle(ctx, u, at, out)
}

// enter takes a place among the attempts in flight, of the hook first so that
// a slow hook's units wait at its own gate. It is false when the time left
// does not fit an attempt.
func (b *batch) enter(work context.Context, h hook.Hook) (release func(), ok bool) {
	b.mu.Lock()
	gate := b.gates[h.ID]
	if gate == nil {
		gate = make(chan struct{}, MaxInFlightPerHook)
		b.gates[h.ID] = gate
	}
	b.mu.Unlock()
	select {
	case gate <- struct{}{}:
	case <-work.Done():
		return nil, false
	}
	select {
	case b.all <- struct{}{}:
	case <-work.Done():
		<-gate
		return nil, false
	}
	release = func() { <-b.all; <-gate }
	if end, has := work.Deadline(); has && end.Sub(b.s.o.Now()) < time.Duration(h.Config.TimeoutSeconds())*time.Second {
		release()
		return nil, false
	}
	return release, true
}

// persist tries a write again until it holds or the time is up. ErrStale is an
// answer, not a failure.
func (s *Service) persist(ctx context.Context, what string, write func() error) error {
	wait := 50 * time.Millisecond
	for {
		err := write()
		if err == nil || errors.Is(err, hook.ErrStale) || errors.Is(err, hook.ErrExists) {
			return err
		}
		if wait > 500*time.Millisecond || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		wait *= 2
	}
}
