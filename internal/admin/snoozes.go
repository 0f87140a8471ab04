package admin

import (
	"context"
	"fmt"
	"strings"

	"eventhooks/internal/match"
	"eventhooks/internal/schema"
)

// listSnoozes shows the windows of a hook that are open now, in the order of
// their keys.
func (s *Service) listSnoozes(ctx context.Context, c *call) (*answer, error) {
	h, err := s.hook(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	prefix := match.KeyPrefix(h)
	p, err := c.paging(func(key string) bool { return strings.HasPrefix(key, prefix) && isSnoozeKey(key) })
	if err != nil {
		return nil, err
	}
	last := ""
	if h.Snoozed() > 0 { // without snooze a window that is still open silences nothing
		if last, err = s.fillSnoozes(ctx, p, h.ID, prefix); err != nil {
			return nil, err
		}
	}
	return p.answer("/event-hooks/"+h.ID+"/snoozes", last), nil
}

func (s *Service) fillSnoozes(ctx context.Context, p *paging, hookID, prefix string) (last string, err error) {
	after := p.after
	for {
		windows, more, err := s.o.Store.OpenSnoozes(ctx, hookID, prefix, after, p.size-len(p.rows), s.now())
		if err != nil {
			return "", fmt.Errorf("list snoozes of %s: %w", hookID, err)
		}
		for i, w := range windows {
			after = w.Key
			source, event := match.KeyEvent(w.Key)
			room, err := p.add(schema.ShowSnooze(w, source, event))
			if err != nil {
				return "", err
			}
			if !room {
				if i+1 < len(windows) || more {
					return after, nil
				}
				return "", nil
			}
		}
		if !more || len(windows) == 0 {
			return "", nil
		}
	}
}

// endSnooze ends a window, so that the next event of its key is told. Deliver
// may remember for a while that the window is open, but it counts what it drops
// in the store, which says then that it is not.
func (s *Service) endSnooze(ctx context.Context, c *call) (*answer, error) {
	id, valid := schema.UUID(c.params["id"])
	if !valid {
		return nil, invalidID()
	}
	key, ours := schema.SnoozeKey(c.params["key"])
	if !ours || !isSnoozeKey(key) {
		return nil, invalidKey("key", "expected a key as the list of snoozes shows it")
	}
	h, err := s.hook(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(key, match.KeyPrefix(h)) { // of a hook that had this id before
		return nil, errNotFound()
	}
	ended, err := s.o.Store.EndSnooze(ctx, id, key, s.now())
	if err != nil {
		return nil, fmt.Errorf("end snooze of %s: %w", id, err)
	}
	if !ended {
		return nil, errNotFound()
	}
	return noContent(), nil
}

// isSnoozeKey reports whether a window may have the key.
func isSnoozeKey(key string) bool {
	gen, _, _ := strings.Cut(key, "#")
	source, event := match.KeyEvent(key)
	return gen != "" && strings.Trim(gen, "0123456789") == "" && source != "" && event != "" && !strings.ContainsRune(key, 0)
}
