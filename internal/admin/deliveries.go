package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
)

// rowsAtOnce is how many rows are asked for, and held, at once: each may be
// 400 KB, and a function has 512 MB.
const rowsAtOnce = 64

func (s *Service) listDeliveries(ctx context.Context, c *call) (*answer, error) {
	id, valid := schema.UUID(c.params["id"])
	if !valid {
		return nil, invalidID()
	}
	p, err := c.paging(isID)
	if err != nil {
		return nil, err
	}
	var status hook.Status
	if p.query.Has("status") {
		status = hook.Status(p.query.Get("status"))
		all := []string{string(hook.Pending), string(hook.Delivered), string(hook.Failed), string(hook.Superseded)}
		if !slices.Contains(all, string(status)) {
			return nil, invalidOption("status", "expected one of: "+strings.Join(all, ", "))
		}
	}
	last, err := s.fillDeliveries(ctx, p, id, status)
	if err != nil {
		return nil, err
	}
	if len(p.rows) == 0 { // a deleted hook's rows stay readable; one that never was is not found
		if _, err := s.hook(ctx, c, errNotFound()); err != nil {
			return nil, err
		}
	}
	return p.answer("/event-hooks/"+id+"/deliveries", last, "status"), nil
}

func (s *Service) fillDeliveries(ctx context.Context, p *paging, hookID string, status hook.Status) (last string, err error) {
	before := p.after
	for {
		rows, more, err := s.o.Store.ListDeliveries(ctx, hookID, status, before, min(rowsAtOnce, p.size-len(p.rows)), s.now())
		if err != nil {
			return "", fmt.Errorf("list deliveries of %s: %w", hookID, err)
		}
		for i, d := range rows {
			before = d.Event.ID
			room, err := p.add(schema.ShowDelivery(d))
			if err != nil {
				return "", err
			}
			if !room {
				if i+1 < len(rows) || more {
					return before, nil
				}
				return "", nil
			}
		}
		if !more || len(rows) == 0 {
			return "", nil
		}
	}
}

func (s *Service) getDelivery(ctx context.Context, c *call) (*answer, error) {
	key, err := c.deliveryKey()
	if err != nil {
		return nil, err
	}
	d, err := s.delivery(ctx, key)
	if err != nil {
		return nil, err
	}
	h, err := s.hook(ctx, c, errNotFound())
	if err != nil && !isAbsent(err) {
		return nil, err
	}
	return ok(schema.ShowDetail(d, h, c.view, s.rerender(c, h, d))), nil
}

// rerender shows a delivery's request by the hook as it is now, as of the last
// attempt. What was sent is not kept: it would double each row, and hold
// secrets.
func (s *Service) rerender(c *call, h hook.Hook, d hook.Delivery) schema.Rerendered {
	if h.ID == "" { // it is gone
		return schema.Rerendered{}
	}
	at := s.o.Now()
	if n := len(d.Attempts); n > 0 {
		at = time.UnixMilli(d.Attempts[n-1].AtMS)
	}
	ev := d.Event
	ev.Data = schema.EventData(ev, c.view)
	version := etag(h)
	r := schema.Rerendered{RenderedWith: &version}
	r.Request, r.RequestError = s.request(h, ev, at, c.view, schema.KeptAll())
	return r
}

// deliveryKey returns the key of the delivery that the path names.
func (c *call) deliveryKey() (hook.DeliveryKey, error) {
	id, valid := schema.UUID(c.params["id"])
	if !valid {
		return hook.DeliveryKey{}, invalidID()
	}
	eventID, valid := schema.UUID(c.params["event_id"])
	if !valid {
		return hook.DeliveryKey{}, invalidKey("event_id", noUUID)
	}
	return hook.DeliveryKey{HookID: id, EventID: eventID}, nil
}

// delivery returns a row; errNotFound when there is none.
func (s *Service) delivery(ctx context.Context, key hook.DeliveryKey) (hook.Delivery, error) {
	d, err := s.o.Store.Delivery(ctx, key, s.now())
	if errors.Is(err, hook.ErrNotFound) {
		return d, errNotFound()
	}
	if err != nil {
		return d, fmt.Errorf("read delivery %s: %w", key, err)
	}
	return d, nil
}
