package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

func rowKey(k hook.DeliveryKey) ([]byte, error) { return newKey(k.HookID, k.EventID) }

// keysOfRows returns the rows' keys, all different.
func keysOfRows(newRows []hook.Delivery) ([][]byte, error) {
	seen := map[string]bool{}
	var keys [][]byte
	for i, d := range newRows {
		key, err := rowKey(d.Key())
		if err == nil && seen[string(key)] {
			err = errors.New("it is an earlier row")
		}
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
		seen[string(key)] = true
		keys = append(keys, key)
	}
	return keys, nil
}

// liveRow returns a row, and false when it is not there or has expired.
func liveRow(tx *bbolt.Tx, key []byte, now int64) (hook.Delivery, bool, error) {
	i, ok, err := rows.stored(tx, key)
	if err != nil || !ok || i.gone(now) {
		return hook.Delivery{}, false, err
	}
	d, err := toRow(key, i)
	return d, err == nil, err
}

// putRow stores a row in place of whatever is there, keeps the indexes, and
// returns the bytes written.
func (s *Store) putRow(tx *bbolt.Tx, key []byte, d hook.Delivery) (int, error) {
	if d.Status == hook.Pending {
		d.ExpiresAt = 0 // what waits is never forgotten
	}
	if err := unindexRow(tx, key); err != nil {
		return 0, err
	}
	if s.o.Strict {
		s.stale.follow(tx, key)
	}
	i := item{d.ExpiresAt, rowDoc(d)}
	if err := rows.put(tx, key, i); err != nil {
		return 0, err
	}
	if d.Status == hook.Pending {
		if err := tx.Bucket(due).Put(dueKey(key, d), dueDoc(d)); err != nil {
			return 0, err
		}
	}
	if d.Status != hook.Delivered {
		if err := tx.Bucket(byStatus).Put(statusKey(d.HookID, d.Status, d.Event.ID), nil); err != nil {
			return 0, err
		}
	}
	return i.size(key), nil
}

// unindexRow removes what the indexes say of the stored row.
func unindexRow(tx *bbolt.Tx, key []byte) error {
	i, ok, err := rows.stored(tx, key)
	if err != nil || !ok {
		return err
	}
	old, err := toRow(key, i)
	if err != nil {
		return err
	}
	if old.Status == hook.Pending {
		if err := tx.Bucket(due).Delete(dueKey(key, old)); err != nil {
			return err
		}
	}
	return tx.Bucket(byStatus).Delete(statusKey(old.HookID, old.Status, old.Event.ID))
}

func dueKey(key []byte, d hook.Delivery) []byte {
	return append(append([]byte{byte(d.Key().WakeShard())}, number(d.WakeMS)...), key...)
}

// dueDoc is what the due index says of a row, beside its key.
func dueDoc(d hook.Delivery) []byte {
	var w writer
	w.int(d.Seq)
	w.int(d.Nudges)
	w.int(d.DeadlineMS)
	w.text(d.Reason)
	return w.b
}

// splitDueKey returns what a key of the due index says.
func splitDueKey(k []byte) (wakeMS int64, key []byte) { return toNumber(k[1:9]), k[9:] }

func statusKey(hookID string, status hook.Status, eventID string) []byte {
	return append(append(append(append([]byte(hookID), 0), status...), 0), eventID...)
}

// change is how all conditional writes of one row go: decide looks at the row
// as it is, nil when there is none, and returns what to store, or false to
// leave all as it is.
func (s *Store) change(ctx context.Context, k hook.DeliveryKey, now int64, decide func(old *hook.Delivery) (hook.Delivery, bool)) (hook.Delivery, bool, error) {
	key, err := rowKey(k)
	if err != nil {
		return hook.Delivery{}, false, err
	}
	var (
		to   hook.Delivery
		held bool
	)
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		d, there, err := liveRow(tx, key, now)
		if err != nil {
			return err
		}
		var old *hook.Delivery
		if there {
			old = &d
		}
		if to, held = decide(old); held {
			_, err = s.putRow(tx, key, to)
		}
		return err
	})
	return to, held && err == nil, err
}

// noTime is a now at which nothing has expired.
const noTime = 0

// CreateDelivery stores the first row of a delivery (protocol W1); false if
// one is there.
func (s *Store) CreateDelivery(ctx context.Context, d hook.Delivery, now int64) (bool, error) {
	_, created, err := s.change(ctx, d.Key(), now, func(old *hook.Delivery) (hook.Delivery, bool) {
		return d, old == nil
	})
	if err != nil {
		return false, fmt.Errorf("create delivery %s: %w", d.Key(), err)
	}
	return created, nil
}

// Delivery returns a row, or hook.ErrNotFound.
func (s *Store) Delivery(ctx context.Context, k hook.DeliveryKey, now int64) (hook.Delivery, error) {
	found, err := s.Deliveries(ctx, []hook.DeliveryKey{k}, now)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("read delivery %s: %w", k, hook.ErrNotFound)
	}
	if err != nil {
		return hook.Delivery{}, err
	}
	return found[0], nil
}

// Deliveries returns those of the rows that exist, in the order of the keys.
func (s *Store) Deliveries(ctx context.Context, keys []hook.DeliveryKey, now int64) ([]hook.Delivery, error) {
	var found []hook.Delivery
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		for _, k := range keys {
			key, err := rowKey(k)
			if err != nil {
				continue // nothing is stored under what is no key
			}
			d, there, err := liveRow(tx, key, now)
			if err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
			if there {
				found = append(found, d)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read deliveries: %w", err)
	}
	return found, nil
}

// ClaimDelivery takes a pending row whose Seq is w.Seq for an attempt
// (protocol W2), or returns hook.ErrStale.
func (s *Store) ClaimDelivery(ctx context.Context, w hook.Wake, lease, now int64) (hook.Delivery, error) {
	d, held, err := s.change(ctx, w.DeliveryKey, now, func(old *hook.Delivery) (hook.Delivery, bool) {
		if old == nil || old.Status != hook.Pending || old.Seq != w.Seq {
			return hook.Delivery{}, false
		}
		d := *old
		d.Seq++
		d.Tries++
		d.LeaseMS, d.WakeMS = lease, lease
		return d, true
	})
	if err == nil && !held {
		err = hook.ErrStale
	}
	if err != nil {
		return hook.Delivery{}, fmt.Errorf("claim delivery %s: %w", w, err)
	}
	return d, nil
}

// UpdateDelivery replaces a pending row whose Seq is d.Seq by d with Seq+1
// (protocol W3), or returns hook.ErrStale.
func (s *Store) UpdateDelivery(ctx context.Context, d hook.Delivery, now int64) (int64, error) {
	to, held, err := s.change(ctx, d.Key(), now, func(old *hook.Delivery) (hook.Delivery, bool) {
		to := d
		to.Seq++
		return to, old != nil && old.Status == hook.Pending && old.Seq == d.Seq
	})
	if err == nil && !held {
		err = hook.ErrStale
	}
	if err != nil {
		return 0, fmt.Errorf("update delivery %s: %w", d.Key(), err)
	}
	return to.Seq, nil
}

// RecordDelivered stores a row with status delivered, if there is none, or one
// of the same Run that is not delivered yet (protocol W4).
func (s *Store) RecordDelivered(ctx context.Context, d hook.Delivery, now int64) (bool, error) {
	d.Status, d.Seq = hook.Delivered, d.DeliveredSeq()
	_, recorded, err := s.change(ctx, d.Key(), now, func(old *hook.Delivery) (hook.Delivery, bool) {
		return d, old == nil || old.Run == d.Run && old.Status != hook.Delivered
	})
	if err != nil {
		return false, fmt.Errorf("record delivery %s: %w", d.Key(), err)
	}
	return recorded, nil
}

// RedeliverDelivery replaces a row of any status whose Seq is d.Seq by d with
// Seq+1 (protocol W5), or returns hook.ErrStale.
func (s *Store) RedeliverDelivery(ctx context.Context, d hook.Delivery, now int64) (int64, error) {
	to, held, err := s.change(ctx, d.Key(), now, func(old *hook.Delivery) (hook.Delivery, bool) {
		to := d
		to.Seq++
		return to, old != nil && old.Seq == d.Seq
	})
	if err == nil && !held {
		err = hook.ErrStale
	}
	if err != nil {
		return 0, fmt.Errorf("redeliver delivery %s: %w", d.Key(), err)
	}
	return to.Seq, nil
}

// NudgeDelivery moves a pending row's WakeMS from o.WakeMS to later and raises
// Nudges (protocol W6); false when the row is not so any more.
func (s *Store) NudgeDelivery(ctx context.Context, o hook.Overdue, later int64) (bool, error) {
	// A pending row does not expire, so the time does not matter.
	_, nudged, err := s.change(ctx, o.DeliveryKey, noTime, func(old *hook.Delivery) (hook.Delivery, bool) {
		if old == nil || old.Status != hook.Pending || old.WakeMS != o.WakeMS {
			return hook.Delivery{}, false
		}
		d := *old
		d.WakeMS = later
		d.Nudges++
		return d, true
	})
	if err != nil {
		return false, fmt.Errorf("nudge delivery %s: %w", o.Wake, err)
	}
	return nudged, nil
}

// OverdueDeliveries returns up to limit pending rows of a wake shard whose
// WakeMS has come, earliest first.
func (s *Store) OverdueDeliveries(ctx context.Context, shard int, now int64, limit int) ([]hook.Overdue, error) {
	var out []hook.Overdue
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		prefix := []byte{byte(shard)}
		c := tx.Bucket(due).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix) && len(out) < limit; k, v = c.Next() {
			wake, key := splitDueKey(k)
			if wake > now {
				break
			}
			r := reader{b: v}
			o := hook.Overdue{WakeMS: wake}
			o.HookID, o.EventID = splitKey(key)
			o.Seq, o.Nudges, o.DeadlineMS, o.Reason = r.int(), r.int(), r.int(), r.text()
			if r.err != nil {
				return r.err
			}
			out = append(out, o)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read overdue deliveries: %w", err)
	}
	if s.o.Strict {
		out = s.stale.overdue(out, shard, now, limit)
	}
	return out, nil
}

// ListDeliveries returns up to limit of a hook's rows, newest event first,
// whose event ids come before `before`, and whether there may be more. A page
// ends early at a megabyte. A limit below 1 is an error.
func (s *Store) ListDeliveries(ctx context.Context, hookID string, status hook.Status, before string, limit int, now int64) (page []hook.Delivery, more bool, err error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("list deliveries of %s: limit %d", hookID, limit)
	}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		// Delivered rows are in no index of their own: they are most of all
		// rows, so reading all and leaving out the others costs little.
		bucket, prefix := rows.name, append([]byte(hookID), 0)
		if status != "" && status != hook.Delivered {
			bucket, prefix = byStatus, statusKey(hookID, status, "")
		}
		read := 0
		c := tx.Bucket(bucket).Cursor()
		for k := seekBefore(c, prefix, before); bytes.HasPrefix(k, prefix); k, _ = c.Prev() {
			if len(page) == limit || read > s.o.PageBytes && len(page) > 0 {
				more = true
				return nil
			}
			key, err := newKey(hookID, string(k[len(prefix):]))
			if err != nil {
				return err
			}
			i, ok, err := rows.stored(tx, key)
			if err != nil {
				return err
			}
			read += len(key) + len(i.doc)
			if !ok || i.gone(now) {
				continue
			}
			d, err := toRow(key, i)
			if err != nil {
				return err
			}
			if status == "" || d.Status == status {
				page = append(page, d)
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("list deliveries of %s: %w", hookID, err)
	}
	if s.o.Strict {
		page, more = s.stale.list(page, more, listQuery{hookID, status, before, limit, now, newestFirst})
	}
	return page, more, nil
}

// PendingDeliveries returns up to limit of a hook's pending rows, oldest event
// first, whose event ids come after `after`, and whether there may be more. A
// page ends early at a megabyte of the rows themselves. A limit below 1 is an
// error.
func (s *Store) PendingDeliveries(ctx context.Context, hookID, after string, limit int) (page []hook.Waiting, more bool, err error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("list waiting deliveries of %s: limit %d", hookID, limit)
	}
	if strings.IndexByte(hookID, 0) >= 0 {
		return nil, false, nil // such a hook has no rows, and would name another's
	}
	var waiting []hook.Delivery
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		prefix := statusKey(hookID, hook.Pending, "")
		from := prefix
		if after != "" {
			from = append(append(bytes.Clone(prefix), after...), 0) // the least key that is greater
		}
		read := 0
		c := tx.Bucket(byStatus).Cursor()
		for k, _ := c.Seek(from); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			if len(waiting) == limit || read > s.o.PageBytes && len(waiting) > 0 {
				more = true
				return nil
			}
			key, err := newKey(hookID, string(k[len(prefix):]))
			if err != nil {
				return err
			}
			i, ok, err := rows.stored(tx, key)
			if err != nil {
				return err
			}
			read += len(key) + len(i.doc)
			if !ok {
				continue
			}
			d, err := toRow(key, i)
			if err != nil {
				return err
			}
			waiting = append(waiting, d)
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("list waiting deliveries of %s: %w", hookID, err)
	}
	if s.o.Strict {
		waiting, more = s.stale.list(waiting, more, listQuery{hookID, hook.Pending, after, limit, noTime, oldestFirst})
	}
	for _, d := range waiting {
		page = append(page, hook.Waiting{Overdue: toOverdue(d), DueMS: d.DueMS, LeaseMS: d.LeaseMS})
	}
	return page, more, nil
}

// toOverdue is what the indexes tell of a pending row.
func toOverdue(d hook.Delivery) hook.Overdue {
	return hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, WakeMS: d.WakeMS, Nudges: d.Nudges, DeadlineMS: d.DeadlineMS, Reason: d.Reason}
}

// seekBefore moves the cursor to the last key with the prefix that is less
// than prefix+before, or to the last with the prefix when before is "". The
// prefix ends in a zero byte. The key may be one without the prefix.
func seekBefore(c *bbolt.Cursor, prefix []byte, before string) []byte {
	bound := append(bytes.Clone(prefix), before...)
	if before == "" {
		bound[len(bound)-1] = 1
	}
	if k, _ := c.Seek(bound); k == nil {
		k, _ = c.Last()
		return k
	}
	k, _ := c.Prev()
	return k
}
