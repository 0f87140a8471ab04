package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// upkeepChunk is how many items Recover and Expire change in one transaction,
// so that other writers wait for moments only.
const upkeepChunk = 500

// Recover sets free what a dead predecessor held, and makes the sweep find
// whatever has lost its wake-up: leases end, pending rows that were claimed
// wake at now, all others when they are due (or earlier, if they would have).
// Nothing else changes: a wake-up that is still in the queue keeps its Seq and
// stays good. It is for the start of a process that has the file for itself.
// Doing it twice is harmless.
func (s *Store) Recover(ctx context.Context, now int64) error {
	var keys [][]byte
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(due).ForEach(func(k, _ []byte) error {
			_, key := splitDueKey(k)
			keys = append(keys, bytes.Clone(key))
			return nil
		})
	})
	for part := range slices.Chunk(keys, upkeepChunk) {
		if err == nil {
			err = s.update(ctx, func(tx *bbolt.Tx) error { return s.recoverRows(tx, part, now) })
		}
	}
	if err == nil {
		err = s.update(ctx, freeLeases)
	}
	if err != nil {
		return fmt.Errorf("recover store: %w", err)
	}
	return nil
}

func (s *Store) recoverRows(tx *bbolt.Tx, keys [][]byte, now int64) error {
	for _, key := range keys {
		d, there, err := liveRow(tx, key, now)
		if err != nil {
			return err
		}
		wake := min(d.DueMS, d.WakeMS)
		if d.LeaseMS != 0 {
			wake = now
		}
		if !there || d.Status != hook.Pending || d.LeaseMS == 0 && d.WakeMS == wake {
			continue
		}
		d.LeaseMS, d.WakeMS = 0, wake
		if _, err := s.putRow(tx, key, d); err != nil {
			return err
		}
	}
	return nil
}

func freeLeases(tx *bbolt.Tx) error {
	held := map[string]item{}
	err := leases.prefixed(tx, leaseKey, func(upstream string, i item) error {
		l, err := toLease(i.doc)
		if err != nil || l.untilMS == 0 {
			return err
		}
		l.untilMS = 0
		held[upstream] = item{i.expiresAt, leaseDoc(l)}
		return nil
	})
	if err != nil {
		return err
	}
	for upstream, i := range held {
		key, err := newKey(leaseKey, upstream)
		if err == nil {
			err = leases.put(tx, key, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// LastEventID returns the greatest event id of any delivery row, "" when there
// is none: ids that a new process gives out should be above it. It reads one
// key for each hook that has rows.
func (s *Store) LastEventID(ctx context.Context) (string, error) {
	var last string
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(rows.name).Cursor()
		for k, _ := c.Last(); k != nil; {
			hookID, event := splitKey(k) // the greatest of this hook
			last = max(last, event)
			c.Seek(append([]byte(hookID), 0)) // the least of this hook
			k, _ = c.Prev()
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read last event id: %w", err)
	}
	return last, nil
}

// Expire removes up to limit items that have expired at now, the longest ago
// first, and returns how many: what DynamoDB's time to live does. Nobody
// depends on it, for readers compare the time themselves; it keeps the file
// from growing without end. It is cheap when nothing has expired.
func (s *Store) Expire(ctx context.Context, now int64, limit int) (int, error) {
	removed := 0
	for removed < limit {
		n := 0
		err := s.update(ctx, func(tx *bbolt.Tx) (err error) {
			n, err = expire(tx, now, min(limit-removed, upkeepChunk))
			return err
		})
		if err != nil {
			return removed, fmt.Errorf("remove expired items: %w", err)
		}
		removed += n
		if n == 0 {
			break
		}
	}
	return removed, nil
}

func expire(tx *bbolt.Tx, now int64, limit int) (int, error) {
	type entry struct {
		t   table
		key []byte
	}
	var found []entry // a cursor does not bear that its bucket changes
	c := tx.Bucket(expiries).Cursor()
	for k, _ := c.First(); k != nil && len(found) < limit && (item{expiresAt: toNumber(k[:8])}).gone(now); k, _ = c.Next() {
		at := slices.IndexFunc(tables, func(t table) bool { return t.mark == k[8] })
		if at < 0 {
			return 0, fmt.Errorf("no table has the mark %q", k[8])
		}
		found = append(found, entry{tables[at], bytes.Clone(k[9:])})
	}
	for _, e := range found {
		var err error
		switch e.t.mark {
		case records.mark:
			err = unindexRecord(tx, e.key)
		case rows.mark:
			err = unindexRow(tx, e.key)
		}
		if err == nil {
			err = e.t.remove(tx, e.key)
		}
		if err != nil {
			return 0, err
		}
	}
	return len(found), nil
}
