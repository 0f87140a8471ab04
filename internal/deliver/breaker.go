package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/retry"
)

// Numbers of the breaker.
const (
	// BreakerFailures in a row open it.
	BreakerFailures = 10
	// BreakerWait is how long what an open breaker holds back waits, if it does
	// not close before.
	BreakerWait = time.Hour
	// BreakerPatience is how long a hook's breaker may stay open until the hook
	// is disabled.
	BreakerPatience = 5 * 24 * time.Hour

	// probeEvery is how often an open breaker lets an attempt through: each time
	// that the sweep comes. A breaker is due a little before, for sweeps do not
	// come on the second.
	probeEvery   = time.Minute
	probeSlack   = 10 * time.Second
	releaseAfter = breakerTrust // so that no process puts off again what is woken
	// breakerTrust is how long a process believes that a breaker is open.
	breakerTrust = 30 * time.Second
	// breakerTries is how often a change is tried that others get in between of.
	breakerTries = 5
)

// breakers is what this process knows of the breakers of hooks that have failed
// lately. The zero value is ready; it is safe for concurrent use.
type breakers struct {
	mu sync.Mutex
	m  map[string]*breakerNote // by hook
}

// breakerNote is what is known of one hook's breaker.
type breakerNote struct {
	gen      int64
	state    hook.BreakerState
	readMS   int64 // when that was read
	count    int64 // that the store had then
	failures int64 // seen here and not counted in the store yet
	// counting is closed when whoever counts has done so, and nil when nobody
	// does: who fails meanwhile leaves it to them. underway is what they count.
	counting chan struct{}
	underway int64
}

// maxBreakers bounds the memory; beyond it everything is forgotten, and learned
// again by failing.
const maxBreakers = 10_000

// note returns what is known of the hook, made anew if it is another's. The
// caller holds mu.
func (b *breakers) note(h hook.Hook) *breakerNote {
	n := b.m[h.ID]
	if n != nil && n.gen == h.Gen {
		return n
	}
	if b.m == nil || len(b.m) >= maxBreakers {
		for _, n := range b.m {
			n.counted()
		}
		b.m = map[string]*breakerNote{}
	}
	n = &breakerNote{gen: h.Gen, state: hook.BreakerClosed}
	b.m[h.ID] = n
	return n
}

// open reports whether the hook's breaker is known to be open.
func (b *breakers) open(h hook.Hook) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.m[h.ID]
	return n != nil && n.gen == h.Gen && n.state == hook.BreakerOpen
}

// old reports whether an open breaker was read too long ago to be believed.
func (b *breakers) old(h hook.Hook, now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.m[h.ID]
	return n != nil && n.gen == h.Gen && n.state == hook.BreakerOpen && now-n.readMS >= breakerTrust.Milliseconds()
}

func (b *breakers) learn(h hook.Hook, is hook.Breaker, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.note(h)
	n.state, n.count, n.readMS = is.State, is.Count, now
}

// await waits while failures are counted that may open the hook's breaker, so
// that no more attempts begin than were in flight when it was due.
func (b *breakers) await(ctx context.Context, h hook.Hook) {
	for {
		b.mu.Lock()
		var counted chan struct{}
		if n := b.m[h.ID]; n != nil && n.gen == h.Gen && n.state != hook.BreakerOpen && n.count+n.underway+n.failures >= BreakerFailures {
			counted = n.counting
		}
		b.mu.Unlock()
		if counted == nil {
			return
		}
		select {
		case <-counted:
		case <-ctx.Done():
			return
		}
	}
}

// forget is what a success does. It reports whether anything was known.
func (b *breakers) forget(h hook.Hook) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.m[h.ID]
	delete(b.m, h.ID)
	if n == nil {
		return false
	}
	n.counted()
	return n.gen == h.Gen
}

// fail notes a failure, and returns how many the caller is to count in the
// store: none when someone else will.
func (b *breakers) fail(h hook.Hook) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.note(h)
	if n.state == hook.BreakerOpen {
		return 0
	}
	n.failures++
	if n.counting != nil {
		return 0
	}
	n.counting = make(chan struct{})
	return n.take()
}

func (n *breakerNote) take() int64 {
	n.underway, n.failures = n.failures, 0
	return n.underway
}

// counted lets those go on who wait for the count.
func (n *breakerNote) counted() {
	if n.counting != nil { // else it has been forgotten meanwhile
		close(n.counting)
		n.counting = nil
	}
}

// counted returns how many failures came while the caller was counting; after
// none the caller no longer counts.
func (b *breakers) counted(h hook.Hook) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.note(h)
	if n.failures > 0 && n.state != hook.BreakerOpen {
		return n.take()
	}
	n.underway, n.failures = 0, 0
	n.counted()
	return 0
}

// refreshBreakers reads the breakers again that have been open for a while, of
// the hooks of a batch. One that cannot be read is believed to be open still:
// what it holds back is on record.
func (s *Service) refreshBreakers(ctx context.Context, chains [][]unit) {
	old := map[string]hook.Hook{}
	for _, chain := range chains {
		for _, u := range chain {
			if s.breakers.old(u.h, s.nowMS()) {
				old[u.h.ID] = u.h
			}
		}
	}
	hooks := slices.Collect(maps.Values(old))
	each(len(hooks), func(i int) {
		if _, err := s.readBreaker(ctx, hooks[i]); err != nil && !errors.Is(err, hook.ErrNotFound) {
			s.o.Log.WarnContext(ctx, "breaker cannot be read", slog.String("hook_id", hooks[i].ID), slog.Any("err", err))
		}
	})
}

// readBreaker reads a hook's breaker, and learns its state; hook.ErrNotFound
// when there is none.
func (s *Service) readBreaker(ctx context.Context, h hook.Hook) (hook.Breaker, error) {
	b, err := s.o.Store.Breaker(ctx, h.ID, h.Gen, s.nowMS())
	switch {
	case err == nil:
		s.breakers.learn(h, b, s.nowMS())
	case errors.Is(err, hook.ErrNotFound):
		s.breakers.forget(h)
	}
	return b, err
}

// attemptFailed counts a failed attempt, and opens the hook's breaker after too
// many in a row. Nothing depends on the count, so what goes wrong is only logged.
func (s *Service) attemptFailed(ctx context.Context, u unit, fault string) {
	if u.probe {
		s.probeFailed(ctx, u.h)
		return
	}
	for n := s.breakers.fail(u.h); n > 0; n = s.breakers.counted(u.h) {
		b, err := s.o.Store.CountFailures(ctx, u.h.ID, u.h.Gen, n, s.nowMS())
		if err != nil {
			s.o.Log.WarnContext(ctx, "failures not counted", slog.String("hook_id", u.h.ID), slog.Any("err", err))
			continue
		}
		s.breakers.learn(u.h, b, s.nowMS())
		if b.State == hook.BreakerOpen || b.Count < BreakerFailures {
			continue
		}
		if err := s.openBreaker(ctx, u.h, b, fault); err != nil {
			s.o.Log.WarnContext(ctx, "breaker not opened", slog.String("hook_id", u.h.ID), slog.Any("err", err))
		}
	}
}

// openBreaker tells that a breaker opens, and opens it.
func (s *Service) openBreaker(ctx context.Context, h hook.Hook, b hook.Breaker, fault string) error {
	err := s.tell(ctx, eventBreakerOpened, h, b.SinceMS, struct {
		about
		Failures int64  `json:"failures"`
		Since    string `json:"since"`
		Error    string `json:"error"`
	}{aboutHook(h), b.Count, clock(b.SinceMS), tellable(h, fault)}, strconv.FormatInt(b.SinceMS, 10))
	if err != nil {
		return err
	}
	now := s.nowMS()
	b.State, b.OpenedMS, b.WakeMS = hook.BreakerOpen, now, nextProbe(s.o.Now())
	b.Event, b.Seq = "", 0
	opened, err := s.o.Store.UpdateBreaker(ctx, b, now)
	if errors.Is(err, hook.ErrStale) { // someone else opened it, or succeeded
		_, err = s.readBreaker(ctx, h)
		if errors.Is(err, hook.ErrNotFound) {
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	s.breakers.learn(h, opened, now)
	s.count(metricOpened, 1)
	s.o.Log.LogAttrs(ctx, slog.LevelWarn, "breaker opened",
		slog.String("hook_id", h.ID), slog.Int64("failures", b.Count), slog.String("err", fault))
	return nil
}

// attemptSucceeded forgets the hook's failures, if there were any: those that
// this process has seen, and those that the delivery's own earlier attempts are.
// An open breaker is told closed, and begins to release what it held back.
func (s *Service) attemptSucceeded(ctx context.Context, u unit, retried bool) {
	if known := s.breakers.forget(u.h); !known && !retried && !u.probe {
		return
	}
	if err := s.closeBreaker(ctx, u.h); err != nil {
		// The next success tries again.
		s.o.Log.WarnContext(ctx, "breaker not closed", slog.String("hook_id", u.h.ID), slog.Any("err", err))
	}
}

func (s *Service) closeBreaker(ctx context.Context, h hook.Hook) error {
	for range breakerTries {
		b, err := s.o.Store.Breaker(ctx, h.ID, h.Gen, s.nowMS())
		if errors.Is(err, hook.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		switch b.State {
		case hook.BreakerClosed:
			err = s.o.Store.DeleteBreaker(ctx, b)
		case hook.BreakerOpen:
			err = s.release(ctx, h, b)
		default:
			if b.Count == 0 {
				return nil
			}
			b.Count, b.SinceMS = 0, 0
			_, err = s.o.Store.UpdateBreaker(ctx, b, s.nowMS())
		}
		if !errors.Is(err, hook.ErrStale) {
			return err
		}
	}
	return fmt.Errorf("breaker of hook %s: %w", h.ID, hook.ErrBusy)
}

// release tells that an open breaker closes, and makes the sweep wake what it
// held back.
func (s *Service) release(ctx context.Context, h hook.Hook, b hook.Breaker) error {
	since := clock(b.OpenedMS)
	err := s.tell(ctx, eventBreakerClosed, h, b.OpenedMS, struct {
		about
		Since string `json:"since"`
	}{aboutHook(h), since}, strconv.FormatInt(b.OpenedMS, 10))
	if err != nil {
		return err
	}
	if err := s.startRelease(ctx, b); err != nil {
		return err
	}
	s.o.Log.LogAttrs(ctx, slog.LevelInfo, "breaker closed", slog.String("hook_id", h.ID), slog.String("open_since", since))
	return nil
}

func (s *Service) startRelease(ctx context.Context, b hook.Breaker) error {
	b.State, b.Count, b.SinceMS = hook.BreakerReleasing, 0, 0
	b.Event, b.Seq, b.WakeMS = "", 0, s.o.Now().Add(releaseAfter).UnixMilli()
	_, err := s.o.Store.UpdateBreaker(ctx, b, s.nowMS())
	return err
}

// probeFailed looks whether a hook whose breaker is open has had its chances, as
// it is now. What waits ends when the next sweep finds it disabled.
func (s *Service) probeFailed(ctx context.Context, h hook.Hook) {
	b, err := s.readBreaker(ctx, h)
	if err != nil || b.State != hook.BreakerOpen || s.nowMS()-max(b.OpenedMS, h.UpdatedAt*1000) < BreakerPatience.Milliseconds() {
		return // without an answer the next probe asks again
	}
	if err := s.disable(ctx, h, "no attempt has succeeded for 5 days"); err != nil {
		s.o.Log.ErrorContext(ctx, "hook not disabled", slog.String("hook_id", h.ID), slog.Any("err", err))
	}
}

// clock writes a time as events have it.
func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// breakerDue is when what a breaker holds back is looked at again by itself.
func (s *Service) breakerDue(now time.Time) int64 {
	return now.Add(retry.Due(BreakerWait, 0, s.o.Jitter)).UnixMilli()
}

// nextProbe is when a breaker is due again that a sweep which began then has
// looked at.
func nextProbe(begun time.Time) int64 { return begun.Add(probeEvery - probeSlack).UnixMilli() }
