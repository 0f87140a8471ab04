package admin

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

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

const (
	// probePeriod is how often healthprobe runs.
	probePeriod = time.Minute
	// newFor is how long a record counts as new at least.
	newFor = 5 * time.Second
	// watchFor is how long fresh results are asked for after the last look, and
	// watchAgain how much of that may be over before the next look asks anew.
	watchFor   = 10 * time.Minute
	watchAgain = 5 * time.Minute
	// watchTime bounds the asking: it is not what the caller waits for.
	watchTime = 2 * time.Second
)

// recorded is what every answer about health says of its own age.
type recorded struct {
	RecordedAt *string `json:"recorded_at"`
	Note       string  `json:"note,omitempty"`
}

// targetHealth is a row of an upstream's health. A name may stand for several
// addresses: what is said of the target is what its best one says, as in Kong.
type targetHealth struct {
	schema.ShownTarget
	Health    string     `json:"health"`
	Reason    string     `json:"reason"`
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
	Reason    string     `json:"reason"`
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
	Certificate *string  `json:"certificate_expires_at"`
}

// balancerHealth is the health of an upstream as a whole.
type balancerHealth struct {
	ID             string   `json:"id"`
	Health         string   `json:"health"`
	BalancerHealth string   `json:"balancer_health"`
	Details        struct{} `json:"details"`
}

func (s *Service) upstreamHealth(ctx context.Context, c *call) (*answer, error) {
	u, err := s.upstream(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	query := c.URL.Query()
	whole := query.Get("balancer_health") == "1"
	if query.Has("balancer_health") && !whole && query.Get("balancer_health") != "0" {
		return nil, invalidOption("balancer_health", "expected one of: 0, 1")
	}
	targets, err := s.targets(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	nowMS := s.now()
	view, err := s.o.Store.Probes(ctx, u.ID, nowMS)
	if err != nil {
		return nil, fmt.Errorf("read probes of %s: %w", u.ID, err)
	}
	summary, err := record.DecodeSummary(view.Summary)
	if err != nil {
		return nil, err
	}
	seen := knownOf(targets, summary, view)
	rows := make([]targetHealth, 0, len(targets))
	for _, t := range targets {
		rows = append(rows, healthOf(u.Active, t, seen[t.ID], nowMS))
	}
	watched := anyProbed(u.Active, targets) && s.watch(ctx, u.ID, view, nowMS)
	age := recorded{schema.Time(summary.LastMS), note(summary, view, watched, stale(u.Active), nowMS)}
	if whole {
		return ok(struct {
			Data balancerHealth `json:"data"`
			Next *string        `json:"next"`
			recorded
		}{wholeHealth(u, rows), nil, age}), nil
	}
	return ok(struct {
		Data []targetHealth `json:"data"`
		Next *string        `json:"next"`
		recorded
	}{rows, nil, age}), nil
}

// watch asks for fresh results for a while, unless that was done a short time
// ago, and reports whether they are asked for. It is no harm that whoever may
// read may ask: it costs one write a run. That it fails is no reason not to show
// what is known.
func (s *Service) watch(ctx context.Context, upstreamID string, view hook.ProbeView, nowMS int64) bool {
	if view.WatchedMS-nowMS > watchAgain.Milliseconds() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, watchTime)
	defer cancel()
	if err := s.o.Store.WatchProbes(ctx, upstreamID, nowMS+watchFor.Milliseconds(), nowMS); err != nil {
		s.o.Log.WarnContext(ctx, "fresh probe results could not be asked for", "upstream_id", upstreamID, "err", err)
		return view.WatchedMS > nowMS
	}
	return true
}

// stale returns the age at which a record no longer says what the last probes
// saw: two of the upstream's shortest intervals.
func stale(a hook.ActiveCheck) time.Duration {
	shortest := a.HealthyInterval
	if shortest == 0 || a.UnhealthyInterval > 0 && a.UnhealthyInterval < shortest {
		shortest = a.UnhealthyInterval
	}
	return max(time.Duration(2*shortest*float64(time.Second)), newFor)
}

// note says what was wrong with the run that recorded the summary, and why
// nothing newer is shown. watched: fresh results are asked for now; old is the
// age from which on a record needs a word.
func note(summary record.Summary, view hook.ProbeView, watched bool, old time.Duration, nowMS int64) string {
	said := summary.Note
	add := func(more string) {
		if said != "" {
			said += "; "
		}
		said += more
	}
	lookedMS := view.WatchedMS - watchFor.Milliseconds() // when somebody looked before
	switch {
	case !watched:
	case view.WatchedMS <= nowMS:
		if summary.LastMS != 0 && nowMS-summary.LastMS > old.Milliseconds() {
			add("nothing has changed since this was recorded: while nobody looks, only changes are;" +
				" now that somebody does, fresh results are recorded from the next run on")
		}
	case lookedMS > summary.LastMS && nowMS-lookedMS > 3*probePeriod.Milliseconds():
		add("no run has recorded anything since somebody looked minutes ago: does healthprobe run?")
	}
	return said
}

// anyProbed reports whether any target of an upstream may ever be probed.
func anyProbed(a hook.ActiveCheck, targets []hook.Target) bool {
	for _, t := range targets {
		if unprobed(a, t) == "" {
			return true
		}
	}
	return false
}

// wholeHealth is what the targets' rows say of their upstream: what takes no
// traffic says nothing.
func wholeHealth(u hook.Upstream, rows []targetHealth) balancerHealth {
	n := map[string]int{}
	for _, row := range rows {
		if row.Weight > 0 {
			n[row.Health]++
		}
	}
	h := balancerHealth{ID: u.ID, Health: isUnhealthy, BalancerHealth: isUnhealthy}
	switch {
	case n[isHealthy] > 0:
		h.Health, h.BalancerHealth = isHealthy, isHealthy
	case n[isOff] > 0: // those that are not known to be down take what there is
		h.BalancerHealth = isHealthy
	}
	if u.Active.HealthyInterval == 0 && u.Active.UnhealthyInterval == 0 || n[isOff] > 0 && n[isHealthy]+n[isUnhealthy]+n[isDNSError] == 0 {
		h.Health = isOff
	}
	return h
}

// healthOf says what is known of one target.
func healthOf(a hook.ActiveCheck, t hook.Target, all []known, nowMS int64) targetHealth {
	row := targetHealth{ShownTarget: schema.ShowTarget(t), Health: isHealthy, Reason: notYet, Data: addresses{[]addressHealth{}}}
	off := unprobed(a, t)
	if off != "" {
		row.Health, row.Reason = isOff, off
	}
	_, portText, _ := net.SplitHostPort(t.Target)
	port, _ := strconv.Atoi(portText) // the schema stores host:port only
	next, best := int64(0), -1
	for _, k := range all {
		health, reason, since := k.health(off != ""), k.why(a, off), schema.Time(k.SinceMS)
		if health == isOff {
			since = nil // what is known is since when it was up or down
		}
		if off == "" {
			next = earlier(next, k.nextMS(a, nowMS))
		}
		if k.IP == "" {
			row.Health, row.Reason, row.Since, row.LastProbe = health, reason, since, probeOf(k)
			continue
		}
		at := addressHealth{
			IP: k.IP, Port: port, Health: health, Reason: reason, Since: since, LastProbe: probeOf(k),
			Counters: &counters{k.Successes, k.HTTPFailures, k.TCPFailures, k.Timeouts},
		}
		if worth := k.worth(health); worth > best {
			best = worth
			row.Health, row.Reason, row.Since, row.Counters, row.LastProbe = at.Health, at.Reason, at.Since, at.Counters, at.LastProbe
		}
		row.Data.Addresses = append(row.Data.Addresses, at)
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
func probeOf(k known) *lastProbe {
	if k.IP == "" && k.DNSError != "" {
		return &lastProbe{At: schema.Time(k.LastMS), Result: "dns", Reason: text(k.DNSError), DNSMS: phase(k.DNSMS)}
	}
	if k.LastMS == 0 || k.Result == "" {
		return nil
	}
	return &lastProbe{
		At: schema.Time(k.LastMS), Result: k.Result, Reason: text(k.Reason),
		DNSMS: phase(k.DNSMS), ConnectMS: phase(k.ConnectMS), TLSMS: phase(k.TLSMS), FirstByteMS: phase(k.FirstByteMS),
		Certificate: schema.Time(k.CertificateMS),
	}
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
