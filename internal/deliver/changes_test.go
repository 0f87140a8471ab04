package deliver_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
)

// heard returns the data of the events that were attempted, in order, and forgets
// them.
func (w *world) heard(evs []hook.Event) string {
	data := map[string]string{}
	for _, ev := range evs {
		data[ev.ID] = string(ev.Data)
	}
	w.action.mu.Lock()
	defer w.action.mu.Unlock()
	var out []string
	for _, c := range w.action.calls {
		out = append(out, data[c.key.EventID])
	}
	w.action.calls = nil
	return strings.Join(out, " ")
}

// health makes an event of a target.
func (w *world) health(ip, health string) hook.Event {
	ev := w.event(fmt.Sprintf(`{"ip":%q,"health":%q}`, ip, health))
	ev.Source, ev.Event = "balancer", "health"
	return ev
}

func TestChanges(t *testing.T) {
	hour, yes := int64(3600), true
	snooze := func(h *hook.Hook) { h.Snooze = &hour }
	change := func(h *hook.Hook) { h.OnChange = &yes }
	both := func(h *hook.Hook) { snooze(h); change(h) }
	onHealth := func(edit func(*hook.Hook)) func(*hook.Hook) {
		return func(h *hook.Hook) { edit(h); h.Source, h.Event = "balancer", "health" }
	}

	t.Run("numbers, strings and booleans that look alike are different events", func(t *testing.T) {
		for name, edit := range map[string]func(*hook.Hook){"snooze": snooze, "on_change": change, "both": both} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				w.hook(edit)
				var evs []hook.Event
				for _, v := range []string{`1`, `"1"`, `1.0`, `true`, `"true"`, `null`, `"null"`, `0`, `false`, `""`, `[]`, `{}`, `1e0`, `-0`} {
					evs = append(evs, w.event(`{"v":`+v+`}`), w.event(`{"v":`+v+`}`))
				}
				for _, ev := range evs {
					w.post(ev)
					w.settle()
				}
				if n := w.action.count(); n != len(evs)/2 {
					t.Errorf("%d of %d events were told; want each once: %s", n, len(evs)/2, w.heard(evs))
				}
			})
		}
	})
	t.Run("two targets that flap in turn are told each time they change, and no more", func(t *testing.T) {
		for name, packed := range map[string]bool{"one by one": false, "in one message": true} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				w.hook(onHealth(change))
				evs := []hook.Event{
					w.health("1", "down"), w.health("2", "up"), w.health("1", "down"), w.health("2", "up"),
					w.health("1", "up"), w.health("2", "up"), w.health("1", "up"), w.health("2", "down"),
				}
				if packed {
					w.post(evs...)
					w.settle()
				} else {
					for _, ev := range evs {
						w.post(ev)
						w.settle()
					}
				}
				if n := w.action.count(); n != 4 {
					t.Errorf("%d were told; want 4: %s", n, w.heard(evs))
				}
			})
		}
	})
	t.Run("one target's failed delivery does not silence it, nor wake the other", func(t *testing.T) {
		w := newWorld(t)
		w.hook(func(h *hook.Hook) { onHealth(both)(h); h.Retry.MaxAttempts = 1 })
		evs := []hook.Event{w.health("1", "down"), w.health("2", "down"), w.health("1", "down"), w.health("2", "down")}
		w.action.answers = fails(1)
		for _, ev := range evs {
			w.post(ev)
			w.settle()
		}
		want := strings.Join([]string{string(evs[0].Data), string(evs[1].Data), string(evs[2].Data)}, " ")
		if got := w.heard(evs); got != want {
			t.Errorf("told %s; want %s", got, want)
		}
	})
	t.Run("an older event that comes after a newer unchanged one is stale", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(change)
		evs := []hook.Event{w.event(`{"n":1}`), w.event(`{"n":2}`), w.event(`{"n":1}`)}
		for _, i := range []int{0, 2, 1} {
			w.post(evs[i])
			w.settle()
		}
		w.noRow(h, evs[1])
		w.noRow(h, evs[2])
		next := w.event(`{"n":2}`) // and it was not news for the slot
		w.post(next)
		w.settle()
		w.wantStatus(h, next, hook.Delivered, "", 1)
	})
	t.Run("all that wait behind a newer event are superseded, and that one is told", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(change)
		var evs []hook.Event
		for n := range 4 {
			evs = append(evs, w.event(fmt.Sprintf(`{"n":%d}`, n)))
		}
		w.action.answers = fails(4)
		w.post(evs...)
		w.settle()
		w.run(time.Minute)
		for _, ev := range evs[:3] {
			w.wantStatus(h, ev, hook.Superseded, hook.ReasonNewer, 1)
		}
		w.wantStatus(h, evs[3], hook.Delivered, "", 2)
	})
	t.Run("one that waits is superseded although the newer one failed", func(t *testing.T) {
		// The receiver would take it for the newest news.
		w := newWorld(t)
		h := w.hook(func(h *hook.Hook) { change(h); h.Retry.MaxAttempts = 2 })
		a, b := w.event(`{"n":1}`), w.event(`{"n":2}`)
		w.action.answers = []hook.Outcome{fails(1)[0], {Verdict: hook.Final, Reason: hook.ReasonUnrendered}}
		w.post(a)
		w.settle()
		w.post(b)
		w.settle()
		w.run(time.Minute)
		w.wantStatus(h, b, hook.Failed, hook.ReasonUnrendered, 1)
		w.wantStatus(h, a, hook.Superseded, hook.ReasonNewer, 1)
		same := w.event(`{"n":2}`)
		w.post(same)
		w.settle()
		w.wantStatus(h, same, hook.Delivered, "", 1)
	})
	t.Run("a delivery that is superseded gives its window back: nobody was told", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(both)
		w.action.answers = fails(1)
		down, up, again := w.event(`{"health":"down"}`), w.event(`{"health":"up"}`), w.event(`{"health":"down"}`)
		w.post(down)
		w.settle()
		w.post(up)
		w.run(time.Minute)
		w.wantStatus(h, down, hook.Superseded, hook.ReasonNewer, 1)
		w.wantStatus(h, up, hook.Delivered, "", 1)
		w.post(again)
		w.settle()
		w.wantStatus(h, again, hook.Delivered, "", 1)
	})
	t.Run("an event whose window was given back is told before a newer one of its slot", func(t *testing.T) {
		// The process still believes that the window is open.
		w := newWorld(t)
		h := w.hook(func(h *hook.Hook) { both(h); h.Retry.MaxAttempts = 1 })
		w.action.answers = fails(1)
		w.post(w.event(`{"health":"down"}`))
		w.settle()
		down, up := w.event(`{"health":"down"}`), w.event(`{"health":"up"}`)
		w.post(down, up)
		w.settle()
		w.wantStatus(h, down, hook.Delivered, "", 1)
		w.wantStatus(h, up, hook.Delivered, "", 1)
	})
	t.Run("so is one whose window was ended by hand", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(both)
		down := w.event(`{"health":"down"}`)
		for _, ev := range []hook.Event{down, w.event(`{"health":"up"}`)} {
			w.post(ev)
			w.settle()
		}
		d := w.row(h, down)
		if ended, err := w.store.EndSnooze(t.Context(), h.ID, d.SnoozeKey, w.clock().UnixMilli()); err != nil || !ended {
			t.Fatal(ended, err)
		}
		again := w.event(`{"health":"down"}`)
		w.post(again, w.event(`{"health":"other"}`))
		w.settle()
		w.wantStatus(h, again, hook.Delivered, "", 1)
	})
	t.Run("what a redelivery failed at is given back once, by the event that holds it", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(func(h *hook.Hook) { both(h); h.Retry.MaxAttempts = 1 })
		a := w.event(`{"n":1}`)
		w.action.answers = fails(1)
		w.post(a)
		w.settle() // failed, and given back
		b := w.event(`{"n":1}`)
		w.post(b)
		w.settle() // opens the window anew
		w.wantStatus(h, b, hook.Delivered, "", 1)
		w.action.mu.Lock()
		w.action.answers = fails(1)
		w.action.mu.Unlock()
		w.again(w.row(h, a))
		w.run(5 * time.Minute)
		w.wantStatus(h, a, hook.Failed, hook.ReasonExhausted, 2)
		c := w.event(`{"n":1}`)
		w.post(c)
		w.settle()
		w.noRow(h, c) // b's window, and b's slot
	})
	t.Run("an event waits for its place no longer than the news is new", func(t *testing.T) {
		// While it waits another process admits a newer one, and tells it.
		w := newWorld(t)
		h := w.hook(change)
		older, old, newer := w.event(`{"n":0}`), w.event(`{"n":1}`), w.event(`{"n":2}`)
		slow := &pausing{Store: w.o.Store}
		other, err := deliver.New(w.o)
		if err != nil {
			t.Fatal(err)
		}
		w.o.Store = slow
		w.restart()
		slow.after = func() {
			w.advance(2 * time.Second) // it waits for a place
			other.Deliver(w.ctx, []hook.Received{{ID: "2", Body: packed(newer), Receives: 1}})
		}
		w.first(packed(older, old))
		w.wantStatus(h, newer, hook.Delivered, "", 1)
		if got, want := w.heard([]hook.Event{older, old, newer}), string(newer.Data); got != want {
			t.Errorf("told %s; want only %s", got, want)
		}
		w.wantStatus(h, older, hook.Superseded, hook.ReasonNewer, 0)
		w.wantStatus(h, old, hook.Superseded, hook.ReasonNewer, 0)
	})
}

// pausing is a store that does something right after an admission, once.
type pausing struct {
	deliver.Store
	after func()
	did   atomic.Bool
}

func (s *pausing) Admit(ctx context.Context, a hook.Admission) error {
	err := s.Store.Admit(ctx, a)
	if !s.did.Swap(true) {
		s.after()
	}
	return err
}
