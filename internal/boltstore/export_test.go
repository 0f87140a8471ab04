package boltstore

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// Faults reads the whole file and returns what does not fit together: indexes
// that say other than their tables, pages that bbolt finds broken.
func Faults(s *Store) ([]string, error) {
	var out []string
	err := s.db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			out = append(out, err.Error())
		}
		want := map[string]map[string]bool{string(expiries): {}, string(changed): {}, string(due): {}, string(byStatus): {}, string(breakDue): {}}
		for _, t := range tables {
			if err := tx.Bucket(t.name).ForEach(func(k, v []byte) error {
				i, err := toItem(v)
				if err != nil {
					return err
				}
				if i.expiresAt != 0 {
					want[string(expiries)][string(t.expiryKey(k, i.expiresAt))] = true
				}
				first, rest := splitKey(k)
				switch t.mark {
				case records.mark:
					r, err := toRecord(first, rest, i)
					if err != nil {
						return err
					}
					if r.Changed != 0 {
						want[string(changed)][string(changedKey(first, rest, r.Changed))] = true
					}
				case rows.mark:
					d, err := toRow(k, i)
					if err != nil {
						return err
					}
					if d.Key() != (hook.DeliveryKey{HookID: first, EventID: rest}) {
						out = append(out, fmt.Sprintf("row %q holds %s", k, d.Key()))
					}
					if d.Status == hook.Pending {
						want[string(due)][string(dueKey(k, d))] = true
					}
					if d.Status != hook.Delivered {
						want[string(byStatus)][string(statusKey(first, d.Status, rest))] = true
					}
				case breaks.mark:
					b, err := toBreaker(k, i.doc)
					if err != nil {
						return err
					}
					if b.WakeMS != 0 {
						want[string(breakDue)][string(breakDueKey(k, b))] = true
					}
				}
				return nil
			}); err != nil {
				return err
			}
		}
		for name, keys := range want {
			if err := tx.Bucket([]byte(name)).ForEach(func(k, v []byte) error {
				if !keys[string(k)] {
					out = append(out, fmt.Sprintf("%s has %q, which nothing is behind", name, k))
				}
				delete(keys, string(k))
				if name == string(due) {
					_, key := splitDueKey(k)
					i, _, err := rows.stored(tx, key)
					if err != nil {
						return err
					}
					d, err := toRow(key, i)
					if err != nil {
						return err
					}
					if !bytes.Equal(v, dueDoc(d)) {
						out = append(out, fmt.Sprintf("%s says %x of %s, want %x", name, v, d.Key(), dueDoc(d)))
					}
				}
				return nil
			}); err != nil {
				return err
			}
			for k := range keys {
				out = append(out, fmt.Sprintf("%s lacks %q", name, k))
			}
		}
		return nil
	})
	return out, err
}

// Commit is the transaction that all writes share.
func (s *Store) Commit(fn func(tx *bbolt.Tx) error) error { return s.turn.Commit(fn) }
