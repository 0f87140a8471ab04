package healthprobe

import (
	"context"
	"errors"

	"eventhooks/internal/hook"
)

// bury sends what an upstream that is gone left behind, and forgets its
// states and what was ordered of it.
func (r *run) bury(ctx context.Context, id string) error {
	h := &held{run: r}
	ok, err := h.acquire(ctx, id)
	if !ok {
		return err
	}
	err = h.bury(ctx, id)
	if errors.Is(err, hook.ErrStale) {
		err = nil // another run took over, and does the rest
	}
	return errors.Join(append(h.errs, err)...)
}

func (h *held) bury(ctx context.Context, id string) error {
	view, err := h.read(ctx, id)
	if err != nil {
		return errors.Join(err, h.release(ctx))
	}
	if err := h.sendLeft(ctx, view.States); err != nil {
		return err
	}
	if err := h.drop(ctx, view.States); err != nil {
		return err
	}
	orders := make([]string, len(view.Orders))
	for i, o := range view.Orders {
		orders[i] = o.ID
	}
	if err := h.forget(ctx, orders); err != nil {
		return err
	}
	h.lease.Summary = nil
	return h.release(ctx)
}
