package deliver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// wakeUp is a wake-up and the id of its message.
type wakeUp struct {
	msg  string
	wake hook.Wake
}

// claimAll claims what the wake-ups are about, all at once: a batch has few.
func (b *batch) claimAll(ctx context.Context, wakes []wakeUp) []unit {
	claimed := make([]*unit, len(wakes))
	var wg sync.WaitGroup
	for i, w := range wakes {
		wg.Go(func() {
			if u, ok := b.claim(ctx, w.msg, w.wake); ok {
				claimed[i] = &u
			}
		})
	}
	wg.Wait()
	var units []unit
	for _, u := range claimed {
		if u != nil {
			units = append(units, *u)
		}
	}
	return units
}

// claim takes the row that a wake-up is about. It is false when there is
// nothing to attempt: the wake-up is an old one, or the delivery ended here.
func (b *batch) claim(ctx context.Context, msg string, w hook.Wake) (unit, bool) {
	s := b.s
	var d hook.Delivery
	err := s.persist(ctx, "claim delivery", func() (err error) {
		d, err = s.o.Store.ClaimDelivery(ctx, w, s.leaseMS(ctx), s.nowMS()) // W2
		return err
	})
	if errors.Is(err, hook.ErrStale) {
		if h, ok := s.hooks.hook(w.HookID); ok && w.Probe { // another wake-up of the row came first: it was no probe
			s.passProbe(ctx, h.ID, h.Gen)
		}
		return unit{}, false
	}
	if err != nil {
		b.fail(msg, err)
		return unit{}, false
	}
	u := unit{msg: msg, ev: d.Event, row: &d, h: hook.Hook{ID: d.HookID}, probe: w.Probe}

	h, status, reason, err := s.standing(ctx, d)
	if err != nil {
		// The claim stays: the sweep wakes the row when the lease is over.
		b.fail(msg, err)
		return unit{}, false
	}
	if h.ID != "" { // else it is gone
		u.h = h
	}
	if status != hook.Pending {
		ended := d
		end(&ended, status, reason, s.o.Now())
		if err := s.write(ctx, u, ended); err != nil {
			b.fail(msg, err)
		}
		if w.Probe {
			s.passProbe(ctx, d.HookID, d.Gen)
		}
		return unit{}, false
	}
	return u, true
}

// standing says whether a claimed delivery may be attempted: pending, or how it
// ends and why.
func (s *Service) standing(ctx context.Context, d hook.Delivery) (h hook.Hook, status hook.Status, reason string, err error) {
	switch {
	case d.DeadlineMS < s.nowMS():
		return h, hook.Failed, hook.ReasonExpired, nil
	case d.Tries > MaxTries:
		return h, hook.Failed, hook.ReasonCrashed, nil
	}
	h, status, reason, err = s.hookOf(ctx, d.HookID, d.Gen)
	if status != hook.Pending {
		return h, status, reason, err
	}
	if !h.Enabled {
		return h, hook.Failed, hook.ReasonHookOff, nil
	}
	if d.SlotKey != "" && d.Run == 1 {
		slots, err := s.o.Store.Slots(ctx, d.HookID, []string{d.SlotKey}, s.nowMS())
		if err != nil {
			return h, "", "", fmt.Errorf("read slot: %w", err)
		}
		if slots[d.SlotKey].By > d.Event.ID {
			return h, hook.Superseded, hook.ReasonNewer, nil
		}
	}
	return h, hook.Pending, "", nil
}

// hookOf returns the hook that something belongs to: pending when it is there,
// or how what belongs to it ends and why.
func (s *Service) hookOf(ctx context.Context, id string, gen int64) (h hook.Hook, status hook.Status, reason string, err error) {
	h, ok := s.hooks.hook(id)
	if ok && h.Gen == gen {
		return h, hook.Pending, "", nil
	}
	// Read consistently before anything ends because its hook is gone.
	r, err := s.o.Store.Get(ctx, hook.KindHook, id, s.nowMS())
	switch {
	case errors.Is(err, hook.ErrNotFound):
		return h, hook.Failed, hook.ReasonHookDeleted, nil
	case err != nil:
		return h, "", "", fmt.Errorf("read hook %s: %w", id, err)
	}
	if h, err = record.ToHook(r); err != nil {
		return h, "", "", err
	}
	if h.Gen != gen {
		return h, hook.Failed, hook.ReasonHookDeleted, nil
	}
	return h, hook.Pending, "", nil
}

// news is what is known of the slot of a chain.
type news struct {
	newest string    // the last event of the chain
	looked time.Time // when the slot was last read
	old    bool      // something newer than the chain was admitted
}

// newsAge is how old what is known of a slot may be when an event is told.
const newsAge = time.Second

// behind reports whether an event of the unit's slot that is newer than all of
// its chain was admitted meanwhile: telling this one after it would be old news.
func (s *Service) behind(ctx context.Context, u unit, n *news) (bool, error) {
	now := s.o.Now()
	if u.row == nil || u.row.SlotKey == "" || u.row.Run > 1 {
		return false, nil
	}
	if n.old || now.Sub(n.looked) < newsAge {
		return n.old, nil
	}
	slots, err := s.o.Store.Slots(ctx, u.row.HookID, []string{u.row.SlotKey}, now.UnixMilli())
	if err != nil {
		return false, fmt.Errorf("read slot: %w", err)
	}
	n.looked, n.old = now, slots[u.row.SlotKey].By > n.newest
	return n.old, nil
}
