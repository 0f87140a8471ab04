package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// disable tells that a hook is disabled, and disables it, if it is still the
// version that was called: whoever has changed it meanwhile meant it to go on.
// (Who changes it between the two is told that it is disabled, and it is not.)
func (s *Service) disable(ctx context.Context, h hook.Hook, reason string) error {
	if !s.disabling.first(h) {
		return nil
	}
	disabled, err := s.disableOnce(ctx, h, reason)
	if err != nil {
		s.disabling.forget(h)
		return fmt.Errorf("disable hook: %w", err)
	}
	if disabled {
		s.count(metricDisabled, 1)
		s.o.Log.LogAttrs(ctx, slog.LevelWarn, "hook disabled", slog.String("hook_id", h.ID), slog.String("reason", reason))
	}
	return nil
}

func (s *Service) disableOnce(ctx context.Context, h hook.Hook, reason string) (bool, error) {
	r, err := s.o.Store.Get(ctx, hook.KindHook, h.ID, s.nowMS())
	if errors.Is(err, hook.ErrNotFound) || err == nil && r.Changed != h.Changed {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	is, err := record.ToHook(r)
	if err != nil || !is.Enabled {
		return false, err
	}
	// The time is that of the version, so that everybody who disables it tells
	// the same event.
	err = s.tell(ctx, eventHookDisabled, h, max(h.CreatedAt, h.UpdatedAt)*1000, struct {
		about
		Reason string `json:"reason"`
	}{aboutHook(h), reason}, strconv.FormatInt(h.Changed, 10))
	if err != nil {
		return false, err
	}
	is.Enabled, is.DisabledReason, is.UpdatedAt = false, reason, s.o.Now().Unix()
	if r, err = record.Hook(is); err != nil {
		return false, err
	}
	_, err = s.o.Store.Write(ctx, hook.FeedHooks, []hook.Change{{Record: r, Expect: h.Changed}}, nil, s.nowMS()) // W8
	if errors.Is(err, hook.ErrStale) {
		return false, nil
	}
	return err == nil, err
}

// versions remembers versions of hooks that this process is done with. The zero
// value is ready; it is safe for concurrent use.
type versions struct {
	mu sync.Mutex
	m  map[string]int64 // by hook: its Changed
}

// first reports whether the hook's version was not there, and puts it there.
func (v *versions) first(h hook.Hook) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.m == nil || len(v.m) >= maxBreakers {
		v.m = map[string]int64{}
	}
	if v.m[h.ID] == h.Changed {
		return false
	}
	v.m[h.ID] = h.Changed
	return true
}

func (v *versions) forget(h hook.Hook) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.m, h.ID)
}
