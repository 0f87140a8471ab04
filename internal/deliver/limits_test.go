package deliver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

func TestDeliver_whenTheTimeLeftDoesNotFitAnAttempt(t *testing.T) {
	w := newWorld(t)
	h, ev := w.hook(nil), w.event(`{}`)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(deliver.Margin+time.Second))
	defer cancel()
	w.setClock(time.Now())
	failed := w.svc.Deliver(ctx, []hook.Received{{ID: "1", Body: message.Pack([]hook.Event{ev})[0].Body, Receives: 1}})
	if len(failed) > 0 {
		t.Fatalf("failed = %v; want none: the row carries the delivery", failed)
	}
	if w.action.count() != 0 {
		t.Fatalf("%d attempts; want none", w.action.count())
	}
	if d := w.row(h, ev); d.Status != hook.Pending || d.Parks != 1 || d.Attempt != 0 {
		t.Errorf("row = %+v; want pending, parked once, no attempt", d)
	}
	w.run(time.Minute)
	w.wantStatus(h, ev, hook.Delivered, "", 1)
}

func TestDeliver_aSuccessThatCannotBeRecorded(t *testing.T) {
	w := newWorld(t)
	h, ev := w.hook(nil), w.event(`{}`)
	deaf := &deafStore{Store: w.o.Store}
	w.o.Store = deaf
	w.restart()
	deaf.refuse.Store(true)
	body := message.Pack([]hook.Event{ev})[0].Body
	if failed := w.svc.Deliver(w.ctx, []hook.Received{{ID: "1", Body: body, Receives: 1}}); len(failed) != 1 {
		t.Errorf("failed = %v; want the message", failed)
	}
	w.noRow(h, ev)
	deaf.refuse.Store(false)
	w.settle() // the record waits in the retry queue
	w.wantStatus(h, ev, hook.Delivered, "", 1)
	if failed := w.svc.Deliver(w.ctx, []hook.Received{{ID: "1", Body: body, Receives: 2}}); len(failed) != 0 {
		t.Errorf("failed = %v; want none", failed)
	}
	if w.action.count() != 1 {
		t.Errorf("%d attempts; want 1: the message that came again found the row", w.action.count())
	}
}

func TestDeliver_withoutTheHooksNothingIsDecided(t *testing.T) {
	w := newWorld(t)
	h, ev := w.hook(nil), w.event(`{}`)
	deaf := &deafStore{Store: w.o.Store}
	deaf.blind.Store(true)
	w.o.Store = deaf
	w.restart()
	w.post(ev)
	w.step()
	if w.action.count() != 0 {
		t.Errorf("%d attempts; want none", w.action.count())
	}
	deaf.blind.Store(false)
	w.advance(visibility)
	w.settle()
	w.wantStatus(h, ev, hook.Delivered, "", 1)
}

func TestSweep(t *testing.T) {
	t.Run("two at once wake a row once", func(t *testing.T) {
		w := newWorld(t)
		h, ev := w.hook(nil), w.event(`{}`)
		w.action.answers = fails(1)
		w.post(ev)
		w.step()
		w.loseWakeUps()
		w.advance(schedule[0] + hook.WakeSlack)
		other, err := deliver.New(w.o)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- other.Sweep(w.ctx) }()
		if err := w.svc.Sweep(w.ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if visible, _, _, err := w.retry.Len(t.Context()); err != nil || visible != 1 {
			t.Errorf("%d wake-ups, %v; want 1", visible, err)
		}
		w.settle()
		w.wantStatus(h, ev, hook.Delivered, "", 2)
	})
	t.Run("a backlog that nobody reads does not multiply", func(t *testing.T) {
		w := newWorld(t)
		for range 4 { // too few failures of each for its breaker
			w.hook(nil)
		}
		w.action.answers = fails(20)
		for range 5 {
			w.post(w.event(`{}`))
		}
		w.settle()
		for range 6 * 60 { // six hours without deliver, but with the sweep
			w.advance(time.Minute)
			if err := w.svc.Sweep(w.ctx); err != nil {
				t.Fatal(err)
			}
		}
		// A wake-up from the attempt, then one after 2, 15, 45 and 105 minutes
		// and 3:45 hours more.
		if visible, _, _, err := w.retry.Len(t.Context()); err != nil || visible > 20*6 {
			t.Errorf("%d wake-ups for 20 rows, %v; want at most 120", visible, err)
		}
		w.settle()
		if w.action.count() != 40 {
			t.Errorf("%d attempts; want 40: each row's first, and one retry", w.action.count())
		}
	})
	t.Run("it says what it could not do", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.svc.Sweep(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Sweep = %v; want that it was cancelled", err)
		}
	})
}

// gauge is an Action that stays in its attempts for a while and counts how many
// there are at once.
type gauge struct{ now, most atomic.Int64 }

func (g *gauge) Do(_ context.Context, _ hook.Hook, _ hook.Event, _ time.Time) hook.Outcome {
	n := g.now.Add(1)
	for {
		most := g.most.Load()
		if n <= most || g.most.CompareAndSwap(most, n) {
			break
		}
	}
	time.Sleep(deliver.Patience / 2) // in the bubble's time
	g.now.Add(-1)
	return hook.Outcome{Verdict: hook.Success, Code: 200}
}

func TestDeliver_attemptsAtOnceAreBounded(t *testing.T) {
	for _, tt := range []struct{ hooks, want int }{{1, deliver.MaxInFlightPerHook}, {20, deliver.MaxInFlight}} {
		t.Run(fmt.Sprintf("%d hooks", tt.hooks), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				g := &gauge{}
				w.o.Action = g
				w.restart()
				for range tt.hooks {
					w.hook(nil)
				}
				var evs []hook.Event
				for range deliver.MaxUnits / 20 {
					evs = append(evs, w.event(`{}`))
				}
				w.svc.Deliver(w.ctx, []hook.Received{{ID: "1", Body: message.Pack(evs)[0].Body, Receives: 1}})
				if got := int(g.most.Load()); got != tt.want {
					t.Errorf("%d attempts at once; want %d", got, tt.want)
				}
			})
		})
	}
}

// talker is an action whose functions log.
type talker struct{}

func (talker) Do(context.Context, hook.Hook, hook.Event, time.Time) hook.Outcome {
	return hook.Outcome{Verdict: hook.Success, Log: []hook.LogLine{{Level: "crit", Message: "one"}, {Level: "notice", Message: "two"}, {Level: "debug", Message: "three"}}}
}

// TestDeliver_logsWhatFunctionsLog: one line each, at the closest level.
func TestDeliver_logsWhatFunctionsLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var log bytes.Buffer
		w.o.Action, w.o.Log = talker{}, slog.New(slog.NewJSONHandler(&log, nil))
		w.restart()
		h, ev := w.hook(nil), w.event(`{}`)
		w.svc.Deliver(w.ctx, []hook.Received{{ID: "1", Body: message.Pack([]hook.Event{ev})[0].Body, Receives: 1}})
		for _, want := range []string{
			`"level":"ERROR","msg":"lambda hook logged","hook_id":"` + h.ID + `","event_id":"` + ev.ID + `","lua_level":"crit","line":"one"`,
			`"level":"INFO","msg":"lambda hook logged","hook_id":"` + h.ID + `","event_id":"` + ev.ID + `","lua_level":"notice","line":"two"`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("log = %s; want %s", &log, want)
			}
		}
		if strings.Contains(log.String(), "three") {
			t.Errorf("log = %s; want no debug line at this level", &log)
		}
	})
}

// deafStore refuses to record successes, or to be read, while it is told to.
type deafStore struct {
	deliver.Store
	refuse, blind atomic.Bool
}

var errDeaf = errors.New("the table does not answer")

func (s *deafStore) RecordDelivered(ctx context.Context, d hook.Delivery, now int64) (bool, error) {
	if s.refuse.Load() {
		return false, errDeaf
	}
	return s.Store.RecordDelivered(ctx, d, now)
}

func (s *deafStore) Epoch(ctx context.Context, feed hook.Feed) (int64, error) {
	if s.blind.Load() {
		return 0, errDeaf
	}
	return s.Store.Epoch(ctx, feed)
}

func (w *world) setClock(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

// loseWakeUps empties the retry queue.
func (w *world) loseWakeUps() {
	w.t.Helper()
	w.advance(schedule[0])
	for {
		msgs, err := w.retry.Receive(w.t.Context(), 10, visibility, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(msgs) == 0 {
			return
		}
		for _, m := range msgs {
			if err := w.retry.Delete(w.t.Context(), m.Receipt); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}
