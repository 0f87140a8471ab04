package boltstore

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// leaseKey is the first part of all leases' keys, watchKey that of all watches'.
const (
	leaseKey = "probe"
	watchKey = "watch"
)

// Probes returns all that is stored of an upstream's probes: what it was at one
// moment.
func (s *Store) Probes(ctx context.Context, upstreamID string, now int64) (hook.ProbeView, error) {
	var v hook.ProbeView
	key, err := newKey(leaseKey, upstreamID)
	if err == nil {
		err = s.view(ctx, func(tx *bbolt.Tx) (err error) {
			v, err = readProbes(tx, key, upstreamID, now)
			return err
		})
	}
	if err != nil {
		return hook.ProbeView{}, fmt.Errorf("read probes of %s: %w", upstreamID, err)
	}
	return v, nil
}

func readProbes(tx *bbolt.Tx, lease []byte, upstreamID string, now int64) (hook.ProbeView, error) {
	l, _, err := storedLease(tx, lease)
	if err != nil {
		return hook.ProbeView{}, err
	}
	l.forget(now)
	v := hook.ProbeView{UntilMS: l.untilMS, Summary: l.summary}
	if v.WatchedMS, err = storedWatch(tx, upstreamID, now); err != nil {
		return v, err
	}
	err = states.prefixed(tx, upstreamID, func(address string, i item) error {
		if i.gone(now) {
			return nil
		}
		st, err := toState(address, i.doc)
		v.States = append(v.States, st)
		return err
	})
	if err != nil {
		return v, err
	}
	return v, orders.prefixed(tx, upstreamID, func(id string, i item) error {
		if i.gone(now) {
			return nil
		}
		o, err := toOrder(id, i.doc)
		v.Orders = append(v.Orders, o)
		return err
	})
}

// storedWatch returns until when an upstream is watched, 0 for not at all.
func storedWatch(tx *bbolt.Tx, upstreamID string, now int64) (untilMS int64, err error) {
	key, err := newKey(watchKey, upstreamID)
	if err != nil {
		return 0, err
	}
	doc, there, err := watches.live(tx, key, now)
	if err != nil || !there {
		return 0, err
	}
	return toWatch(doc)
}

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

// PutHealthOrder stores an order, for 30 days, in place of one with its id.
func (s *Store) PutHealthOrder(ctx context.Context, upstreamID string, o hook.HealthOrder, now int64) error {
	key, err := newKey(upstreamID, o.ID)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			return orders.put(tx, key, item{now/1000 + keepSeconds, orderDoc(o)})
		})
	}
	if err != nil {
		return fmt.Errorf("put health order of %s: %w", upstreamID, err)
	}
	return nil
}

// DeleteHealthOrder forgets an order, if the lease's Gen is still the current
// one; hook.ErrStale otherwise.
func (s *Store) DeleteHealthOrder(ctx context.Context, l hook.ProbeLease, orderID string, _ int64) error {
	key, err := newKey(l.UpstreamID, orderID)
	if err == nil {
		err = s.underLease(ctx, l, func(tx *bbolt.Tx, _ []byte) error {
			return orders.remove(tx, key)
		})
	}
	if err != nil {
		return fmt.Errorf("delete health order of %s: %w", l.UpstreamID, err)
	}
	return nil
}

// WatchProbes notes that somebody wants to read fresh results until untilMS,
// unless that is noted for as long already.
func (s *Store) WatchProbes(ctx context.Context, upstreamID string, untilMS, now int64) error {
	key, err := newKey(watchKey, upstreamID)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			stored, err := storedWatch(tx, upstreamID, now)
			if err != nil || stored >= untilMS {
				return err
			}
			// The second after: it is there until the last millisecond.
			return watches.put(tx, key, item{untilMS/1000 + 1, watchDoc(untilMS)})
		})
	}
	if err != nil {
		return fmt.Errorf("watch probes of %s: %w", upstreamID, err)
	}
	return nil
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
