package healthprobe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// endpoint is where a target points to.
type endpoint struct {
	target hook.Target
	host   string
	port   int
	fault  string       // why it points nowhere: it is no host:port
	ip     netip.Addr   // of a host that is an address itself
	known  []netip.Addr // of a name: from earlier, in order
	found  *lookup      // of a name that was asked for
}

// look finds the addresses of all targets and brings together what is known of
// each. A name is asked for when one of its addresses is due in this run; one
// that does not answer keeps those it had, as in Kong.
func (v *visitor) look(ctx context.Context) error {
	known := v.knownAddresses()
	ends := make([]*endpoint, len(v.targets))
	var wg sync.WaitGroup
	for i, t := range v.targets {
		e := v.endpoint(t, known[t.ID])
		ends[i] = e
		if e.fault == "" && !e.ip.IsValid() && v.asks(e) {
			wg.Go(func() { e.found = v.names.find(ctx, e.host) })
		}
	}
	wg.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("resolve targets: %w", ctx.Err()) // no name was at fault
	}
	v.learnt = make(map[string]bool, len(ends))
	for _, e := range ends {
		v.add(e)
	}
	if extra := len(v.watched) - record.MaxSummaryTargets; extra > 0 {
		v.watched = v.watched[:record.MaxSummaryTargets]
		v.fail(fmt.Errorf("targets have %d addresses more than the %d that are watched", extra, record.MaxSummaryTargets))
	}
	v.present = make(map[string]bool, len(v.watched))
	for _, w := range v.watched {
		v.present[w.state.Address] = true
	}
	return nil
}

// knownAddresses returns the keys of all addresses that anything is known of,
// by target id.
func (v *visitor) knownAddresses() map[string][]string {
	all := make(map[string][]string, len(v.targets))
	for key := range v.states {
		id, _, _ := cutKey(key)
		all[id] = append(all[id], key)
	}
	for key := range v.last {
		if _, twice := v.states[key]; !twice {
			id, _, _ := cutKey(key)
			all[id] = append(all[id], key)
		}
	}
	return all
}

func (v *visitor) endpoint(t hook.Target, keys []string) *endpoint {
	e := &endpoint{target: t}
	var err error
	if e.host, e.port, err = hostPort(t.Target); err != nil {
		e.host, e.fault = t.Target, err.Error()
		return e
	}
	if e.ip, err = netip.ParseAddr(e.host); err == nil {
		return e
	}
	for _, key := range keys {
		_, text, _ := cutKey(key)
		// The target may have had another name when that was its address.
		host := v.last[key].Hostname
		if end := v.states[key].Endpoint; end != "" {
			host, _, _ = hostPort(end)
		}
		if ip, err := netip.ParseAddr(text); err == nil && (host == e.host || host == "") {
			e.known = append(e.known, ip)
		}
	}
	slices.SortFunc(e.known, netip.Addr.Compare)
	return e
}

// asks reports whether a name is to be asked for in this run: one of its
// addresses will be due, or it has none, or it was ordered what they are.
func (v *visitor) asks(e *endpoint) bool {
	if slices.ContainsFunc(v.view.Orders, func(o hook.HealthOrder) bool { return o.TargetID == e.target.ID }) {
		return true
	}
	if e.target.Weight == 0 || !probed(v.Active) {
		return false
	}
	now := v.o.Now()
	if len(e.known) == 0 {
		last, every := v.last[addressKey(e.target.ID, netip.Addr{})], interval(v.Active, "")
		left := time.UnixMilli(last.NextMS).Sub(now)
		// What is planned for later than an interval from now was planned with
		// a longer one, or by a wrong clock.
		return left <= v.ahead(every) || left > every || last.Hostname != e.host
	}
	for _, ip := range e.known {
		w := watched{target: e.target, host: e.host, port: e.port, ip: ip}
		v.meet(&w)
		if interval(v.Active, w.state.Health) == 0 {
			return true // it is never due, but the name may come to stand for another
		}
		if at, ok := v.due(&w, false); ok && !now.Before(at.Add(-v.ahead(interval(v.Active, w.state.Health)))) {
			return true
		}
	}
	return false
}

// ahead returns how long before something is due a run has to see to it: no
// more than the schedule is inexact, unless it comes more often than runs do
// and falls into the middle of one.
func (v *visitor) ahead(every time.Duration) time.Duration {
	if every < v.o.Period {
		return v.o.Period
	}
	return slack(every)
}

// and returns the addresses that were found, and those of known of whose kind
// nothing was learnt.
func (l *lookup) and(known []netip.Addr) []netip.Addr {
	if !l.no4 && !l.no6 {
		return l.addrs
	}
	all := slices.Clone(l.addrs)
	for _, ip := range known {
		if ip.Is4() && l.no4 || ip.Is6() && l.no6 {
			all = append(all, ip)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.Compact(all)
	return all[:min(len(all), maxAddresses)]
}

// add watches the addresses of an endpoint. A name without any has one entry
// without an address.
func (v *visitor) add(e *endpoint) {
	addrs, learnt := e.known, false
	unresolved, took := e.fault, 0.0
	switch {
	case e.ip.IsValid():
		addrs, learnt = []netip.Addr{e.ip}, true
	case e.found != nil && e.found.err == nil:
		addrs, learnt, took = e.found.and(e.known), true, ms(e.found.took)
	case e.found != nil:
		unresolved, took = e.found.err.Error(), ms(e.found.took)
	}
	v.learnt[e.target.ID] = learnt
	if len(addrs) == 0 {
		addrs = []netip.Addr{{}}
	}
	for _, ip := range addrs {
		w := &watched{target: e.target, host: e.host, port: e.port, ip: ip, off: e.target.Weight == 0, dnsError: unresolved, dnsMS: took}
		v.meet(w)
		if e.found != nil && !ip.IsValid() {
			w.last.LastMS = v.o.Now().UnixMilli() // when it was asked for
		}
		if !learnt && e.found == nil && e.fault == "" && !w.off && probed(v.Active) {
			w.dnsError, w.dnsMS = w.last.DNSError, w.last.DNSMS // it was not asked for
		}
		v.watched = append(v.watched, w)
	}
}
