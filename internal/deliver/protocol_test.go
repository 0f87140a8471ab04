package deliver_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"eventhooks/internal/boltqueue"
	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/record"
)

// The list at the end of docs/delivery-protocol.md, sentence by sentence.
//
// A crash after any single write or send: TestDeliver_everySingleCrash,
// TestCrash_ofMany and TestModel. Two first attempts, one after the other:
// TestDeliver_duplicates; here they overlap. Two sweeps at once: TestSweep. A row
// whose attempt kills the process: TestDeliver_aRowWhoseAttemptKillsTheProcess;
// here it has company.

// first hands a body to the process as a message received for the first time.
func (w *world) first(body string) (failed []string) {
	return w.svc.Deliver(w.ctx, []hook.Received{{ID: "m", Body: body, Receives: 1}})
}

// wakeUp is the body of a wake-up of a row as it is now.
func (w *world) wakeUp(h hook.Hook, ev hook.Event) string {
	w.t.Helper()
	d := w.row(h, ev)
	return message.Wake(hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq})
}

// inside runs do within the n-th attempt, before its outcome is known: what
// happens at the same time, in an order that is certain.
func (w *world) inside(n int, do func()) {
	w.action.inside(func(m int) {
		if m == n {
			do()
		}
	})
}

func (w *world) wantAttempts(n int) {
	w.t.Helper()
	if got := w.action.count(); got != n {
		w.t.Errorf("%d attempts; want %d", got, n)
	}
}

func TestProtocol_twoFirstAttemptsAtOnce(t *testing.T) {
	success := hook.Outcome{Verdict: hook.Success, Code: 200}
	fail := fails(1)[0]
	for _, tt := range []struct {
		name         string
		outer, inner hook.Outcome
		all          int // attempts in the end
	}{
		{"fail + fail: the second W1 loses, one wake-up", fail, fail, 3},
		{"success then fail: W1 loses", fail, success, 2},
		{"fail then success: W4 wins, the wake-up is dropped", success, fail, 2},
		{"success then success: one record", success, success, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			h, ev := w.hook(nil), w.event(`{}`)
			body := packed(ev)
			w.action.answers = []hook.Outcome{tt.outer, tt.inner}
			w.inside(1, func() { w.first(body) })
			w.first(body)
			sent := w.effects("send:retry")
			w.run(10 * time.Minute)
			w.wantAttempts(tt.all)
			if d := w.row(h, ev); d.Status != hook.Delivered {
				t.Errorf("the delivery is %s", d.Status)
			}
			if want := min(1, tt.all-2) + b2i(tt.inner.Verdict != hook.Success && tt.outer.Verdict == hook.Success); sent != want {
				t.Errorf("%d wake-ups; want %d", sent, want)
			}
		})
	}
	t.Run("fail, a claimed retry, and the success of the other meanwhile: the retry's outcome changes nothing", func(t *testing.T) {
		for name, end := range map[string]hook.Outcome{"fails": fail, "succeeds": success, "is final": {Verdict: hook.Final, Reason: hook.ReasonUnrendered}} {
			t.Run("it "+name, func(t *testing.T) {
				w := newWorld(t)
				h, ev := w.hook(nil), w.event(`{}`)
				body := packed(ev)
				w.action.answers = []hook.Outcome{success, fail, end}
				var truth hook.Delivery
				w.inside(1, func() { // the first copy is under way; the second one fails, and is retried
					w.first(body)
					w.advance(schedule[0])
					wake := w.wakeUp(h, ev)
					w.action.inside(nil)
					other, err := deliver.New(w.o)
					if err != nil {
						t.Fatal(err)
					}
					other.Deliver(w.ctx, []hook.Received{{ID: "w", Body: wake, Receives: 1}})
					truth = w.row(h, ev)
				})
				w.first(body)
				w.run(10 * time.Minute)
				if d := w.row(h, ev); d.Status != hook.Delivered {
					t.Errorf("the delivery is %s %q; want delivered, as the first copy was (the retry left it %s)", d.Status, d.Reason, truth.Status)
				}
				w.wantAttempts(3)
			})
		}
	})
	t.Run("with failures only, an unwritten success and a fail are retried, and may end failed", func(t *testing.T) {
		w := newWorld(t)
		w.o.FailuresOnly = true
		w.restart()
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = append([]hook.Outcome{success}, fails(100)...)
		w.first(packed(ev))
		w.first(packed(ev))
		w.run(3 * time.Hour)
		w.wantStatus(h, ev, hook.Failed, hook.ReasonExhausted, len(schedule)+1)
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestProtocol_redeliver(t *testing.T) {
	t.Run("a wake-up that comes after a redeliver has no effect", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(2)
		w.post(ev)
		w.settle()
		old := w.wakeUp(h, ev)
		wake := w.again(w.row(h, ev))
		w.first(old)
		w.wantAttempts(1)
		w.first(message.Wake(wake))
		w.first(old)
		w.first(message.Wake(wake))
		w.wantAttempts(2)
		w.run(time.Minute) // the old one is in the queue, too
		w.wantStatus(h, ev, hook.Delivered, "", 3)
	})
	t.Run("a claim that ends after a redeliver has no effect, whatever its outcome", func(t *testing.T) {
		for name, end := range map[string]hook.Outcome{
			"failed": fails(1)[0], "delivered": {Verdict: hook.Success, Code: 200}, "final": {Verdict: hook.Final, Reason: hook.ReasonUnrendered},
		} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				h, ev := w.hook(nil), w.event(`{}`)
				w.action.answers = []hook.Outcome{fails(1)[0], end}
				w.post(ev)
				w.settle()
				var wake hook.Wake
				w.inside(2, func() { wake = w.again(w.row(h, ev)) })
				w.first(w.wakeUp(h, ev))
				if d := w.row(h, ev); d.Status != hook.Pending || d.Run != 2 || d.Attempt != 0 || d.Seq != wake.Seq {
					t.Errorf("row = %s, run %d, attempt %d, seq %d; want as redelivered: pending, 2, 0, %d", d.Status, d.Run, d.Attempt, d.Seq, wake.Seq)
				}
				w.first(message.Wake(wake))
				w.wantStatus(h, ev, hook.Delivered, "", 2)
			})
		}
	})
	t.Run("a record that comes after a redeliver has no effect", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.post(ev)
		w.settle()
		first := w.row(h, ev)
		wake := w.again(first)
		w.first(message.Record(first))
		if d := w.row(h, ev); d.Status != hook.Pending || d.Run != 2 {
			t.Errorf("row = %s, run %d; want pending, 2", d.Status, d.Run)
		}
		w.first(message.Wake(wake))
		w.first(message.Record(first))
		if d := w.row(h, ev); d.Status != hook.Delivered || d.Run != 2 || len(d.Attempts) != 2 {
			t.Errorf("row = %s, run %d, %d attempts; want delivered, 2, 2", d.Status, d.Run, len(d.Attempts))
		}
	})
	t.Run("a record that comes after failed of the same run says what was: delivered", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(func(h *hook.Hook) { h.Retry.MaxAttempts = 1 }), w.event(`{}`)
		w.action.answers = fails(1)
		w.post(ev)
		w.settle()
		w.wantStatus(h, ev, hook.Failed, hook.ReasonExhausted, 1)
		d := w.row(h, ev)
		d.Status, d.Reason, d.Attempts = hook.Delivered, "", []hook.Attempt{{AtMS: w.clock().UnixMilli(), Code: 200}}
		for range 2 {
			w.first(message.Record(d))
			w.wantStatus(h, ev, hook.Delivered, "", 1)
		}
	})
	t.Run("a redelivered run is told though it was disabled, failed or superseded before", func(t *testing.T) {
		yes := true
		w := newWorld(t)
		h := w.hook(func(h *hook.Hook) { h.OnChange = &yes })
		w.action.answers = fails(1)
		a, b := w.event(`{"n":1}`), w.event(`{"n":2}`)
		w.post(a)
		w.settle()
		w.post(b)
		w.run(time.Minute)
		w.wantStatus(h, a, hook.Superseded, hook.ReasonNewer, 1)
		w.action.mu.Lock()
		w.action.answers = fails(2)
		w.action.mu.Unlock()
		w.first(message.Wake(w.again(w.row(h, a))))
		w.run(5 * time.Minute)
		w.wantStatus(h, a, hook.Delivered, "", 4)
	})
}

// lagging answers the sweep from an index that has not heard of the last writes:
// all that it ever said, again.
type lagging struct {
	deliver.Store
	mu   sync.Mutex
	said [hook.WakeShards][]hook.Overdue
}

func (s *lagging) OverdueDeliveries(ctx context.Context, shard int, now int64, limit int) ([]hook.Overdue, error) {
	rows, err := s.Store.OverdueDeliveries(ctx, shard, now, limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said[shard] = append(s.said[shard], rows...)
	return slices.Clone(s.said[shard]), err
}

func TestProtocol_staleIndexReads(t *testing.T) {
	w := newWorld(t)
	sent := &counting{Queue: w.retry}
	w.o.Store, w.o.Retry = &lagging{Store: w.o.Store}, sent
	w.restart()
	h := w.hook(nil)
	var evs []hook.Event
	const rows = 2 // with more, so many failures in a row would be the hook's affair
	for range rows {
		evs = append(evs, w.event(`{}`))
	}
	w.action.answers = fails(rows * 4) // the last wait is the sweep's
	w.post(evs...)
	w.run(3 * time.Hour)
	for _, ev := range evs {
		w.wantStatus(h, ev, hook.Delivered, "", 5)
	}
	w.wantAttempts(rows * 5)
	if n := sent.n.Load(); n != rows*4 {
		t.Errorf("%d wake-ups were sent; want %d: one for each retry, whatever the index says", n, rows*4)
	}
	if sweeps := w.effects("W6"); sweeps <= rows {
		t.Errorf("the index was tried %d times; it never lagged", sweeps)
	}
}

// TestProtocol_aRowThatKillsIsAlone: of the rows that a sweep wakes together, one
// kills each process that attempts it. The others are told all the same, and
// only it ends as crashed.
func TestProtocol_aRowThatKillsIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		// All wait for the same minute, as after an outage.
		w.o.Schedule = slices.Repeat(schedule[4:5], 9)
		h := w.hook(nil)
		var evs []hook.Event
		for range 5 {
			evs = append(evs, w.event(`{}`))
		}
		w.action.answers = fails(5)
		k := &killer{script: w.action, event: evs[2].ID}
		w.o.Action = k
		w.restart()
		w.post(evs...)
		w.settle()
		k.kills.Store(true)
		for range 40 {
			w.run(10 * time.Minute)
			if w.fault.dead() {
				w.fault.revive()
				w.restart()
			}
		}
		for i, ev := range evs {
			if i == 2 {
				w.wantStatus(h, ev, hook.Failed, hook.ReasonCrashed, 1)
			} else {
				w.wantStatus(h, ev, hook.Delivered, "", 2)
			}
		}
		if got := k.tried.Load(); got != deliver.MaxTries {
			t.Errorf("it killed %d processes; want %d", got, deliver.MaxTries)
		}
	})
}

// killer is an action that takes a second, in the bubble's time; at one event it
// kills the process after half of one.
type killer struct {
	*script
	event string
	kills atomic.Bool
	tried atomic.Int64
}

func (k *killer) Do(ctx context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome {
	if k.kills.Load() {
		time.Sleep(time.Second / 2) // in the bubble's time
		if ev.ID == k.event {
			k.tried.Add(1)
			k.w.fault.die()
		}
		time.Sleep(time.Second / 2) // in the bubble's time
	}
	return k.script.Do(ctx, h, ev, at)
}

// TestProtocol_aBacklogDoesNotMultiply: wake-ups are read far slower than the
// sweep's slack, for a day.
func TestProtocol_aBacklogDoesNotMultiply(t *testing.T) {
	const rows = 120
	w := newWorld(t)
	w.hook(func(h *hook.Hook) { h.Retry.MaxAttempts = 2 })
	counted := &counting{Queue: w.retry}
	w.o.Retry = counted
	w.restart()
	w.action.answers = fails(2 * rows)
	for range rows {
		w.post(w.event(`{}`))
	}
	for w.effects("W1") < rows {
		w.step()
	}
	// One batch of wake-ups every half an hour: twelve hours of work.
	for minute := range 24 * 60 {
		w.advance(time.Minute)
		if err := w.svc.Sweep(w.ctx); err != nil {
			t.Fatal(err)
		}
		if minute%30 == 0 {
			msgs, err := w.retry.Receive(w.ctx, 5, visibility, 0)
			if err != nil {
				t.Fatal(err)
			}
			w.svc.Deliver(w.ctx, msgs)
			for _, m := range msgs {
				if err := w.retry.Delete(w.ctx, m.Receipt); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// One from the attempt; nudged after 2, 17, 47 and 107 minutes and 3:47, 7:47,
	// 11:47, 15:47, 19:47 and 23:47 hours.
	if most := int64(rows * 11); counted.n.Load() > most {
		t.Errorf("%d wake-ups for %d rows in a day; want at most %d", counted.n.Load(), rows, most)
	}
	before := w.action.count()
	w.settle() // whatever is left of them
	w.run(5 * time.Hour)
	if got := w.action.count(); got != 2*rows {
		t.Errorf("%d attempts, %d before the backlog was read; want %d: two of each row", got, before, 2*rows)
	}
}

// counting counts the messages that are sent.
type counting struct {
	*boltqueue.Queue
	n atomic.Int64 // two probes may be passed on at once
}

func (c *counting) Send(ctx context.Context, msgs []hook.Message) ([]int, error) {
	c.n.Add(int64(len(msgs)))
	return c.Queue.Send(ctx, msgs)
}

// TestProtocol_aHookThatIsEdited: what was planned for the hook as it was is
// attempted by the hook as it is, or ends with a reason.
func TestProtocol_aHookThatIsEdited(t *testing.T) {
	for _, tt := range []struct {
		name   string
		edit   func(w *world, h hook.Hook)
		status hook.Status
		reason string
	}{
		{"disabled and enabled again before the retry", func(w *world, h hook.Hook) {
			h.Enabled = false
			h = w.put(h, h.Changed)
			h.Enabled = true
			w.put(h, h.Changed)
		}, hook.Delivered, ""},
		{"an edit that lost against the disabling", func(w *world, h hook.Hook) {
			off := h
			off.Enabled = false
			w.put(off, h.Changed)
			w.refused(h)
		}, hook.Failed, hook.ReasonHookOff},
		{"a disabling that lost against an edit", func(w *world, h hook.Hook) {
			edited := h
			edited.Name = "another"
			w.put(edited, h.Changed)
			off := h
			off.Enabled = false
			w.refused(off)
		}, hook.Delivered, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			h, ev := w.hook(nil), w.event(`{}`)
			w.action.answers = fails(1)
			w.post(ev)
			w.settle()
			tt.edit(w, h)
			w.run(time.Minute)
			if d := w.row(h, ev); d.Status != tt.status || d.Reason != tt.reason {
				t.Errorf("the delivery is %s %q; want %s %q", d.Status, d.Reason, tt.status, tt.reason)
			}
		})
	}
}

// refused wants a write of the hook to be refused because it has changed.
func (w *world) refused(h hook.Hook) {
	w.t.Helper()
	if err := w.write(h); !errors.Is(err, hook.ErrStale) {
		w.t.Errorf("the write of an old hook = %v; want %v", err, hook.ErrStale)
	}
}

func (w *world) write(h hook.Hook) error {
	w.t.Helper()
	r, err := record.Hook(h)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.store.Write(w.t.Context(), hook.FeedHooks, []hook.Change{{Record: r, Expect: h.Changed}}, nil, w.clock().UnixMilli())
	return err
}

// TestProtocol_anEventThatKillsIsAlone: of five messages that are received
// together, one has an event that kills each process that attempts it. The
// events of the others are told, on record, and not again and again.
func TestProtocol_anEventThatKillsIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(nil)
		var evs []hook.Event
		for range 5 {
			evs = append(evs, w.event(`{}`))
		}
		k := &killer{script: w.action, event: evs[2].ID}
		k.kills.Store(true)
		w.o.Action = k
		w.restart()
		for _, ev := range evs {
			w.post(ev)
		}
		for range 40 {
			w.run(10 * time.Minute)
			if w.fault.dead() {
				w.fault.revive()
				w.restart()
			}
		}
		for i, ev := range evs {
			if i == 2 {
				w.wantStatus(h, ev, hook.Failed, hook.ReasonCrashed, 0)
			} else {
				w.wantStatus(h, ev, hook.Delivered, "", 1)
			}
		}
		if n := w.deadLetters(); n > 0 {
			t.Errorf("%d dead letters; want none: the row carries what was accepted", n)
		}
		// Its message comes twice before it gets a row.
		if tried, most := k.tried.Load(), int64(2+deliver.MaxTries); tried > most {
			t.Errorf("it killed %d processes; want at most %d", tried, most)
		}
	})
}
