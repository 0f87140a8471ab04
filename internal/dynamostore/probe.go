package dynamostore

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"eventhooks/internal/hook"
)

// probeAge is how long a state is remembered after it was put last, and a
// summary after its run, in seconds.
const probeAge = 30 * 24 * 60 * 60

const (
	leaseSort   = "lease"
	statePrefix = "state#"
	orderPrefix = "order#"
	watchSort   = "watch"
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

// Probes returns all that is stored of an upstream's probes. Beyond a MB it is
// not of one moment: of two pages, the second may know more.
//
// A request for each MB; an RCU for each 4 KB of all of it together.
func (s *Store) Probes(ctx context.Context, upstreamID string, now int64) (hook.ProbeView, error) {
	consistent := true
	in := &dynamodb.QueryInput{
		TableName: s.state, KeyConditionExpression: &inShard, ConsistentRead: &consistent,
		ExpressionAttributeValues: item{":pk": str(probePartition(upstreamID))},
	}
	var v hook.ProbeView
	err := s.query(ctx, in, func(its []item) (bool, error) {
		for _, it := range its {
			if expired(it, now) {
				continue
			}
			if err := decodeProbe(it, &v); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return hook.ProbeView{}, fmt.Errorf("read probes of upstream %s: %w", upstreamID, err)
	}
	if len(v.States) == 0 {
		s.probed.of(upstreamID).suspect()
	}
	return v, nil
}

// decodeProbe adds an item of an upstream to what is known of its probes. What a
// later version keeps beside them is left out.
func decodeProbe(it item, v *hook.ProbeView) error {
	r := reader{it: it}
	sk := r.str("sk")
	switch {
	case strings.HasPrefix(sk, statePrefix):
		st, err := decodeProbeState(it)
		v.States = append(v.States, st)
		return err
	case strings.HasPrefix(sk, orderPrefix):
		v.Orders = append(v.Orders, hook.HealthOrder{
			ID: strings.TrimPrefix(sk, orderPrefix), TargetID: r.str("target"), IP: r.str("ip"), Health: hook.Health(r.str("health")),
		})
	case sk == leaseSort:
		v.UntilMS, v.Summary = r.num("until_ms"), r.unpack("summary")
	case sk == watchSort:
		v.WatchedMS = r.num("until_ms")
	}
	if r.err != nil {
		return fmt.Errorf("decode %s: %w", sk, r.err)
	}
	return nil
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
	putNum(it, "probed_ms", st.ProbedMS)
	putNum(it, "reminded", st.Reminded)
	putNum(it, "reminded_ms", st.RemindedMS)
	putNum(it, "certificate_ms", st.CertificateMS)
	putStr(it, "ordered", st.Ordered)
	putStr(it, "endpoint", st.Endpoint)
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
		ProbedMS: r.num("probed_ms"), Reminded: r.num("reminded"), RemindedMS: r.num("reminded_ms"),
		CertificateMS: r.num("certificate_ms"), Ordered: r.str("ordered"), Endpoint: r.str("endpoint"),
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
