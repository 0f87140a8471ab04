package admin

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// known is all that is known of one address of a target; of a target without
// any, what is known of its name.
type known struct {
	record.TargetSummary
	waiting bool // an order that set Health is still to be carried out
	byHand  bool // the last word on Health was an order, not a probe
}

// knownOf puts together what is known of each target's addresses. The states
// decide, and the summary, which may be older by a run that is under way, adds
// what the last probe saw. Orders that wait are taken for carried out. What a
// target's address was before the target was changed says nothing of it.
func knownOf(targets []hook.Target, summary record.Summary, view hook.ProbeView) map[string][]known {
	at := endpoints(targets)
	summary.Targets = slices.DeleteFunc(slices.Clone(summary.Targets), func(e record.TargetSummary) bool {
		return e.Hostname != "" && at[e.TargetID] != net.JoinHostPort(e.Hostname, strconv.Itoa(e.Port))
	})
	states := slices.DeleteFunc(slices.Clone(view.States), func(st hook.ProbeState) bool {
		id, _, _ := strings.Cut(st.Address, "/")
		return st.Endpoint != "" && at[id] != st.Endpoint
	})

	current := make(map[string]hook.ProbeState, len(states))
	for _, st := range states {
		current[st.Address] = st
	}
	all := make(map[string][]known)
	for _, e := range summary.Targets {
		k := known{TargetSummary: e}
		if st, there := current[e.Address]; there {
			k.setState(st)
		}
		all[e.TargetID] = append(all[e.TargetID], k)
	}
	for id, more := range unlisted(summary, states) {
		all[id] = append(all[id], more...)
	}

	done := make(map[string]string, len(view.States)) // also before the target was changed
	for _, st := range view.States {
		done[st.Address] = st.Ordered
	}
	for _, t := range targets {
		for _, o := range view.Orders {
			if o.TargetID == t.ID {
				all[t.ID] = obey(o, t, all[t.ID], done)
			}
		}
	}
	return all
}

// endpoints returns the host:port of each target by its id, as healthprobe
// writes it: an IPv4 address in IPv6's form is what it stands for.
func endpoints(targets []hook.Target) map[string]string {
	all := make(map[string]string, len(targets))
	for _, t := range targets {
		all[t.ID] = t.Target
		if at, err := netip.ParseAddrPort(t.Target); err == nil {
			all[t.ID] = netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String()
		}
	}
	return all
}

// unlisted returns what is known of the targets that did not fit into the
// summary. Of those in it, an address that is not is one that the name no longer
// stands for.
func unlisted(summary record.Summary, states []hook.ProbeState) map[string][]known {
	listed := make(map[string]bool, len(summary.Targets))
	for _, e := range summary.Targets {
		listed[e.TargetID] = true
	}
	more := make(map[string][]known)
	for _, st := range states {
		id, ip, _ := strings.Cut(st.Address, "/")
		if !listed[id] {
			k := known{TargetSummary: record.TargetSummary{TargetID: id, Address: st.Address, IP: ip}}
			k.setState(st)
			more[id] = append(more[id], k)
		}
	}
	return more
}

func (k *known) setState(st hook.ProbeState) {
	k.Health, k.SinceMS = string(st.Health), st.SinceMS
	k.Successes, k.HTTPFailures, k.TCPFailures, k.Timeouts = st.Success, st.HTTP, st.TCP, st.Timeout
	// An order changes Health and is no probe.
	k.byHand = st.Ordered != "" && st.ProbedMS < st.SinceMS
}

// obey returns a target's addresses after an order; done are the last orders
// that were carried out, by address. Where none is known yet, the order or the
// target itself may name one; where the name gives none, there is none to set.
func obey(o hook.HealthOrder, t hook.Target, all []known, done map[string]string) []known {
	if !slices.ContainsFunc(all, func(k known) bool { return k.IP != "" || k.DNSError != "" }) {
		ip := o.IP
		if host, _, err := net.SplitHostPort(t.Target); ip == "" && err == nil {
			if literal, err := netip.ParseAddr(host); err == nil {
				ip = literal.Unmap().String()
			}
		}
		if ip != "" || len(all) == 0 {
			all = append(all, known{TargetSummary: record.TargetSummary{TargetID: t.ID, IP: ip}})
		}
	}
	for i := range all {
		k := &all[i]
		meant := o.IP == "" && (k.IP != "" || k.DNSError == "") || o.IP != "" && o.IP == k.IP
		if meant && done[t.ID+"/"+k.IP] < o.ID {
			k.Health, k.waiting, k.byHand = string(o.Health), true, true
			k.SinceMS, _ = eventid.Time(o.ID)
			k.Successes, k.HTTPFailures, k.TCPFailures, k.Timeouts = 0, 0, 0, 0
		}
	}
	return all
}

// up reports whether the address takes traffic: until the first verdict it
// does, as in Kong.
func (k known) up() bool {
	return k.Health != string(hook.Unhealthy) && k.Health != string(hook.MostlyUnhealthy)
}

// health is what Kong says. off: it is not probed.
func (k known) health(off bool) string {
	switch {
	case k.byHand && !k.up(): // an operator's word holds where no probe has one
		return isUnhealthy
	case k.byHand:
		return isHealthy
	case off, k.Result == record.ResultBlocked: // nothing is known of it, least of all that it is well
		return isOff
	case k.IP == "" && k.DNSError != "":
		return isDNSError
	case !k.up():
		return isUnhealthy
	}
	return isHealthy
}

// worth says which of a target's addresses speaks for it: the one worth most,
// the first of equals. One that takes traffic speaks before one that does not,
// and either before one of which there is no verdict.
func (k known) worth(health string) int {
	switch {
	case health == isOff:
		return 0
	case k.Health == "":
		return 1
	case health == isUnhealthy:
		return 2
	}
	return 3
}

// nextMS returns when the address, or the name, is probed next; 0 when never,
// and when that is not known. What is on record may be hours old: it is counted
// on from there.
func (k known) nextMS(a hook.ActiveCheck, nowMS int64) int64 {
	seconds := a.UnhealthyInterval
	if k.up() {
		seconds = a.HealthyInterval
	}
	every := int64(seconds * 1000)
	if seconds > 0 {
		every = max(every, 1)
	}
	switch {
	case every == 0 || k.NextMS == 0:
		return 0
	case k.NextMS >= nowMS: // planned when the interval may have been longer
		return min(k.NextMS, nowMS+every)
	}
	return nowMS + (every-(nowMS-k.NextMS)%every)%every
}

// notYet is the reason of what was never probed.
const notYet = "not probed yet: it counts as healthy until then"

// unprobed returns why a target is never probed, "" when it is.
func unprobed(a hook.ActiveCheck, t hook.Target) string {
	switch {
	case t.Weight == 0:
		return "not probed: its weight is 0"
	case a.HealthyInterval == 0 && a.UnhealthyInterval == 0:
		return "not probed: both intervals are 0"
	}
	return ""
}

// why says in words why the health is what it is. off is why it is not probed,
// "" when it is.
func (k known) why(a hook.ActiveCheck, off string) string {
	said := k.verdict(a)
	switch {
	case k.waiting:
		said = "set by hand: the next run of healthprobe carries it out and tells of it"
	case k.byHand:
		said = "set by hand, and no probe has changed it since"
	case off != "":
		return off
	case k.Result == record.ResultBlocked:
		return "not probed: " + k.Reason
	case k.IP == "" && k.DNSError != "":
		return "the name gives no address: " + k.DNSError
	}
	switch {
	case off != "":
		said += "; " + off
	case k.up() && a.HealthyInterval == 0:
		said += "; not probed while it is up: healthy.interval is 0"
	case !k.up() && a.UnhealthyInterval == 0:
		said += "; not probed while it is down: unhealthy.interval is 0"
	}
	if k.IP != "" && k.DNSError != "" {
		said += "; the address is one that the name had before: " + k.DNSError
	}
	return said
}

// verdict says what the probes have come to, and what the last one saw.
func (k known) verdict(a hook.ActiveCheck) string {
	said := "up"
	switch hook.Health(k.Health) {
	case hook.Unhealthy:
		said = "down"
	case hook.MostlyUnhealthy:
		said = "coming back"
	case hook.MostlyHealthy:
		said = "up, but wavering"
	case "":
		if k.Result == "" {
			return notYet
		}
		said = "no verdict yet"
	}
	var counts []string
	for _, c := range []struct {
		what     string
		n, limit int64
	}{
		{"successes", k.Successes, a.Successes},
		{"HTTP failures", k.HTTPFailures, a.HTTPFailures},
		{"TCP failures", k.TCPFailures, a.TCPFailures},
		{"timeouts", k.Timeouts, a.Timeouts},
	} {
		if c.n > 0 && c.limit > 0 && k.Health != string(hook.Healthy) { // what made it healthy is no news
			counts = append(counts, fmt.Sprintf("%s %d of %d", c.what, c.n, c.limit))
		}
	}
	if len(counts) > 0 {
		said += ": " + strings.Join(counts, ", ")
	}
	if k.Reason != "" {
		said += "; last probe: " + k.Reason
	}
	return said
}
