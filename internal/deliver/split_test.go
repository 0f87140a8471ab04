package deliver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// hooks stores n hooks for source s, event e.
func (w *world) hooks(n int) []hook.Hook {
	w.t.Helper()
	out := make([]hook.Hook, n)
	for i := range out {
		out[i] = w.hook(nil)
	}
	return out
}

// queued returns what is on the queue of events, and leaves it there.
func (w *world) queued() (out []message.Message) {
	w.t.Helper()
	var bodies []hook.Message
	for {
		msgs, err := w.events.Receive(w.t.Context(), 10, visibility, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(msgs) == 0 {
			break
		}
		for _, m := range msgs {
			body, err := message.Decode(m.Body)
			if err != nil {
				w.t.Fatal(err)
			}
			out = append(out, body)
			bodies = append(bodies, hook.Message{Body: m.Body})
			if err := w.events.Delete(w.t.Context(), m.Receipt); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if _, err := w.events.Send(w.t.Context(), bodies); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// firstStep hands over what is visible on the queue of events, once.
func (w *world) firstStep() {
	w.t.Helper()
	msgs, err := w.events.Receive(w.t.Context(), 5, visibility, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	failed := w.svc.Deliver(w.ctx, msgs)
	for _, m := range msgs {
		if !slices.Contains(failed, m.ID) && !w.fault.dead() {
			if err := w.events.Delete(w.t.Context(), m.Receipt); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func TestDeliver_split(t *testing.T) {
	// once checks that every hook was told of every event, once.
	once := func(t *testing.T, w *world, hooks []hook.Hook, evs []hook.Event) {
		t.Helper()
		seen := map[hook.DeliveryKey]int{}
		for _, c := range w.action.calls {
			seen[c.key]++
		}
		for _, h := range hooks {
			for _, ev := range evs {
				if n := seen[hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}]; n != 1 {
					t.Fatalf("%s told %d times of %s; want once", h.ID, n, ev.ID)
				}
			}
		}
	}
	t.Run("a message with as many units as fit is not split", func(t *testing.T) {
		w := newWorld(t)
		hooks, evs := w.hooks(deliver.MaxUnits/4), w.many(4)
		w.post(evs...)
		w.firstStep()
		once(t, w, hooks, evs)
	})
	t.Run("one with more is, before any attempt: whole events as long as they fit", func(t *testing.T) {
		w := newWorld(t)
		hooks, evs := w.hooks(deliver.MaxUnits/4), w.many(11)
		w.post(evs...)
		w.firstStep()
		if w.action.count() != 0 {
			t.Errorf("%d attempts; want none before it is split", w.action.count())
		}
		var sizes []int
		for _, m := range w.queued() {
			sizes = append(sizes, len(m.Events))
			if m.Lo != "" || m.Hi != "" || m.Again {
				t.Errorf("message = %+v; want whole events, sent for the first time", m)
			}
		}
		slices.Sort(sizes)
		if !slices.Equal(sizes, []int{3, 4, 4}) {
			t.Errorf("messages of %v events; want 4, 4 and 3", sizes)
		}
		w.settle()
		once(t, w, hooks, evs)
	})
	t.Run("an event that too many hooks want goes in pieces that leave no hook out", func(t *testing.T) {
		w := newWorld(t)
		hooks := w.hooks(2*deliver.MaxUnits + 50)
		ev := w.event(`{}`)
		w.post(ev, w.event(`{}`))
		w.firstStep()
		pieces := map[string][]message.Message{}
		for _, m := range w.queued() {
			pieces[m.Events[0].ID] = append(pieces[m.Events[0].ID], m)
		}
		for id, ms := range pieces {
			slices.SortFunc(ms, func(a, b message.Message) int { return strings.Compare(a.Lo, b.Lo) })
			if len(ms) != 3 || ms[0].Lo != "" || ms[2].Hi != "" || ms[0].Hi != ms[1].Lo || ms[1].Hi != ms[2].Lo {
				t.Errorf("pieces of %s = %+v; want three that follow on each other, without an end", id, ms)
			}
		}
		// Made after the event was divided, it is in one of the pieces.
		late := w.hook(nil)
		w.settle()
		once(t, w, append(hooks, late), []hook.Event{ev})
	})
	t.Run("a piece is never split again", func(t *testing.T) {
		w := newWorld(t)
		hooks := w.hooks(deliver.MaxUnits + 10)
		ev := w.event(`{}`)
		body := message.Piece(ev, hooks[0].ID, "")
		w.svc.Deliver(w.ctx, []hook.Received{{ID: "1", Body: body, Receives: 1}})
		once(t, w, hooks, []hook.Event{ev})
	})
	t.Run("a message that came again is split into such as came again", func(t *testing.T) {
		w := newWorld(t)
		hooks := w.hooks(deliver.MaxUnits + 10)
		ev := w.event(`{}`)
		w.svc.Deliver(w.ctx, []hook.Received{{ID: "1", Body: message.Pack([]hook.Event{ev})[0].Body, Receives: 2}})
		for _, m := range w.queued() {
			if !m.Again {
				t.Errorf("piece %s-%s is not marked; want that its rows are read first", m.Lo, m.Hi)
			}
		}
		w.settle()
		once(t, w, hooks, []hook.Event{ev})
	})
	t.Run("what the queue did not take is sent again, and nothing else", func(t *testing.T) {
		w := newWorld(t)
		hooks, ev := w.hooks(5*deliver.MaxUnits), w.event(`{}`)
		queue := &picky{Queue: w.events}
		w.o.Events = queue
		w.restart()
		w.post(ev)
		w.firstStep()
		if n, sent := len(w.queued()), queue.sent.Load(); n != 5 || sent != 5+2 {
			t.Errorf("%d pieces queued, %d sent; want 5, and 2 of them twice", n, sent)
		}
		w.settle()
		once(t, w, hooks, []hook.Event{ev})
	})
	t.Run("hooks that are not told are counted once", func(t *testing.T) {
		w := newWorld(t)
		counts := w.counts()
		w.hooks(deliver.MaxUnits + 50)
		for range 7 {
			w.hook(func(h *hook.Hook) { h.Enabled = false })
		}
		w.post(w.event(`{}`))
		w.settle()
		if got := counts(); got["NotToldDisabled"] != 7 || got["MessagesSplit"] != 2 {
			t.Errorf("counts = %v; want 7 hooks that are disabled, and 2 pieces", got)
		}
	})
	t.Run("so are those of an event that nobody wants beside others", func(t *testing.T) {
		w := newWorld(t)
		counts := w.counts()
		w.hooks(deliver.MaxUnits/2 + 1)
		for range 7 {
			w.hook(func(h *hook.Hook) { h.Event, h.Enabled = "other", false })
		}
		other := w.event(`{}`)
		other.Event = "other"
		w.post(append(w.many(2), other)...)
		w.settle()
		if got := counts(); got["NotToldDisabled"] != 7 || got["MessagesSplit"] != 2 {
			t.Errorf("counts = %v; want 7 hooks that are disabled, and 2 messages", got)
		}
	})
	t.Run("but not as long as it is not split", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			counts := w.counts()
			w.hooks(deliver.MaxUnits + 1)
			w.hook(func(h *hook.Hook) { h.Event, h.Enabled = "other", false })
			other := w.event(`{}`)
			other.Event = "other"
			w.post(w.event(`{}`), other)
			w.fault.trouble = func(_ int, name string) (bool, error) {
				if name == "send:events" {
					return false, errLost
				}
				return false, nil
			}
			w.settle()
			if n := counts()["NotToldDisabled"]; n != 0 {
				t.Errorf("%d counted; want none: the message comes again", n)
			}
			w.fault.trouble = nil
			w.advance(visibility)
			w.settle()
			if n := counts()["NotToldDisabled"]; n != 1 {
				t.Errorf("%d counted in the end; want 1", n)
			}
		})
	})
	t.Run("events that nobody wants are not sent on", func(t *testing.T) {
		w := newWorld(t)
		w.hooks(deliver.MaxUnits + 1)
		other := w.event(`{}`)
		other.Event = "other"
		w.post(w.event(`{}`), other)
		w.firstStep()
		for _, m := range w.queued() {
			for _, ev := range m.Events {
				if ev.ID == other.ID {
					t.Error("an event that nobody wants was sent on")
				}
			}
		}
	})
}

// Whatever dies while a message is split, every hook is told of every event.
func TestDeliver_splitAndCrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; at <= 4; at++ {
			t.Run(fmt.Sprintf("effect %d, after it: %v", at, after), func(t *testing.T) {
				w := newWorld(t)
				hooks, evs := w.hooks(deliver.MaxUnits/2), w.many(9)
				w.post(evs...)
				w.fault.at, w.fault.after = at, after
				w.settle()
				if !w.fault.dead() {
					t.Fatalf("effects = %s; want a death", w.fault.names())
				}
				w.fault.revive()
				w.restart()
				w.advance(visibility)
				w.settle()
				for _, h := range hooks {
					for _, ev := range evs {
						w.wantStatus(h, ev, hook.Delivered, "", 1)
					}
				}
				if n := w.deadLetters(); n > 0 {
					t.Errorf("%d dead letters; want none", n)
				}
			})
		}
	}
}
