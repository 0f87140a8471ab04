package boltstore

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// keepSeconds is how long slots, probe states and summaries are kept after
// their last write.
const keepSeconds = 30 * 24 * 60 * 60

// maxAdmission bounds the rows and windows of one admission.
const maxAdmission = 99

// Slots returns those of the slots that exist, by key.
func (s *Store) Slots(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Slot, error) {
	return many(ctx, s, slots, hookID, keys, now, toSlot)
}

// Snoozes returns those of the windows that exist, by key; a window that has
// passed may be among them.
func (s *Store) Snoozes(ctx context.Context, hookID string, keys []string, now int64) (map[string]hook.Snooze, error) {
	return many(ctx, s, windows, hookID, keys, now, toWindow)
}

// many reads items of one first part.
func many[T any](ctx context.Context, s *Store, t table, first string, keys []string, now int64, decode func([]byte) (T, error)) (map[string]T, error) {
	found := map[string]T{}
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		for _, k := range keys {
			key, err := newKey(first, k)
			if err != nil {
				return err
			}
			v, there, err := one(tx, t, key, now, decode)
			if err != nil {
				return err
			}
			if there {
				found[k] = v
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", t.name, first, err)
	}
	return found, nil
}

// one reads an item, and false when it is not there or has expired.
func one[T any](tx *bbolt.Tx, t table, key []byte, now int64, decode func([]byte) (T, error)) (T, bool, error) {
	doc, there, err := t.live(tx, key, now)
	if err != nil || !there {
		var none T
		return none, false, err
	}
	v, err := decode(doc)
	return v, err == nil, err
}

// Admit stores slot, windows and rows, or nothing (protocol W7).
func (s *Store) Admit(ctx context.Context, a hook.Admission) error {
	lost, err := s.admit(ctx, a)
	if err == nil {
		err = lost
	}
	if err != nil {
		return fmt.Errorf("admit to %s: %w", a.HookID, err)
	}
	return nil
}

// admit returns as lost why the admission did not hold.
func (s *Store) admit(ctx context.Context, a hook.Admission) (lost, err error) {
	if n := len(a.Rows) + len(a.Snoozes); n > maxAdmission {
		return nil, fmt.Errorf("%d rows and windows, at most %d are allowed", n, maxAdmission)
	}
	rowKeys, err := keysOfRows(a.Rows)
	if err != nil {
		return nil, err
	}
	var slotKey []byte
	if a.Slot != nil {
		if slotKey, err = newKey(a.HookID, a.Slot.Key); err != nil {
			return nil, fmt.Errorf("slot: %w", err)
		}
	}
	var windowKeys [][]byte
	seen := map[string]bool{}
	for i, c := range a.Snoozes {
		key, err := newKey(a.HookID, c.Key)
		if err == nil && seen[c.Key] {
			err = fmt.Errorf("it is an earlier window")
		}
		if err != nil {
			return nil, fmt.Errorf("window %d: %w", i, err)
		}
		seen[c.Key] = true
		windowKeys = append(windowKeys, key)
	}

	err = s.update(ctx, func(tx *bbolt.Tx) error {
		lost = nil
		// The rows first: who was admitted before is to hear that, not that
		// the slot has moved or the window is open, which is his own doing.
		for i := range a.Rows {
			_, there, err := liveRow(tx, rowKeys[i], a.NowMS)
			if err != nil {
				return err
			}
			if there {
				lost = &hook.Conflict{Change: -1, Row: i, Err: hook.ErrExists}
				return nil
			}
		}
		if a.Slot != nil {
			old, _, err := one(tx, slots, slotKey, a.NowMS, toSlot) // Rev 0 when it is not there
			if err != nil {
				return err
			}
			if old.Rev != a.Slot.Read {
				lost = fmt.Errorf("slot: %w", hook.ErrStale)
				return nil
			}
		}
		for i := range a.Snoozes {
			old, there, err := one(tx, windows, windowKeys[i], a.NowMS, toWindow)
			if err != nil {
				return err
			}
			if there && old.UntilMS > a.NowMS {
				lost = fmt.Errorf("window %d: %w", i, hook.ErrStale)
				return nil
			}
		}

		size := 0
		put := func(t table, key []byte, i item) error {
			size += i.size(key)
			return t.put(tx, key, i)
		}
		if a.Slot != nil {
			if err := put(slots, slotKey, item{a.NowMS/1000 + keepSeconds, slotDoc(a.Slot.Slot)}); err != nil {
				return fmt.Errorf("slot: %w", err)
			}
		}
		for i, c := range a.Snoozes {
			if err := put(windows, windowKeys[i], item{c.ExpiresAt, windowDoc(c.Snooze)}); err != nil {
				return fmt.Errorf("window %d: %w", i, err)
			}
		}
		for i, d := range a.Rows {
			wrote, err := s.putRow(tx, rowKeys[i], d)
			if err != nil {
				return fmt.Errorf("row %d: %w", i, err)
			}
			size += wrote
		}
		return checkWrite(size)
	})
	return lost, err
}

// SeeSlot notes events that a slot dropped. With saw.Seen it raises Seen, on
// condition that Sig is saw.Sig and Seen is less.
func (s *Store) SeeSlot(ctx context.Context, hookID, key string, saw hook.SlotSight, now int64) (bool, error) {
	var seen bool
	k, err := newKey(hookID, key)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			slot, there, err := one(tx, slots, k, now, toSlot)
			seen = err == nil && there && (saw.Seen == "" || slot.Sig == saw.Sig && slot.Seen < saw.Seen)
			if !seen {
				return err
			}
			slot.Rev++
			slot.Seen = max(slot.Seen, saw.Seen)
			slot.Suppressed += saw.N
			slot.LastEvent, slot.LastReason = saw.LastEvent, saw.LastReason
			return slots.put(tx, k, item{now/1000 + keepSeconds, slotDoc(slot)})
		})
	}
	if err != nil {
		return false, fmt.Errorf("see slot of %s: %w", hookID, err)
	}
	return seen, nil
}

// AddSuppressed adds n to a window's count and notes the last event and the
// reason, on condition that the window still ends at untilMS.
func (s *Store) AddSuppressed(ctx context.Context, hookID, key string, untilMS, n int64, lastEvent, reason string) (bool, error) {
	var added bool
	k, err := newKey(hookID, key)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			added = false
			i, there, err := windows.stored(tx, k)
			if err != nil || !there {
				return err
			}
			w, err := toWindow(i.doc)
			if err != nil || w.UntilMS != untilMS {
				return err
			}
			w.Suppressed += n
			w.LastEvent, w.LastReason = lastEvent, reason
			added = true
			return windows.put(tx, k, item{i.expiresAt, windowDoc(w)})
		})
	}
	if err != nil {
		return false, fmt.Errorf("add to window of %s: %w", hookID, err)
	}
	return added, nil
}

// OpenSnoozes returns up to limit of a hook's windows that are open at now,
// whose keys begin with prefix and come after `after`, in the order of the
// keys' bytes, and whether there may be more. A page ends early at a megabyte. A
// limit below 1 is an error.
func (s *Store) OpenSnoozes(ctx context.Context, hookID, prefix, after string, limit int, now int64) (page []hook.OpenSnooze, more bool, err error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("list windows of %s: limit %d", hookID, limit)
	}
	if strings.IndexByte(hookID, 0) >= 0 {
		return nil, false, nil // such a hook has no windows, and would name another's
	}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		more, err = s.page(tx, windows, hookID, prefix, after, limit, now, func(key string, i item) (bool, error) {
			w, err := toWindow(i.doc)
			if err != nil || w.UntilMS <= now {
				return false, err
			}
			page = append(page, hook.OpenSnooze{Key: key, Snooze: w})
			return true, nil
		})
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list windows of %s: %w", hookID, err)
	}
	return page, more, nil
}

// EndSnooze ends a window that is open at now (protocol W10).
func (s *Store) EndSnooze(ctx context.Context, hookID, key string, now int64) (bool, error) {
	k, err := newKey(hookID, key)
	if err != nil {
		return false, nil // no window is stored under what is no key
	}
	var ended bool
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		ended = false
		i, there, err := windows.stored(tx, k)
		if err != nil || !there || i.gone(now) {
			return err
		}
		w, err := toWindow(i.doc)
		if err != nil || w.UntilMS <= now {
			return err
		}
		w.UntilMS = 0
		ended = true
		return windows.put(tx, k, item{i.expiresAt, windowDoc(w)})
	})
	if err != nil {
		return false, fmt.Errorf("end window of %s: %w", hookID, err)
	}
	return ended, nil
}

// GiveBack undoes what the admission of d remembered, each only while d's
// event is the one that opened it (protocol W9).
func (s *Store) GiveBack(ctx context.Context, d hook.Delivery) error {
	err := s.update(ctx, func(tx *bbolt.Tx) error {
		if d.SlotKey != "" {
			if err := giveBack(tx, slots, d.HookID, d.SlotKey, func(doc []byte) ([]byte, error) {
				slot, err := toSlot(doc)
				if err != nil || slot.By != d.Event.ID || slot.Sig == "" {
					return nil, err
				}
				slot.Sig = ""
				slot.Rev++
				return slotDoc(slot), nil
			}); err != nil {
				return fmt.Errorf("slot: %w", err)
			}
		}
		if d.SnoozeKey != "" {
			if err := giveBack(tx, windows, d.HookID, d.SnoozeKey, func(doc []byte) ([]byte, error) {
				w, err := toWindow(doc)
				if err != nil || w.By != d.Event.ID {
					return nil, err
				}
				w.UntilMS = 0
				return windowDoc(w), nil
			}); err != nil {
				return fmt.Errorf("window: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("give back what %s holds: %w", d.Key(), err)
	}
	return nil
}

// giveBack replaces a document by what change makes of it; nil leaves it.
func giveBack(tx *bbolt.Tx, t table, first, rest string, change func(doc []byte) ([]byte, error)) error {
	key, err := newKey(first, rest)
	if err != nil {
		return err
	}
	i, there, err := t.stored(tx, key)
	if err != nil || !there {
		return err
	}
	doc, err := change(i.doc)
	if err != nil || doc == nil {
		return err
	}
	return t.put(tx, key, item{i.expiresAt, doc})
}
