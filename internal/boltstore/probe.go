package boltstore

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// leaseKey is the first part of all leases' keys.
const leaseKey = "probe"

// AcquireProbe takes an upstream's lease until untilMS, if none is held at
// now; false when another run holds it.
func (s *Store) AcquireProbe(ctx context.Context, upstreamID string, now, untilMS int64) (hook.ProbeLease, bool, error) {
	var (
		l    lease
		free bool
	)
	key, err := newKey(leaseKey, upstreamID)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) (err error) {
			// Expired or not: a Gen is never given twice while it is known.
			l, _, err = storedLease(tx, key)
			free = err == nil && l.untilMS <= now
			if !free {
				return err
			}
			l.gen++
			l.untilMS = untilMS
			l.forget(now)
			return leases.put(tx, key, item{now/1000 + keepSeconds, leaseDoc(l)})
		})
	}
	if err != nil {
		return hook.ProbeLease{}, false, fmt.Errorf("acquire probe of %s: %w", upstreamID, err)
	}
	if !free {
		return hook.ProbeLease{}, false, nil
	}
	return hook.ProbeLease{UpstreamID: upstreamID, Gen: l.gen, UntilMS: untilMS, Summary: l.summary}, true, nil
}

// forget drops the summary if it has expired at now.
func (l *lease) forget(now int64) {
	if (item{expiresAt: l.summaryExpiresAt}).gone(now) {
		l.summary, l.summaryExpiresAt = nil, 0
	}
}

func storedLease(tx *bbolt.Tx, key []byte) (lease, bool, error) {
	i, there, err := leases.stored(tx, key)
	if err != nil || !there {
		return lease{}, false, err
	}
	l, err := toLease(i.doc)
	return l, err == nil, err
}

// underLease runs fn if the lease's Gen is still the current one, and returns
// hook.ErrStale otherwise.
func (s *Store) underLease(ctx context.Context, l hook.ProbeLease, fn func(tx *bbolt.Tx, key []byte) error) error {
	key, err := newKey(leaseKey, l.UpstreamID)
	if err != nil {
		return err
	}
	var current bool
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		stored, there, err := storedLease(tx, key)
		current = err == nil && there && stored.gen == l.Gen
		if !current {
			return err
		}
		return fn(tx, key)
	})
	if err == nil && !current {
		err = hook.ErrStale
	}
	return err
}

// ReleaseProbe stores the lease's Summary and ends it, if its Gen is still the
// current one; hook.ErrStale otherwise.
func (s *Store) ReleaseProbe(ctx context.Context, l hook.ProbeLease, now int64) error {
	err := s.underLease(ctx, l, func(tx *bbolt.Tx, key []byte) error {
		end := now/1000 + keepSeconds
		return leases.put(tx, key, item{end, leaseDoc(lease{gen: l.Gen, summary: l.Summary, summaryExpiresAt: end})})
	})
	if err != nil {
		return fmt.Errorf("release probe of %s: %w", l.UpstreamID, err)
	}
	return nil
}

// ProbeStates returns all states of an upstream's targets.
func (s *Store) ProbeStates(ctx context.Context, upstreamID string, now int64) ([]hook.ProbeState, error) {
	var out []hook.ProbeState
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		return states.prefixed(tx, upstreamID, func(address string, i item) error {
			if i.gone(now) {
				return nil
			}
			st, err := toState(address, i.doc)
			if err != nil {
				return err
			}
			out = append(out, st)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read probe states of %s: %w", upstreamID, err)
	}
	return out, nil
}

// PutProbeState stores a target's state, if the lease's Gen is still the
// current one; hook.ErrStale otherwise.
func (s *Store) PutProbeState(ctx context.Context, l hook.ProbeLease, st hook.ProbeState, now int64) error {
	key, err := newKey(l.UpstreamID, st.Address)
	if err == nil {
		err = s.underLease(ctx, l, func(tx *bbolt.Tx, _ []byte) error {
			return states.put(tx, key, item{now/1000 + keepSeconds, stateDoc(st)})
		})
	}
	if err != nil {
		return fmt.Errorf("put probe state of %s: %w", l.UpstreamID, err)
	}
	return nil
}

// DeleteProbeState forgets a target's state under the same condition.
func (s *Store) DeleteProbeState(ctx context.Context, l hook.ProbeLease, address string, _ int64) error {
	key, err := newKey(l.UpstreamID, address)
	if err == nil {
		err = s.underLease(ctx, l, func(tx *bbolt.Tx, _ []byte) error {
			return states.remove(tx, key)
		})
	}
	if err != nil {
		return fmt.Errorf("delete probe state of %s: %w", l.UpstreamID, err)
	}
	return nil
}

// ProbeSummary returns what the last run of an upstream left, nil if none.
func (s *Store) ProbeSummary(ctx context.Context, upstreamID string, now int64) ([]byte, error) {
	var l lease
	key, err := newKey(leaseKey, upstreamID)
	if err == nil {
		err = s.view(ctx, func(tx *bbolt.Tx) (err error) {
			l, _, err = storedLease(tx, key)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read probe summary of %s: %w", upstreamID, err)
	}
	l.forget(now)
	return l.summary, nil
}

// ProbedUpstreams returns the ids of the upstreams that have states.
func (s *Store) ProbedUpstreams(ctx context.Context, now int64) ([]string, error) {
	var out []string
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(states.name).Cursor()
		for k, v := c.First(); k != nil; {
			i, err := toItem(v)
			if err != nil {
				return err
			}
			if i.gone(now) {
				k, v = c.Next()
				continue
			}
			upstream, _ := splitKey(k)
			out = append(out, upstream)
			k, v = c.Seek(append([]byte(upstream), 1)) // past all its other states
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list probed upstreams: %w", err)
	}
	return out, nil
}
