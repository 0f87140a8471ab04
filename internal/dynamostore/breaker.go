package dynamostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"eventhooks/internal/hook"
)

const breakerPrefix = "breaker#"

// breakerShard is the partition of the due index that holds breakers: one of
// their own, so that who looks for deliveries never meets them.
const breakerShard = "b"

// breakerAge is how long a closed breaker outlives its last failure, in
// seconds.
const breakerAge = 60 * 60

func breakerKey(hookID string, gen int64) item {
	return stateKey(breakerPrefix+hookID, strconv.FormatInt(gen, 10))
}

// encodeBreaker returns the item of a breaker, without its mark.
func encodeBreaker(b hook.Breaker) item {
	it := breakerKey(b.HookID, b.Gen)
	it["rev"], it["state"] = num(b.Rev), str(string(b.State))
	it["count"], it["last_ms"] = num(b.Count), num(b.LastMS)
	putNum(it, "since", b.SinceMS)
	putNum(it, "opened_at", b.OpenedMS)
	putStr(it, "event", b.Event)
	putNum(it, "seq", b.Seq)
	switch {
	case b.State == hook.BreakerClosed:
		it["expires_at"] = num(unixSeconds(b.LastMS) + breakerAge)
	case b.WakeMS != 0:
		it["wake_shard"], it["wake_at"] = str(breakerShard), num(b.WakeMS)
	}
	return it
}

// decodeBreaker reverses encodeBreaker. Of an item that is not there, or has
// expired at now, it is zero.
func decodeBreaker(it item, now int64) (hook.Breaker, error) {
	if it == nil || expired(it, now) {
		return hook.Breaker{}, nil
	}
	r := reader{it: it}
	id, ok := strings.CutPrefix(r.str("pk"), breakerPrefix)
	gen, err := strconv.ParseInt(r.str("sk"), 10, 64)
	if !ok || err != nil {
		return hook.Breaker{}, errors.New("decode breaker: its key is not one")
	}
	b := hook.Breaker{
		HookID: id, Gen: gen, Rev: r.num("rev"), State: hook.BreakerState(r.str("state")),
		Count: r.num("count"), SinceMS: r.num("since"), LastMS: r.num("last_ms"),
		OpenedMS: r.num("opened_at"), WakeMS: r.num("wake_at"), Event: r.str("event"), Seq: r.num("seq"),
	}
	if r.err != nil {
		return hook.Breaker{}, fmt.Errorf("decode breaker: %w", r.err)
	}
	return b, nil
}

// breakerNames stand for attributes whose names DynamoDB reserves.
var breakerNames = map[string]string{"#state": "state", "#count": "count"}

// CountFailures adds n failures, the last of them at now, to the breaker of a
// hook, and returns it as it is then. Where there is none, or a closed one whose
// last failure is hook.BreakerMemory or more before now, a closed one begins
// with them. hook.ErrBusy when others kept getting in between.
//
// One request of 1 WCU where a closed one counts. Two, of 1 WCU each, where one
// begins, where now is before its last failure, and where it is not closed;
// there its index entry stays as it is. A repeat of a request whose answer was
// lost counts once, unless another has counted between the two.
func (s *Store) CountFailures(ctx context.Context, hookID string, gen, n, now int64) (hook.Breaker, error) {
	b, err := s.countFailures(ctx, hookID, gen, n, now)
	if err != nil {
		return hook.Breaker{}, fmt.Errorf("count failures of hook %s: %w", hookID, err)
	}
	return b, nil
}

func (s *Store) countFailures(ctx context.Context, hookID string, gen, n, now int64) (hook.Breaker, error) {
	forgotten := now - hook.BreakerMemory.Milliseconds()
	// What was last seen of it: at first a guess, which holds in a row of
	// failures. Then what a refusal tells.
	seen := hook.Breaker{Rev: 1, State: hook.BreakerClosed, LastMS: now}
	for try := 1; ; try++ {
		var (
			it  item
			ok  bool
			err error
		)
		if seen.Rev == 0 || seen.State == hook.BreakerClosed && seen.LastMS <= forgotten {
			begun := hook.Breaker{HookID: hookID, Gen: gen, Rev: seen.Rev + 1, State: hook.BreakerClosed, Count: n, SinceMS: now, LastMS: now}
			if it, ok, err = s.beginBreaker(ctx, begun, seen, now); ok {
				return begun, nil
			}
		} else if it, ok, err = s.addFailures(ctx, breakerKey(hookID, gen), seen, n, now, forgotten); ok {
			return decodeBreaker(it, 0)
		}
		if err != nil {
			return hook.Breaker{}, err
		}
		if seen, err = decodeBreaker(it, now); err != nil {
			return hook.Breaker{}, err
		}
		if try == tries {
			return hook.Breaker{}, hook.ErrBusy
		}
		if try == 1 {
			continue // nobody was in the way: it is known now what is there
		}
		if err := pause(ctx, try); err != nil {
			return hook.Breaker{}, err
		}
	}
}

// beginBreaker stores a breaker in place of the one seen, of which Rev is 0 when
// there was none.
func (s *Store) beginBreaker(ctx context.Context, b, seen hook.Breaker, now int64) (old item, ok bool, err error) {
	c := condition{expr: gone, values: item{":sec": num(unixSeconds(now))}}
	if seen.Rev > 0 {
		// Its Rev stays when it counts, so its last failure is compared too.
		c = condition{expr: "rev = :rev AND last_ms = :last", values: item{":rev": num(seen.Rev), ":last": num(seen.LastMS)}}
	}
	return s.put(ctx, s.state, encodeBreaker(b), newMark(), c)
}

// addFailures counts on a breaker that is in the state seen, and whose last
// failure is on the same side of now. It returns the item as it is then.
func (s *Store) addFailures(ctx context.Context, key item, seen hook.Breaker, n, now, forgotten int64) (it item, ok bool, err error) {
	set := "SET w = :w, since = if_not_exists(since, :now)"
	c := condition{
		// The condition would still hold when the SDK repeats a request that
		// took effect: hence w.
		expr: "w <> :w AND #state = :state", names: breakerNames,
		values: item{":state": str(string(seen.State)), ":n": num(n), ":now": num(now)},
	}
	switch closed := seen.State == hook.BreakerClosed; {
	case seen.LastMS > now:
		c.expr += " AND last_ms > :now"
	case closed:
		set += ", last_ms = :now, expires_at = :expires"
		c.expr += " AND last_ms <= :now AND last_ms > :forgotten"
		c.values[":forgotten"], c.values[":expires"] = num(forgotten), num(unixSeconds(now)+breakerAge)
	default:
		set += ", last_ms = :now"
		c.expr += " AND last_ms <= :now"
	}
	return s.update(ctx, key, set+" ADD #count :n", newMark(), types.ReturnValueAllNew, c)
}

// Breaker returns the breaker of a hook, or hook.ErrNotFound. It only suggests:
// what it says may be old.
//
// One request, half an RCU.
func (s *Store) Breaker(ctx context.Context, hookID string, gen, now int64) (hook.Breaker, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: s.state, Key: breakerKey(hookID, gen)})
	var b hook.Breaker
	if err == nil {
		b, err = decodeBreaker(out.Item, now)
	}
	if err == nil && b.Rev == 0 {
		err = hook.ErrNotFound
	}
	if err != nil {
		return hook.Breaker{}, fmt.Errorf("read breaker of hook %s: %w", hookID, err)
	}
	return b, nil
}

// UpdateBreaker replaces the breaker whose Gen and Rev are b's by b with Rev+1
// and returns it; hook.ErrStale when it is no longer so. What was counted since
// b was read is replaced too.
//
// One request. 1 WCU, and 1 for the index entry that comes or goes, 2 for one
// that moves.
func (s *Store) UpdateBreaker(ctx context.Context, b hook.Breaker, now int64) (hook.Breaker, error) {
	read := b.Rev
	b.Rev++
	if b.State == hook.BreakerClosed {
		b.WakeMS = 0
	}
	_, ok, err := s.put(ctx, s.state, encodeBreaker(b), newMark(), condition{
		expr: "rev = :rev AND (" + fresh + ")", values: item{":rev": num(read), ":sec": num(unixSeconds(now))},
	})
	if err == nil && !ok {
		err = hook.ErrStale
	}
	if err != nil {
		return hook.Breaker{}, fmt.Errorf("update breaker of hook %s: %w", b.HookID, err)
	}
	return b, nil
}

// DeleteBreaker forgets the breaker whose Gen and Rev are b's; hook.ErrStale
// when another is there, or none. So it is after a lost answer too, when the
// SDK's repeat of the request finds nothing: it is gone then all the same.
//
// One request, 1 WCU, and 1 for an index entry.
func (s *Store) DeleteBreaker(ctx context.Context, b hook.Breaker) error {
	expr := "rev = :rev"
	in := &dynamodb.DeleteItemInput{
		TableName: s.state, Key: breakerKey(b.HookID, b.Gen),
		ConditionExpression: &expr, ExpressionAttributeValues: item{":rev": num(b.Rev)},
	}
	err := s.settled(ctx, func() error {
		_, err := s.client.DeleteItem(ctx, in)
		return err
	})
	if _, ok, err := judged(err, ""); err != nil || !ok {
		if err == nil {
			err = hook.ErrStale
		}
		return fmt.Errorf("delete breaker of hook %s: %w", b.HookID, err)
	}
	return nil
}

// OverdueBreakers returns up to limit breakers whose WakeMS is set and has come,
// earliest first. It only suggests: the index that finds them may be old, what
// it finds is as it is now.
//
// One request when there are none, of half an RCU; else two for each 100, of an
// RCU for each breaker and half for each 4 KB of entries, which is about 50 of
// them.
func (s *Store) OverdueBreakers(ctx context.Context, now int64, limit int) ([]hook.Breaker, error) {
	size := int32(min(max(limit, 1), maxBatchGet))
	in := &dynamodb.QueryInput{
		TableName: s.state, IndexName: &dueIndex, KeyConditionExpression: &overdue, Limit: &size,
		ExpressionAttributeValues: item{":shard": str(breakerShard), ":now": num(now)},
	}
	var found []hook.Breaker
	err := s.query(ctx, in, func(its []item) (bool, error) {
		// The index does not hold all of a breaker.
		keys := make([]item, 0, len(its))
		for _, it := range its {
			keys = append(keys, item{"pk": it["pk"], "sk": it["sk"]})
		}
		its, err := s.getAll(ctx, keys)
		if err != nil {
			return false, err
		}
		for _, it := range its {
			b, err := decodeBreaker(it, now)
			if err != nil {
				return false, err
			}
			if b.WakeMS != 0 && b.WakeMS <= now {
				found = append(found, b)
			}
		}
		return len(found) < limit, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read overdue breakers: %w", err)
	}
	slices.SortFunc(found, func(a, b hook.Breaker) int { return cmp.Compare(a.WakeMS, b.WakeMS) })
	return found[:min(len(found), max(limit, 0))], nil
}
