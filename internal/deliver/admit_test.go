package deliver_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"eventhooks/internal/deliver"
	"eventhooks/internal/hook"
)

// admissions is a store that notes how many bytes of data each admission has.
type admissions struct {
	deliver.Store
	mu    sync.Mutex
	bytes []int
}

func (s *admissions) Admit(ctx context.Context, a hook.Admission) error {
	n := 0
	for _, d := range a.Rows {
		n += len(d.Event.Data)
	}
	s.mu.Lock()
	s.bytes = append(s.bytes, n)
	s.mu.Unlock()
	return s.Store.Admit(ctx, a)
}

// A transaction takes 4 MB at most, so what is admitted together is less.
func TestAdmit_largeEventsGoInSeveral(t *testing.T) {
	w := newWorld(t)
	store := &admissions{Store: w.o.Store}
	w.o.Store = store
	w.restart()
	h := w.hook(func(h *hook.Hook) { h.OnChange = new(true) })
	var evs []hook.Event
	var msgs []hook.Received
	for i := range 20 {
		ev := w.event(fmt.Sprintf(`{"n":%d,"text":%q}`, i, strings.Repeat("x", 250<<10)))
		evs = append(evs, ev)
		msgs = append(msgs, hook.Received{ID: ev.ID, Body: packed(ev), Receives: 1})
	}
	if failed := w.svc.Deliver(w.ctx, msgs); len(failed) > 0 {
		t.Fatalf("messages %v come again; want none", failed)
	}
	for _, n := range store.bytes {
		if n > 3<<20 {
			t.Errorf("an admission of %d bytes; want at most 3 MB", n)
		}
	}
	if n := w.countRows(h, evs, hook.Delivered); n != len(evs) || len(store.bytes) < 2 {
		t.Errorf("%d delivered in %d admissions; want all, in several", n, len(store.bytes))
	}
}
