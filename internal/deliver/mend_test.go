package deliver_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// hiccupStore refuses the next update of a row, once, without having done it.
type hiccupStore struct {
	deliver.Store
	left atomic.Int64
}

func (s *hiccupStore) UpdateDelivery(ctx context.Context, d hook.Delivery, now int64) (int64, error) {
	if s.left.Add(-1) >= 0 {
		return 0, errDeaf
	}
	return s.Store.UpdateDelivery(ctx, d, now)
}

func TestDeliver_aWriteThatFailsOnceIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	hiccup := &hiccupStore{Store: w.o.Store}
	w.o.Store = hiccup
	w.restart()
	h, ev := w.hook(nil), w.event(`{}`)
	w.action.answers = fails(2)
	w.post(ev)
	w.settle()
	hiccup.left.Store(1)
	w.advance(schedule[0])
	w.settle()
	d := w.row(h, ev)
	if len(d.Attempts) != 2 || d.LeaseMS != 0 || d.DueMS == 0 {
		t.Fatalf("row = %+v; want the second failure on record, and the next attempt planned", d)
	}
	w.advance(schedule[1])
	w.settle() // its wake-up was sent, so no sweep is needed
	w.wantStatus(h, ev, hook.Delivered, "", 3)
}

func TestDeliver_parkingIsNoCrash(t *testing.T) {
	w := newWorld(t)
	h, ev := w.hook(nil), w.event(`{}`)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(deliver.Margin+time.Hour))
	defer cancel()
	end, _ := ctx.Deadline()
	// By its own clock the service has a second left each time.
	w.setClock(end.Add(-deliver.Margin - time.Second))
	w.svc.Deliver(ctx, []hook.Received{{ID: "1", Body: message.Pack([]hook.Event{ev})[0].Body, Receives: 1}})
	for n := range 3 * deliver.MaxTries {
		d := w.row(h, ev)
		if d.Status != hook.Pending || d.Parks != int64(n+1) {
			t.Fatalf("after %d parks the row is %s %q, parks %d; want pending", n+1, d.Status, d.Reason, d.Parks)
		}
		w.svc.Deliver(ctx, []hook.Received{{ID: "2", Body: message.Wake(hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}), Receives: 1}})
	}
	if w.action.count() != 0 {
		t.Fatalf("%d attempts; want none", w.action.count())
	}
	w.run(20 * time.Minute)
	w.wantStatus(h, ev, hook.Delivered, "", 1)
}

// One process knows a window to be open that another has given back. An event
// for it must be told, also when it is judged together with one that is
// admitted.
func TestDeliver_aWindowGivenBackElsewhere(t *testing.T) {
	minute, yes := int64(3600), true
	w := newWorld(t)
	w.action.answers = fails(1)
	h := w.hook(func(h *hook.Hook) { h.Snooze, h.OnChange = &minute, &yes })
	down := w.event(`{"health":"unhealthy"}`)
	w.post(down)
	w.settle()

	other, err := deliver.New(w.o) // makes the retry, which ends the delivery
	if err != nil {
		t.Fatal(err)
	}
	h.Retry.MaxAttempts = 1
	w.put(h, h.Changed)
	d := w.row(h, down)
	w.advance(time.Minute)
	w.action.mu.Lock()
	w.action.answers = fails(1)
	w.action.mu.Unlock()
	other.Deliver(w.ctx, []hook.Received{{ID: "1", Body: message.Wake(hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}), Receives: 1}})
	w.wantStatus(h, down, hook.Failed, hook.ReasonExhausted, 2)

	up, again := w.event(`{"health":"healthy"}`), w.event(`{"health":"unhealthy"}`)
	w.post(up, again)
	w.settle()
	w.wantStatus(h, up, hook.Delivered, "", 1)
	w.wantStatus(h, again, hook.Delivered, "", 1)
}
