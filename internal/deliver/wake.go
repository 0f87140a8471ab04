package deliver

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// outbox holds wake-ups about to be sent: those that come while others are on their
// way go together, so that many attempts that fail at once cost few requests, and
// one that fails alone waits for nobody.
type outbox struct {
	lead chan struct{} // of one: holds a value while somebody sends

	mu      sync.Mutex
	waiting []*pendingWake
}

type pendingWake struct {
	msg  hook.Message
	done chan error // of one
}

var errNotTaken = errors.New("the queue did not take it")

// wake sets the alarm clock for a pending row. A failure is only logged: the
// sweep finds the row.
func (s *Service) wake(ctx context.Context, d hook.Delivery) {
	mine := &pendingWake{done: make(chan error, 1), msg: hook.Message{
		Body: message.Wake(hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}), Group: d.HookID,
		Delay: max(0, time.Duration(d.DueMS-s.nowMS())*time.Millisecond),
	}}
	s.outbox.mu.Lock()
	s.outbox.waiting = append(s.outbox.waiting, mine)
	s.outbox.mu.Unlock()
	var err error
	select {
	case err = <-mine.done:
	case s.outbox.lead <- struct{}{}:
		s.sendWaiting(ctx)
		<-s.outbox.lead
		err = <-mine.done // who led before may have taken it along
	}
	if err != nil {
		s.o.Log.WarnContext(ctx, "wake-up not sent; the sweep will find the row",
			slog.String("hook_id", d.HookID), slog.String("event_id", d.Event.ID), slog.Any("err", err))
	}
}

// sendWaiting sends the wake-ups that wait, if any still do.
func (s *Service) sendWaiting(ctx context.Context) {
	s.outbox.mu.Lock()
	group := s.outbox.waiting
	s.outbox.waiting = nil
	s.outbox.mu.Unlock()
	if len(group) == 0 {
		return
	}
	msgs := make([]hook.Message, len(group))
	for i, w := range group {
		msgs[i] = w.msg
	}
	failed, err := s.o.Retry.Send(ctx, msgs)
	for i, w := range group {
		switch {
		case slices.Contains(failed, i):
			w.done <- errors.Join(errNotTaken, err)
		default:
			w.done <- nil
		}
	}
}
