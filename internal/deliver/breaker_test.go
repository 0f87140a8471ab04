package deliver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/record"
)

// receivers is an Action whose hooks each answer as told: 200, unless the hook is
// among the dead ones.
type receivers struct {
	w     *world
	mu    sync.Mutex
	dead  map[string]hook.Outcome // by hook
	calls []call
}

func (r *receivers) Do(_ context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome {
	if r.w.fault.dead() {
		return hook.Outcome{Error: "dead"}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call{hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}, at})
	if out, ok := r.dead[h.ID]; ok {
		return out
	}
	return hook.Outcome{Verdict: hook.Success, Code: 200}
}

func (r *receivers) kill(h hook.Hook, out hook.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead[h.ID] = out
}

func (r *receivers) revive(h hook.Hook) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.dead, h.ID)
}

// of returns the calls of one hook since the last time.
func (r *receivers) of(h hook.Hook) (out []call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = slices.DeleteFunc(r.calls, func(c call) bool {
		if c.key.HookID == h.ID {
			out = append(out, c)
			return true
		}
		return false
	})
	return out
}

// listens makes a hook one for whatever the system tells about itself.
func listens(h *hook.Hook) { h.Source, h.Event = hook.SystemSource, "" }

var unavailable = hook.Outcome{Verdict: hook.Retryable, Code: 503, Error: "the receiver answered 503"}

func newReceivers(t *testing.T) (*world, *receivers) {
	t.Helper()
	w := newWorld(t)
	r := &receivers{w: w, dead: map[string]hook.Outcome{}}
	w.o.Action = r
	w.restart()
	return w, r
}

// minute lets a minute pass, with what is due in it.
func (w *world) minute() {
	w.t.Helper()
	for range 12 {
		w.advance(5 * time.Second)
		w.settle()
	}
	if err := w.svc.Sweep(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// sweep lets a minute pass at once.
func (w *world) sweep() {
	w.t.Helper()
	w.advance(time.Minute)
	w.settle()
	if err := w.svc.Sweep(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// trip opens the breaker of a hook, and returns the events that did.
func (w *world) trip(r *receivers, h hook.Hook) []hook.Event {
	w.t.Helper()
	r.kill(h, unavailable)
	var evs []hook.Event
	for range deliver.BreakerFailures {
		ev := w.event(`{}`)
		evs = append(evs, ev)
		w.post(ev)
		w.settle()
	}
	if b := w.breaker(h); b.State != hook.BreakerOpen {
		w.t.Fatalf("breaker after %d failures = %+v; want it open", deliver.BreakerFailures, b)
	}
	r.of(h)
	return evs
}

// breaker returns what is stored, a closed one when nothing is.
func (w *world) breaker(h hook.Hook) hook.Breaker {
	w.t.Helper()
	b, err := w.store.Breaker(w.t.Context(), h.ID, h.Gen, w.clock().UnixMilli())
	if err != nil && !errors.Is(err, hook.ErrNotFound) {
		w.t.Fatal(err)
	}
	return b
}

// park puts n deliveries of the hook on record as its open breaker would.
func (w *world) park(h hook.Hook, n int) {
	w.t.Helper()
	now := w.clock().UnixMilli()
	var rows []hook.Delivery
	for i := range n {
		due := w.clock().Add(deliver.BreakerWait + time.Duration(i)*deliver.BreakerWait/5/time.Duration(n)).UnixMilli() // jittered
		rows = append(rows, hook.Delivery{
			HookID: h.ID, Gen: h.Gen, Event: w.event(`{}`), Status: hook.Pending, Reason: hook.ReasonBreaker, Run: 1, Seq: 1, Parks: 1,
			CreatedMS: now, DeadlineMS: w.clock().Add(hook.MaxAge).UnixMilli(), DueMS: due, WakeMS: due,
		})
	}
	for some := range slices.Chunk(rows, 90) {
		if _, err := w.store.Write(w.t.Context(), hook.FeedNone, nil, some, now); err != nil {
			w.t.Fatal(err)
		}
	}
}

// redeliver is what the API does when a person asks for an event again.
func (w *world) redeliver(h hook.Hook, ev hook.Event) {
	w.t.Helper()
	d := w.row(h, ev)
	now := w.clock()
	d.Run, d.Attempt, d.Tries, d.Parks, d.Status, d.Reason = d.Run+1, 0, 0, 0, hook.Pending, ""
	d.DueMS, d.WakeMS, d.LeaseMS, d.ExpiresAt = now.UnixMilli(), now.Add(hook.WakeSlack).UnixMilli(), 0, 0
	d.DeadlineMS = h.Retry.Deadline(now).UnixMilli()
	seq, err := w.store.RedeliverDelivery(w.t.Context(), d, now.UnixMilli())
	if err != nil {
		w.t.Fatal(err)
	}
	wake := message.Wake(hook.Wake{DeliveryKey: d.Key(), Seq: seq})
	if _, err := w.retry.Send(w.t.Context(), []hook.Message{{Body: wake}}); err != nil {
		w.t.Fatal(err)
	}
}

// stored reads a hook as it is.
func (w *world) stored(h hook.Hook) hook.Hook {
	w.t.Helper()
	r, err := w.store.Get(w.t.Context(), hook.KindHook, h.ID, w.clock().UnixMilli())
	if err != nil {
		w.t.Fatal(err)
	}
	h, err = record.ToHook(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func TestBreaker_opens(t *testing.T) {
	t.Run("after ten failures in a row, what comes waits without an attempt", func(t *testing.T) {
		w, r := newReceivers(t)
		h, well := w.hook(nil), w.hook(nil)
		w.trip(r, h)
		ev := w.event(`{}`)
		w.post(ev)
		w.settle()
		if n := len(r.of(h)); n != 0 {
			t.Errorf("%d attempts; want none", n)
		}
		d := w.row(h, ev)
		if d.Status != hook.Pending || d.Reason != hook.ReasonBreaker || d.Attempt != 0 || d.DueMS != w.clock().Add(deliver.BreakerWait).UnixMilli() {
			t.Errorf("row = %+v; want it pending for an hour, for its breaker", d)
		}
		w.wantStatus(well, ev, hook.Delivered, "", 1)
	})
	t.Run("a success in between begins a new row", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		for i := range 3 * deliver.BreakerFailures {
			if r.kill(h, unavailable); i%(deliver.BreakerFailures-1) == deliver.BreakerFailures-2 {
				r.revive(h)
			}
			w.post(w.event(`{}`))
			w.step()
		}
		if b := w.breaker(h); b.State == hook.BreakerOpen {
			t.Errorf("breaker = %+v; want it closed", b)
		}
	})
	t.Run("failures that are far apart do not count as a row", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(func(h *hook.Hook) { h.Retry.MaxAttempts = 1 })
		r.kill(h, unavailable)
		for range 2 * deliver.BreakerFailures {
			w.post(w.event(`{}`))
			w.settle()
			w.advance(hook.BreakerMemory)
		}
		if b := w.breaker(h); b.State == hook.BreakerOpen || b.Count != 1 {
			t.Errorf("breaker = %+v; want it closed, after 1 failure", b)
		}
	})
	t.Run("what no later attempt would cure says nothing about the receiver", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		r.kill(h, hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonUnrendered, Error: "no"})
		for range 2 * deliver.BreakerFailures {
			w.post(w.event(`{}`))
			w.settle()
		}
		if b := w.breaker(h); b.Rev != 0 {
			t.Errorf("breaker = %+v; want none", b)
		}
	})
	t.Run("another process finds out by failing once", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.trip(r, h)
		w.restart()
		for range 20 {
			w.post(w.event(`{}`))
		}
		for w.step() {
		}
		if n := len(r.of(h)); n < 1 || n > deliver.MaxInFlightPerHook {
			t.Errorf("%d attempts; want one, or a few at once", n)
		}
	})
	t.Run("many at once open it once", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.hook(func(h *hook.Hook) { h.Source, h.Event = hook.SystemSource, "breaker-opened" })
		r.kill(h, unavailable)
		evs := make([]hook.Event, 100)
		for i := range evs {
			evs[i] = w.event(`{}`)
		}
		w.post(evs...)
		w.settle()
		if n := len(r.of(h)); n < deliver.BreakerFailures || n > deliver.BreakerFailures+deliver.MaxInFlightPerHook {
			t.Errorf("%d attempts; want ten, and at most those in flight", n)
		}
		for _, ev := range evs {
			if d := w.row(h, ev); d.Status != hook.Pending {
				t.Errorf("row = %+v; want it pending", d)
			}
		}
	})
}

func TestBreaker_probes(t *testing.T) {
	t.Run("each minute one delivery is attempted, that of the oldest event that waits for nothing else", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.trip(r, h)
		var held []hook.Event
		for range 5 {
			held = append(held, w.event(`{}`))
		}
		w.post(held...)
		for i := range 4 {
			w.minute()
			calls := r.of(h)
			if len(calls) != 1 {
				t.Fatalf("%d attempts in minute %d; want 1", len(calls), i+1)
			}
		}
		if b := w.breaker(h); b.State != hook.BreakerOpen {
			t.Errorf("breaker = %+v; want it open still", b)
		}
	})
	t.Run("no attempt is early", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		late := unavailable
		late.RetryAfter = 2 * time.Hour
		r.kill(h, late)
		var evs []hook.Event
		for range deliver.BreakerFailures {
			ev := w.event(`{}`)
			evs = append(evs, ev)
			w.post(ev)
			w.settle()
		}
		r.of(h)
		r.revive(h)
		begun := w.clock()
		for w.clock().Before(begun.Add(3 * time.Hour)) {
			w.minute()
		}
		calls := r.of(h)
		if len(calls) != len(evs) {
			t.Errorf("%d attempts; want %d", len(calls), len(evs))
		}
		for _, c := range calls {
			if c.at.Before(begun.Add(2 * time.Hour)) {
				t.Errorf("an attempt after %s; want none before two hours", c.at.Sub(begun))
			}
		}
	})
	t.Run("a success releases what waits, and nothing is left behind", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		evs := w.trip(r, h)
		for range 50 {
			evs = append(evs, w.event(`{}`))
		}
		w.post(evs[deliver.BreakerFailures:]...)
		w.settle()
		r.revive(h)
		for range 5 {
			w.minute()
		}
		for _, ev := range evs {
			if d := w.row(h, ev); d.Status != hook.Delivered {
				t.Errorf("row = %+v; want it delivered", d)
			}
		}
		if n := len(r.of(h)); n != len(evs) {
			t.Errorf("%d attempts; want %d", n, len(evs))
		}
		if b := w.breaker(h); b.Rev != 0 {
			t.Errorf("breaker = %+v; want none", b)
		}
		ev := w.event(`{}`)
		w.post(ev)
		w.settle()
		w.wantStatus(h, ev, hook.Delivered, "", 1)
	})
	t.Run("a backlog is released a thousand a minute", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.trip(r, h)
		w.park(h, releasedRows)
		r.revive(h)
		w.minute() // the probe
		for left := releasedRows - 1; left > 0; {
			r.of(h)
			w.sweep()
			want := min(left, 1000)
			// The ten that opened it wait for their own time, some of which comes.
			if n := len(r.of(h)); n < want-10 || n > want+10 {
				t.Fatalf("%d attempts in a minute with %d to release; want %d", n, left, want)
			}
			left -= want
		}
	})
	t.Run("what waits for its breaker when nobody reads the queue is not woken again and again", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.trip(r, h)
		w.loseWakeUps()
		w.park(h, 10)
		for range 60 {
			w.advance(time.Minute)
			if err := w.svc.Sweep(w.ctx); err != nil {
				t.Fatal(err)
			}
		}
		if visible, _, _, err := w.retry.Len(t.Context()); err != nil || visible > 4*deliver.BreakerFailures+12 {
			t.Errorf("%d wake-ups, %v; want those of the rows that opened it, after 2, 15 and 30 minutes, and the probe's each five", visible, err)
		}
	})
	t.Run("the process dies with the probe", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.trip(r, h)
		w.park(h, 3)
		w.loseWakeUps()
		w.advance(time.Minute)
		if err := w.svc.Sweep(w.ctx); err != nil {
			t.Fatal(err)
		}
		msgs, err := w.retry.Receive(t.Context(), 10, visibility, 0)
		if err != nil || len(msgs) != 1 {
			t.Fatal(len(msgs), err)
		}
		if err := w.retry.Delete(t.Context(), msgs[0].Receipt); err != nil { // and with it, its message
			t.Fatal(err)
		}
		r.revive(h)
		for range 10 {
			w.minute()
		}
		if b := w.breaker(h); b.Rev != 0 || len(r.of(h)) < 3 {
			t.Errorf("breaker = %+v; want it closed, and all told", b)
		}
	})
	t.Run("what a person sends again is attempted", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.trip(r, h)
		ev := w.event(`{}`)
		w.post(ev)
		w.settle()
		w.redeliver(h, ev)
		w.settle()
		if n := len(r.of(h)); n != 1 {
			t.Errorf("%d attempts; want 1", n)
		}
	})
	t.Run("a hook that is deleted or disabled lets what waits end", func(t *testing.T) {
		for _, gone := range []string{hook.ReasonHookDeleted, hook.ReasonHookOff} {
			w, r := newReceivers(t)
			h := w.hook(nil)
			w.trip(r, h)
			ev := w.event(`{}`)
			w.post(ev)
			w.settle()
			if h.Enabled = false; gone == hook.ReasonHookOff {
				w.put(h, h.Changed)
			} else {
				w.remove(h)
			}
			for range 3 {
				w.minute()
			}
			w.wantStatus(h, ev, hook.Failed, gone, 0)
		}
	})
	t.Run("a deadline comes also while a breaker is open", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(func(h *hook.Hook) { h.Retry.MaxAge = 3600 })
		w.trip(r, h)
		var evs []hook.Event
		for range 100 { // more than there are probes in that time
			evs = append(evs, w.event(`{}`))
		}
		w.post(evs...)
		w.settle()
		begun := w.clock()
		for w.clock().Before(begun.Add(time.Hour + 3*time.Minute)) {
			w.sweep()
		}
		for _, ev := range evs {
			if d := w.row(h, ev); d.Status != hook.Failed || d.Reason != hook.ReasonExpired && len(d.Attempts) == 0 {
				t.Fatalf("row = %+v; want it failed, expired", d)
			}
		}
	})
}

// A breaker opens, probes, closes, releases and is forgotten while the process
// dies at each of its writes and sends in turn, before and after it took effect:
// all is told in the end, and who listens is told once of each.
func TestBreaker_everySingleCrash(t *testing.T) {
	play := func(t *testing.T, at int, after bool) (died bool) {
		w, r := newReceivers(t)
		operator, h := w.hook(listens), w.hook(nil)
		r.kill(h, unavailable)
		w.fault.at, w.fault.after = at, after
		alive := func(do func()) {
			for do(); w.fault.dead(); do() {
				died = true
				w.fault.revive()
				w.restart()
			}
		}
		evs := w.many(deliver.BreakerFailures + 3)
		for _, ev := range evs {
			w.post(ev)
			alive(w.settle)
		}
		for begun := w.clock(); w.clock().Before(begun.Add(80 * time.Minute)); {
			for range 2 {
				w.advance(30 * time.Second)
				alive(w.settle)
			}
			if w.clock().Equal(begun.Add(3 * time.Minute)) {
				r.revive(h)
			}
			alive(func() {
				if err := w.svc.Sweep(w.ctx); err != nil && !w.fault.dead() {
					t.Error(err)
				}
			})
			alive(w.settle)
			if w.clock().After(begun.Add(visibility+3*time.Minute)) && w.breaker(h).Rev == 0 && w.countRows(h, evs, hook.Delivered) == len(evs) {
				break
			}
		}
		if n := w.countRows(h, evs, hook.Delivered); n != len(evs) || w.breaker(h).Rev != 0 {
			t.Errorf("%d of %d delivered, breaker %+v; want all, and none", n, len(evs), w.breaker(h))
		}
		if told := w.told(operator); len(told["breaker-opened"]) != 1 || len(told["breaker-closed"]) != 1 {
			t.Errorf("told %v; want one opening and one closing", told)
		}
		// The death repeats at most the attempts that were in flight.
		if n, most := len(r.of(h)), 2*len(evs)+8; n > most {
			t.Errorf("%d attempts; want at most %d", n, most)
		}
		return died
	}
	for _, after := range []bool{false, true} {
		for first := 1; first <= 8; first += stride() { // so that they run at the same time
			t.Run(fmt.Sprintf("from effect %d on, after it: %v", first, after), func(t *testing.T) {
				t.Parallel()
				at := first
				for play(t, at, after) {
					if t.Failed() {
						t.Fatalf("death at effect %d", at)
					}
					at += 8
				}
				if at == first {
					t.Error("the process never died: nothing was tested")
				}
			})
		}
	}
}

func TestBreaker_costOfABacklog(t *testing.T) {
	rows := backlogRows
	if n := os.Getenv("EVENTHOOKS_BACKLOG"); n != "" {
		if _, err := fmt.Sscan(n, &rows); err != nil {
			t.Fatalf("EVENTHOOKS_BACKLOG: %v", err)
		}
	}
	w, r := newReceivers(t)
	h := w.hook(nil)
	w.trip(r, h)
	w.park(h, rows)
	before := len(w.fault.effects)
	const hours = 3
	for range hours * 60 {
		w.sweep()
	}
	effects := len(w.fault.effects) - before
	attempts := len(r.of(h))
	t.Logf("%d rows: %d writes and sends in %d hours, %d attempts", rows, effects, hours, attempts)
	if attempts < hours*55 || attempts > hours*61+deliver.BreakerFailures {
		t.Errorf("%d attempts; want one a minute", attempts)
	}
	// Each row is moved on once in the first hour and once in the two after it;
	// a probe takes six writes and sends, and what it leaves waits its own time.
	if most := 2*rows + 10*attempts + 100; effects > most {
		t.Errorf("%d writes and sends; want at most %d", effects, most)
	}
}

func TestBreaker_disables(t *testing.T) {
	w, r := newReceivers(t)
	operator := w.hook(func(h *hook.Hook) { h.Source, h.Event = hook.SystemSource, "hook-disabled" })
	h := w.hook(func(h *hook.Hook) { h.Name = "on-call" })
	w.trip(r, h)
	var ev hook.Event
	begun := w.clock()
	for ; w.stored(h).Enabled && w.clock().Before(begun.Add(6*24*time.Hour)); w.sweep() {
		w.advance(9 * time.Minute) // sweeps that are late
		if w.clock().Sub(begun)%time.Hour == 9*time.Minute {
			ev = w.event(`{}`)
			w.post(ev)
		}
	}
	if after := w.clock().Sub(begun); after < deliver.BreakerPatience || after > deliver.BreakerPatience+time.Hour {
		t.Errorf("disabled after %v; want after 5 days", after)
	}
	got := w.stored(h)
	if got.Enabled || got.DisabledReason != "no attempt has succeeded for 5 days" {
		t.Fatalf("hook = %v, %q; want it disabled, and why", got.Enabled, got.DisabledReason)
	}
	for range 3 {
		w.minute()
	}
	w.wantStatus(h, ev, hook.Failed, hook.ReasonHookOff, len(w.row(h, ev).Attempts))
	if n := len(r.of(operator)); n != 1 {
		t.Errorf("told %d times that the hook is disabled; want once", n)
	}
	if b := w.breaker(h); b.Rev != 0 {
		t.Errorf("breaker = %+v; want none", b)
	}
}

func TestDeliver_gone(t *testing.T) {
	gone := hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonGone, Code: 410, Error: "the receiver answered 410 Gone"}
	t.Run("disables a webhook hook, and says so", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.hook(listens)
		h := w.hook(nil)
		r.kill(h, gone)
		ev, next := w.event(`{}`), w.event(`{}`)
		w.post(ev)
		w.settle()
		w.post(next)
		w.settle()
		w.wantStatus(h, ev, hook.Failed, hook.ReasonGone, 1)
		w.noRow(h, next)
		if got := w.stored(h); got.Enabled || got.DisabledReason != "the receiver answered 410 Gone" {
			t.Errorf("hook = %v, %q; want it disabled, and why", got.Enabled, got.DisabledReason)
		}
		if n := len(r.of(operator)); n != 2 {
			t.Errorf("told %d things; want two: the hook is disabled, the delivery failed", n)
		}
	})
	t.Run("leaves a hook alone that was changed meanwhile", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(nil)
		w.action.answers = []hook.Outcome{gone}
		w.action.inside(func(int) {
			edited := h
			edited.Config.URL = "https://moved.example.test/"
			w.put(edited, h.Changed)
		})
		ev := w.event(`{}`)
		w.post(ev)
		w.settle()
		w.wantStatus(h, ev, hook.Failed, hook.ReasonGone, 1)
		if got := w.stored(h); !got.Enabled || got.Config.URL != "https://moved.example.test/" {
			t.Errorf("hook = %v at %s; want the edited one, enabled", got.Enabled, got.Config.URL)
		}
	})
	t.Run("leaves a webhook-custom hook enabled", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(func(h *hook.Hook) { h.Handler, h.Config.Method = hook.HandlerCustom, "POST" })
		r.kill(h, gone)
		ev := w.event(`{}`)
		w.post(ev)
		w.settle()
		w.wantStatus(h, ev, hook.Failed, hook.ReasonGone, 1)
		if !w.stored(h).Enabled {
			t.Error("disabled; want it enabled")
		}
	})
	t.Run("a storm of them tells once", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.hook(func(h *hook.Hook) { h.Source, h.Event = hook.SystemSource, "hook-disabled" })
		h := w.hook(nil)
		r.kill(h, gone)
		evs := make([]hook.Event, 40)
		for i := range evs {
			evs[i] = w.event(`{}`)
		}
		w.post(evs...)
		w.settle()
		if n := len(r.of(operator)); n != 1 {
			t.Errorf("told %d times; want once", n)
		}
	})
}

// told returns what an operator's hook was told, by event.
func (w *world) told(operator hook.Hook) map[string][]map[string]any {
	w.t.Helper()
	out := map[string][]map[string]any{}
	for before, more := "", true; more; {
		var page []hook.Delivery
		var err error
		page, more, err = w.store.ListDeliveries(w.t.Context(), operator.ID, "", before, 100, w.clock().UnixMilli())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range page {
			var data map[string]any
			if err := json.Unmarshal(d.Event.Data, &data); err != nil {
				w.t.Fatal(err)
			}
			out[d.Event.Event] = append(out[d.Event.Event], data)
			before = d.Event.ID
		}
	}
	return out
}

func TestDeliver_tellsAboutItself(t *testing.T) {
	t.Run("deliveries that fail, breakers that open and close, each once", func(t *testing.T) {
		w, r := newReceivers(t)
		operator := w.hook(listens)
		h := w.hook(func(h *hook.Hook) { h.Name = "on-call" })
		opened := w.clock()
		w.trip(r, h)
		r.revive(h)
		for range 3 {
			w.minute()
		}
		r.kill(h, hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonBlocked, Error: "the address is private"})
		ev := w.event(`{}`)
		w.post(ev)
		w.settle()
		got := w.told(operator)
		want := map[string][]map[string]any{
			"breaker-opened":  {{"hook_id": h.ID, "hook_name": "on-call", "failures": 10.0, "since": opened.Format(time.RFC3339), "error": "the receiver answered 503"}},
			"breaker-closed":  {{"hook_id": h.ID, "hook_name": "on-call", "since": opened.Format(time.RFC3339)}},
			"delivery-failed": {{"hook_id": h.ID, "hook_name": "on-call", "event_id": ev.ID, "event_source": "s", "event_name": "e", "reason": "blocked", "attempts": 1.0, "error": "the address is private"}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
	t.Run("a hook is not told of itself, and nothing is told of telling", func(t *testing.T) {
		w, r := newReceivers(t)
		a := w.hook(listens)
		b := w.hook(listens)
		h := w.hook(nil)
		blocked := hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonBlocked, Error: "no"}
		r.kill(a, blocked)
		r.kill(b, blocked)
		r.kill(h, blocked)
		w.post(w.event(`{}`))
		w.settle()
		if n, m := len(r.of(a)), len(r.of(b)); n != 1 || m != 1 {
			t.Errorf("told %d and %d times; want each once, of the one delivery that is not itself telling", n, m)
		}
	})
	t.Run("nobody who listens, nothing is sent", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		r.kill(h, hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonBlocked, Error: "no"})
		w.post(w.event(`{}`))
		w.settle()
		if strings.Contains(w.fault.names(), "send:events") {
			t.Errorf("effects = %s; want no event sent", w.fault.names())
		}
	})
	t.Run("a crash after telling tells it again under the same id", func(t *testing.T) {
		w := newWorld(t)
		operator := w.hook(listens)
		h := w.hook(func(h *hook.Hook) { h.Retry.MaxAttempts = 2 })
		w.action.answers = fails(4)
		ev := w.event(`{}`)
		w.post(ev)
		w.step()
		w.fault.at = len(w.fault.effects) + 3 // the claim, the telling, then the row
		w.advance(schedule[0])
		w.step()
		if !w.fault.dead() {
			t.Fatalf("effects = %s; want a death", w.fault.names())
		}
		w.fault.revive()
		w.restart()
		w.action.answers = fails(4)
		w.run(30 * time.Minute)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonExhausted, 2)
		if got := w.told(operator); len(got["delivery-failed"]) != 1 {
			t.Errorf("told %v; want one delivery", got)
		}
	})
}
