package deliver_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// watched is a store whose callers can be interrupted, one at a time: before they
// read rows of hooks, and before a row is moved on.
type watched struct {
	deliver.Store
	mu               sync.Mutex
	reading, nudging func()
}

func (s *watched) interrupt(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if do != nil {
		do()
	}
}

func (s *watched) PendingDeliveries(ctx context.Context, hookID, after string, limit int) ([]hook.Waiting, bool, error) {
	s.interrupt(s.reading)
	return s.Store.PendingDeliveries(ctx, hookID, after, limit)
}

func (s *watched) Deliveries(ctx context.Context, keys []hook.DeliveryKey, now int64) ([]hook.Delivery, error) {
	s.interrupt(s.reading)
	return s.Store.Deliveries(ctx, keys, now)
}

func (s *watched) NudgeDelivery(ctx context.Context, o hook.Overdue, later int64) (bool, error) {
	s.interrupt(s.nudging)
	return s.Store.NudgeDelivery(ctx, o, later)
}

// interrupted is an Action that something happens in the midst of, once.
type interrupted struct {
	deliver.Action
	do  func()
	did atomic.Bool
}

func (a *interrupted) Do(ctx context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome {
	if !a.did.Swap(true) {
		a.do()
	}
	return a.Action.Do(ctx, h, ev, at)
}

// another is one more process on the same data.
func (w *world) another(edit func(*deliver.Options)) *deliver.Service {
	w.t.Helper()
	o := w.o
	if edit != nil {
		edit(&o)
	}
	svc, err := deliver.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return svc
}

// hears hands an event to a process as its first message.
func (w *world) hears(svc *deliver.Service, evs ...hook.Event) {
	w.t.Helper()
	for _, ev := range evs {
		svc.Deliver(w.ctx, []hook.Received{{ID: ev.ID, Receives: 1, Body: packed(ev)}})
	}
}

// woken takes the wake-ups that are visible, and returns how often each event's
// row was woken, and how many of them were probes.
func (w *world) woken() (rows map[string]int, probes int) {
	w.t.Helper()
	rows = map[string]int{}
	for _, wake := range w.takeWakes() {
		rows[wake.EventID]++
		if wake.Probe {
			probes++
		}
	}
	return rows, probes
}

func (w *world) takeWakes() (out []hook.Wake) {
	w.t.Helper()
	for {
		msgs, err := w.retry.Receive(w.t.Context(), 10, visibility, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(msgs) == 0 {
			return out
		}
		for _, m := range msgs {
			body, err := message.Decode(m.Body)
			if err != nil || body.Wake == nil {
				w.t.Fatal(body, err)
			}
			out = append(out, *body.Wake)
			if err := w.retry.Delete(w.t.Context(), m.Receipt); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// sweepOnly sweeps, and leaves what it has woken in the queue.
func (w *world) sweepOnly() {
	w.t.Helper()
	if err := w.svc.Sweep(w.ctx); err != nil {
		w.t.Fatal(err)
	}
}

// held returns the hook's rows that wait for its breaker, the oldest first.
func (w *world) held(h hook.Hook) (out []hook.Waiting) {
	w.t.Helper()
	page, _, err := w.store.PendingDeliveries(w.t.Context(), h.ID, "", 10_000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range page {
		if r.Reason == hook.ReasonBreaker {
			out = append(out, r)
		}
	}
	return out
}

// drop ends the hook's pending rows.
func (w *world) drop(h hook.Hook) {
	w.t.Helper()
	page, _, err := w.store.PendingDeliveries(w.t.Context(), h.ID, "", 10_000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range page {
		now := w.clock().UnixMilli()
		d, err := w.store.Delivery(w.t.Context(), r.DeliveryKey, now)
		if err != nil {
			w.t.Fatal(err)
		}
		d.Status, d.Reason = hook.Delivered, ""
		if _, err := w.store.RecordDelivered(w.t.Context(), d, now); err != nil {
			w.t.Fatal(err)
		}
	}
	w.loseWakeUps()
}

// tripped is a hook whose breaker is open, with n rows that it holds back and
// nothing else.
func (w *world) tripped(r *receivers, n int, edit func(*hook.Hook)) hook.Hook {
	w.t.Helper()
	h := w.hook(edit)
	w.trip(r, h)
	w.drop(h)
	w.park(h, n)
	return h
}

// releasing is a hook whose breaker has closed just now, with n rows that it
// still holds back.
func (w *world) releasing(r *receivers, n int) hook.Hook {
	w.t.Helper()
	h := w.tripped(r, n+1, nil)
	r.revive(h)
	w.sweep()
	if b := w.breaker(h); b.State != hook.BreakerReleasing || len(w.held(h)) != n {
		w.t.Fatalf("breaker %+v with %d rows; want it releasing %d", b, len(w.held(h)), n)
	}
	r.of(h)
	return h
}

// fail fails n first attempts.
func (w *world) fail(r *receivers, h hook.Hook, n int) {
	w.t.Helper()
	r.kill(h, unavailable)
	for range n {
		w.hears(w.svc, w.event(`{}`))
	}
}

// succeed succeeds at one first attempt.
func (w *world) succeed(r *receivers, h hook.Hook) {
	w.t.Helper()
	r.revive(h)
	w.hears(w.svc, w.event(`{}`))
}

func TestRelease(t *testing.T) {
	t.Run("a receiver that flaps meanwhile does not keep it from waking all", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.releasing(r, 20)
		want := w.held(h)
		other, store := w.another(nil), &watched{Store: w.o.Store}
		var flapped atomic.Bool
		sweeper := w.another(func(o *deliver.Options) { o.Store = store })
		store.nudging = func() { // between reading the rows and writing how far it came
			if flapped.Swap(true) {
				return
			}
			r.kill(h, unavailable)
			w.hears(other, w.event(`{}`))
			r.revive(h)
			w.hears(other, w.event(`{}`))
		}
		w.advance(time.Minute)
		w.loseWakeUps()
		for range 3 {
			flapped.Store(false)
			if err := sweeper.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.advance(10 * time.Second)
		}
		rows, _ := w.woken()
		for _, row := range want {
			if rows[row.EventID] != 1 {
				t.Errorf("a row was woken %d times; want once", rows[row.EventID])
			}
		}
	})
	t.Run("it begins when no process believes the breaker open any more", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 100, nil)
		other := w.another(nil)
		w.advance(time.Minute)
		w.sweepOnly()
		late := w.event(`{}`)
		w.hears(other, late) // learns that it is open by failing, just now
		r.revive(h)
		w.advance(5 * time.Second)
		w.settle()
		w.advance(5 * time.Second)
		w.sweepOnly()
		if rows, _ := w.woken(); len(rows) != 0 {
			t.Errorf("%d rows woken while a process believes the breaker open; want none", len(rows))
		}
		w.advance(time.Minute)
		w.sweepOnly()
		wakes := w.takeWakes()
		for _, wake := range wakes {
			other.Deliver(w.ctx, []hook.Received{{ID: wake.EventID, Receives: 1, Body: message.Wake(wake)}})
		}
		if n := len(w.held(h)); n != 0 || len(wakes) < 99 {
			t.Errorf("%d rows woken, %d held back still; want all, and none", len(wakes), n)
		}
	})
	t.Run("what is older than the row that closed it is not forgotten", func(t *testing.T) {
		w, r := newReceivers(t)
		old := w.event(`{}`)
		h := w.tripped(r, 3, nil)
		w.advance(time.Minute)
		w.sweepOnly()
		w.post(old) // comes late, and is put off while the probe is on its way
		if w.firstStep(); w.row(h, old).Reason != hook.ReasonBreaker {
			t.Fatalf("row = %+v; want it held back", w.row(h, old))
		}
		r.revive(h)
		w.settle()
		w.sweep()
		w.wantStatus(h, old, hook.Delivered, "", 1)
	})
	t.Run("a row that is being attempted is not woken", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.releasing(r, 1)
		key := w.held(h)[0].DeliveryKey
		ev := hook.Event{ID: key.EventID}
		w.redeliver(h, ev)
		var rows map[string]int
		w.o.Action = &interrupted{Action: r, do: func() {
			w.advance(time.Minute)
			if err := w.another(nil).Sweep(t.Context()); err != nil {
				t.Error(err)
			}
			rows, _ = w.woken()
		}}
		w.restart()
		w.settle()
		if n := len(r.of(h)); n != 1 || rows == nil || rows[key.EventID] != 0 {
			t.Errorf("%d attempts, woken %v meanwhile; want one, and nothing", n, rows)
		}
	})
	t.Run("nine failures meanwhile leave it as it is, the tenth opens it", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.releasing(r, 20)
		w.fail(r, h, deliver.BreakerFailures-1)
		if b := w.breaker(h); b.State != hook.BreakerReleasing || b.Count != deliver.BreakerFailures-1 {
			t.Errorf("breaker = %+v; want it releasing, after 9 failures", b)
		}
		w.fail(r, h, 1)
		if b := w.breaker(h); b.State != hook.BreakerOpen {
			t.Errorf("breaker = %+v; want it open", b)
		}
	})
	t.Run("a success meanwhile begins a new row of failures", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.releasing(r, 20)
		for range 3 {
			w.fail(r, h, deliver.BreakerFailures-1)
			w.succeed(r, h)
		}
		if b := w.breaker(h); b.State != hook.BreakerReleasing || b.Count != 0 {
			t.Errorf("breaker = %+v; want it releasing, after no failure", b)
		}
	})
	t.Run("a breaker that opens again probes from the oldest on", func(t *testing.T) {
		w, r := newReceivers(t)
		old := w.event(`{}`)
		h := w.releasing(r, 20)
		w.advance(time.Minute)
		w.sweepOnly() // wakes all of them
		w.loseWakeUps()
		if w.breaker(h).Event == "" {
			t.Fatalf("breaker = %+v; want it at the last of them", w.breaker(h))
		}
		w.fail(r, h, deliver.BreakerFailures)
		w.loseWakeUps()
		w.hears(w.svc, old)
		w.park(h, 5)
		w.advance(time.Minute)
		w.sweepOnly()
		for _, wake := range w.takeWakes() {
			if wake.Probe && wake.EventID != old.ID {
				t.Errorf("%s probes; want %s, the oldest", wake.EventID, old.ID)
			}
		}
		if b := w.breaker(h); b.State != hook.BreakerOpen || b.Event != old.ID || b.Seq == 0 {
			t.Errorf("breaker = %+v; want it open, with %s to probe", b, old.ID)
		}
	})
	t.Run("others who write at the same time do not keep it from closing", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 1, nil)
		w.interfere(h, 2)
		r.revive(h)
		w.advance(time.Minute)
		w.sweepOnly()
		w.interfere(h, 2)
		w.settle()
		if b := w.breaker(h); b.State != hook.BreakerReleasing {
			t.Errorf("breaker = %+v; want it releasing", b)
		}
	})
}

// interfere makes the next n changes of the hook's breaker come too late.
func (w *world) interfere(h hook.Hook, n int) {
	w.fault.trouble = func(_ int, name string) (bool, error) {
		if name != "W12" || n == 0 {
			return false, nil
		}
		n--
		b, err := w.store.Breaker(w.t.Context(), h.ID, h.Gen, w.clock().UnixMilli())
		if err == nil {
			_, err = w.store.UpdateBreaker(w.t.Context(), b, w.clock().UnixMilli())
		}
		if err != nil {
			w.t.Error(err)
		}
		return false, nil
	}
}

func TestProbe(t *testing.T) {
	t.Run("one that newer news has superseded is passed on at once", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(func(h *hook.Hook) { h.OnChange = new(true) })
		r.kill(h, unavailable)
		for i := range deliver.BreakerFailures + 60 {
			w.post(w.event(fmt.Sprintf(`{"x":%d}`, i)))
			w.settle()
		}
		if b := w.breaker(h); b.State != hook.BreakerOpen {
			t.Fatalf("breaker = %+v; want it open", b)
		}
		r.revive(h)
		r.of(h)
		w.sweep()
		if n := len(r.of(h)); n != 1 {
			t.Errorf("%d attempts in the first minute; want one, of the newest", n)
		}
	})
	t.Run("one that expires on its way is passed on at once", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 0, nil)
		now := w.clock()
		w.setClock(now.Add(-hook.MaxAge + time.Minute + 10*time.Second)) // what they would be after days
		w.park(h, 5)
		w.setClock(now)
		w.park(h, 1)
		r.revive(h)
		w.advance(time.Minute)
		w.sweepOnly()
		w.advance(20 * time.Second)
		w.settle()
		if n := len(r.of(h)); n != 1 {
			t.Errorf("%d attempts in the first minute; want one", n)
		}
	})
	t.Run("rows that expire each minute do not take the probes", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(func(h *hook.Hook) { h.Retry.MaxAge = 1800 })
		w.trip(r, h)
		missed := 0
		for i := range 60 { // events come, wait, and expire
			for range 3 {
				w.advance(20 * time.Second)
				w.post(w.event(`{}`))
				w.settle()
			}
			w.sweepOnly()
			w.settle()
			if n := len(r.of(h)); i >= 40 && n == 0 {
				missed++
			}
		}
		if missed > 0 {
			t.Errorf("no attempt in %d of 20 minutes; want one in each", missed)
		}
	})
	t.Run("one whose outcome says nothing about the receiver is passed on at once", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 30, nil)
		r.kill(h, hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonBlocked, Error: "blocked"})
		w.sweep()
		if n := len(r.of(h)); n != 30 || len(w.held(h)) != 0 {
			t.Errorf("%d attempts, %d rows left; want 30, and none", n, len(w.held(h)))
		}
		w.sweep()
		w.sweep()
		if b := w.breaker(h); b.Rev != 0 {
			t.Errorf("breaker = %+v; want none", b)
		}
	})
	// lost takes the wake-up of the next probe away, and returns after how many
	// minutes there is another.
	lost := func(t *testing.T, w *world) int {
		t.Helper()
		w.advance(time.Minute)
		w.sweepOnly()
		if _, probes := w.woken(); probes != 1 {
			t.Fatalf("%d probes; want one", probes)
		}
		for n := 1; n < 60; n++ {
			w.advance(time.Minute)
			w.sweepOnly()
			if _, probes := w.woken(); probes > 0 {
				return n
			}
		}
		return 60
	}
	t.Run("a lost wake-up is sent again after five minutes", func(t *testing.T) {
		w, r := newReceivers(t)
		w.tripped(r, 20, nil)
		if n := lost(t, w); n != 5 {
			t.Errorf("another after %d minutes; want 5", n)
		}
	})
	t.Run("also when its row has been moved on all night", func(t *testing.T) {
		w, r := newReceivers(t)
		w.tripped(r, 20, nil)
		for range 24 {
			w.advance(30 * time.Minute)
			w.sweepOnly()
			w.settle()
		}
		if n := lost(t, w); n != 5 {
			t.Errorf("another after %d minutes; want 5", n)
		}
	})
	t.Run("a sweep that takes its time probes each minute all the same", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 60, func(h *hook.Hook) { h.Retry.MaxAttempts = 1 })
		took := 4 * time.Second // less each time, so that the last look came later than this one
		w.o.Store = &watched{Store: w.o.Store, reading: func() {
			took = max(took-200*time.Millisecond, 10*time.Millisecond)
			w.advance(took)
		}}
		w.restart()
		r.of(h)
		w.advance(time.Minute)
		begun := w.clock()
		for i := range 30 {
			w.setClock(begun.Add(time.Duration(i) * time.Minute))
			w.sweepOnly()
			switch i {
			case 10:
				w.loseWakeUps()
			default:
				w.settle()
			}
			// After the one that is lost nothing is attempted for five minutes, or for
			// six: it was sent a little after its sweep began.
			if n := len(r.of(h)); n != b2i(i < 10 || i > 14) && i != 15 {
				t.Errorf("minute %d: %d attempts", i, n)
			}
		}
	})
	t.Run("rows that wait for their own time hide nothing", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 0, nil)
		now := w.clock()
		rows := make([]hook.Delivery, 5001)
		for i := range rows {
			due := now.Add(11*time.Hour + time.Duration(i)*time.Second/10).UnixMilli()
			rows[i] = hook.Delivery{
				HookID: h.ID, Gen: h.Gen, Event: w.event(`{}`), Status: hook.Pending, Run: 1, Seq: 1, Attempt: 1,
				CreatedMS: now.UnixMilli(), DeadlineMS: now.Add(hook.MaxAge).UnixMilli(), DueMS: due, WakeMS: due,
			}
		}
		w.record(rows)
		w.park(h, 5)
		r.revive(h)
		n := 0
		for ; n < 10 && len(r.of(h)) == 0; n++ {
			w.sweep()
		}
		if n > 2 {
			t.Errorf("the first attempt comes after %d minutes; want two", n)
		}
		for w.sweep(); n < 20 && w.breaker(h).Rev != 0; n++ {
			w.sweep()
		}
		if left := len(w.held(h)); left != 0 {
			t.Errorf("%d rows held back still after %d minutes; want none", left, n)
		}
	})
	t.Run("a row that is being attempted is on its way, however long it takes", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 5, nil)
		probes := -1
		w.o.Action = &interrupted{Action: r, do: func() {
			w.advance(time.Minute)
			if err := w.another(nil).Sweep(t.Context()); err != nil {
				t.Error(err)
			}
			_, probes = w.woken()
		}}
		w.restart()
		w.sweep()
		if n := len(r.of(h)); n != 1 || probes != 0 {
			t.Errorf("%d attempts, %d more probes meanwhile; want one, and none", n, probes)
		}
	})
	t.Run("what a person asked for is no probe while it is attempted", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 1, nil)
		key := w.held(h)[0].DeliveryKey
		w.redeliver(h, hook.Event{ID: key.EventID})
		probes := -1
		w.o.Action = &interrupted{Action: r, do: func() {
			w.advance(time.Minute)
			if err := w.another(nil).Sweep(t.Context()); err != nil {
				t.Error(err)
			}
			_, probes = w.woken()
		}}
		w.restart()
		w.settle()
		if n := len(r.of(h)); n != 1 || probes != 0 {
			t.Errorf("%d attempts, %d probes meanwhile; want one, and none", n, probes)
		}
	})
	t.Run("two sweeps of one minute make one", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 5, nil)
		w.sweep()
		w.advance(10 * time.Second)
		w.sweepOnly()
		w.settle()
		if n := len(r.of(h)); n != 1 {
			t.Errorf("%d attempts; want one", n)
		}
	})
	t.Run("a breaker with nothing to hold back is forgotten", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 0, nil)
		w.sweep()
		if b := w.breaker(h); b.Rev != 0 {
			t.Errorf("breaker = %+v; want none", b)
		}
	})
	t.Run("the breaker names the row although others write at the same time", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 1, nil)
		row := w.held(h)[0]
		w.interfere(h, 2)
		w.advance(time.Minute)
		w.sweepOnly()
		if b := w.breaker(h); b.Event != row.EventID || b.Seq != row.Seq || b.WakeMS <= w.clock().UnixMilli() {
			t.Errorf("breaker = %+v; want it due in a minute, with %s", b, row.EventID)
		}
	})
	t.Run("one that fails counts for nothing", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 5, nil)
		w.restart()
		before := w.effects("W11")
		w.sweep()
		w.sweep()
		if n := w.effects("W11") - before; n != 0 || len(r.of(h)) != 2 {
			t.Errorf("%d failures counted; want none", n)
		}
	})
	t.Run("one that succeeds in a process that knows nothing closes the breaker", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 5, nil)
		w.restart()
		r.revive(h)
		w.sweep()
		if b := w.breaker(h); b.State != hook.BreakerReleasing {
			t.Errorf("breaker = %+v; want it releasing", b)
		}
	})
}

// record puts rows on record.
func (w *world) record(rows []hook.Delivery) {
	w.t.Helper()
	for len(rows) > 0 {
		n := min(90, len(rows))
		if _, err := w.store.Write(w.t.Context(), hook.FeedNone, nil, rows[:n], w.clock().UnixMilli()); err != nil {
			w.t.Fatal(err)
		}
		rows = rows[n:]
	}
}
