package deliver_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventhooks/internal/deliver"
	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
)

var (
	blocked = hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonBlocked, Error: "the address is private"}
	gone    = hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonGone, Code: 410, Error: "the receiver answered 410 Gone"}
)

// operator is a hook that listens to one event of the system's.
func (w *world) operator(event string) hook.Hook {
	return w.hook(func(h *hook.Hook) { h.Source, h.Event = hook.SystemSource, event })
}

// dieBefore makes the process die instead of its next write of that name.
func (w *world) dieBefore(name string) {
	w.fault.trouble = func(n int, is string) (bool, error) {
		if is == name {
			w.fault.trouble, w.fault.at = nil, n
		}
		return false, nil
	}
}

// reborn wants that the process has died, and begins another.
func (w *world) reborn() {
	w.t.Helper()
	if !w.fault.dead() {
		w.t.Fatalf("effects = %s; want a death", w.fault.names())
	}
	w.fault.revive()
	w.restart()
}

// always is an Action with one answer.
type always hook.Outcome

func (a always) Do(context.Context, hook.Hook, hook.Event, time.Time) hook.Outcome {
	return hook.Outcome(a)
}

// apart makes a process that may run inside an effect of this one: none of its
// own is counted.
func (w *world) apart(a deliver.Action) func(*deliver.Options) {
	return func(o *deliver.Options) { o.Store, o.Events, o.Retry, o.Action = w.store, w.events, w.retry, a }
}

func TestTell_once(t *testing.T) {
	t.Run("a crash between telling that a breaker opens and opening it", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("breaker-opened")
		h := w.hook(nil)
		w.fail(r, h, deliver.BreakerFailures-1)
		w.dieBefore("W12")
		w.fail(r, h, 1)
		w.reborn()
		w.advance(time.Minute)
		w.fail(r, h, 1)
		w.settle()
		if n := len(r.of(operator)); n != 1 || w.breaker(h).State != hook.BreakerOpen {
			t.Errorf("told %d times, breaker %+v; want once, and it open", n, w.breaker(h))
		}
	})
	t.Run("a crash between telling that a breaker closes and closing it", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("breaker-closed")
		h := w.hook(nil)
		evs := w.trip(r, h)
		r.revive(h)
		w.redeliver(h, evs[0])
		w.dieBefore("W12")
		w.step()
		w.reborn()
		w.advance(time.Minute)
		w.redeliver(h, evs[1])
		w.settle()
		if n := len(r.of(operator)); n != 1 || w.breaker(h).State != hook.BreakerReleasing {
			t.Errorf("told %d times, breaker %+v; want once, and it releasing", n, w.breaker(h))
		}
	})
	t.Run("two processes that close one breaker", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("breaker-closed")
		h := w.hook(nil)
		evs := w.trip(r, h)
		r.revive(h)
		other := w.another(w.apart(always{Verdict: hook.Success, Code: 200}))
		w.redeliver(h, evs[0])
		w.fault.trouble = func(_ int, name string) (bool, error) {
			if name == "W12" { // told, and not closed yet
				w.fault.trouble = nil
				w.advance(time.Second)
				w.redeliver(h, evs[1])
				other.Deliver(t.Context(), []hook.Received{{ID: "1", Receives: 1, Body: w.wakeUp(h, evs[1])}})
			}
			return false, nil
		}
		w.settle()
		if n := len(r.of(operator)); n != 1 || w.breaker(h).State != hook.BreakerReleasing {
			t.Errorf("told %d times, breaker %+v; want once, and it releasing", n, w.breaker(h))
		}
	})
	t.Run("a crash between telling that a hook is disabled and disabling it", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("hook-disabled")
		h := w.hook(nil)
		r.kill(h, gone)
		w.post(w.event(`{}`))
		w.dieBefore("W8")
		w.step()
		w.reborn()
		w.advance(time.Minute)
		w.post(w.event(`{}`))
		w.settle()
		if n := len(r.of(operator)); n != 1 || w.stored(h).Enabled {
			t.Errorf("told %d times, enabled %v; want once, and it disabled", n, w.stored(h).Enabled)
		}
	})
	t.Run("two processes that disable one hook", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("hook-disabled")
		h := w.hook(nil)
		r.kill(h, gone)
		other := w.another(w.apart(always(gone)))
		w.fault.trouble = func(_ int, name string) (bool, error) {
			if name == "W8" {
				w.fault.trouble = nil
				w.advance(3 * time.Second)
				w.hears(other, w.event(`{}`))
			}
			return false, nil
		}
		w.post(w.event(`{}`))
		w.settle()
		if n := len(r.of(operator)); n != 1 || w.stored(h).Enabled {
			t.Errorf("told %d times, enabled %v; want once, and it disabled", n, w.stored(h).Enabled)
		}
	})
	t.Run("what is told twice is attempted once", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("delivery-failed")
		h := w.hook(nil)
		r.kill(h, blocked)
		ev := w.event(`{}`)
		w.post(ev)
		w.dieBefore("W1") // of the delivery that failed
		w.firstStep()
		w.reborn()
		w.settle()
		w.advance(visibility)
		w.settle()
		w.wantStatus(h, ev, hook.Failed, hook.ReasonBlocked, 1)
		if n := len(r.of(operator)); n != 1 {
			t.Errorf("attempted %d times; want once", n)
		}
	})
}

func TestTell_each(t *testing.T) {
	t.Run("opening, of two hooks at the same moment", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("breaker-opened")
		a, b := w.hook(nil), w.hook(func(h *hook.Hook) { h.Source = "other" })
		r.kill(a, unavailable)
		r.kill(b, unavailable)
		for range deliver.BreakerFailures {
			ev, other := w.event(`{}`), w.event(`{}`)
			other.Source = "other"
			w.post(ev, other)
			w.settle()
		}
		if n := len(r.of(operator)); n != 2 {
			t.Errorf("told %d times; want twice", n)
		}
	})
	t.Run("opening and closing, also while it releases", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.hook(func(h *hook.Hook) { h.Source, h.Event = hook.SystemSource, "" })
		h := w.releasing(r, 30)
		w.advance(20 * time.Minute)
		w.fail(r, h, deliver.BreakerFailures)
		w.settle()
		r.revive(h)
		w.sweep()
		if got := w.told(operator); len(got["breaker-opened"]) != 2 || len(got["breaker-closed"]) != 2 || got["breaker-opened"][0]["since"] == got["breaker-opened"][1]["since"] {
			t.Errorf("told %v; want two openings, at two times, and two closings", got)
		}
	})
	t.Run("opening and closing within a moment", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.hook(listens)
		h := w.hook(nil)
		evs := w.trip(r, h)
		r.revive(h)
		w.redeliver(h, evs[0])
		w.settle()
		if got := w.told(operator); len(got["breaker-opened"]) != 1 || len(got["breaker-closed"]) != 1 {
			t.Errorf("told %v; want one opening and one closing", got)
		}
	})
	t.Run("a hook that is enabled again, and disabled, within a second", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("hook-disabled")
		h := w.hook(nil)
		r.kill(h, gone)
		for range 3 { // the last two of versions of the same second
			w.post(w.event(`{}`))
			w.settle()
			is := w.stored(h)
			if is.Enabled {
				t.Fatal("enabled; want it disabled")
			}
			is.Enabled, is.DisabledReason = true, ""
			w.put(is, is.Changed)
		}
		if n := len(r.of(operator)); n != 3 {
			t.Errorf("told %d times; want three", n)
		}
	})
	t.Run("deliveries that fail at the same moment, and runs of one", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("delivery-failed")
		h := w.hook(nil)
		r.kill(h, blocked)
		evs := w.many(3)
		w.post(evs...)
		w.settle()
		if n := len(r.of(operator)); n != 3 {
			t.Errorf("told %d times; want three", n)
		}
		for range 2 {
			w.redeliver(h, evs[0])
			w.settle()
		}
		if n := len(r.of(operator)); n != 2 {
			t.Errorf("told %d times of two more runs; want twice", n)
		}
	})
	t.Run("a delivery's end is dated when its attempt was due, not when its event came", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("delivery-failed")
		h := w.hook(nil)
		r.kill(h, blocked)
		ev := w.event(`{}`)
		w.post(ev)
		w.settle()
		r.of(operator)
		w.advance(24 * time.Hour)
		w.redeliver(h, ev)
		due := w.row(h, ev).DueMS
		w.advance(time.Minute)
		w.settle()
		calls := r.of(operator)
		if len(calls) != 1 {
			t.Fatalf("told %d times; want once", len(calls))
		}
		if ms, _ := eventid.Time(calls[0].key.EventID); ms != due {
			t.Errorf("dated %v; want %v", time.UnixMilli(ms).UTC(), time.UnixMilli(due).UTC())
		}
	})
}

func TestTell_whom(t *testing.T) {
	t.Run("everyone but the hook that it is about", func(t *testing.T) {
		w, r := newReceivers(t)
		sick, well := w.hook(listens), w.hook(listens)
		h := w.hook(nil)
		r.kill(h, blocked)
		r.kill(sick, unavailable)
		w.post(w.many(deliver.BreakerFailures)...)
		w.settle()
		if b := w.breaker(sick); b.State != hook.BreakerOpen {
			t.Fatalf("breaker = %+v; want it open", b)
		}
		if got := w.told(well)["breaker-opened"]; len(got) != 1 || got[0]["hook_id"] != sick.ID {
			t.Errorf("told %v; want that the breaker of %s opened", got, sick.ID)
		}
		if got := w.told(sick)["breaker-opened"]; len(got) != 0 {
			t.Errorf("told %v of itself; want nothing", got)
		}
	})
	t.Run("nobody of another workspace", func(t *testing.T) {
		w, r := newReceivers(t)
		in := func(name string) func(*hook.Hook) {
			return func(h *hook.Hook) { h.Source, h.Event, h.Workspace = hook.SystemSource, "", name }
		}
		ours, theirs := w.hook(in("ours")), w.hook(in("theirs"))
		h := w.hook(func(h *hook.Hook) { h.Workspace = "ours" })
		every := w.hook(func(h *hook.Hook) { h.Event = "every" }) // of all workspaces
		post := func(event string) {
			ev := w.event(`{}`)
			ev.Event, ev.Workspace = event, "ours"
			w.post(ev)
			w.settle()
		}
		r.kill(h, unavailable)
		for range deliver.BreakerFailures {
			post("e")
		}
		r.kill(every, blocked)
		post("every")
		if got := w.told(ours); len(got["breaker-opened"]) != 1 || len(got["delivery-failed"]) != 1 {
			t.Errorf("told %v; want of the breaker and of the delivery", got)
		}
		if got := w.told(theirs); len(got) != 0 {
			t.Errorf("told %v; want nothing", got)
		}
	})
	t.Run("nobody of what a function raised", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.hook(listens)
		h := w.hook(func(h *hook.Hook) {
			h.Handler, h.Config = hook.HandlerLambda, hook.Config{Functions: []string{`return function() end`}}
			h.Retry.MaxAttempts = 1
		})
		r.kill(h, hook.Outcome{Verdict: hook.Retryable, Error: "raised: the password is hunter2"})
		w.post(w.many(deliver.BreakerFailures)...)
		w.settle()
		got := w.told(operator)
		if len(got["breaker-opened"]) != 1 || len(got["delivery-failed"]) != deliver.BreakerFailures {
			t.Errorf("told %v; want of the breaker and of ten deliveries", got)
		}
		if s := fmt.Sprint(got); strings.Contains(s, "hunter2") || !strings.Contains(s, "the function failed") {
			t.Errorf("told %s; want only that the function failed", s)
		}
	})
}

func TestDisable(t *testing.T) {
	edit := func(w *world, h hook.Hook) {
		edited := h
		edited.Config.URL = "https://moved.example.test/"
		w.put(edited, h.Changed)
	}
	t.Run("a hook that was edited during the attempt is not told of", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.operator("hook-disabled")
		h := w.hook(nil)
		r.kill(h, gone)
		w.o.Action = &interrupted{Action: r, do: func() { edit(w, h) }}
		w.restart()
		w.post(w.event(`{}`))
		w.settle()
		if n := len(r.of(operator)); n != 0 || !w.stored(h).Enabled {
			t.Errorf("told %d times, enabled %v; want nothing, and it enabled", n, w.stored(h).Enabled)
		}
	})
	t.Run("one that is edited between telling and disabling stays as it was edited", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		r.kill(h, gone)
		w.fault.trouble = func(_ int, name string) (bool, error) {
			if name == "W8" {
				w.fault.trouble = nil
				edit(w, h)
			}
			return false, nil
		}
		w.post(w.event(`{}`))
		w.settle()
		if got := w.stored(h); !got.Enabled || got.Config.URL != "https://moved.example.test/" {
			t.Errorf("hook = %v at %s; want the edited one, enabled", got.Enabled, got.Config.URL)
		}
	})
	t.Run("what could not be written is tried again with the next 410", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		r.kill(h, gone)
		w.fault.trouble = func(_ int, name string) (bool, error) {
			if name == "W8" {
				return false, errLost
			}
			return false, nil
		}
		w.post(w.event(`{}`))
		w.settle()
		w.fault.trouble = nil
		w.post(w.event(`{}`))
		w.settle()
		if w.stored(h).Enabled {
			t.Error("enabled; want it disabled")
		}
	})
}

// picky is a queue that takes only every second message of the first request.
type picky struct {
	deliver.Queue
	refused atomic.Bool
	sent    atomic.Int64 // messages, with those that it did not take
}

func (q *picky) Send(ctx context.Context, msgs []hook.Message) (failed []int, err error) {
	q.sent.Add(int64(len(msgs)))
	if q.refused.Swap(true) {
		return q.Queue.Send(ctx, msgs)
	}
	var some []hook.Message
	for i, m := range msgs {
		if i%2 == 0 {
			some = append(some, m)
		} else {
			failed = append(failed, i)
		}
	}
	_, err = q.Queue.Send(ctx, some)
	return failed, err
}
