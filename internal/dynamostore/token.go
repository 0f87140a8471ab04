package dynamostore

import (
	"context"
	"fmt"

	"eventhooks/internal/hook"
)

const (
	tokenPrefix = "token#"
	usedSort    = "used"
)

func tokenUseKey(tokenID string) item { return stateKey(tokenPrefix+tokenID, usedSort) }

// NoteTokenUse notes that a token was used, unless a later use is noted already.
//
// One request, 1 WCU; no read, whichever it is.
func (s *Store) NoteTokenUse(ctx context.Context, u hook.TokenUse) error {
	it := tokenUseKey(u.TokenID)
	it["used_at"] = num(u.At)
	putNum(it, "expires_at", u.ExpiresAt)
	_, _, err := s.put(ctx, s.state, it, newMark(), condition{
		expr:   "attribute_not_exists(pk) OR used_at < :at",
		values: item{":at": num(u.At)},
	})
	if err != nil {
		return fmt.Errorf("note use of token %s: %w", u.TokenID, err)
	}
	return nil
}

// TokenUses returns when those of the tokens were last used of which that is
// noted, by id, in Unix seconds.
//
// A request for each 100 of them, 1 RCU a token.
func (s *Store) TokenUses(ctx context.Context, ids []string, now int64) (map[string]int64, error) {
	var ask []item
	for _, id := range ids {
		if storableKey(id) {
			ask = append(ask, tokenUseKey(id))
		}
	}
	its, err := s.getAll(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("read uses of %d tokens: %w", len(ids), err)
	}
	uses := make(map[string]int64, len(its))
	for _, it := range its {
		if expired(it, now) {
			continue
		}
		r := reader{it: it}
		pk, at := r.str("pk"), r.num("used_at")
		if r.err != nil {
			return nil, fmt.Errorf("decode use of a token: %w", r.err)
		}
		uses[pk[len(tokenPrefix):]] = at
	}
	return uses, nil
}
