package dynamostore

import (
	"context"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"eventhooks/internal/hook"
)

const probedPartition = "probed" // lists the upstreams with states

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
	// mu lets one write under the lease at a time through: each is a
	// transaction over the lease, and those cancel each other.
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
