package deliver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/retry"
)

func TestDeliver_firstAttempts(t *testing.T) {
	t.Run("a success is one row", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{"a":1}`)
		w.post(ev)
		w.settle()
		w.wantStatus(h, ev, hook.Delivered, "", 1)
		if got := w.fault.names(); got != "W4" {
			t.Errorf("effects = %s; want W4", got)
		}
	})
	t.Run("with failures only, a success writes nothing", func(t *testing.T) {
		w := newWorld(t)
		w.o.FailuresOnly = true
		w.restart()
		h, ev := w.hook(nil), w.event(`{}`)
		w.post(ev)
		w.settle()
		w.noRow(h, ev)
		if w.action.count() != 1 || w.fault.names() != "" {
			t.Errorf("%d attempts, effects %q; want one attempt and no effect", w.action.count(), w.fault.names())
		}
	})
	t.Run("a hook made before the event was posted sees it, whatever was cached", func(t *testing.T) {
		w := newWorld(t)
		first := w.hook(nil)
		ev := w.event(`{}`)
		w.post(ev)
		w.settle()
		second := w.hook(nil)
		ev2 := w.event(`{}`)
		w.post(ev2)
		w.settle()
		w.wantStatus(first, ev2, hook.Delivered, "", 1)
		w.wantStatus(second, ev2, hook.Delivered, "", 1)
		w.noRow(second, ev)
	})
	t.Run("a piece of an event is for its range of hooks", func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.hook(nil), w.hook(nil), w.hook(nil)
		ev := w.event(`{}`)
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: message.Piece(ev, b.ID, c.ID), Receives: 1}})
		w.wantStatus(b, ev, hook.Delivered, "", 1)
		w.noRow(a, ev)
		w.noRow(c, ev)
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "2", Body: message.Piece(ev, "", b.ID), Receives: 1}})
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "3", Body: message.Piece(ev, c.ID, ""), Receives: 1}})
		w.wantStatus(a, ev, hook.Delivered, "", 1)
		w.wantStatus(c, ev, hook.Delivered, "", 1)
		if w.action.count() != 3 {
			t.Errorf("%d attempts; want 3", w.action.count())
		}
	})
	t.Run("disabled hooks, other workspaces and other events are left alone", func(t *testing.T) {
		w := newWorld(t)
		w.hook(func(h *hook.Hook) { h.Enabled = false })
		w.hook(func(h *hook.Hook) { h.Workspace = "team-a" })
		w.hook(func(h *hook.Hook) { h.Event = "other" })
		w.post(w.event(`{}`))
		w.settle()
		if w.action.count() != 0 {
			t.Errorf("%d attempts; want none", w.action.count())
		}
	})
	t.Run("an unreadable message comes again and ends among the dead letters", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(nil)
		good := w.event(`{}`)
		if _, err := w.events.Send(t.Context(), []hook.Message{{Body: "{not json"}, {Body: message.Pack([]hook.Event{good})[0].Body}}); err != nil {
			t.Fatal(err)
		}
		for range 12 {
			w.settle()
			w.advance(visibility)
		}
		w.wantStatus(h, good, hook.Delivered, "", 1)
		if w.action.count() != 1 {
			t.Errorf("%d attempts; want 1: the good message is done", w.action.count())
		}
		if n := w.deadLetters(); n != 1 {
			t.Errorf("%d dead letters; want 1", n)
		}
	})
}

func TestDeliver_retries(t *testing.T) {
	t.Run("a receiver that is down for three attempts gets the event on the fourth", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(3)
		w.post(ev)
		w.run(10 * time.Minute)
		w.wantStatus(h, ev, hook.Delivered, "", 4)
		w.wantWaits(schedule[:3])
	})
	t.Run("the whole schedule, then failed", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(100)
		w.post(ev)
		w.run(3 * time.Hour)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonExhausted, 6)
		w.wantWaits(schedule)
	})
	t.Run("days of the default schedule pass, through rows, wake-ups and sweep", func(t *testing.T) {
		w := newWorld(t)
		w.o.Schedule = retry.Default()
		w.restart()
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(100)
		w.post(ev)
		w.run(60 * time.Hour)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonExhausted, 12)
		w.wantWaits(retry.Default())
	})
	t.Run("Retry-After is honoured", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = []hook.Outcome{{Verdict: hook.Retryable, Code: 429, RetryAfter: 3 * time.Hour}}
		w.post(ev)
		w.run(4 * time.Hour)
		w.wantStatus(h, ev, hook.Delivered, "", 2)
		w.wantWaits(retry.Schedule{3 * time.Hour})
	})
	t.Run("a final failure ends at once, and keeps the answer", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = []hook.Outcome{{Verdict: hook.Final, Reason: hook.ReasonGone, Code: 410, Response: &hook.Response{Code: 410, Body: "gone"}}}
		w.post(ev)
		w.run(time.Minute)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonGone, 1)
		if r := w.row(h, ev).Response; r == nil || r.Body != "gone" {
			t.Errorf("response = %+v; want the receiver's", r)
		}
	})
	t.Run("max_age ends a delivery before its schedule does", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(func(h *hook.Hook) { h.Retry.MaxAge = 60 })
		ev := w.event(`{}`)
		w.action.answers = fails(10)
		w.post(ev)
		w.run(10 * time.Minute)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonExpired, 3)
	})
	t.Run("a hook that was deleted meanwhile ends its deliveries", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(1)
		w.post(ev)
		w.settle()
		w.remove(h)
		w.run(time.Minute)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonHookDeleted, 1)
	})
	t.Run("so does one that was made anew under the same id", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(1)
		w.post(ev)
		w.settle()
		w.remove(h)
		again := h
		again.Gen, again.Changed = 0, 0
		w.put(again, hook.ExpectAbsent)
		w.run(time.Minute)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonHookDeleted, 1)
	})
	t.Run("a hook that was disabled meanwhile ends its deliveries", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(1)
		w.post(ev)
		w.settle()
		off := h
		off.Enabled = false
		w.put(off, h.Changed)
		w.run(time.Minute)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonHookOff, 1)
	})
	t.Run("each attempt uses the hook as it is then", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(2)
		w.post(ev)
		w.settle()
		edited := h
		edited.Retry.MaxAttempts = 2
		w.put(edited, h.Changed)
		w.run(5 * time.Minute)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonExhausted, 2)
	})
}

func TestDeliver_duplicates(t *testing.T) {
	t.Run("a message received twice skips what has a row", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		body := message.Pack([]hook.Event{ev})[0].Body
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 1}})
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 2}})
		if w.action.count() != 1 {
			t.Errorf("%d attempts; want 1", w.action.count())
		}
		w.wantStatus(h, ev, hook.Delivered, "", 1)
	})
	t.Run("a packed message received twice is sent on one by one, and skips what has a row", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(nil)
		evs := []hook.Event{w.event(`{"n":1}`), w.event(`{"n":2}`), w.event(`{"n":3}`)}
		// What a function that died half way left behind.
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: message.Pack(evs[:1])[0].Body, Receives: 1}})
		if failed := w.svc.Deliver(t.Context(), []hook.Received{{ID: "2", Body: message.Pack(evs)[0].Body, Receives: 2}}); len(failed) > 0 {
			t.Fatalf("failed = %v", failed)
		}
		w.settle()
		for _, ev := range evs {
			w.wantStatus(h, ev, hook.Delivered, "", 1)
		}
		if w.action.count() != 3 {
			t.Errorf("%d attempts; want 3", w.action.count())
		}
	})
	t.Run("an event that comes twice in one batch is told once", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		body := message.Pack([]hook.Event{ev})[0].Body
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 1}, {ID: "2", Body: body, Receives: 1}})
		w.wantStatus(h, ev, hook.Delivered, "", 1)
		if w.action.count() != 1 {
			t.Errorf("%d attempts; want 1", w.action.count())
		}
	})
	t.Run("events that ingest sends again are not told again", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.post(ev)
		w.settle()
		for _, p := range message.PackAgain([]hook.Event{ev}) {
			w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: p.Body, Receives: 1}})
		}
		w.wantStatus(h, ev, hook.Delivered, "", 1)
		if w.action.count() != 1 {
			t.Errorf("%d attempts; want 1", w.action.count())
		}
	})
	t.Run("a duplicate wake-up never sends twice", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(1)
		w.post(ev)
		w.settle()
		d := w.row(h, ev)
		w.advance(time.Minute)
		body := message.Wake(hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq})
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 1}, {ID: "2", Body: body, Receives: 1}, {ID: "3", Body: body, Receives: 7}})
		w.settle()
		if w.action.count() != 2 {
			t.Errorf("%d attempts; want 2: the first and one retry", w.action.count())
		}
		w.wantStatus(h, ev, hook.Delivered, "", 2)
	})
	t.Run("two first attempts at once that both fail make one chain of retries", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(2)
		body := message.Pack([]hook.Event{ev})[0].Body
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 1}})
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 1}})
		w.run(2 * time.Minute)
		if w.action.count() != 3 {
			t.Errorf("%d attempts; want 3: two first ones and one retry", w.action.count())
		}
		w.wantStatus(h, ev, hook.Delivered, "", 2)
	})
	t.Run("fail then success: delivered wins and the wake-up is dropped", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(1)
		body := message.Pack([]hook.Event{ev})[0].Body
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 1}})
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 1}})
		w.run(2 * time.Minute)
		if d := w.row(h, ev); d.Status != hook.Delivered || w.action.count() != 2 {
			t.Errorf("%s after %d attempts; want delivered after 2", d.Status, w.action.count())
		}
	})
	t.Run("success then fail: delivered stays", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = []hook.Outcome{{Verdict: hook.Success, Code: 200}, fails(1)[0]}
		body := message.Pack([]hook.Event{ev})[0].Body
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 1}})
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "1", Body: body, Receives: 1}})
		w.run(2 * time.Minute)
		w.wantStatus(h, ev, hook.Delivered, "", 1)
		if w.action.count() != 2 {
			t.Errorf("%d attempts; want 2", w.action.count())
		}
	})
}

func TestDeliver_aRowWhoseAttemptKillsTheProcess(t *testing.T) {
	w := newWorld(t)
	h, ev := w.hook(nil), w.event(`{}`)
	w.action.answers = fails(1)
	w.post(ev)
	w.settle()
	for n := range 20 {
		// The process dies in every attempt: the claim is written, nothing
		// after it is.
		w.action.inside(func(int) { w.fault.die() })
		w.run(time.Hour)
		if !w.fault.dead() {
			if n == 0 {
				t.Fatal("the attempt was never made")
			}
			break
		}
		w.fault.revive()
		w.restart()
	}
	w.wantStatus(h, ev, hook.Failed, hook.ReasonCrashed, 1)
	if got, want := w.action.count(), 1+deliver.MaxTries; got != want {
		t.Errorf("%d attempts; want %d: the first and one for each claim", got, want)
	}
}

func TestDeliver_snooze(t *testing.T) {
	minute := int64(60)
	snoozing := func(h *hook.Hook) { h.Snooze = &minute }

	t.Run("the second identical event inside the window is dropped, another is not", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(snoozing)
		a, same, other := w.event(`{"ip":"1"}`), w.event(`{"ip":"1"}`), w.event(`{"ip":"2"}`)
		w.post(a)
		w.settle()
		w.post(same)
		w.post(other)
		w.settle()
		w.wantStatus(h, a, hook.Delivered, "", 1)
		w.wantStatus(h, other, hook.Delivered, "", 1)
		w.noRow(h, same)
	})
	t.Run("after the window the event is told again, and dropped ones did not extend it", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(snoozing)
		w.post(w.event(`{}`))
		w.settle()
		w.advance(59 * time.Second)
		w.post(w.event(`{}`))
		w.settle()
		w.advance(time.Second)
		last := w.event(`{}`)
		w.post(last)
		w.settle()
		w.wantStatus(h, last, hook.Delivered, "", 1)
		if w.action.count() != 2 {
			t.Errorf("%d attempts; want 2", w.action.count())
		}
	})
	t.Run("a storm in one batch is told once and counted", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(snoozing)
		var evs []hook.Event
		for range 120 {
			evs = append(evs, w.event(`{"ip":"1"}`))
		}
		w.post(evs...)
		w.settle()
		if w.action.count() != 1 {
			t.Errorf("%d attempts; want 1", w.action.count())
		}
		d := w.row(h, evs[0])
		got, err := w.store.Snoozes(t.Context(), h.ID, []string{d.SnoozeKey}, w.clock().UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		if s := got[d.SnoozeKey]; s.Suppressed != 119 || s.LastEvent != evs[119].ID {
			t.Errorf("window = %+v; want 119 dropped, the last %s", s, evs[119].ID)
		}
	})
	t.Run("two processes on the same messages tell it once", func(t *testing.T) {
		w := newWorld(t)
		w.hook(snoozing)
		other, err := deliver.New(w.o)
		if err != nil {
			t.Fatal(err)
		}
		evs := []hook.Event{w.event(`{"ip":"1"}`), w.event(`{"ip":"1"}`)}
		done := make(chan struct{})
		go func() {
			defer close(done)
			other.Deliver(t.Context(), []hook.Received{{ID: "1", Body: message.Pack(evs[1:])[0].Body, Receives: 1}})
		}()
		w.svc.Deliver(t.Context(), []hook.Received{{ID: "2", Body: message.Pack(evs[:1])[0].Body, Receives: 1}})
		<-done
		if w.action.count() != 1 {
			t.Errorf("%d attempts; want 1", w.action.count())
		}
	})
	t.Run("a delivery that failed gives its window back", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(func(h *hook.Hook) { snoozing(h); h.Retry.MaxAttempts = 1 })
		w.action.answers = fails(1)
		first := w.event(`{}`)
		w.post(first)
		w.settle()
		w.wantStatus(h, first, hook.Failed, hook.ReasonExhausted, 1)
		w.restart() // also what a process remembers of it does not matter
		next := w.event(`{}`)
		w.post(next)
		w.settle()
		w.wantStatus(h, next, hook.Delivered, "", 1)
	})
	t.Run("and the process that knew it open tells the next event too", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(func(h *hook.Hook) { snoozing(h); h.Retry.MaxAttempts = 1 })
		w.action.answers = fails(1)
		w.post(w.event(`{}`))
		w.settle()
		next := w.event(`{}`)
		w.post(next)
		w.settle()
		w.wantStatus(h, next, hook.Delivered, "", 1)
	})
}

func TestDeliver_onChange(t *testing.T) {
	yes := true
	changing := func(h *hook.Hook) { h.OnChange = &yes }
	t.Run("only what differs from the event before is told", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(changing)
		evs := []hook.Event{w.event(`{"n":1}`), w.event(`{"n":1}`), w.event(`{"n":2}`), w.event(`{"n":1}`)}
		for _, ev := range evs {
			w.post(ev)
			w.settle()
		}
		for _, i := range []int{0, 2, 3} {
			w.wantStatus(h, evs[i], hook.Delivered, "", 1)
		}
		w.noRow(h, evs[1])
	})
	t.Run("an event that comes after a newer one is stale", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(changing)
		older, newer := w.event(`{"n":1}`), w.event(`{"n":2}`)
		w.post(newer)
		w.settle()
		w.post(older)
		w.settle()
		w.wantStatus(h, newer, hook.Delivered, "", 1)
		w.noRow(h, older)
	})
	t.Run("a retry behind a newer event of its slot is superseded", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(changing)
		w.action.answers = fails(1)
		first, second := w.event(`{"n":1}`), w.event(`{"n":2}`)
		w.post(first)
		w.settle()
		w.post(second)
		w.run(time.Minute)
		w.wantStatus(h, first, hook.Superseded, hook.ReasonNewer, 1)
		w.wantStatus(h, second, hook.Delivered, "", 1)
	})
	t.Run("a delivery that failed lets the same news be told again", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(func(h *hook.Hook) { changing(h); h.Retry.MaxAttempts = 1 })
		w.action.answers = fails(1)
		first, same := w.event(`{"n":1}`), w.event(`{"n":1}`)
		w.post(first)
		w.settle()
		w.post(same)
		w.settle()
		w.wantStatus(h, first, hook.Failed, hook.ReasonExhausted, 1)
		w.wantStatus(h, same, hook.Delivered, "", 1)
	})
	t.Run("the units of one slot are told in the order of their ids", func(t *testing.T) {
		w := newWorld(t)
		w.hook(changing)
		var evs []hook.Event
		for n := range 60 {
			evs = append(evs, w.event(fmt.Sprintf(`{"n":%d}`, n)))
		}
		w.post(evs...)
		w.settle()
		var got []string
		for _, c := range w.action.calls {
			got = append(got, c.key.EventID)
		}
		var want []string
		for _, ev := range evs {
			want = append(want, ev.ID)
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("told %v; want %v", got, want)
		}
	})
}

// TestDeliver_everySingleCrash makes the process die at each of its writes and
// sends in turn, before and after it took effect, and wants every delivery on
// record in the end, with no retry chain forked and no attempt before its time.
func TestDeliver_everySingleCrash(t *testing.T) {
	minute, yes := int64(60), true
	kinds := map[string]func(*hook.Hook){
		"plain":     nil,
		"snooze":    func(h *hook.Hook) { h.Snooze = &minute },
		"on_change": func(h *hook.Hook) { h.OnChange = &yes },
		"both":      func(h *hook.Hook) { h.Snooze, h.OnChange = &minute, &yes },
	}
	answers := map[string][]hook.Outcome{
		"success":             nil,
		"fails, then success": fails(2),
		"a long wait":         fails(4),
		"fails for good":      fails(100),
	}
	for kind, edit := range kinds {
		for name, a := range answers {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				crashes := 0
				for at := 1; ; at += stride() {
					died := false
					for _, after := range []bool{false, true} {
						w := newWorld(t)
						h, ev := w.hook(edit), w.event(`{"n":1}`)
						w.action.answers = append(a[:0:0], a...)
						w.fault.at, w.fault.after = at, after
						w.post(ev)
						w.runToEnd(h, ev)
						if w.fault.dead() {
							died = true
							crashes++
							w.fault.revive()
							w.restart()
							w.runToEnd(h, ev)
						}
						w.run(5 * time.Minute) // what is left of wake-ups
						d := w.row(h, ev)
						if !d.Terminal() {
							t.Fatalf("death at effect %d (after: %v) of %s: the delivery is %+v; want an end", at, after, w.fault.names(), d)
						}
						if name == "fails for good" != (d.Status == hook.Failed) {
							t.Errorf("death at effect %d (after: %v) of %s: the delivery ended %s %q", at, after, w.fault.names(), d.Status, d.Reason)
						}
						// One crash repeats at most one attempt; a forked
						// chain would repeat more.
						if most := min(len(a)+1, len(schedule)+1) + 1; w.action.count() > most {
							t.Errorf("death at effect %d (after: %v) of %s: %d attempts; want at most %d", at, after, w.fault.names(), w.action.count(), most)
						}
						if msgs, err := w.retry.Receive(t.Context(), 10, 0, 0); err != nil || len(msgs) > 0 {
							t.Errorf("death at effect %d: messages left over: %v, %v", at, msgs, err)
						}
					}
					if !died {
						break
					}
				}
				if crashes == 0 {
					t.Error("the process never died: nothing was tested")
				}
			})
		}
	}
}

// runToEnd lets time pass until the delivery has ended, the process has died, or
// ten hours have gone.
func (w *world) runToEnd(h hook.Hook, ev hook.Event) {
	w.t.Helper()
	for end := w.clock().Add(10 * time.Hour); w.clock().Before(end) && !w.fault.dead(); {
		w.run(5 * time.Minute)
		d, err := w.store.Delivery(w.t.Context(), hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}, w.clock().UnixMilli())
		if err == nil && d.Terminal() {
			return
		}
	}
}

func (w *world) wantWaits(want retry.Schedule) {
	w.t.Helper()
	calls := w.action.calls
	if len(calls) != len(want)+1 {
		w.t.Errorf("%d attempts; want %d", len(calls), len(want)+1)
		return
	}
	for i, wait := range want {
		if got := calls[i+1].at.Sub(calls[i].at); got < wait || got > wait+2*time.Minute {
			w.t.Errorf("wait %d = %v; want %v to two minutes more", i+1, got, wait)
		}
	}
}

func (w *world) remove(h hook.Hook) {
	w.t.Helper()
	_, err := w.store.Write(w.t.Context(), hook.FeedHooks, []hook.Change{{Record: hook.Record{Kind: hook.KindHook, ID: h.ID, Deleted: true}, Expect: hook.ExpectAny}}, nil, w.clock().UnixMilli())
	if err != nil {
		w.t.Fatal(err)
	}
}
