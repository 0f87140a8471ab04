package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/match"
	"eventhooks/internal/message"
)

// Deliver handles a batch of messages and returns the ids of those that must
// come again: what they ask for is neither done nor on record. An unreadable
// message is among them, so that it ends in the dead-letter queue.
func (s *Service) Deliver(ctx context.Context, msgs []hook.Received) (failed []string) {
	defer s.report()
	b := &batch{s: s, ids: make(map[string]error, len(msgs))}
	if err := s.feed.Refresh(ctx); err != nil {
		// Without the hooks nothing can be decided; the messages come again.
		s.o.Log.ErrorContext(ctx, "hooks cannot be read", slog.Any("err", err))
		for _, m := range msgs {
			failed = append(failed, m.ID)
		}
		return failed
	}
	looked := s.o.Now()
	chains := b.plan(ctx, msgs)
	b.setAside(ctx)
	b.run(ctx, chains, looked)
	if b.suspect != nil {
		b.run(ctx, [][]unit{{*b.suspect}}, looked)
	}
	for _, id := range s.hooks.unreadable() {
		s.o.Log.ErrorContext(ctx, "filter cannot be read; its hook is told of everything", slog.String("hook_id", id))
	}
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
	s *Service

	mu  sync.Mutex
	ids map[string]error // messages that must come again, and why

	// suspects are claimed rows whose last claim never ended: one of them may
	// have ended its process. suspect is the one that is attempted in this
	// batch, when the rest of it is done; the others are put off.
	suspects []unit
	suspect  *unit
}

// unit is one event on its way to one hook in this batch.
type unit struct {
	msg string // id of the message it came with
	h   hook.Hook
	ev  hook.Event
	// row is the unit's delivery row, claimed by this batch; nil for a first
	// attempt of a hook that needs no row before it.
	row *hook.Delivery
	// probe says that the attempt is to find out whether the receiver is back.
	probe bool
	// thrice: its message was received more than twice, so it may have ended
	// processes.
	thrice bool
}

// defiesBreaker reports whether the unit is attempted although its hook's breaker
// is open: as its probe, or because a person asked for it.
func (u unit) defiesBreaker() bool {
	return u.probe || u.row != nil && u.row.Run > 1 && u.row.Attempt == 0
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
			again := m.Receives > 1 || body.Again
			units, err := b.units(ctx, m.ID, body, again)
			for i := range units {
				units[i].thrice = m.Receives > 2
			}
			switch {
			case err != nil:
				b.fail(m.ID, err)
			case again:
				check = append(check, units...)
			default:
				fresh = append(fresh, units...)
			}
		}
	}
	for _, u := range b.claimAll(ctx, wakes) {
		if u.row.Tries > 1 {
			b.suspects = append(b.suspects, u)
			continue
		}
		chains = append(chains, []unit{u})
	}
	fresh = once(append(fresh, b.withoutRow(ctx, check)...), len(msgs))

	judged := map[string][]unit{}
	for _, u := range fresh {
		if u.h.ComparesChanges() || u.h.Snoozed() > 0 {
			judged[u.h.ID] = append(judged[u.h.ID], u)
			continue
		}
		if u.thrice && !b.claimFirst(ctx, &u) {
			continue
		}
		chains = append(chains, []unit{u})
	}
	return append(chains, b.admitAll(ctx, judged)...)
}

// units returns the units of a message's events. Those of a message with too many
// are sent on in smaller ones instead, before any attempt.
func (b *batch) units(ctx context.Context, msg string, body message.Message, again bool) ([]unit, error) {
	var units []unit
	var dropped, unheard match.Dropped // unheard: those of events that nobody wants
	wanted := make([][]string, len(body.Events))
	whole, all := body.Lo == "" && body.Hi == "", 0
	for i, ev := range body.Events {
		hooks, others := b.s.hooks.match(ev)
		hooks = notAbout(hooks, ev)
		if dropped.Add(others); len(hooks) == 0 {
			unheard.Add(others)
		}
		for _, h := range hooks {
			if h.ID < body.Lo || body.Hi != "" && h.ID >= body.Hi {
				continue // another piece of the event has this hook
			}
			wanted[i] = append(wanted[i], h.ID)
			if all++; all <= MaxUnits || !whole {
				units = append(units, unit{msg: msg, h: h, ev: ev})
			}
		}
	}
	if whole && all > MaxUnits {
		err := b.s.split(ctx, body.Events, wanted, again)
		if err == nil { // these events were not sent on, so nobody else counts them
			b.s.countDropped(unheard)
		}
		return nil, err
	}
	if body.Lo == "" { // else the first piece counts them
		b.s.countDropped(dropped)
	}
	return units, nil
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

// setAside chooses one of the suspects and parks the others, before anything is
// attempted: or one row that kills its process would take along those that are
// woken with it, again and again, until all of them have ended as crashed.
func (b *batch) setAside(ctx context.Context) {
	for i, u := range b.suspects {
		if i == 0 {
			b.suspect = &u
			continue
		}
		if err := b.s.park(ctx, u); err != nil {
			b.fail(u.msg, err)
		}
	}
}

// claimFirst stores the row of a first attempt before it is made, claimed (W1).
// Should the process die of it, the row carries the delivery from there, and its
// claims are counted; without one its message would take those that come with it
// along, until all are dead letters. It is false when there is nothing to
// attempt.
func (b *batch) claimFirst(ctx context.Context, u *unit) bool {
	d := b.s.claimedRow(ctx, u.h, u.ev)
	var created bool
	err := b.s.persist(ctx, "record delivery", func() (err error) {
		created, err = b.s.o.Store.CreateDelivery(ctx, d, b.s.nowMS())
		return err
	})
	if err != nil {
		b.fail(u.msg, err)
	}
	u.row = &d
	return created && err == nil
}

// run makes the attempts of all chains and records their outcomes. Their slots
// were read at looked or later.
func (b *batch) run(ctx context.Context, chains [][]unit, looked time.Time) {
	work, cancel := ctx, context.CancelFunc(func() {})
	if end, ok := ctx.Deadline(); ok {
		work, cancel = context.WithDeadline(ctx, end.Add(-Margin)) // time left to record outcomes
	}
	defer cancel()
	b.s.refreshBreakers(ctx, chains)
	var wg sync.WaitGroup
	for _, chain := range chains {
		wg.Go(func() {
			news := news{newest: chain[len(chain)-1].ev.ID, looked: looked}
			for _, u := range chain {
				if err := b.attempt(ctx, work, u, &news); err != nil {
					b.fail(u.msg, err)
				}
			}
		})
	}
	wg.Wait()
}

// attempt waits for a place, makes one attempt and records what came of it. ctx
// is the invocation's, work ends a margin before it; n is of the unit's chain.
func (b *batch) attempt(ctx, work context.Context, u unit, n *news) error {
	s := b.s
	if s.held(u) {
		return s.parkForBreaker(ctx, u)
	}
	place, ok := s.places.enter(work, u.h.ID)
	if !ok {
		return s.park(ctx, u)
	}
	defer place.leave()
	s.breakers.await(work, u.h)
	switch {
	case s.held(u): // it opened while the unit waited for a place
		return s.parkForBreaker(ctx, u)
	case !s.fits(work, u.h):
		return s.park(ctx, u)
	}
	// Now, not when it was claimed: it may have waited for its place, or behind
	// others of its slot, for as long as they took.
	switch old, err := s.behind(ctx, u, n); {
	case err != nil:
		return err // the claim stays: the sweep wakes the row when the lease is over
	case old:
		d := *u.row
		end(&d, hook.Superseded, hook.ReasonNewer, s.o.Now())
		if u.probe {
			defer s.passProbe(ctx, u.h.ID, u.h.Gen)
		}
		return s.write(ctx, u, d)
	}
	at := s.o.Now()
	place.begin()
	out := s.o.Action.Do(work, u.h, u.ev, at)
	place.end(out.Verdict == hook.Success || out.Code > 0 || !u.h.Calls())
	s.logged(ctx, u, out.Log)
	if out.Verdict == hook.Unmade {
		return s.park(ctx, u)
	}
	if out.Verdict != hook.Success && work.Err() != nil && out.Took < time.Duration(u.h.Config.TimeoutSeconds())*time.Second {
		// Cut off by the invocation's end, not by the receiver's fault. It
		// may have been received, so it counts as an attempt all the same.
		out.Error = "cut off: the function's time was up"
	}
	return s.settle(ctx, u, at, out)
}

// held reports whether an open breaker keeps the unit from being attempted.
func (s *Service) held(u unit) bool { return !u.defiesBreaker() && s.breakers.open(u.h) }

// fits reports whether the time left is enough for an attempt of the hook.
func (s *Service) fits(work context.Context, h hook.Hook) bool {
	end, has := work.Deadline()
	return !has || end.Sub(s.o.Now()) >= time.Duration(h.Config.TimeoutSeconds())*time.Second
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
