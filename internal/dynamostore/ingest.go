package dynamostore

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"eventhooks/internal/hook"
)

func ingestKey(c hook.IngestClaim) item { return stateKey("ingest#"+c.TokenID, sortKey(c.Key)) }

// ClaimIngest stores the claim if there is none under its token and key, and
// returns what is there then: the given claim or the earlier one.
//
// One request, 1 WCU; no read, whichever it is.
func (s *Store) ClaimIngest(ctx context.Context, c hook.IngestClaim, now int64) (hook.IngestClaim, error) {
	it := ingestKey(c)
	it["body_hash"], it["first_seen_ms"], it["pending"] = str(c.BodyHash), num(c.FirstSeenMS), boolean(c.Pending)
	putNum(it, "expires_at", c.ExpiresAt)
	old, ok, err := s.put(ctx, s.state, it, newMark(), condition{expr: gone, values: item{":sec": num(unixSeconds(now))}})
	if err == nil && !ok && old == nil {
		err = errors.New("the earlier claim was not told") // no server should
	}
	if err != nil {
		return hook.IngestClaim{}, fmt.Errorf("claim idempotency key: %w", err)
	}
	if ok {
		return c, nil
	}
	r := reader{it: old}
	c.BodyHash, c.FirstSeenMS, c.Pending, c.ExpiresAt = r.str("body_hash"), r.num("first_seen_ms"), r.bool("pending"), r.num("expires_at")
	if r.err != nil {
		return hook.IngestClaim{}, fmt.Errorf("decode idempotency key: %w", r.err)
	}
	return c, nil
}

// FinishIngest notes that the claim's events are in the queue. A claim that is
// no longer there, or another's, stays as it is.
//
// One request, 1 WCU.
func (s *Store) FinishIngest(ctx context.Context, c hook.IngestClaim) error {
	_, _, err := s.update(ctx, ingestKey(c), "SET pending = :no, w = :w", newMark(), types.ReturnValueNone, condition{
		expr:   "body_hash = :hash AND first_seen_ms = :seen",
		values: item{":no": boolean(false), ":hash": str(c.BodyHash), ":seen": num(c.FirstSeenMS)},
	})
	if err != nil {
		return fmt.Errorf("finish idempotency key: %w", err)
	}
	return nil
}
