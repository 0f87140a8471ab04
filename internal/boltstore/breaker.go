package boltstore

import (
	"context"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// breakerSeconds is how long a closed breaker is kept after its last failure.
const breakerSeconds = 60 * 60

// breakerExpiry is when a breaker expires, Unix seconds; one that is not closed
// does not.
func breakerExpiry(b hook.Breaker) int64 {
	if b.State != hook.BreakerClosed {
		return 0
	}
	return b.LastMS/1000 + breakerSeconds
}

func breakerKey(hookID string, gen int64) ([]byte, error) {
	return newKey(hookID, strconv.FormatInt(gen, 10))
}

// breaker returns what is stored under the key, and false when nothing is, or
// it has expired at now.
func breaker(tx *bbolt.Tx, key []byte, now int64) (hook.Breaker, bool, error) {
	doc, there, err := breaks.live(tx, key, now)
	if err != nil || !there {
		return hook.Breaker{}, false, err
	}
	b, err := toBreaker(key, doc)
	return b, err == nil, err
}

// putBreaker stores a breaker in place of whatever is there, and keeps the
// index.
func (s *Store) putBreaker(tx *bbolt.Tx, key []byte, b hook.Breaker) error {
	if err := s.unindexBreaker(tx, key); err != nil {
		return err
	}
	if err := breaks.put(tx, key, item{breakerExpiry(b), breakerDoc(b)}); err != nil || b.WakeMS == 0 {
		return err
	}
	return tx.Bucket(breakDue).Put(breakDueKey(key, b), nil)
}

// unindexBreaker removes what the index says of the stored breaker, whose place
// is about to be taken.
func (s *Store) unindexBreaker(tx *bbolt.Tx, key []byte) error {
	old, there, err := breaker(tx, key, noTime)
	if err != nil {
		return err
	}
	if s.o.Strict {
		s.staleBreaker.follow(tx, key, old, there)
	}
	if !there || old.WakeMS == 0 {
		return nil
	}
	return tx.Bucket(breakDue).Delete(breakDueKey(key, old))
}

func breakDueKey(key []byte, b hook.Breaker) []byte { return append(number(b.WakeMS), key...) }

// CountFailures adds n failures, the last of them at now, to the breaker of a
// hook, and returns it as it is then.
func (s *Store) CountFailures(ctx context.Context, hookID string, gen, n, now int64) (hook.Breaker, error) {
	var b hook.Breaker
	key, err := breakerKey(hookID, gen)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) (err error) {
			var there bool
			if b, there, err = breaker(tx, key, now); err != nil {
				return err
			}
			if !there || b.State == hook.BreakerClosed && b.LastMS <= now-hook.BreakerMemory.Milliseconds() {
				b = hook.Breaker{HookID: hookID, Gen: gen, Rev: b.Rev + 1, State: hook.BreakerClosed, SinceMS: now}
			}
			if b.SinceMS == 0 {
				b.SinceMS = now
			}
			b.Count += n
			b.LastMS = max(b.LastMS, now)
			return s.putBreaker(tx, key, b)
		})
	}
	if err != nil {
		return hook.Breaker{}, fmt.Errorf("count failures of %s: %w", hookID, err)
	}
	return b, nil
}

// Breaker returns the breaker of a hook, or hook.ErrNotFound.
func (s *Store) Breaker(ctx context.Context, hookID string, gen, now int64) (hook.Breaker, error) {
	var (
		b     hook.Breaker
		there bool
	)
	key, err := breakerKey(hookID, gen)
	if err == nil {
		err = s.view(ctx, func(tx *bbolt.Tx) (err error) {
			b, there, err = breaker(tx, key, now)
			return err
		})
		if err == nil && s.o.Strict {
			b, there = s.staleBreaker.read(b, there, key, now)
		}
		if err == nil && !there {
			err = hook.ErrNotFound
		}
	}
	if err != nil {
		return hook.Breaker{}, fmt.Errorf("read breaker of %s: %w", hookID, err)
	}
	return b, nil
}

// UpdateBreaker replaces the breaker whose Gen and Rev are b's by b with Rev+1
// and returns it; hook.ErrStale when it is no longer so.
func (s *Store) UpdateBreaker(ctx context.Context, b hook.Breaker, now int64) (hook.Breaker, error) {
	read := b.Rev
	b.Rev++
	if b.State == hook.BreakerClosed {
		b.WakeMS = 0
	}
	held := false
	key, err := breakerKey(b.HookID, b.Gen)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			old, there, err := breaker(tx, key, now)
			if held = err == nil && there && old.Rev == read; !held {
				return err
			}
			return s.putBreaker(tx, key, b)
		})
	}
	if err == nil && !held {
		err = hook.ErrStale
	}
	if err != nil {
		return hook.Breaker{}, fmt.Errorf("update breaker of %s: %w", b.HookID, err)
	}
	return b, nil
}

// DeleteBreaker forgets the breaker whose Gen and Rev are b's; hook.ErrStale
// when another is there, or none.
func (s *Store) DeleteBreaker(ctx context.Context, b hook.Breaker) error {
	held := false
	key, err := breakerKey(b.HookID, b.Gen)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			old, there, err := breaker(tx, key, noTime)
			if held = err == nil && there && old.Rev == b.Rev; !held {
				return err
			}
			if err := s.unindexBreaker(tx, key); err != nil {
				return err
			}
			return breaks.remove(tx, key)
		})
	}
	if err == nil && !held {
		err = hook.ErrStale
	}
	if err != nil {
		return fmt.Errorf("delete breaker of %s: %w", b.HookID, err)
	}
	return nil
}

// OverdueBreakers returns up to limit breakers whose WakeMS is set and has
// come, earliest first.
func (s *Store) OverdueBreakers(ctx context.Context, now int64, limit int) ([]hook.Breaker, error) {
	var out []hook.Breaker
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(breakDue).Cursor()
		for k, _ := c.First(); k != nil && toNumber(k[:8]) <= now && len(out) < limit; k, _ = c.Next() {
			b, there, err := breaker(tx, k[8:], noTime) // an open one does not expire
			if err != nil {
				return err
			}
			if there {
				out = append(out, b)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read overdue breakers: %w", err)
	}
	if s.o.Strict {
		out = s.staleBreaker.overdue(out, now, limit)
	}
	return out, nil
}
