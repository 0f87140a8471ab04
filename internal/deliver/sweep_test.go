package deliver_test

import (
	"testing"
	"time"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
)

// overdue returns rows of a hook that have waited until now, in one shard.
func (w *world) overdue(h hook.Hook, n, shard int, reason string) (rows []hook.Delivery) {
	now := w.clock()
	for len(rows) < n {
		d := hook.Delivery{
			HookID: h.ID, Gen: h.Gen, Event: w.event(`{}`), Status: hook.Pending, Reason: reason, Run: 1, Seq: 1,
			CreatedMS: now.UnixMilli(), DeadlineMS: now.Add(hook.MaxAge).UnixMilli(), DueMS: now.UnixMilli(), WakeMS: now.UnixMilli(),
		}
		if d.Key().WakeShard() == shard {
			rows = append(rows, d)
		}
	}
	return rows
}

func TestSweep_deadHooks(t *testing.T) {
	// 2,000 of its rows are moved on in each shard and sweep, 250 of others woken.
	t.Run("the backlog of one keeps no other hook waiting in another shard", func(t *testing.T) {
		w, r := newReceivers(t)
		dead, well := w.tripped(r, 0, nil), w.hook(nil)
		w.record(w.overdue(dead, 2500, 0, hook.ReasonBreaker))
		w.record(w.overdue(well, 1, 7, ""))
		r.of(well)
		w.sweep()
		if n := len(r.of(well)); n != 1 {
			t.Errorf("%d attempts in the first minute; want one", n)
		}
	})
	t.Run("nor for longer than it is moved on in the same one", func(t *testing.T) {
		w, r := newReceivers(t)
		dead, well := w.tripped(r, 0, nil), w.hook(nil)
		w.record(w.overdue(dead, 2500, 3, hook.ReasonBreaker))
		w.advance(time.Second)
		w.record(w.overdue(well, 1, 3, ""))
		r.of(well)
		w.sweep()
		w.sweep()
		if n := len(r.of(well)); n != 1 {
			t.Errorf("%d attempts in two minutes; want one", n)
		}
	})
	t.Run("what a breaker holds back is moved on by an hour, then by two, then by four", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 3, nil)
		row := w.held(h)[2] // the first one probes
		ev := hook.Event{ID: row.EventID}
		for i, want := range []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour, 4 * time.Hour} {
			w.setClock(time.UnixMilli(w.row(h, ev).WakeMS))
			w.sweepOnly()
			w.loseWakeUps()
			w.setClock(w.clock().Add(-schedule[0]))
			if d := w.row(h, ev); d.WakeMS != w.clock().Add(want).UnixMilli() || d.Seq != row.Seq || d.Reason != hook.ReasonBreaker {
				t.Errorf("move %d: row = %+v; want it to wait %v more", i+1, d, want)
			}
		}
	})
	t.Run("at most to its deadline", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 3, nil)
		row := w.held(h)[2]
		ev := hook.Event{ID: row.EventID}
		w.setClock(time.UnixMilli(row.DeadlineMS).Add(-time.Minute))
		w.sweepOnly()
		if d := w.row(h, ev); d.WakeMS != row.DeadlineMS+1 {
			t.Errorf("row waits until %d; want its deadline, %d", d.WakeMS, row.DeadlineMS)
		}
	})
	t.Run("a redelivery whose wake-up was lost is found in two minutes", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.tripped(r, 20, nil)
		ev := hook.Event{ID: w.held(h)[19].EventID}
		w.redeliver(h, ev)
		w.loseWakeUps()
		r.of(h)
		w.sweep()
		w.sweep()
		n := 0
		for _, c := range r.of(h) {
			n += b2i(c.key.EventID == ev.ID)
		}
		if n != 1 {
			t.Errorf("%d attempts in two minutes; want one", n)
		}
	})
}

func TestBreaker_whoIsCounted(t *testing.T) {
	t.Run("a hook made anew under the same id has not failed", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.trip(r, h)
		w.remove(h)
		h.Gen, h.Changed = 0, 0
		h = w.put(h, hook.ExpectAbsent)
		ev := w.event(`{}`)
		w.post(ev)
		w.settle()
		if n := len(r.of(h)); n != 1 {
			t.Errorf("%d attempts; want one", n)
		}
		w.fail(r, h, deliver.BreakerFailures-1)
		if b := w.breaker(h); b.State != hook.BreakerOpen || b.Count != deliver.BreakerFailures {
			t.Errorf("breaker = %+v; want it open after its own ten failures", b)
		}
	})
	t.Run("a delivery that failed before and succeeds forgets, also in a process that knows nothing", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.fail(r, h, 1)
		if b := w.breaker(h); b.Count != 1 {
			t.Fatalf("breaker = %+v; want one failure", b)
		}
		w.restart()
		r.revive(h)
		w.advance(schedule[0])
		w.settle()
		if b := w.breaker(h); b.Rev != 0 {
			t.Errorf("breaker = %+v; want none", b)
		}
	})
	t.Run("a redelivery that succeeds closes it, also in a process that knows nothing", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		evs := w.trip(r, h)
		w.restart()
		r.revive(h)
		w.redeliver(h, evs[0])
		w.settle()
		w.wantStatus(h, evs[0], hook.Delivered, "", 2)
		if b := w.breaker(h); b.State != hook.BreakerReleasing {
			t.Errorf("breaker = %+v; want it releasing", b)
		}
	})
	t.Run("who comes second to open it knows that it is open", func(t *testing.T) {
		w, r := newReceivers(t)
		h := w.hook(nil)
		w.fail(r, h, deliver.BreakerFailures-1)
		w.fault.trouble = func(_ int, name string) (bool, error) {
			if name == "W12" { // the other was here
				w.fault.trouble = nil
				b := w.breaker(h)
				b.State, b.OpenedMS, b.WakeMS = hook.BreakerOpen, w.clock().UnixMilli(), w.clock().UnixMilli()
				if _, err := w.store.UpdateBreaker(t.Context(), b, w.clock().UnixMilli()); err != nil {
					t.Error(err)
				}
			}
			return false, nil
		}
		w.fail(r, h, 1)
		r.of(h)
		ev := w.event(`{}`)
		w.hears(w.svc, ev)
		if n := len(r.of(h)); n != 0 || w.row(h, ev).Reason != hook.ReasonBreaker {
			t.Errorf("%d attempts; want none", n)
		}
	})
}

// A hook that is edited has its five days from then on.
func TestBreaker_disablesNotWhatWasEdited(t *testing.T) {
	w, r := newReceivers(t)
	h := w.hook(nil)
	w.trip(r, h)
	hours := func(n int) {
		for range n {
			w.post(w.event(`{}`))
			w.advance(time.Hour)
			w.sweepOnly()
			w.settle()
		}
	}
	hours(5*24 - 1)
	edited := w.stored(h)
	edited.Config.URL, edited.UpdatedAt = "https://moved.example.test/", w.clock().Unix()
	w.put(edited, edited.Changed)
	hours(5*24 - 1)
	if !w.stored(h).Enabled {
		t.Fatal("disabled within five days of an edit; want it enabled")
	}
	hours(3)
	if w.stored(h).Enabled {
		t.Error("enabled after five more days; want it disabled")
	}
}

// Where a look for a row to probe with has ended is no probe: that row is woken
// when its time has come.
func TestSweep_theRowWhereALookEnded(t *testing.T) {
	w, r := newReceivers(t)
	h := w.hook(func(h *hook.Hook) { h.Retry.MaxAge = 600 })
	w.trip(r, h)
	ev := w.event(`{}`)
	w.post(ev)
	w.settle()
	w.advance(13 * time.Minute)
	w.loseWakeUps()
	b := w.breaker(h)
	b.Event, b.Seq, b.WakeMS = ev.ID, 0, w.clock().Add(30*time.Second).UnixMilli() // not due
	if _, err := w.store.UpdateBreaker(t.Context(), b, w.clock().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.Sweep(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.wantStatus(h, ev, hook.Failed, hook.ReasonExpired, 0)
}
