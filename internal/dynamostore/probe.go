package dynamostore

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"eventhooks/internal/hook"
)

// probeAge is how long the lease of an upstream is remembered after the last
// run, in seconds; what is known of its targets is worth nothing after that.
// The states themselves do not expire, because they are written only when they
// change: a target that has been healthy for a year would be forgotten.
const probeAge = 30 * 24 * 60 * 60

const (
	leaseSort       = "lease"
	statePrefix     = "state#"
	probedPartition = "probed" // lists the upstreams with states
	maxForget       = 99       // deletes of one transaction, beside its condition on the lease
)

func probePartition(upstreamID string) string { return "probe#" + upstreamID }
func leaseKey(upstreamID string) item         { return stateKey(probePartition(upstreamID), leaseSort) }

func probeStateKey(upstreamID, address string) item {
	return stateKey(probePartition(upstreamID), statePrefix+address)
}

// AcquireProbe takes an upstream's lease until untilMS, if none is held at now,
// and returns it with its new Gen and the last Summary. false when another run
// holds it.
//
// One request, KB WCU. The first run of an upstream, and the first after 30
// days without, takes some more.
func (s *Store) AcquireProbe(ctx context.Context, upstreamID string, now, untilMS int64) (hook.ProbeLease, bool, error) {
	l := hook.ProbeLease{UpstreamID: upstreamID, UntilMS: untilMS}
	it, ok, err := s.acquire(ctx, upstreamID, now, untilMS, false)
	if err == nil && !ok && (it == nil || expired(it, now)) {
		// Nothing there, or nothing that counts: begin anew.
		if it, ok, err = s.acquire(ctx, upstreamID, now, untilMS, true); ok {
			r := reader{it: it}
			err = s.forget(ctx, hook.ProbeLease{UpstreamID: upstreamID, Gen: r.num("gen")})
		}
	}
	if err != nil {
		return l, false, fmt.Errorf("acquire lease on upstream %s: %w", upstreamID, err)
	}
	if !ok {
		return l, false, nil
	}
	r := reader{it: it}
	l.Gen, l.Summary = r.num("gen"), r.unpack("summary")
	if r.err != nil {
		return l, false, fmt.Errorf("decode lease on upstream %s: %w", upstreamID, r.err)
	}
	return l, true, nil
}

// acquire takes a lease that exists, or anew one that does not or has expired,
// and returns its item as it is then.
func (s *Store) acquire(ctx context.Context, upstreamID string, now, untilMS int64, anew bool) (it item, ok bool, err error) {
	set := "SET until_ms = :until, expires_at = :expires, w = :w ADD gen :one"
	c := condition{expr: "until_ms <= :now AND expires_at > :sec", values: item{
		":now": num(now), ":sec": num(unixSeconds(now)), ":until": num(untilMS), ":one": num(1),
		":expires": num(unixSeconds(now) + probeAge),
	}}
	if anew {
		set += " REMOVE summary"
		c.expr = "attribute_not_exists(pk) OR (until_ms <= :now AND expires_at <= :sec)"
	}
	return s.update(ctx, leaseKey(upstreamID), set, newMark(), types.ReturnValueAllNew, c)
}

// ReleaseProbe stores the lease's Summary and ends it, if its Gen is still the
// current one; hook.ErrStale otherwise.
//
// One request, KB WCU.
func (s *Store) ReleaseProbe(ctx context.Context, l hook.ProbeLease, now int64) error {
	set := "SET until_ms = :zero, expires_at = :expires, w = :w"
	c := condition{expr: "gen = :gen", values: item{
		":gen": num(l.Gen), ":zero": num(0), ":expires": num(unixSeconds(now) + probeAge),
	}}
	if l.Summary == nil {
		set += " REMOVE summary"
	} else {
		packed, err := pack(l.Summary)
		if err != nil {
			return fmt.Errorf("release lease on upstream %s: %w", l.UpstreamID, err)
		}
		set += ", summary = :summary"
		c.values[":summary"] = bin(packed)
	}
	_, ok, err := s.update(ctx, leaseKey(l.UpstreamID), set, newMark(), types.ReturnValueNone, c)
	if err == nil && !ok {
		err = hook.ErrStale
	}
	if err != nil {
		return fmt.Errorf("release lease on upstream %s: %w", l.UpstreamID, err)
	}
	return nil
}

// ProbeStates returns all states of an upstream's targets.
//
// A request for each MB; an RCU for each 4 KB of lease and states together.
func (s *Store) ProbeStates(ctx context.Context, upstreamID string, now int64) ([]hook.ProbeState, error) {
	consistent := true
	in := &dynamodb.QueryInput{
		TableName: s.state, KeyConditionExpression: &inShard, ConsistentRead: &consistent,
		ExpressionAttributeValues: item{":pk": str(probePartition(upstreamID))},
	}
	known := false // there is a lease that has not expired
	var found []hook.ProbeState
	err := s.query(ctx, in, func(its []item) (bool, error) {
		for _, it := range its {
			r := reader{it: it}
			address, ok := strings.CutPrefix(r.str("sk"), statePrefix)
			if !ok { // the lease, which sorts first
				known = !expired(it, now)
				continue
			}
			if !known {
				return false, nil
			}
			st, err := decodeProbeState(it, address)
			if err != nil {
				return false, err
			}
			found = append(found, st)
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read states of upstream %s: %w", upstreamID, err)
	}
	return found, nil
}

// encodeProbeState returns the item of a state, without its mark.
func encodeProbeState(upstreamID string, st hook.ProbeState) (item, error) {
	it := probeStateKey(upstreamID, st.Address)
	putStr(it, "health", string(st.Health))
	putNum(it, "since_ms", st.SinceMS)
	putNum(it, "success", st.Success)
	putNum(it, "http", st.HTTP)
	putNum(it, "tcp", st.TCP)
	putNum(it, "timeout", st.Timeout)
	if ev := st.Outbox; ev != nil {
		data, err := packEvent(*ev)
		if err != nil {
			return nil, err
		}
		it["outbox_id"], it["outbox_source"], it["outbox_event"], it["outbox"] = str(ev.ID), str(ev.Source), str(ev.Event), bin(data)
	}
	return it, nil
}

func decodeProbeState(it item, address string) (hook.ProbeState, error) {
	r := reader{it: it}
	st := hook.ProbeState{
		Address: address, Health: hook.Health(r.str("health")), SinceMS: r.num("since_ms"),
		Success: r.num("success"), HTTP: r.num("http"), TCP: r.num("tcp"), Timeout: r.num("timeout"),
	}
	if data := r.bytes("outbox"); data != nil {
		st.Outbox = &hook.Event{ID: r.str("outbox_id"), Source: r.str("outbox_source"), Event: r.str("outbox_event")}
		if r.err == nil {
			r.err = unpackEvent(data, st.Outbox)
		}
	}
	if r.err != nil {
		return st, fmt.Errorf("decode state of %s: %w", address, r.err)
	}
	return st, nil
}

// PutProbeState stores a target's state, if the lease's Gen is still the
// current one; hook.ErrStale otherwise.
//
// One transaction: twice the lease's KB and twice the state's, so 4 WCU; once
// in each run one more request of 1 WCU. Transactions on one lease stand in
// each other's way: one after another is faster than all at once.
func (s *Store) PutProbeState(ctx context.Context, l hook.ProbeLease, st hook.ProbeState, _ int64) error {
	if err := s.putProbeState(ctx, l, st); err != nil {
		return fmt.Errorf("store state of %s: %w", st.Address, err)
	}
	return nil
}

func (s *Store) putProbeState(ctx context.Context, l hook.ProbeLease, st hook.ProbeState) error {
	it, err := encodeProbeState(l.UpstreamID, st)
	if err != nil {
		return err
	}
	s.probed.mu.RLock()
	defer s.probed.mu.RUnlock()
	// The list first: a state that is not listed could hold an event that
	// nobody sends.
	if err := s.listProbed(ctx, l); err != nil {
		return err
	}
	mark := newMark()
	return s.underLease(ctx, l, mark, putWrite(s.state, it, mark, condition{}))
}

// DeleteProbeState forgets a target's state under the same condition.
//
// One transaction of 4 WCU and a read of 1 RCU; when it was the last, one more
// request of 1 WCU.
func (s *Store) DeleteProbeState(ctx context.Context, l hook.ProbeLease, address string, _ int64) error {
	err := s.underLease(ctx, l, newMark(), deleteWrite(s.state, probeStateKey(l.UpstreamID, address), condition{}))
	if err == nil {
		err = s.unlistProbed(ctx, l)
	}
	if err != nil {
		return fmt.Errorf("delete state of %s: %w", address, err)
	}
	return nil
}

// underLease makes all writes or none, if the lease's Gen is the current one.
func (s *Store) underLease(ctx context.Context, l hook.ProbeLease, mark string, writes ...types.TransactWriteItem) error {
	current := "gen = :gen"
	check := types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName: s.state, Key: leaseKey(l.UpstreamID),
		ConditionExpression: &current, ExpressionAttributeValues: item{":gen": num(l.Gen)},
	}}
	refused, err := s.transact(ctx, mark, append([]types.TransactWriteItem{check}, writes...))
	if err == nil && refused != nil {
		err = hook.ErrStale
	}
	return err
}

// ProbeSummary returns what the last run of an upstream left, nil if none.
//
// One request, an RCU for each 4 KB of the lease.
func (s *Store) ProbeSummary(ctx context.Context, upstreamID string, now int64) ([]byte, error) {
	it, err := s.get(ctx, s.state, leaseKey(upstreamID))
	if err != nil {
		return nil, fmt.Errorf("read summary of upstream %s: %w", upstreamID, err)
	}
	if it == nil || expired(it, now) {
		return nil, nil
	}
	r := reader{it: it}
	summary := r.unpack("summary")
	if r.err != nil {
		return nil, fmt.Errorf("decode summary of upstream %s: %w", upstreamID, r.err)
	}
	return summary, nil
}

// ProbedUpstreams returns the ids of the upstreams that have states, however
// old, so that what an upstream left behind when it was removed can still be
// sent.
//
// One request; an RCU for each 4 KB of all ids, so for some 60 of them.
func (s *Store) ProbedUpstreams(ctx context.Context, _ int64) ([]string, error) {
	consistent := true
	var ids []string
	err := s.query(ctx, &dynamodb.QueryInput{
		TableName: s.state, KeyConditionExpression: &inShard, ConsistentRead: &consistent,
		ExpressionAttributeValues: item{":pk": str(probedPartition)},
	}, func(its []item) (bool, error) {
		for _, it := range its {
			r := reader{it: it}
			ids = append(ids, r.str("sk"))
			if r.err != nil {
				return false, r.err
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list probed upstreams: %w", err)
	}
	return ids, nil
}

// probedUpstreams is what this process knows of the list of upstreams that have
// states.
//
// An upstream is listed before its first state is written, and taken off after
// its last one was deleted. Each entry carries the Gen of the lease under which
// it was written; who takes it off names its own, so that a run that has lost
// its lease cannot take off what its successor has listed.
type probedUpstreams struct {
	// mu keeps the two apart in this process: held for reading while a state
	// is listed and written, for writing while one looks whether states are
	// left and takes off.
	mu sync.RWMutex

	known sync.Map // upstream id -> Gen under which this process has listed it
}

// listProbed puts an upstream on the list, once for each lease. The caller
// holds s.probed.mu for reading.
func (s *Store) listProbed(ctx context.Context, l hook.ProbeLease) error {
	if gen, ok := s.probed.known.Load(l.UpstreamID); ok && gen == l.Gen {
		return nil
	}
	it := stateKey(probedPartition, l.UpstreamID)
	it["gen"] = num(l.Gen)
	_, _, err := s.put(ctx, s.state, it, newMark(), condition{
		// A run that has lost its lease finds a later one's entry: good enough.
		expr: "attribute_not_exists(pk) OR gen < :gen", values: item{":gen": num(l.Gen)},
	})
	if err == nil {
		s.probed.known.Store(l.UpstreamID, l.Gen)
	}
	return err
}

// unlistProbed takes an upstream off the list if it has no states.
func (s *Store) unlistProbed(ctx context.Context, l hook.ProbeLease) error {
	s.probed.mu.Lock()
	defer s.probed.mu.Unlock()
	states, err := s.stateKeys(ctx, l.UpstreamID, 1)
	if err != nil || len(states) > 0 {
		return err
	}
	s.probed.known.Delete(l.UpstreamID)
	expr := "attribute_not_exists(pk) OR gen <= :gen"
	err = s.settled(ctx, func() error {
		_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName: s.state, Key: stateKey(probedPartition, l.UpstreamID),
			ConditionExpression: &expr, ExpressionAttributeValues: item{":gen": num(l.Gen)},
		})
		return err
	})
	_, _, err = judged(err, "") // a later run's entry stays
	return err
}

// stateKeys returns the keys of up to limit states of an upstream.
func (s *Store) stateKeys(ctx context.Context, upstreamID string, limit int32) ([]item, error) {
	consistent, condition, keys := true, "pk = :pk AND begins_with(sk, :prefix)", "pk, sk"
	in := &dynamodb.QueryInput{
		TableName: s.state, KeyConditionExpression: &condition, ConsistentRead: &consistent, ProjectionExpression: &keys, Limit: &limit,
		ExpressionAttributeValues: item{":pk": str(probePartition(upstreamID)), ":prefix": str(statePrefix)},
	}
	out, err := s.client.Query(ctx, in)
	if err != nil {
		return nil, err
	}
	return out.Items, nil
}

// forget deletes all states that an expired lease has left behind.
func (s *Store) forget(ctx context.Context, l hook.ProbeLease) error {
	for {
		keys, err := s.stateKeys(ctx, l.UpstreamID, maxForget)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			return s.unlistProbed(ctx, l)
		}
		deletes := make([]types.TransactWriteItem, len(keys))
		for i, key := range keys {
			deletes[i] = deleteWrite(s.state, key, condition{})
		}
		if err := s.underLease(ctx, l, newMark(), deletes...); err != nil {
			return err
		}
	}
}
