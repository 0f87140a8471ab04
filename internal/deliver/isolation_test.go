package deliver_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// pace is an Action whose hooks each take their time, in the bubble's time, and
// end with ctx as every action does.
type pace struct {
	takes map[string]time.Duration // by hook; none for those not named

	mu   sync.Mutex
	done map[string][]time.Time // when attempts ended, by hook
	made map[string]int
}

func (p *pace) Do(ctx context.Context, h hook.Hook, _ hook.Event, _ time.Time) hook.Outcome {
	p.mu.Lock()
	if p.made == nil {
		p.made, p.done = map[string]int{}, map[string][]time.Time{}
	}
	p.made[h.ID]++
	p.mu.Unlock()
	out := hook.Outcome{Verdict: hook.Success, Code: 200}
	took := p.takes[h.ID]
	if most := time.Duration(h.Config.TimeoutSeconds()) * time.Second; took >= most {
		took, out = most, hook.Outcome{Verdict: hook.Retryable, Error: "no answer within 10 s"}
	}
	if took > 0 {
		t := time.NewTimer(took)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			out = hook.Outcome{Verdict: hook.Retryable, Error: "cut off"}
		}
	}
	out.Took = took
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done[h.ID] = append(p.done[h.ID], time.Now())
	return out
}

const hangs = time.Hour

// deliverPaced hands events to a service whose clock is the bubble's.
func deliverPaced(t *testing.T, w *world, p *pace, evs []hook.Event) (took time.Duration) {
	t.Helper()
	w.o.Action, w.o.Now = p, time.Now
	w.restart()
	ctx, cancel := context.WithTimeout(w.ctx, 60*time.Second)
	defer cancel()
	var msgs []hook.Received
	for i, m := range message.Pack(evs) {
		msgs = append(msgs, hook.Received{ID: fmt.Sprint(i), Body: m.Body, Receives: 1})
	}
	begun := time.Now()
	if failed := w.svc.Deliver(ctx, msgs); len(failed) > 0 {
		t.Errorf("messages %v come again; want none", failed)
	}
	w.setClock(time.Now())
	return time.Since(begun)
}

func (w *world) many(n int) (evs []hook.Event) {
	for range n {
		evs = append(evs, w.event(`{}`))
	}
	return evs
}

// countRows returns how many of the hook's deliveries have the status.
func (w *world) countRows(h hook.Hook, evs []hook.Event, status hook.Status) (n int) {
	w.t.Helper()
	keys := make([]hook.DeliveryKey, len(evs))
	for i, ev := range evs {
		keys[i] = hook.DeliveryKey{HookID: h.ID, EventID: ev.ID}
	}
	rows, err := w.store.Deliveries(w.t.Context(), keys, w.clock().UnixMilli())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range rows {
		if d.Status == status {
			n++
		}
	}
	return n
}

func TestDeliver_isolation(t *testing.T) {
	t.Run("a hook that hangs keeps nobody waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			sick, well := w.hook(nil), w.hook(nil)
			p := &pace{takes: map[string]time.Duration{sick.ID: hangs}}
			evs := w.many(100)
			begun := time.Now()
			took := deliverPaced(t, w, p, evs)
			if n := w.countRows(well, evs, hook.Delivered); n != len(evs) {
				t.Errorf("%d delivered to the well hook; want all", n)
			}
			if last := p.done[well.ID][len(evs)-1].Sub(begun); last > 0 {
				t.Errorf("the well hook's last delivery took %v; want no waiting", last)
			}
			if p.made[sick.ID] != deliver.MaxInFlightPerHook || w.countRows(sick, evs, hook.Pending) != len(evs) {
				t.Errorf("%d attempts of the hook that hangs; want %d, and the rest parked", p.made[sick.ID], deliver.MaxInFlightPerHook)
			}
			// Its attempts take their ten seconds; nobody waits for another round.
			if took > 11*time.Second {
				t.Errorf("the batch took %v; want 10 s", took)
			}
			parked := 0
			for _, ev := range evs {
				if w.row(sick, ev).Reason == hook.ReasonParked {
					parked++
				}
			}
			if parked != len(evs)-deliver.MaxInFlightPerHook {
				t.Errorf("%d parked; want %d", parked, len(evs)-deliver.MaxInFlightPerHook)
			}
		})
	})
	t.Run("a slow hook is not parked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			slow := w.hook(nil)
			p := &pace{takes: map[string]time.Duration{slow.ID: deliver.Patience - time.Millisecond}}
			evs := w.many(100)
			deliverPaced(t, w, p, evs)
			if n := w.countRows(slow, evs, hook.Delivered); n != len(evs) {
				t.Errorf("%d delivered; want all %d", n, len(evs))
			}
		})
	})
	t.Run("hooks that hang do not use up the places of all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := &pace{takes: map[string]time.Duration{}}
			const sick = deliver.MaxInFlight / deliver.MaxInFlightPerHook
			for range sick + 1 { // their ids come first
				p.takes[w.hook(nil).ID] = hangs
			}
			well := w.hook(nil)
			evs := w.many(deliver.MaxUnits / (sick + 2))
			begun := time.Now()
			deliverPaced(t, w, p, evs)
			if n := w.countRows(well, evs, hook.Delivered); n != len(evs) {
				t.Errorf("%d delivered to the well hook; want all", n)
			}
			if last := p.done[well.ID][len(evs)-1].Sub(begun); last > 2*deliver.Patience {
				t.Errorf("the well hook's last delivery took %v; want at most %v", last, 2*deliver.Patience)
			}
		})
	})
	t.Run("nor those that there are in all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := &pace{takes: map[string]time.Duration{}}
			well := w.hook(nil)
			for range 40 { // more attempts than MaxOpen
				p.takes[w.hook(func(h *hook.Hook) { h.Config.Timeout = 30 }).ID] = hangs
			}
			w.o.Action, w.o.Now = p, time.Now
			w.restart()
			ctx, cancel := context.WithTimeout(w.ctx, 60*time.Second)
			defer cancel()
			var msgs []hook.Received
			for i := range 5 {
				msgs = append(msgs, hook.Received{ID: fmt.Sprint(i), Body: message.Pack(w.many(4))[0].Body, Receives: 1})
			}
			begun := time.Now()
			w.svc.Deliver(ctx, msgs)
			last := time.Duration(0)
			for _, at := range p.done[well.ID] {
				last = max(last, at.Sub(begun))
			}
			if n := len(p.done[well.ID]); n != 20 || last > 10*deliver.Patience {
				t.Errorf("%d attempts of the well hook, the last after %v; want 20, long before the others' 30 s", n, last)
			}
		})
	})
	t.Run("parked deliveries are made up for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			h := w.hook(nil)
			p := &pace{takes: map[string]time.Duration{h.ID: hangs}}
			evs := w.many(30)
			deliverPaced(t, w, p, evs)
			delete(p.takes, h.ID)
			w.o.Now = w.clock
			w.restart()
			w.run(30 * time.Minute)
			if n := w.countRows(h, evs, hook.Delivered); n != len(evs) {
				t.Errorf("%d delivered; want all %d", n, len(evs))
			}
		})
	})
}

// does is an Action that is what a function does.
type does func(ctx context.Context, ev hook.Event) hook.Outcome

func (d does) Do(ctx context.Context, _ hook.Hook, ev hook.Event, _ time.Time) hook.Outcome {
	return d(ctx, ev)
}

// slowRecords is a store that takes its time to record a success, in the bubble's
// time.
type slowRecords struct {
	deliver.Store
	takes time.Duration
}

func (s *slowRecords) RecordDelivered(ctx context.Context, d hook.Delivery, now int64) (bool, error) {
	time.Sleep(s.takes) // in the bubble's time
	return s.Store.RecordDelivered(ctx, d, now)
}

// TestDeliver_whatHangs holds what is taken for a hook that hangs: all its places
// have been held for Patience by attempts that nobody has answered.
func TestDeliver_whatHangs(t *testing.T) {
	const slow, quick = 3 * deliver.Patience, 10 * time.Millisecond
	answer := hook.Outcome{Verdict: hook.Success, Code: 200}
	// No later attempt would cure it, so that the hook's breaker has no part in it.
	none := hook.Outcome{Verdict: hook.Final, Reason: hook.ReasonBlocked, Error: "blocked"}
	pass := time.Sleep // in the bubble's time

	// start begins a process that handles several batches at once. begin hands it
	// events, whose attempts take so long and end so; wait waits for all of them.
	start := func(w *world) (begin func(evs []hook.Event, takes time.Duration, ends hook.Outcome), wait func()) {
		var mu sync.Mutex
		plan := map[string]func() hook.Outcome{}
		w.o.Now, w.o.Action = time.Now, does(func(_ context.Context, ev hook.Event) hook.Outcome {
			mu.Lock()
			attempt := plan[ev.ID]
			mu.Unlock()
			return attempt()
		})
		w.restart()
		var wg sync.WaitGroup
		begin = func(evs []hook.Event, takes time.Duration, ends hook.Outcome) {
			for _, ev := range evs {
				mu.Lock()
				plan[ev.ID] = func() hook.Outcome { pass(takes); return ends }
				mu.Unlock()
				wg.Go(func() { w.hears(w.svc, ev) })
			}
			synctest.Wait()
		}
		return begin, func() { wg.Wait(); w.setClock(time.Now()) }
	}

	for _, tt := range []struct {
		name         string
		slow, failed int
	}{
		{"not one that takes its time with one, and is then asked by many", 1, 0},
		{"nor with all but one", deliver.MaxInFlightPerHook - 1, 0},
		{"nor one that could not be reached for others a while before", 1, deliver.MaxInFlightPerHook - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				h := w.hook(nil)
				begin, wait := start(w)
				first, then := w.many(tt.slow), w.many(3*deliver.MaxInFlightPerHook)
				begin(first, slow, answer)
				begin(w.many(tt.failed), quick, none)
				pass(2 * deliver.Patience)
				begin(then, quick, answer)
				wait()
				if n, all := w.countRows(h, then, hook.Delivered), len(then); n != all {
					t.Errorf("%d of %d delivered; want all", n, all)
				}
				if n := w.countRows(h, first, hook.Delivered); n != tt.slow {
					t.Errorf("%d of the slow ones delivered; want %d", n, tt.slow)
				}
			})
		})
	}
	t.Run("not one whose answers are long in being recorded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.o.Store = &slowRecords{w.o.Store, 3 * deliver.Patience / 2}
			h, evs := w.hook(nil), w.many(3*deliver.MaxInFlightPerHook)
			begin, wait := start(w)
			begin(w.many(1), slow, answer) // one hangs; the others do not
			begin(evs, quick, answer)
			wait()
			if n := w.countRows(h, evs, hook.Delivered); n != len(evs) {
				t.Errorf("%d of %d delivered; want all", n, len(evs))
			}
		})
	})
	t.Run("one whose attempts end one by one without an answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			h := w.hook(nil)
			begin, wait := start(w)
			const step = deliver.Patience / 10
			first, then := w.many(deliver.MaxInFlightPerHook), w.many(3*deliver.MaxInFlightPerHook)
			for i := range first {
				begin(first[i:i+1], 9*step, none)
				pass(step)
			}
			// All places have been held for a step. From the next one on they come free,
			// one each step: the eighth before Patience is over, and then no more.
			begin(then, 9*step, none)
			wait()
			if n := w.countRows(h, append(first, then...), hook.Failed); n != 2*deliver.MaxInFlightPerHook {
				t.Errorf("%d attempts; want %d, and that the others are put off", n, 2*deliver.MaxInFlightPerHook)
			}
		})
	})
}

// A unit for which nothing was free to make the attempt with waits, and no
// attempt is counted.
func TestDeliver_unmade(t *testing.T) {
	w := newWorld(t)
	h, ev := w.hook(nil), w.event(`{}`)
	w.action.answers = []hook.Outcome{{Verdict: hook.Unmade, Error: "no process is free"}}
	w.post(ev)
	w.step()
	if d := w.row(h, ev); d.Status != hook.Pending || d.Attempt != 0 || d.Reason != hook.ReasonParked || len(d.Attempts) != 0 {
		t.Errorf("row = %+v; want it parked, without an attempt", d)
	}
	w.run(time.Minute)
	w.wantStatus(h, ev, hook.Delivered, "", 1)
}
