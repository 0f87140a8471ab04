package healthprobe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
	"eventhooks/internal/strictjson"
)

// releaseTime is how long a run may take to end its lease when its own time is
// over.
const releaseTime = 3 * time.Second

// watched is one address of one target, and what is known of it.
type watched struct {
	target hook.Target
	host   string
	ip     netip.Addr // not valid when the name did not resolve
	port   int

	state hook.ProbeState // as it is stored
	// last tells of the last probe; the rest of a TargetSummary is filled in
	// when the summary is made.
	last record.TargetSummary
	off  bool // not to be probed in this run
	lost bool // a write failed: what is stored is not known, and the next run reads it
}

// visitor is a run's visit to one upstream.
type visitor struct {
	held
	plan
	watched []*watched // in the order of the summary
	note    string
	unsent  int   // events of addresses that are gone
	keptMS  int64 // as record.Summary.KeptMS
	once    func()
}

// upstream probes what is due of one upstream.
func (r *run) upstream(ctx context.Context, p plan) error {
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
	v := &visitor{held: held{run: r, lease: lease}, plan: p, once: once}
	err = v.visit(ctx)
	next := int64(0)
	if err == nil && len(v.errs) == 0 {
		next = v.nextMS()
	}
	r.mu.Lock()
	r.seen[p.ID] = visit{version: p.version, count: p.count, nextMS: next}
	r.mu.Unlock()
	if errors.Is(err, hook.ErrStale) {
		err = nil // another run took over, and does the rest
	}
	return errors.Join(append(v.errs, err)...)
}

// idle reports that nothing can be due or left undone, without taking the
// lease: the plan is the one of this process's last visit, which found nothing
// wrong, and the last run of any process says that it is too early. A run that
// died told of no probes, so what it probed is due.
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
	if err != nil || len(data) == 0 || s.Unsent > 0 || s.Omitted > 0 {
		return false, nil // the visit sees to it
	}
	for _, t := range s.Targets {
		if t.NextMS != 0 && nowMS >= t.NextMS-r.ahead(interval(p.Active, hook.Health(t.Health))) {
			return false, nil
		}
	}
	return true, nil
}

// ahead returns how long before something is due a run has to see to it, in
// milliseconds: no more than the schedule is inexact, unless it comes more
// often than runs do and falls into the middle of one.
func (s *Service) ahead(every time.Duration) int64 {
	if every < s.o.Period {
		return s.o.Period.Milliseconds()
	}
	return slack(every).Milliseconds()
}

// visit does all that is to be done under the lease.
func (v *visitor) visit(ctx context.Context) error {
	// After an error here the lease ends by itself: releasing it now would
	// replace the summary by nothing.
	states, err := v.o.Store.ProbeStates(ctx, v.ID, v.o.Now().UnixMilli())
	if err != nil {
		return fmt.Errorf("read states: %w", err)
	}
	before, err := record.DecodeSummary(v.lease.Summary)
	if err != nil {
		v.fail(err) // it decides nothing but when: everything is due
	}
	if err := v.sendLeft(ctx, states); err != nil {
		return err
	}
	if err := v.look(ctx, states, before); err != nil {
		return err
	}
	if err := v.rounds(ctx); err != nil {
		return err
	}
	if err := v.keep(ctx, states, before); err != nil {
		return err
	}
	return v.release(ctx)
}

// keep writes all states that have not changed for a long time again, before
// the table forgets them: a target that has been down for weeks must still be
// told as back.
func (v *visitor) keep(ctx context.Context, states []hook.ProbeState, before record.Summary) error {
	v.keptMS = before.KeptMS
	nowMS := v.o.Now().UnixMilli()
	if nowMS-v.keptMS < keepEvery.Milliseconds() {
		return nil
	}
	had := make(map[string]bool, len(states))
	for _, s := range states {
		had[s.Address] = true
	}
	var again []hook.ProbeState
	for _, w := range v.watched {
		if had[w.state.Address] && !w.lost {
			again = append(again, w.state)
		}
	}
	errs := len(v.errs)
	if _, err := v.put(ctx, again); err != nil {
		return err
	}
	if len(v.errs) == errs {
		v.keptMS = nowMS
	}
	return nil
}

// look finds the addresses of all targets, brings together what is known of
// them, and forgets the addresses that are no longer there.
func (v *visitor) look(ctx context.Context, states []hook.ProbeState, before record.Summary) error {
	found := make([]*lookup, len(v.targets)) // nil: not asked
	var wg sync.WaitGroup
	for i, t := range v.targets {
		host, _, err := hostPort(t.Target)
		if _, literal := netip.ParseAddr(host); err != nil || literal != nil && (t.Weight == 0 || !probed(v.Active)) {
			continue
		}
		wg.Go(func() {
			defer take(v.probes)()
			found[i] = v.names.find(ctx, host)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("resolve targets: %w", ctx.Err()) // no name was at fault
	}

	last := make(map[string]record.TargetSummary, len(before.Targets))
	for _, t := range before.Targets {
		last[t.TargetID+"/"+t.IP] = t
	}
	byTarget := make(map[string][]hook.ProbeState, len(v.targets))
	for _, s := range states {
		id, _, _ := cutKey(s.Address)
		byTarget[id] = append(byTarget[id], s)
	}
	add := func(w watched) *watched {
		key := w.target.ID + "/"
		if w.ip.IsValid() {
			key += w.ip.String()
		}
		w.last = last[key]
		w.last.DNSError = ""
		w.state.Address = key
		for _, s := range byTarget[w.target.ID] {
			if s.Address == key {
				w.state = s
			}
		}
		v.watched = append(v.watched, &w)
		return &w
	}
	for i, t := range v.targets {
		host, port, err := hostPort(t.Target)
		if err == nil && found[i] != nil && found[i].err == nil {
			for _, ip := range found[i].addrs {
				w := add(watched{target: t, host: host, ip: ip, port: port, off: t.Weight == 0})
				w.last.DNSMS = ms(found[i].took)
			}
			continue
		}
		// Nothing is learnt of the target's addresses: what is known of them
		// stays, and none is probed.
		fault, took := "", 0.0
		switch {
		case err != nil:
			host, fault = t.Target, err.Error()
		case found[i] != nil:
			fault, took = found[i].err.Error(), ms(found[i].took)
		}
		some := false
		for _, s := range byTarget[t.ID] {
			_, ip, _ := cutKey(s.Address)
			if addr, err := netip.ParseAddr(ip); err == nil {
				w := add(watched{target: t, host: host, ip: addr, port: port, off: true})
				w.last.DNSError, w.last.DNSMS = fault, took
				some = true
			}
		}
		if !some {
			w := add(watched{target: t, host: host, port: port, off: true})
			w.last.DNSError, w.last.DNSMS = fault, took
		}
	}
	if extra := len(v.watched) - record.MaxSummaryTargets; extra > 0 {
		v.watched = v.watched[:record.MaxSummaryTargets]
		v.fail(fmt.Errorf("targets have %d addresses more than the %d that are watched", extra, record.MaxSummaryTargets))
	}

	keep := make(map[string]bool, len(v.watched))
	for _, w := range v.watched {
		keep[w.state.Address] = true
	}
	var gone []hook.ProbeState
	for _, s := range states {
		if !keep[s.Address] {
			gone = append(gone, s)
			if s.Outbox != nil {
				v.unsent++
			}
		}
	}
	return v.drop(ctx, gone)
}

// rounds probes what is due now and, while the run lasts, what becomes due
// more often than runs come.
func (v *visitor) rounds(ctx context.Context) error {
	if !known(v.Active.Type) {
		v.note = "not probed: probes of type " + strconv.Quote(v.Active.Type) + " are not supported"
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
		if !ok || wait(ctx, next.Sub(v.o.Now())) != nil {
			return nil
		}
	}
}

// due returns when an address is to be probed; false when it is not. early
// allows for a schedule that is not exact.
func (v *visitor) due(w *watched, early bool) (time.Time, bool) {
	every := interval(v.Active, w.state.Health)
	if w.off || every == 0 || w.state.Outbox != nil { // what was raised comes before what might be raised
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

// next returns when the next round of this run begins; false when the rest is
// the next run's.
func (v *visitor) next() (at time.Time, ok bool) {
	now := v.o.Now()
	for _, w := range v.watched {
		every := interval(v.Active, w.state.Health)
		if every >= v.o.Period {
			continue
		}
		due, isDue := v.due(w, false)
		if !isDue {
			continue
		}
		if due.Before(now) {
			due = now
		}
		if due.Add(timeout(v.Active, every)).After(v.roundsEnd) {
			continue
		}
		if !ok || due.Before(at) {
			at, ok = due, true
		}
	}
	return at, ok
}

// round probes addresses and acts on what it saw. The order of effects is: the
// state together with its event, the event, the state without it. A crash
// before the first leaves the change to be found again; one after it leaves an
// event that the next run sends.
func (v *visitor) round(ctx context.Context, due []*watched, began time.Time, first bool) error {
	results := v.probeAll(ctx, due)
	judged, silent := 0, 0
	for i, w := range due {
		if results[i] == nil {
			continue
		}
		v.belief.saw(w.state.Address, *results[i])
		switch results[i].Fault {
		case hook.FaultBlocked:
			continue
		case hook.FaultTCP, hook.FaultTimeout:
			silent++
		}
		judged++
	}
	v.once() // before the question: who waits for others must not be waited for
	v.note = ""
	if judged > 0 && silent == judged {
		if doubt := v.belief.doubt(ctx, began, first); doubt != nil {
			if !isOwnNetwork(doubt) {
				return nil // the run ended while it waited
			}
			v.note = doubt.Error()
			v.o.Log.LogAttrs(ctx, slog.LevelWarn, "probes not judged",
				slog.String("upstream_id", v.ID), slog.Int("probes", judged), slog.String("reason", v.note))
		}
	}

	nowMS := began.UnixMilli()
	var changed []*watched
	var next []hook.ProbeState
	for i, w := range due {
		res := results[i]
		if res == nil {
			continue // no time was left for it
		}
		o, reason := judge(*res, v.Active)
		w.last.LastMS, w.last.Result, w.last.Reason = nowMS, o.result(), reason
		if res.Fault == hook.FaultBlocked {
			w.last.Result = record.ResultBlocked
		}
		w.last.ConnectMS, w.last.TLSMS, w.last.FirstByteMS = ms(res.Connect), ms(res.TLS), ms(res.FirstByte)
		if v.note != "" {
			w.last.Result = record.ResultIgnored
			continue
		}
		s, tell := step(w.state, o, v.Active, nowMS)
		if s == w.state {
			continue
		}
		if tell != "" {
			ev, err := v.event(w, tell, began)
			if err != nil {
				v.fail(err)
				continue
			}
			s.Outbox = &ev
		}
		changed, next = append(changed, w), append(next, s)
	}
	return v.change(ctx, changed, next)
}

// change stores new states and sends their events.
func (v *visitor) change(ctx context.Context, changed []*watched, next []hook.ProbeState) error {
	stored, err := v.put(ctx, next)
	var told []*watched
	var out []hook.ProbeState
	for i, w := range changed {
		if !stored[i] {
			w.off, w.lost = true, true
			continue
		}
		w.state = next[i]
		if w.state.Outbox == nil {
			continue
		}
		told, out = append(told, w), append(out, w.state)
		v.o.Log.LogAttrs(ctx, slog.LevelInfo, "target health changed",
			slog.String("upstream_id", v.ID), slog.String("target_id", w.target.ID), slog.String("hostname", w.host),
			slog.String("ip", w.ip.String()), slog.Int("port", w.port), slog.String("health", string(w.state.Health)),
			slog.String("reason", w.last.Reason), slog.String("event_id", w.state.Outbox.ID))
	}
	if err != nil {
		return err // whoever took over sends what was stored
	}
	err = v.send(ctx, out)
	for i, w := range told {
		w.state = out[i]
	}
	return err
}

// event is what is told of an address: exactly Kong's five fields.
func (v *visitor) event(w *watched, health hook.Health, at time.Time) (hook.Event, error) {
	data, err := strictjson.Encode(struct {
		UpstreamID string `json:"upstream_id"`
		IP         string `json:"ip"`
		Port       int    `json:"port"`
		Hostname   string `json:"hostname"`
		Health     string `json:"health"`
	}{v.ID, w.ip.String(), w.port, w.host, string(health)})
	if err != nil {
		return hook.Event{}, fmt.Errorf("encode event of %s: %w", w.state.Address, err)
	}
	return hook.Event{ID: v.o.IDs.Next(), Source: "balancer", Event: "health", Time: at.UTC(), Data: data}, nil
}

// probeAll probes addresses, as many at once as the upstream and the run
// allow, those first that have waited longest. nil stands for one that was not
// probed because its time did not fit, or whose result came from the run's own
// end.
func (v *visitor) probeAll(ctx context.Context, due []*watched) []*hook.ProbeResult {
	order := make([]int, len(due))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(due[a].last.LastMS, due[b].last.LastMS) })
	results := make([]*hook.ProbeResult, len(due))
	jobs := make(chan int, len(due))
	for _, i := range order {
		jobs <- i
	}
	close(jobs)
	workers := int(v.Active.Concurrency)
	if workers <= 0 {
		workers = 10
	}
	var wg sync.WaitGroup
	for range min(workers, len(due), maxProbes) {
		wg.Go(func() {
			for i := range jobs {
				p := v.probe(due[i])
				free := take(v.probes)
				if ctx.Err() == nil && !v.o.Now().Add(p.Timeout).After(v.end) {
					if r := v.o.Prober.Probe(ctx, p); ctx.Err() == nil {
						results[i] = &r
					}
				}
				free()
			}
		})
	}
	wg.Wait()
	return results
}

func (v *visitor) probe(w *watched) hook.Probe {
	p := hook.Probe{
		Type: v.Active.Type, IP: w.ip.String(), Port: w.port,
		Host: v.HostHeader, SNI: v.Active.HTTPSSNI, Path: v.Active.HTTPPath, Headers: v.Active.Headers,
		VerifyTLS: v.Active.HTTPSVerify,
		Timeout:   timeout(v.Active, interval(v.Active, w.state.Health)),
	}
	if _, err := netip.ParseAddr(w.host); p.Host == "" && err != nil {
		p.Host = w.host // an address is the prober's to write
	}
	return p
}

// release writes the summary and ends the lease.
func (v *visitor) release(ctx context.Context) error {
	s := record.Summary{LastMS: v.o.Now().UnixMilli(), Note: v.note, Unsent: v.unsent, KeptMS: v.keptMS, Targets: make([]record.TargetSummary, 0, len(v.watched))}
	for _, w := range v.watched {
		t := w.last
		t.TargetID, t.Port, t.Hostname = w.target.ID, w.port, w.host
		t.Address, t.IP = "", ""
		if w.ip.IsValid() {
			t.Address, t.IP = w.state.Address, w.ip.String()
		}
		t.Health, t.SinceMS = string(w.state.Health), w.state.SinceMS
		t.Successes, t.HTTPFailures, t.TCPFailures, t.Timeouts = w.state.Success, w.state.HTTP, w.state.TCP, w.state.Timeout
		t.NextMS = v.planned(w, s.LastMS)
		if w.state.Outbox != nil {
			s.Unsent++
		}
		s.Targets = append(s.Targets, t)
	}
	data, err := record.EncodeSummary(s)
	if err != nil {
		return err
	}
	v.lease.Summary = data
	// Also when the run's time is over: a lease that is not ended keeps the
	// next run out.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	if err := v.o.Store.ReleaseProbe(ctx, v.lease, v.o.Now().UnixMilli()); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

// planned returns when an address is next looked at, Unix milliseconds; 0 when
// never.
func (v *visitor) planned(w *watched, nowMS int64) int64 {
	every := interval(v.Active, w.state.Health)
	if every == 0 || w.target.Weight == 0 || !known(v.Active.Type) {
		return 0
	}
	if w.off || w.last.LastMS == 0 {
		return nowMS + every.Milliseconds() // the name is asked for again then
	}
	return w.last.LastMS + every.Milliseconds()
}

// nextMS returns before when nothing will be due or left to send.
func (v *visitor) nextMS() int64 {
	next := int64(math.MaxInt64)
	if v.unsent > 0 {
		return 0
	}
	nowMS := v.o.Now().UnixMilli()
	for _, w := range v.watched {
		if w.state.Outbox != nil {
			return 0
		}
		if at := v.planned(w, nowMS); at != 0 {
			next = min(next, at-v.ahead(interval(v.Active, w.state.Health)))
		}
	}
	return next
}

// known reports whether probes of a type can be made.
func known(kind string) bool { return kind == typeHTTP || kind == typeHTTPS || kind == typeTCP }

// probed reports whether any target of an upstream may ever be due.
func probed(c hook.ActiveCheck) bool {
	return known(c.Type) && (c.HealthyInterval > 0 || c.UnhealthyInterval > 0)
}

// interval returns how often a target of that health is probed; 0 for never.
func interval(c hook.ActiveCheck, h hook.Health) time.Duration {
	s := c.UnhealthyInterval
	if up(h) {
		s = c.HealthyInterval
	}
	if !(s > 0) {
		return 0
	}
	return max(minInterval, seconds(s))
}

// timeout returns the time of one probe: never longer than its interval.
func timeout(c hook.ActiveCheck, every time.Duration) time.Duration {
	t := defaultTimeout
	if c.Timeout > 0 {
		t = seconds(c.Timeout)
	}
	return max(min(t, every, maxTimeout), time.Millisecond)
}

// seconds turns a number of Kong's (at most 65535) into a duration.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1<<20) * float64(time.Second))
}

// wait blocks for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
