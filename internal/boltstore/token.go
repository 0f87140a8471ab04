package boltstore

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// useKey is the first part of the keys of all tokens' uses.
const useKey = "token"

// NoteTokenUse notes that a token was used, unless a later use is noted already.
func (s *Store) NoteTokenUse(ctx context.Context, u hook.TokenUse) error {
	key, err := newKey(useKey, u.TokenID)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			i, there, err := uses.stored(tx, key)
			if err != nil {
				return err
			}
			if there {
				if at, err := toUse(i.doc); err != nil || at >= u.At {
					return err
				}
			}
			return uses.put(tx, key, item{u.ExpiresAt, useDoc(u.At)})
		})
	}
	if err != nil {
		return fmt.Errorf("note use of token %.100s: %w", u.TokenID, err)
	}
	return nil
}

// TokenUses returns when those of the tokens were last used of which that is
// noted, by id, in Unix seconds.
func (s *Store) TokenUses(ctx context.Context, ids []string, now int64) (map[string]int64, error) {
	found := make(map[string]int64, len(ids))
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		for _, id := range ids {
			key, err := newKey(useKey, id)
			if err != nil {
				continue // nothing is stored under what is no key
			}
			doc, there, err := uses.live(tx, key, now)
			if err != nil {
				return err
			}
			if there {
				if found[id], err = toUse(doc); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read uses of %d tokens: %w", len(ids), err)
	}
	return found, nil
}
