package deliver_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
)

// counted is a store that counts what on_change and snooze ask of it.
type counted struct {
	deliver.Store
	mu sync.Mutex
	n  map[string]int
}

func (c *counted) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what]++
}

// take returns the counts since the last time.
func (c *counted) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = nil
	return n
}

func (c *counted) Slots(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Slot, error) {
	c.note("read slot")
	return c.Store.Slots(ctx, hookID, keys, now)
}

func (c *counted) Snoozes(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Snooze, error) {
	c.note("read window")
	return c.Store.Snoozes(ctx, hookID, keys, now)
}

func (c *counted) SeeSlot(ctx context.Context, hookID, key string, saw hook.SlotSight, now int64) (bool, error) {
	c.note("write slot")
	return c.Store.SeeSlot(ctx, hookID, key, saw, now)
}

func (c *counted) AddSuppressed(ctx context.Context, hookID, key string, untilMS, n int64, lastEvent, reason string) (bool, error) {
	c.note("write window")
	return c.Store.AddSuppressed(ctx, hookID, key, untilMS, n, lastEvent, reason)
}

func (c *counted) Admit(ctx context.Context, a hook.Admission) error {
	c.note(fmt.Sprintf("admit %d", len(a.Rows)))
	return c.Store.Admit(ctx, a)
}

// A storm of identical events costs one read and one write for each key and
// batch, however many there are.
func TestDeliver_storm(t *testing.T) {
	yes, hour := true, int64(3600)
	for _, tt := range []struct {
		name        string
		edit        func(*hook.Hook)
		first, then map[string]int
		reason      string
	}{
		{"snooze", func(h *hook.Hook) { h.Snooze = &hour }, map[string]int{"read window": 1, "admit 1": 1}, map[string]int{"write window": 1}, "snoozed"},
		{"on_change", func(h *hook.Hook) { h.OnChange = &yes }, map[string]int{"read slot": 1, "admit 1": 1}, map[string]int{"read slot": 1, "write slot": 1}, "unchanged"},
		{"both", func(h *hook.Hook) { h.Snooze, h.OnChange = &hour, &yes }, map[string]int{"read slot": 1, "read window": 1, "admit 1": 1}, map[string]int{"read slot": 1, "write slot": 1}, "unchanged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			c := &counted{Store: w.o.Store}
			w.o.Store = c
			w.restart()
			h := w.hook(tt.edit)
			const events, batch = stormEvents, 250 // five messages of fifty
			for n := 0; n < events; n += batch {
				evs := w.many(batch)
				w.post(evs...)
				msgs, err := w.events.Receive(t.Context(), 5, visibility, 0)
				if err != nil || len(msgs) != 5 {
					t.Fatal(len(msgs), err)
				}
				w.svc.Deliver(w.ctx, msgs)
				want := tt.then
				if n == 0 {
					want = tt.first
				}
				if diff := cmp.Diff(want, c.take()); diff != "" {
					t.Fatalf("batch at %d (-want +got):\n%s", n, diff)
				}
			}
			if w.action.count() != 1 {
				t.Errorf("%d attempts; want 1", w.action.count())
			}
			if got := w.suppressed(h); got != events-1 {
				t.Errorf("%d counted as dropped; want %d", got, events-1)
			}
		})
	}
}

// suppressed returns what the hook's windows and slots of `{}` have dropped.
func (w *world) suppressed(h hook.Hook) (n int64) {
	w.t.Helper()
	open, _, err := w.store.OpenSnoozes(w.t.Context(), h.ID, "", "", 100, w.clock().UnixMilli())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range open {
		n += s.Suppressed
	}
	slots, err := w.store.Slots(w.t.Context(), h.ID, []string{fmt.Sprintf("%d#s/e#all", h.Gen)}, w.clock().UnixMilli())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range slots {
		n += s.Suppressed
	}
	return n
}

// An admission takes up to 45 rows; more of one slot go into several, without
// reading again what was just written.
func TestDeliver_manyChangesOfOneSlot(t *testing.T) {
	yes := true
	w := newWorld(t)
	c := &counted{Store: w.o.Store}
	w.o.Store = c
	w.restart()
	h := w.hook(func(h *hook.Hook) { h.OnChange = &yes })
	var evs []hook.Event
	for i := range 100 {
		evs = append(evs, w.event(fmt.Sprintf(`{"n":%d}`, i)))
	}
	w.post(evs...)
	w.settle()
	for _, ev := range evs {
		w.wantStatus(h, ev, hook.Delivered, "", 1)
	}
	if n := c.take()["read slot"]; n != 1 {
		t.Errorf("the slot was read %d times; want once: both messages come in one batch", n)
	}
	for i, c := range w.action.calls {
		if c.key.EventID != evs[i].ID {
			t.Fatalf("event %d was told at place %d", i, i)
		}
	}
}

func TestDeliver_metrics(t *testing.T) {
	yes, hour := true, int64(3600)
	for _, tt := range []struct {
		name string
		run  func(w *world)
		want map[string]int64
	}{
		{"why a hook was not told", func(w *world) {
			w.hook(func(h *hook.Hook) { h.Enabled = false })
			w.hook(func(h *hook.Hook) { h.Workspace = "team-a" })
			w.hook(func(h *hook.Hook) { h.Filter = []byte(`{"a":[2]}`) })
			w.hook(func(h *hook.Hook) { h.Snooze = &hour })
			w.hook(func(h *hook.Hook) { h.OnChange = &yes })
			old := w.event(`{"a":1}`)
			w.post(w.event(`{"a":1}`), w.event(`{"a":1}`))
			w.settle()
			w.post(old)
			w.settle()
		}, map[string]int64{
			"NotToldDisabled": 3, "NotToldWorkspace": 3, "NotToldFilter": 3,
			"NotToldSnoozed": 2, "NotToldUnchanged": 1, "NotToldStale": 1, "Delivered": 2,
		}},
		{"attempts and ends", func(w *world) {
			w.hook(func(h *hook.Hook) { h.Retry.MaxAttempts = 2 })
			w.action.answers = fails(3)
			w.post(w.event(`{}`))
			w.run(time.Minute)
			w.post(w.event(`{}`))
			w.run(time.Minute)
		}, map[string]int64{"AttemptsFailed": 3, "DeliveriesFailed": 1, "Delivered": 1}},
		{"what a sweep finds late", func(w *world) {
			w.hook(nil)
			w.action.answers = fails(1)
			w.post(w.event(`{}`))
			w.step()
			w.loseWakeUps()
			w.advance(time.Hour)
			if err := w.svc.Sweep(w.ctx); err != nil {
				w.t.Fatal(err)
			}
		}, map[string]int64{"AttemptsFailed": 1, "Overdue": 1}},
		{"an open breaker", func(w *world) {
			w.hook(nil)
			w.action.answers = fails(100)
			for range 12 {
				w.post(w.event(`{}`))
				w.step()
			}
		}, map[string]int64{"AttemptsFailed": 10, "BreakersOpened": 1, "Parked": 2}},
		{"nothing, when nothing is wanted", func(w *world) {
			w.post(w.event(`{}`))
			w.settle()
		}, map[string]int64{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			counts := w.counts()
			tt.run(w)
			if diff := cmp.Diff(tt.want, counts()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
