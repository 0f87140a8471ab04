package admin

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
	"eventhooks/internal/schema"
)

// What Kong says of a target's health.
const (
	isHealthy   = "HEALTHY"
	isUnhealthy = "UNHEALTHY"
	isOff       = "HEALTHCHECKS_OFF"
	isDNSError  = "DNS_ERROR"
)

// targetHealth is a row of an upstream's health. A name may stand for several
// addresses: what is said of the target is what its best one says, as in Kong.
type targetHealth struct {
	schema.ShownTarget
	Health    string     `json:"health"`
	Since     *string    `json:"since"`
	Counters  *counters  `json:"counters"`
	LastProbe *lastProbe `json:"last_probe"`
	NextProbe *string    `json:"next_probe"`
	Data      addresses  `json:"data"`
}

type addresses struct {
	Addresses []addressHealth `json:"addresses"`
}

type addressHealth struct {
	IP        string     `json:"ip"`
	Port      int        `json:"port"`
	Health    string     `json:"health"`
	Since     *string    `json:"since"`
	Counters  *counters  `json:"counters"`
	LastProbe *lastProbe `json:"last_probe"`
}

type counters struct {
	Successes    int64 `json:"successes"`
	HTTPFailures int64 `json:"http_failures"`
	TCPFailures  int64 `json:"tcp_failures"`
	Timeouts     int64 `json:"timeouts"`
}

type lastProbe struct {
	At          *string  `json:"at"`
	Result      string   `json:"result"`
	Reason      *string  `json:"reason"`
	DNSMS       *float64 `json:"dns_ms"`
	ConnectMS   *float64 `json:"connect_ms"`
	TLSMS       *float64 `json:"tls_ms"`
	FirstByteMS *float64 `json:"first_byte_ms"`
}

func (s *Service) upstreamHealth(ctx context.Context, c *call) (*answer, error) {
	u, err := s.upstream(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	targets, err := s.targets(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	raw, err := s.o.Store.ProbeSummary(ctx, u.ID, s.now())
	if err != nil {
		return nil, fmt.Errorf("read probe summary of %s: %w", u.ID, err)
	}
	summary, err := record.DecodeSummary(raw)
	if err != nil {
		return nil, err
	}
	states, err := s.o.Store.ProbeStates(ctx, u.ID, s.now())
	if err != nil {
		return nil, fmt.Errorf("read probe states of %s: %w", u.ID, err)
	}
	seen := byTarget(summary, states)
	rows := make([]targetHealth, 0, len(targets))
	for _, t := range targets {
		rows = append(rows, healthOf(u, t, seen[t.ID]))
	}
	return ok(struct {
		Data []targetHealth `json:"data"`
		Next *string        `json:"next"`
		Note string         `json:"note,omitempty"`
	}{rows, nil, summary.Note}), nil
}

// byTarget puts together what is known of each target's addresses. The states
// decide, and the summary, which may be older by a run that is under way, adds
// what the last probe saw.
func byTarget(summary record.Summary, states []hook.ProbeState) map[string][]record.TargetSummary {
	current := make(map[string]hook.ProbeState, len(states))
	for _, st := range states {
		current[st.Address] = st
	}
	seen := make(map[string][]record.TargetSummary)
	for _, e := range summary.Targets {
		if st, there := current[e.Address]; there {
			e = withState(e, st)
			delete(current, e.Address)
		}
		seen[e.TargetID] = append(seen[e.TargetID], e)
	}
	for _, st := range states { // what did not fit into the summary
		if _, left := current[st.Address]; !left {
			continue
		}
		id, ip, _ := strings.Cut(st.Address, "/")
		if len(seen[id]) > 0 { // an address that the name no longer stands for
			continue
		}
		seen[id] = append(seen[id], withState(record.TargetSummary{TargetID: id, Address: st.Address, IP: ip}, st))
	}
	return seen
}

func withState(e record.TargetSummary, st hook.ProbeState) record.TargetSummary {
	e.Health, e.SinceMS = string(st.Health), st.SinceMS
	e.Successes, e.HTTPFailures, e.TCPFailures, e.Timeouts = st.Success, st.HTTP, st.TCP, st.Timeout
	return e
}

// healthOf says what is known of one target.
func healthOf(u hook.Upstream, t hook.Target, seen []record.TargetSummary) targetHealth {
	row := targetHealth{ShownTarget: schema.ShowTarget(t), Health: isHealthy, Data: addresses{[]addressHealth{}}}
	off := t.Weight == 0 || u.Active.HealthyInterval == 0 && u.Active.UnhealthyInterval == 0
	_, portText, _ := net.SplitHostPort(t.Target)
	port, _ := strconv.Atoi(portText) // the schema stores host:port only
	var next int64
	unresolved := ""
	for _, e := range seen {
		if e.IP == "" {
			unresolved = e.DNSError
			row.LastProbe = probeOf(e)
			next = earlier(next, e.NextMS)
			continue
		}
		a := addressHealth{
			IP: e.IP, Port: port, Health: isHealthy, Since: schema.Time(e.SinceMS), LastProbe: probeOf(e),
			Counters: &counters{e.Successes, e.HTTPFailures, e.TCPFailures, e.Timeouts},
		}
		switch {
		case off, e.Result == record.ResultBlocked: // nothing is known of it, least of all that it is well
			a.Health = isOff
		case e.Health == string(hook.Unhealthy) || e.Health == string(hook.MostlyUnhealthy):
			a.Health = isUnhealthy
		}
		// The first address speaks for the target until a healthy one does.
		if len(row.Data.Addresses) == 0 || row.Health == isUnhealthy && a.Health == isHealthy {
			row.Health, row.Since, row.Counters, row.LastProbe = a.Health, a.Since, a.Counters, a.LastProbe
		}
		row.Data.Addresses = append(row.Data.Addresses, a)
		next = earlier(next, e.NextMS)
	}
	switch {
	case off:
		row.Health, next = isOff, 0
	case len(row.Data.Addresses) == 0 && unresolved != "":
		row.Health = isDNSError
	}
	row.NextProbe = schema.Time(next)
	return row
}

// earlier returns the earlier of two times, of which 0 is none.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// probeOf returns what the last probe of an address saw, nil before the first.
func probeOf(e record.TargetSummary) *lastProbe {
	if e.LastMS == 0 && e.DNSError == "" {
		return nil
	}
	p := &lastProbe{
		At: schema.Time(e.LastMS), Result: e.Result, Reason: text(e.Reason),
		DNSMS: phase(e.DNSMS), ConnectMS: phase(e.ConnectMS), TLSMS: phase(e.TLSMS), FirstByteMS: phase(e.FirstByteMS),
	}
	if e.IP == "" {
		p.Result, p.Reason = "dns", text(e.DNSError)
	}
	return p
}

// phase is a duration, null for a phase that was not reached.
func phase(ms float64) *float64 {
	if ms == 0 {
		return nil
	}
	return &ms
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
