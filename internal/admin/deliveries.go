package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
)

func (s *Service) listDeliveries(ctx context.Context, c *call) (*answer, error) {
	id, valid := schema.UUID(c.params["id"])
	if !valid {
		return nil, invalidID()
	}
	p, err := c.paging()
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
		rows, more, err := s.o.Store.ListDeliveries(ctx, hookID, status, before, p.size-len(p.rows), s.now())
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
	id, valid := schema.UUID(c.params["id"])
	if !valid {
		return nil, invalidID()
	}
	if _, valid := schema.UUID(c.params["event_id"]); !valid {
		return nil, errNotFound()
	}
	key := hook.DeliveryKey{HookID: id, EventID: strings.ToLower(c.params["event_id"])}
	d, err := s.o.Store.Delivery(ctx, key, s.now())
	if errors.Is(err, hook.ErrNotFound) {
		return nil, errNotFound()
	}
	if err != nil {
		return nil, fmt.Errorf("read delivery %s: %w", key, err)
	}
	return ok(schema.ShowDetail(d, c.view)), nil
}
