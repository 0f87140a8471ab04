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

// probeAge is how long a state is remembered after it was put last, and a
// summary after its run, in seconds.
const probeAge = 30 * 24 * 60 * 60

const (
	leaseSort       = "lease"
	statePrefix     = "state#"
	probedPartition = "probed" // lists the upstreams with states
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
// One request, KB WCU. An upstream's first run, and the first after 30 days
// without, takes two.
func (s *Store) AcquireProbe(ctx context.Context, upstreamID string, now, untilMS int64) (hook.ProbeLease, bool, error) {
	l := hook.ProbeLease{UpstreamID: upstreamID, UntilMS: untilMS}
	it, ok, err := s.acquire(ctx, upstreamID, now, untilMS, false)
	if err == nil && !ok && (it == nil || expired(it, now)) {
		it, ok, err = s.acquire(ctx, upstreamID, now, untilMS, true)
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
	set := "SET until_ms = :until, expires_at = :expires, w = :w ADD gen :raise"
	c := condition{expr: "until_ms <= :now AND expires_at > :sec", values: item{
		":now": num(now), ":sec": num(unixSeconds(now)), ":until": num(untilMS), ":raise": num(1),
		":expires": num(unixSeconds(now) + probeAge),
	}}
	if anew {
		set += " REMOVE summary"
		c.expr = "attribute_not_exists(pk) OR (until_ms <= :now AND expires_at <= :sec)"
		// Above whatever it was before the table forgot the lease: runs come
		// less often than milliseconds.
		c.values[":raise"] = num(max(now, 1))
	}
	return s.update(ctx, leaseKey(upstreamID), set, newMark(), types.ReturnValueAllNew, c)
}

// ReleaseProbe stores the lease's Summary and ends it, if its Gen is still the
// current one; hook.ErrStale otherwise.
//
// One request, KB WCU. After a run that found or left no states, two more: 1
// RCU and 1 WCU.
func (s *Store) ReleaseProbe(ctx context.Context, l hook.ProbeLease, now int64) error {
	// The list first: a crash before it leaves an upstream on it that this
	// process does not think of any more.
	if err := s.probed.of(l.UpstreamID).unlist(ctx, s, l); err != nil {
		return fmt.Errorf("release lease on upstream %s: %w", l.UpstreamID, err)
	}
	set := "until_ms = :zero, expires_at = :expires, w = :w"
	c := condition{expr: "gen = :gen", values: item{
		":gen": num(l.Gen), ":zero": num(0), ":expires": num(unixSeconds(now) + probeAge),
	}}
	if l.Summary == nil {
		set = "SET " + set + " REMOVE summary"
	} else {
		packed, err := pack(l.Summary)
		if err != nil {
			return fmt.Errorf("release lease on upstream %s: %w", l.UpstreamID, err)
		}
		// The summary first: moto, which tests run on, keeps what an update has
		// set before it finds the item too large.
		set = "SET summary = :summary, " + set
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
// A request for each MB; an RCU for each 4 KB of all of them together.
func (s *Store) ProbeStates(ctx context.Context, upstreamID string, now int64) ([]hook.ProbeState, error) {
	consistent := true
	in := &dynamodb.QueryInput{
		TableName: s.state, KeyConditionExpression: &inShardPrefix, ConsistentRead: &consistent,
		ExpressionAttributeValues: item{":pk": str(probePartition(upstreamID)), ":prefix": str(statePrefix)},
	}
	var found []hook.ProbeState
	err := s.query(ctx, in, func(its []item) (bool, error) {
		for _, it := range its {
			if expired(it, now) {
				continue
			}
			st, err := decodeProbeState(it)
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
	if len(found) == 0 {
		s.probed.of(upstreamID).suspect()
	}
	return found, nil
}

// encodeProbeState returns the item of a state, without its mark.
func encodeProbeState(upstreamID string, st hook.ProbeState, now int64) (item, error) {
	it := probeStateKey(upstreamID, st.Address)
	it["expires_at"] = num(unixSeconds(now) + probeAge)
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

// decodeProbeState reverses encodeProbeState.
func decodeProbeState(it item) (hook.ProbeState, error) {
	r := reader{it: it}
	st := hook.ProbeState{
		Address: strings.TrimPrefix(r.str("sk"), statePrefix), Health: hook.Health(r.str("health")), SinceMS: r.num("since_ms"),
		Success: r.num("success"), HTTP: r.num("http"), TCP: r.num("tcp"), Timeout: r.num("timeout"),
	}
	if data := r.bytes("outbox"); data != nil {
		st.Outbox = &hook.Event{ID: r.str("outbox_id"), Source: r.str("outbox_source"), Event: r.str("outbox_event")}
		if r.err == nil {
			r.err = unpackEvent(data, st.Outbox)
		}
	}
	if r.err != nil {
		return st, fmt.Errorf("decode state of %s: %w", st.Address, r.err)
	}
	return st, nil
}

// PutProbeState stores a target's state, if the lease's Gen is still the
// current one; hook.ErrStale otherwise.
//
// One transaction: twice the lease's KB and twice the state's, so 4 WCU; once
// in each run one more request of 1 WCU.
func (s *Store) PutProbeState(ctx context.Context, l hook.ProbeLease, st hook.ProbeState, now int64) error {
	it, err := encodeProbeState(l.UpstreamID, st, now)
	if err == nil {
		err = s.probed.of(l.UpstreamID).put(ctx, s, l, it, now)
	}
	if err != nil {
		return fmt.Errorf("store state of %s: %w", st.Address, err)
	}
	return nil
}

// DeleteProbeState forgets a target's state under the same condition.
//
// One transaction of 4 WCU.
func (s *Store) DeleteProbeState(ctx context.Context, l hook.ProbeLease, address string, _ int64) error {
	if err := s.probed.of(l.UpstreamID).delete(ctx, s, l, address); err != nil {
		return fmt.Errorf("delete state of %s: %w", address, err)
	}
	return nil
}

// underLease makes a write if the lease's Gen is the current one.
func (s *Store) underLease(ctx context.Context, l hook.ProbeLease, mark string, write types.TransactWriteItem) error {
	current := "gen = :gen"
	check := &types.ConditionCheck{
		TableName: s.state, Key: leaseKey(l.UpstreamID),
		ConditionExpression: &current, ExpressionAttributeValues: item{":gen": num(l.Gen)},
	}
	refused, err := s.transact(ctx, mark, []types.TransactWriteItem{{ConditionCheck: check}, write})
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
// long ago they were probed, so that what an upstream left behind when it was
// removed can still be sent.
//
// One request; an RCU for each 4 KB of the list, so for some 40 of them.
func (s *Store) ProbedUpstreams(ctx context.Context, now int64) ([]string, error) {
	consistent := true
	var ids []string
	err := s.query(ctx, &dynamodb.QueryInput{
		TableName: s.state, KeyConditionExpression: &inShard, ConsistentRead: &consistent,
		ExpressionAttributeValues: item{":pk": str(probedPartition)},
	}, func(its []item) (bool, error) {
		for _, it := range its {
			if expired(it, now) {
				continue
			}
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
// states, by id.
//
// An upstream is listed before the first state of a run is written, and taken
// off when a run that found or left no states ends. Each entry carries the Gen
// of the lease under which it was written; who takes it off names its own, so
// that a run that has lost its lease cannot take off what its successor has
// listed. An entry outlives the states it stands for by a day.
type probedUpstreams struct{ m sync.Map }

func (p *probedUpstreams) of(id string) *probedUpstream {
	u, ok := p.m.Load(id)
	if !ok {
		u, _ = p.m.LoadOrStore(id, &probedUpstream{})
	}
	return u.(*probedUpstream)
}

// probedUpstream is what this process knows of one entry of the list.
type probedUpstream struct {
	// mu lets one write of a state at a time through: each is a transaction
	// over the upstream's lease, and those cancel each other.
	mu sync.Mutex

	gen      int64 // of the lease under which this process has listed it last
	listedMS int64 // when that was
	empty    bool  // there may be no states
}

const (
	entryAge  = probeAge + 24*60*60 // seconds
	entryKeep = 60 * 60 * 1000      // milliseconds after which a lease's entry is written again
)

// suspect notes that there may be no states.
func (u *probedUpstream) suspect() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.empty = true
}

// put lists the upstream, unless that was done under the same lease, and stores
// a state. The other order could leave a state, and an event in it, that nobody
// finds when the upstream is removed.
func (u *probedUpstream) put(ctx context.Context, s *Store, l hook.ProbeLease, state item, now int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gen != l.Gen || now-u.listedMS > entryKeep {
		it := stateKey(probedPartition, l.UpstreamID)
		it["gen"], it["expires_at"] = num(l.Gen), num(unixSeconds(now)+entryAge)
		_, ok, err := s.put(ctx, s.state, it, newMark(), condition{
			expr:   "attribute_not_exists(pk) OR gen <= :gen OR expires_at <= :sec",
			values: item{":gen": num(l.Gen), ":sec": num(unixSeconds(now))},
		})
		if err != nil {
			return err
		}
		if !ok {
			return hook.ErrStale // a later run has listed it
		}
		u.gen, u.listedMS = l.Gen, now
	}
	mark := newMark()
	return s.underLease(ctx, l, mark, putWrite(s.state, state, mark, condition{}))
}

// delete forgets a state.
func (u *probedUpstream) delete(ctx context.Context, s *Store, l hook.ProbeLease, address string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.empty = true
	return s.underLease(ctx, l, newMark(), deleteWrite(s.state, probeStateKey(l.UpstreamID, address), condition{}))
}

// unlist takes the upstream off the list if there is reason to think that it
// has no states, and it has none.
func (u *probedUpstream) unlist(ctx context.Context, s *Store, l hook.ProbeLease) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.empty {
		return nil
	}
	consistent, one := true, int32(1)
	out, err := s.client.Query(ctx, &dynamodb.QueryInput{
		TableName: s.state, KeyConditionExpression: &inShardPrefix, ConsistentRead: &consistent, Limit: &one,
		ExpressionAttributeValues: item{":pk": str(probePartition(l.UpstreamID)), ":prefix": str(statePrefix)},
	})
	if err != nil {
		return err
	}
	if len(out.Items) == 0 {
		expr := "attribute_not_exists(pk) OR gen <= :gen"
		err := s.settled(ctx, func() error {
			_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
				TableName: s.state, Key: stateKey(probedPartition, l.UpstreamID),
				ConditionExpression: &expr, ExpressionAttributeValues: item{":gen": num(l.Gen)},
			})
			return err
		})
		if _, _, err := judged(err, ""); err != nil { // a later run's entry stays
			return err
		}
		u.gen = 0
	}
	u.empty = false
	return nil
}
