package deliver_test

import (
	"testing"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// unhealthy lets only that through.
func unhealthy(h *hook.Hook) { h.Filter = []byte(`{"health": ["unhealthy"]}`) }

func TestDeliver_filter(t *testing.T) {
	t.Run("an event that does not fit leaves no trace", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(unhealthy)
		down, up := w.event(`{"health": "unhealthy"}`), w.event(`{"health": "healthy"}`)
		w.post(down, up)
		w.settle()
		w.wantStatus(h, down, hook.Delivered, "", 1)
		w.noRow(h, up)
		if w.action.count() != 1 {
			t.Errorf("%d attempts; want 1", w.action.count())
		}
	})
	t.Run("what does not fit is no change", func(t *testing.T) {
		w := newWorld(t)
		on := true
		h := w.hook(func(h *hook.Hook) {
			unhealthy(h)
			h.OnChange = &on
		})
		down, up, again := w.event(`{"health": "unhealthy"}`), w.event(`{"health": "healthy"}`), w.event(`{"health": "unhealthy"}`)
		w.post(down, up, again)
		w.settle()
		w.wantStatus(h, down, hook.Delivered, "", 1)
		w.noRow(h, up)
		w.noRow(h, again)
	})
	t.Run("what was admitted is told again though a new filter would not let it in", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(unhealthy)
		ev := w.event(`{"health": "unhealthy"}`)
		w.action.answers = fails(2)
		w.post(ev)
		w.settle()
		w.wantStatus(h, ev, hook.Pending, "", 1)
		h.Filter = []byte(`{"health": ["healthy"]}`)
		w.put(h, h.Changed)
		w.run(5 * time.Minute)
		w.wantStatus(h, ev, hook.Delivered, "", 3)
	})
	t.Run("so is what someone asks for again", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(unhealthy)
		ev := w.event(`{"health": "unhealthy"}`)
		w.post(ev)
		w.settle()
		h.Filter = []byte(`{"health": ["healthy"]}`)
		w.put(h, h.Changed)

		d, now := w.row(h, ev), w.clock().UnixMilli()
		d.Run, d.Status, d.Attempt, d.ExpiresAt = d.Run+1, hook.Pending, 0, 0
		d.DueMS, d.WakeMS, d.DeadlineMS = now, now+120_000, now+3600_000
		seq, err := w.store.RedeliverDelivery(t.Context(), d, now)
		if err != nil {
			t.Fatal(err)
		}
		body := message.Wake(hook.Wake{DeliveryKey: d.Key(), Seq: seq})
		if failed, err := w.retry.Send(t.Context(), []hook.Message{{Body: body}}); err != nil || len(failed) > 0 {
			t.Fatal(failed, err)
		}
		w.settle()
		w.wantStatus(h, ev, hook.Delivered, "", 2)
	})
	t.Run("a filter of a newer version holds nothing back", func(t *testing.T) {
		w := newWorld(t)
		h := w.hook(func(h *hook.Hook) { h.Filter = []byte(`{"health": [{"regex": "^un"}]}`) })
		ev := w.event(`{"health": "healthy"}`)
		w.post(ev)
		w.settle()
		w.wantStatus(h, ev, hook.Delivered, "", 1)
	})
}
