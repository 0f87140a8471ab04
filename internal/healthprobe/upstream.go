package healthprobe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/record"
	"eventhooks/internal/strictjson"
)

// watched is one address of one target, and what is known of it.
type watched struct {
	target hook.Target
	host   string
	ip     netip.Addr // zero when the name did not resolve
	port   int

	state hook.ProbeState      // as stored
	last  record.TargetSummary // of the last probe: results and times
	off   bool                 // not to be probed
}

// visitor is one run's visit to one upstream: it holds the lease.
type visitor struct {
	*run
	plan
	lease   hook.ProbeLease
	watched []*watched // in the order of the summary
	note    string
	errs    []error
	// once ends this upstream's part of the run's first round.
	once func()

	mu sync.Mutex // guards errs while calls run side by side
}

// upstream probes what is due of one upstream.
func (r *run) upstream(ctx context.Context, p plan) (err error) {
	once := sync.OnceFunc(r.belief.firstRoundOver)
	defer once()
	idle, err := r.idle(ctx, p)
	if idle || err != nil {
		return err
	}
	now := r.o.Now()
	lease, ok, err := r.o.Store.AcquireProbe(ctx, p.ID, now.UnixMilli(), now.Add(leaseTime).UnixMilli())
	if err != nil {
		return fmt.Errorf("acquire: %w", err)
	}
	if !ok {
		return nil
	}
	v := &visitor{run: r, plan: p, lease: lease, once: once}
	if err := v.visit(ctx); err != nil {
		return errors.Join(append(v.errs, err)...)
	}
	return errors.Join(v.errs...)
}

// idle reports whether nothing can be due, without taking the lease: the plan
// is the one of the last visit of this process, and the last run of any
// process left nothing undone.
func (r *run) idle(ctx context.Context, p plan) (bool, error) {
	nowMS := r.o.Now().UnixMilli()
	r.mu.Lock()
	last, ok := r.seen[p.ID]
	r.mu.Unlock()
	if !ok || last.version != p.version || last.count != p.count || last.nextMS <= nowMS {
		return false, nil
	}
	data, err := r.o.Store.ProbeSummary(ctx, p.ID, nowMS)
	if err != nil {
		return false, fmt.Errorf("read summary: %w", err)
	}
	s, err := record.DecodeSummary(data)
	if err != nil || len(data) == 0 || s.Unsent > 0 || s.Omitted > 0 || s.Version != p.version || s.Count != p.count {
		return false, nil // the visit finds out
	}
	for _, t := range s.Targets {
		every := interval(p.Active, hook.Health(t.Health))
		if t.NextMS != 0 && every > 0 && nowMS >= t.LastMS+(every-slack(every)).Milliseconds() {
			return false, nil
		}
	}
	return true, nil
}

// visit does all that is to be done under the lease. hook.ErrStale: another
// run took the upstream over; then nothing more is written.
func (v *visitor) visit(ctx context.Context) error {
	nowMS := v.o.Now().UnixMilli()
	states, err := v.o.Store.ProbeStates(ctx, v.ID, nowMS)
	if err != nil {
		return fmt.Errorf("read states: %w", err) // the lease ends by itself: its summary must not be lost
	}
	before, err := record.DecodeSummary(v.lease.Summary)
	if err != nil {
		v.fail(err) // it decides nothing: everything is due
	}
	if states, err = v.sendLeft(ctx, v.lease, states); err != nil {
		return err
	}
	if err := v.watch(ctx, states, before); err != nil {
		return err
	}
	if err := v.rounds(ctx); err != nil {
		return err
	}
	return v.release(ctx)
}

// rounds probes what is due now and, while the run lasts, what becomes due
// more often than runs come.
func (v *visitor) rounds(ctx context.Context) error {
	if !probes(v.Active.Type) {
		v.note = "not probed: type " + strconv.Quote(v.Active.Type) + " is not supported"
		return nil
	}
	for first := true; ; first = false {
		now := v.o.Now()
		var due []*watched
		for _, w := range v.watched {
			if at, ok := v.due(w, first); ok && !now.Before(at) {
				due = append(due, w)
			}
		}
		if len(due) > 0 {
			if err := v.round(ctx, due, now, first); err != nil {
				return err
			}
		}
		v.once()
		next, ok := v.next()
		if !ok || ctx.Err() != nil {
			return nil
		}
		if err := wait(ctx, next.Sub(v.o.Now())); err != nil {
			return nil // the run is over; what it saw is written down
		}
	}
}

// next returns when the next round of this run begins; false when the next run
// sees to the rest.
func (v *visitor) next() (time.Time, bool) {
	var soonest time.Time
	for _, w := range v.watched {
		if interval(v.Active, w.state.Health) >= v.o.Period {
			continue
		}
		if at, ok := v.due(w, false); ok && (soonest.IsZero() || at.Before(soonest)) {
			soonest = at
		}
	}
	if soonest.IsZero() {
		return soonest, false
	}
	if now := v.o.Now(); soonest.Before(now) {
		soonest = now
	}
	return soonest, !soonest.Add(timeout(v.Active)).After(v.run.rounds)
}

// due returns when an address is to be probed; false when it is not. early
// allows for a schedule that is not exact.
func (v *visitor) due(w *watched, early bool) (time.Time, bool) {
	every := interval(v.Active, w.state.Health)
	if w.off || every == 0 || w.state.Outbox != nil {
		return time.Time{}, false
	}
	if w.last.LastMS == 0 {
		return time.UnixMilli(0), true
	}
	at := time.UnixMilli(w.last.LastMS).Add(every)
	if early {
		at = at.Add(-slack(every))
	}
	return at, true
}

// watch finds the addresses of all targets, sorts what is known of them, and
// forgets addresses that are no longer there.
func (v *visitor) watch(ctx context.Context, states []hook.ProbeState, before record.Summary) error {
	known := make(map[string]hook.ProbeState, len(states))
	for _, s := range states {
		known[s.Address] = s
	}
	last := make(map[string]record.TargetSummary, len(before.Targets))
	for _, t := range before.Targets {
		last[t.TargetID+"/"+t.IP] = t
	}

	found := make([]*lookup, len(v.targets))
	var wg sync.WaitGroup
	for i, t := range v.targets {
		host, _, err := hostPort(t.Target)
		if err != nil || t.Weight == 0 {
			continue
		}
		wg.Go(func() {
			defer v.take(v.probes)()
			found[i] = v.names.find(ctx, host)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("resolve targets: %w", context.Cause(ctx)) // no name was at fault
	}

	nowMS := v.o.Now().UnixMilli()
	keep := map[string]bool{}
	add := func(w *watched) {
		key := w.target.ID + "/"
		if w.ip.IsValid() {
			key += w.ip.String()
		}
		w.last = last[key]
		w.last.DNSError = ""
		w.state = known[key]
		w.state.Address = key
		keep[key] = true
		v.watched = append(v.watched, w)
	}
	for i, t := range v.targets {
		host, port, err := hostPort(t.Target)
		switch {
		case err != nil:
			w := &watched{target: t, host: t.Target, off: true}
			add(w)
			w.last.DNSError = err.Error()
		case t.Weight == 0, found[i].err != nil:
			// Nothing is learnt of its addresses: what was known of them stays.
			some := false
			for _, s := range states {
				id, ip, _ := cutKey(s.Address)
				if addr, err := netip.ParseAddr(ip); id == t.ID && err == nil {
					some = true
					add(&watched{target: t, host: host, ip: addr, port: port, off: true})
				}
			}
			if t.Weight == 0 && some {
				continue
			}
			if t.Weight == 0 {
				add(&watched{target: t, host: host, port: port, off: true})
				continue
			}
			if !some {
				add(&watched{target: t, host: host, port: port, off: true})
			}
			for _, w := range v.watched {
				if w.target.ID == t.ID {
					w.last.DNSError = found[i].err.Error()
					w.last.DNSMS = ms(found[i].took)
					w.last.LastMS = nowMS
				}
			}
		default:
			for _, ip := range found[i].addrs {
				w := &watched{target: t, host: host, ip: ip, port: port}
				add(w)
				w.last.DNSMS = ms(found[i].took)
			}
		}
	}

	var gone []hook.ProbeState
	for _, s := range states {
		if !keep[s.Address] && s.Outbox == nil {
			gone = append(gone, s)
		}
	}
	return v.forgetStates(ctx, v.lease, gone)
}

// round probes the given addresses at once and acts on what it saw. The order
// of effects: the state with its event first, then the event, then the state
// without it. A crash before the first leaves the transition to be found
// again, a crash after it leaves an event that the next run sends.
func (v *visitor) round(ctx context.Context, due []*watched, began time.Time, first bool) error {
	results := v.probeAll(ctx, due)
	allFailed, some := true, false
	for i, res := range results {
		if res == nil {
			continue
		}
		v.belief.saw(due[i].state.Address, *res)
		if o, _ := judge(*res, v.Active); o != ignored || res.Fault == hook.FaultNone {
			some = true
			allFailed = allFailed && (res.Fault == hook.FaultTCP || res.Fault == hook.FaultTimeout)
		}
	}
	if first {
		v.once() // before asking: who waits for this upstream must not be waited for
	}
	var doubt error
	if some && allFailed {
		doubt = v.belief.doubt(ctx, began, first)
		if doubt != nil && !isOwnNetwork(doubt) {
			return nil // the run ended while waiting
		}
	}
	v.note = ""
	if doubt != nil {
		v.note = doubt.Error()
		v.o.Log.LogAttrs(ctx, slog.LevelWarn, "probe run judged nothing",
			slog.String("upstream_id", v.ID), slog.Int("probes", len(due)), slog.String("reason", v.note))
	}

	nowMS := began.UnixMilli()
	var changed []*watched
	var next []hook.ProbeState
	for i, w := range due {
		res := results[i]
		if res == nil {
			continue // not probed: no time was left
		}
		o, reason := judge(*res, v.Active)
		w.last.LastMS, w.last.Result, w.last.Reason = nowMS, o.result(), reason
		w.last.ConnectMS, w.last.TLSMS, w.last.FirstByteMS = ms(res.Connect), ms(res.TLS), ms(res.FirstByte)
		if doubt != nil {
			w.last.Result = record.ResultIgnored
			continue
		}
		s, tell := step(w.state, o, v.Active, nowMS)
		if tell != "" {
			ev, err := v.event(w, tell, began)
			if err != nil {
				v.fail(err)
				continue
			}
			s.Outbox = &ev
		}
		if s != w.state {
			changed, next = append(changed, w), append(next, s)
		}
	}
	return v.store(ctx, changed, next)
}

// store writes the new states of some addresses and sends their events.
func (v *visitor) store(ctx context.Context, changed []*watched, next []hook.ProbeState) error {
	stored := make([]bool, len(changed))
	err := v.each(len(changed), func(i int) error {
		if err := v.o.Store.PutProbeState(ctx, v.lease, next[i], v.o.Now().UnixMilli()); err != nil {
			return fmt.Errorf("store state of %s: %w", next[i].Address, err)
		}
		stored[i] = true
		return nil
	})
	var out []hook.ProbeState
	for i, w := range changed {
		if !stored[i] {
			continue // what is stored is still the state before
		}
		w.state = next[i]
		if next[i].Outbox == nil {
			continue
		}
		out = append(out, next[i])
		v.o.Log.LogAttrs(ctx, slog.LevelInfo, "target health changed",
			slog.String("upstream_id", v.ID), slog.String("target_id", w.target.ID),
			slog.String("hostname", w.host), slog.String("ip", w.ip.String()), slog.Int("port", w.port),
			slog.String("health", string(next[i].Health)), slog.String("reason", w.last.Reason), slog.String("event_id", next[i].Outbox.ID))
	}
	if err != nil && errors.Is(err, hook.ErrStale) {
		return err // whoever took over sends what was stored
	}
	out, errSend := v.send(ctx, v.lease, out)
	for _, s := range out {
		for _, w := range changed {
			if w.state.Address == s.Address {
				w.state = s
			}
		}
	}
	return errSend
}

// sendLeft sends what earlier runs raised and may not have sent.
func (r *run) sendLeft(ctx context.Context, l hook.ProbeLease, states []hook.ProbeState) ([]hook.ProbeState, error) {
	var left []hook.ProbeState
	for _, s := range states {
		if s.Outbox != nil {
			r.o.IDs.Floor(s.Outbox.ID) // what comes later sorts later
			left = append(left, s)
		}
	}
	return nil, nil
}
