package healthprobe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// releaseTime is how long a run may take to end its lease when its own time is
// over.
const releaseTime = 3 * time.Second

// held is an upstream whose lease a run holds: what may be written, in the
// order that survives a crash. Its methods return hook.ErrStale, wrapped, when
// another run has taken over, and then write no more; other errors are kept in
// errs and do not stop the rest.
type held struct {
	*run
	faults
	lease  hook.ProbeLease
	leased bool
}

// acquire takes the lease; false when another run holds it.
func (h *held) acquire(ctx context.Context, id string) (bool, error) {
	defer take(h.calls)()
	// A run that is cut off must not hold up the next but one: its time counts
	// from its beginning, however late it finds something to write.
	now := h.o.Now()
	until := later(h.began.Add(leaseTime), now.Add(leaseMargin))
	lease, ok, err := h.o.Store.AcquireProbe(ctx, id, now.UnixMilli(), until.UnixMilli())
	if err != nil {
		return false, fmt.Errorf("acquire: %w", err)
	}
	h.lease, h.leased = lease, ok
	return ok, nil
}

// release writes the summary and ends the lease. Also when the run's time is
// over: a lease that is not ended keeps the next run out.
func (h *held) release(ctx context.Context) error {
	defer take(h.calls)()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	if err := h.o.Store.ReleaseProbe(ctx, h.lease, h.o.Now().UnixMilli()); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

// writeAll calls write for 0 to n-1, several at once.
func (h *held) writeAll(n int, write func(i int) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var stale error
	for i := range n {
		wg.Go(func() {
			defer take(h.calls)()
			mu.Lock()
			over := stale != nil
			mu.Unlock()
			if over {
				return
			}
			err := write(i)
			switch {
			case err == nil:
			case errors.Is(err, hook.ErrStale):
				mu.Lock()
				defer mu.Unlock()
				stale = err
			default:
				h.fail(err)
			}
		})
	}
	wg.Wait()
	return stale
}

// put stores states; stored tells which of them are.
func (h *held) put(ctx context.Context, states []hook.ProbeState) (stored []bool, err error) {
	stored = make([]bool, len(states))
	err = h.writeAll(len(states), func(i int) error {
		if err := h.o.Store.PutProbeState(ctx, h.lease, states[i], h.o.Now().UnixMilli()); err != nil {
			return fmt.Errorf("store state of %s: %w", states[i].Address, err)
		}
		stored[i] = true
		return nil
	})
	return stored, err
}

// drop forgets states. One with an event that is not sent stays.
func (h *held) drop(ctx context.Context, states []hook.ProbeState) error {
	return h.writeAll(len(states), func(i int) error {
		if states[i].Outbox != nil {
			return nil
		}
		if err := h.o.Store.DeleteProbeState(ctx, h.lease, states[i].Address, h.o.Now().UnixMilli()); err != nil {
			return fmt.Errorf("forget state of %s: %w", states[i].Address, err)
		}
		return nil
	})
}

// forget forgets orders.
func (h *held) forget(ctx context.Context, orderIDs []string) error {
	return h.writeAll(len(orderIDs), func(i int) error {
		if err := h.o.Store.DeleteHealthOrder(ctx, h.lease, orderIDs[i], h.o.Now().UnixMilli()); err != nil {
			return fmt.Errorf("forget order %s: %w", orderIDs[i], err)
		}
		return nil
	})
}

// send sends the events that stored states carry, and returns the indexes of
// those of which the queue has them.
func (h *held) send(ctx context.Context, states []hook.ProbeState) (sent []int) {
	var from []int // index in states of each event
	var events []hook.Event
	for i, s := range states {
		if s.Outbox != nil {
			from, events = append(from, i), append(events, *s.Outbox)
		}
	}
	if len(events) == 0 {
		return nil
	}
	packed := message.Pack(events)
	msgs := make([]hook.Message, len(packed))
	for i, p := range packed {
		msgs[i].Body = p.Body
	}
	unsent := make([]bool, len(packed))
	failed, err := h.o.Queue.Send(ctx, msgs)
	if err != nil {
		h.fail(fmt.Errorf("send events: %w", err))
		for i := range unsent {
			unsent[i] = len(failed) == 0 // none named: none is known to be sent
		}
	}
	for _, i := range failed {
		unsent[i] = true
	}
	for i, p := range packed {
		if !unsent[i] {
			sent = append(sent, from[p.First:p.First+p.Count]...)
		}
	}
	return sent
}

// clear stores those states without their events, which are sent, and clears
// the Outbox of each that is stored so. One that a crash or an error leaves in
// the store is sent again by the next run, under the same id.
func (h *held) clear(ctx context.Context, states []hook.ProbeState, sent []int) error {
	cleared := make([]hook.ProbeState, len(sent))
	for i, at := range sent {
		cleared[i] = states[at]
		cleared[i].Outbox = nil
	}
	stored, err := h.put(ctx, cleared)
	for i, at := range sent {
		if stored[i] {
			states[at] = cleared[i]
		}
	}
	return err
}

// sendLeft sends what earlier runs raised and may not have sent.
func (h *held) sendLeft(ctx context.Context, states []hook.ProbeState) error {
	for _, s := range states {
		if s.Outbox != nil {
			h.o.IDs.Floor(s.Outbox.ID) // what is raised later sorts later
		}
	}
	return h.clear(ctx, states, h.send(ctx, states))
}
