package boltstore

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"eventhooks/internal/hook"
)

// ClaimIngest stores the claim if there is none under its token and key, and
// returns what is there then.
func (s *Store) ClaimIngest(ctx context.Context, c hook.IngestClaim, now int64) (hook.IngestClaim, error) {
	var there hook.IngestClaim
	key, err := newKey(c.TokenID, c.Key)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			there = c
			i, ok, err := claims.stored(tx, key)
			if err != nil {
				return err
			}
			if ok && !i.gone(now) {
				there, err = toClaim(c.TokenID, c.Key, i)
				return err
			}
			return claims.put(tx, key, item{c.ExpiresAt, claimDoc(c)})
		})
	}
	if err != nil {
		return hook.IngestClaim{}, fmt.Errorf("claim idempotency key: %w", err)
	}
	return there, nil
}

// FinishIngest notes that the claim's events are in the queue, if the claim is
// still the stored one.
func (s *Store) FinishIngest(ctx context.Context, c hook.IngestClaim) error {
	key, err := newKey(c.TokenID, c.Key)
	if err == nil {
		err = s.update(ctx, func(tx *bbolt.Tx) error {
			i, ok, err := claims.stored(tx, key)
			if err != nil || !ok {
				return err
			}
			there, err := toClaim(c.TokenID, c.Key, i)
			if err != nil || there.FirstSeenMS != c.FirstSeenMS {
				return err
			}
			there.Pending = false
			return claims.put(tx, key, item{i.expiresAt, claimDoc(there)})
		})
	}
	if err != nil {
		return fmt.Errorf("finish idempotency key: %w", err)
	}
	return nil
}
