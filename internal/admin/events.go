package admin

import (
	"context"
	"fmt"
	"slices"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
	"eventhooks/internal/schema"
)

// maxHooks is how many hooks are looked at for one page of an event's
// deliveries.
const maxHooks = 1000

// eventDeliveries shows what became of one event: its rows, over the hooks that
// are there now, in the order of their ids.
func (s *Service) eventDeliveries(ctx context.Context, c *call) (*answer, error) {
	id, valid := schema.UUID(c.params["id"])
	if !valid {
		return nil, invalidID()
	}
	p, err := c.paging(isID)
	if err != nil {
		return nil, err
	}
	last, err := s.fillEvent(ctx, p, id)
	if err != nil {
		return nil, err
	}
	return p.answer("/events/"+id+"/deliveries", last, "source", "event"), nil
}

func (s *Service) fillEvent(ctx context.Context, p *paging, eventID string) (last string, err error) {
	after := p.after
	for looked := 0; looked < maxHooks; {
		records, more, err := s.o.Store.List(ctx, hook.KindHook, "", after, min(readAhead, maxHooks-looked), s.now())
		if err != nil {
			return "", fmt.Errorf("list hooks: %w", err)
		}
		looked += len(records)
		keys := make([]hook.DeliveryKey, 0, len(records))
		for _, r := range records {
			after = r.ID
			h, err := record.ToHook(r)
			if err != nil {
				return "", err
			}
			if p.mayHave(h) {
				keys = append(keys, hook.DeliveryKey{HookID: h.ID, EventID: eventID})
			}
		}
		for chunk := range slices.Chunk(keys, rowsAtOnce) {
			if full, err := s.addRows(ctx, p, chunk); err != nil || full != "" {
				return full, err
			}
		}
		if !more || len(records) == 0 {
			return "", nil
		}
	}
	return after, nil
}

// addRows adds those of the rows that exist, in the order of the keys. full is
// the last row's hook when there is room for no other.
func (s *Service) addRows(ctx context.Context, p *paging, keys []hook.DeliveryKey) (full string, err error) {
	rows, err := s.o.Store.Deliveries(ctx, keys, s.now())
	if err != nil {
		return "", fmt.Errorf("read deliveries of %s: %w", keys[0].EventID, err)
	}
	byHook := make(map[string]hook.Delivery, len(rows))
	for _, d := range rows {
		byHook[d.HookID] = d
	}
	for _, key := range keys {
		d, there := byHook[key.HookID]
		if !there {
			continue
		}
		if room, err := p.add(schema.ShowDelivery(d)); err != nil || !room {
			return key.HookID, err
		}
	}
	return "", nil
}

// mayHave reports whether a hook may have been told of events of the source and
// event that the query names. A ping goes to a hook whatever it is for.
func (p *paging) mayHave(h hook.Hook) bool {
	source, event := p.query.Get("source"), p.query.Get("event")
	if source == hook.PingSource {
		return true
	}
	return (!p.query.Has("source") || h.Source == source) && (!p.query.Has("event") || h.Event == event || h.Event == "")
}
