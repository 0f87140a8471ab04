package dynamostore

import (
	"context"
	"fmt"

	"eventhooks/internal/hook"
)

// orderAge is how long an order waits for a run that carries it out, in seconds.
const orderAge = 30 * 24 * 60 * 60

func orderKey(upstreamID, orderID string) item {
	return stateKey(probePartition(upstreamID), orderPrefix+orderID)
}

// PutHealthOrder stores an order, for 30 days, in place of one with its id.
//
// One request of 1 WCU.
func (s *Store) PutHealthOrder(ctx context.Context, upstreamID string, o hook.HealthOrder, now int64) error {
	if o.ID == "" || !storableKey(orderPrefix+o.ID) {
		return fmt.Errorf("store health order of upstream %s: its id cannot be a key", upstreamID)
	}
	it := orderKey(upstreamID, o.ID)
	it["expires_at"] = num(unixSeconds(now) + orderAge)
	putStr(it, "target", o.TargetID)
	putStr(it, "ip", o.IP)
	putStr(it, "health", string(o.Health))
	if _, _, err := s.put(ctx, s.state, it, newMark(), condition{}); err != nil {
		return fmt.Errorf("store health order of upstream %s: %w", upstreamID, err)
	}
	return nil
}

// DeleteHealthOrder forgets an order, if the lease's Gen is still the current
// one; hook.ErrStale otherwise.
//
// One transaction: twice the lease's KB, and 2 WCU.
func (s *Store) DeleteHealthOrder(ctx context.Context, l hook.ProbeLease, orderID string, _ int64) error {
	u := s.probed.of(l.UpstreamID)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := s.underLease(ctx, l, newMark(), deleteWrite(s.state, orderKey(l.UpstreamID, orderID), condition{})); err != nil {
		return fmt.Errorf("delete health order of upstream %s: %w", l.UpstreamID, err)
	}
	return nil
}

// WatchProbes notes that somebody wants to read fresh results until untilMS,
// unless that is noted for as long already.
//
// One request of 1 WCU.
func (s *Store) WatchProbes(ctx context.Context, upstreamID string, untilMS, now int64) error {
	it := stateKey(probePartition(upstreamID), watchSort)
	// The second after: it is there until the last millisecond.
	it["until_ms"], it["expires_at"] = num(untilMS), num(unixSeconds(untilMS)+1)
	_, _, err := s.put(ctx, s.state, it, newMark(), condition{
		expr:   gone + " OR until_ms < :until",
		values: item{":sec": num(unixSeconds(now)), ":until": num(untilMS)},
	})
	if err != nil {
		return fmt.Errorf("watch probes of upstream %s: %w", upstreamID, err)
	}
	return nil
}
