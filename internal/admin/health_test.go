package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/admin"
	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// probed is an upstream "web" that healthprobe has visited.
type probed struct {
	*server
	id    string
	store *probeStore
}

// probeStore counts and fails what the service asks of the probes' part.
type probeStore struct {
	admin.Store
	mu      sync.Mutex
	watched int
	until   int64
	fail    error // of WatchProbes and PutHealthOrder
}

func (p *probeStore) WatchProbes(ctx context.Context, upstreamID string, untilMS, now int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched++
	p.until = untilMS
	if p.fail != nil {
		return p.fail
	}
	return p.Store.WatchProbes(ctx, upstreamID, untilMS, now)
}

func (p *probeStore) PutHealthOrder(ctx context.Context, upstreamID string, o hook.HealthOrder, now int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	return p.Store.PutHealthOrder(ctx, upstreamID, o, now)
}

// newProbed makes the upstream of a document, whose name is web.
func newProbed(t *testing.T, doc string) *probed {
	t.Helper()
	p := &probed{}
	p.server = newServerOn(t, func(real admin.Store) admin.Store {
		p.store = &probeStore{Store: real}
		return p.store
	})
	p.id = p.must(201, "POST", "/upstreams", doc)["id"].(string)
	return p
}

func (p *probed) target(doc string) string {
	p.t.Helper()
	return p.must(201, "POST", "/upstreams/web/targets", doc)["id"].(string)
}

// ran leaves what a run of healthprobe does.
func (p *probed) ran(s record.Summary, states ...hook.ProbeState) {
	p.t.Helper()
	ctx, now := context.Background(), p.now().UnixMilli()
	lease, held, err := p.server.store.AcquireProbe(ctx, p.id, now, now+70_000)
	if err != nil || !held {
		p.t.Fatalf("AcquireProbe = %t, %v", held, err)
	}
	for _, st := range states {
		if err := p.server.store.PutProbeState(ctx, lease, st, now); err != nil {
			p.t.Fatal(err)
		}
	}
	if lease.Summary, err = record.EncodeSummary(s); err != nil {
		p.t.Fatal(err)
	}
	if err := p.server.store.ReleaseProbe(ctx, lease, now); err != nil {
		p.t.Fatal(err)
	}
}

// health returns the upstream's rows by the target's host and port, and the rest
// of the answer.
func (p *probed) health() (rows map[string]map[string]any, answer map[string]any) {
	p.t.Helper()
	answer = p.must(200, "GET", "/upstreams/web/health", "", "Authorization", "Bearer read-token")
	rows = map[string]map[string]any{}
	for _, r := range answer["data"].([]any) {
		row := r.(map[string]any)
		rows[row["target"].(string)] = row
	}
	return rows, answer
}

// whole returns the health of the upstream as a whole, and its balancer's.
func (p *probed) whole() string {
	p.t.Helper()
	data := p.must(200, "GET", "/upstreams/web/health?balancer_health=1", "")["data"].(map[string]any)
	if data["id"] != p.id {
		p.t.Errorf("id = %v; want %s", data["id"], p.id)
	}
	return fmt.Sprint(data["health"], " ", data["balancer_health"])
}

// address returns the health and the reason of one address of a row.
func address(t *testing.T, row map[string]any, ip string) (health, reason string) {
	t.Helper()
	for _, a := range row["data"].(map[string]any)["addresses"].([]any) {
		if a := a.(map[string]any); a["ip"] == ip {
			return a["health"].(string), a["reason"].(string)
		}
	}
	t.Errorf("%v has no address %s", row["target"], ip)
	return "", ""
}

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// TestHealth_reasons: what is said of an address, and why, by what is known of
// it. The limits are 3 successes, 4 HTTP failures, 5 TCP failures, 6 timeouts.
func TestHealth_reasons(t *testing.T) {
	const (
		doc = `{"name":"web","healthchecks":{"active":{"healthy":{"interval":60,"successes":3},
		  "unhealthy":{"interval":30,"http_failures":4,"tcp_failures":5,"timeouts":6}}}}`
		watched   = `{}`
		upOnly    = `{"healthchecks":{"active":{"unhealthy":{"interval":0}}}}`
		downOnly  = `{"healthchecks":{"active":{"healthy":{"interval":0}}}}`
		off       = `{"healthchecks":{"active":{"healthy":{"interval":0},"unhealthy":{"interval":0}}}}`
		noLimit   = `{"healthchecks":{"active":{"unhealthy":{"tcp_failures":0}}}}`
		order     = "01a1ff43-dd7b-7d3e-8a01-5b6e3c4b7d3e"
		isHealthy = "HEALTHY"
		isDown    = "UNHEALTHY"
	)
	now := clock.UnixMilli()
	probe := func(result, reason string) record.TargetSummary {
		return record.TargetSummary{Result: result, Reason: reason, LastMS: now, NextMS: now + 60_000}
	}
	failed, succeeded := probe(record.ResultFailure, "connection refused"), probe(record.ResultSuccess, "status 200")
	kept := succeeded
	kept.DNSError = "the name server does not answer"
	tests := []struct {
		name, patch    string
		summary        record.TargetSummary
		state          hook.ProbeState
		health, reason string
	}{
		{"healthy", watched, succeeded, hook.ProbeState{Health: hook.Healthy, SinceMS: now, Success: 3}, isHealthy, "up; last probe: status 200"},
		{"unhealthy", watched, failed, hook.ProbeState{Health: hook.Unhealthy, TCP: 5}, isDown, "down: TCP failures 5 of 5; last probe: connection refused"},
		{
			"failing in two ways", watched, probe(record.ResultFailure, "no answer within 1 s"),
			hook.ProbeState{Health: hook.MostlyHealthy, HTTP: 1, Timeout: 2},
			isHealthy, "up, but wavering: HTTP failures 1 of 4, timeouts 2 of 6; last probe: no answer within 1 s",
		},
		{"coming back", watched, succeeded, hook.ProbeState{Health: hook.MostlyUnhealthy, Success: 2}, isDown, "coming back: successes 2 of 3; last probe: status 200"},
		{"a limit that was taken away", noLimit, failed, hook.ProbeState{Health: hook.Unhealthy, TCP: 5}, isDown, "down; last probe: connection refused"},
		{"no verdict yet", watched, failed, hook.ProbeState{TCP: 1}, isHealthy, "no verdict yet: TCP failures 1 of 5; last probe: connection refused"},
		{
			"nothing that counts", watched, probe(record.ResultIgnored, "no route to IPv6 addresses from here"),
			hook.ProbeState{},
			isHealthy, "no verdict yet; last probe: no route to IPv6 addresses from here",
		},
		{"a state alone", watched, record.TargetSummary{}, hook.ProbeState{Health: hook.Unhealthy, HTTP: 4}, isDown, "down: HTTP failures 4 of 4"},
		{
			"blocked", watched, probe(record.ResultBlocked, "10.0.0.1 is a private address"),
			hook.ProbeState{Health: hook.Healthy, SinceMS: now},
			"HEALTHCHECKS_OFF", "not probed: 10.0.0.1 is a private address",
		},
		{"a name that fails for now", watched, kept, hook.ProbeState{Health: hook.Healthy}, isHealthy, "up; last probe: status 200; the address is one that the name had before: the name server does not answer"},
		{"down for good", upOnly, failed, hook.ProbeState{Health: hook.Unhealthy, TCP: 5}, isDown, "down: TCP failures 5 of 5; last probe: connection refused; not probed while it is down: unhealthy.interval is 0"},
		{"up for good", downOnly, succeeded, hook.ProbeState{Health: hook.Healthy}, isHealthy, "up; last probe: status 200; not probed while it is up: healthy.interval is 0"},
		{"off", off, failed, hook.ProbeState{Health: hook.Unhealthy, SinceMS: now, TCP: 5}, "HEALTHCHECKS_OFF", "not probed: both intervals are 0"},
		{
			"set by hand", watched, succeeded,
			hook.ProbeState{Health: hook.Unhealthy, SinceMS: now, ProbedMS: now - 1, Ordered: order},
			isDown, "set by hand, and no probe has changed it since",
		},
		{
			"set by hand, then probed", watched, succeeded,
			hook.ProbeState{Health: hook.MostlyUnhealthy, Success: 1, SinceMS: now, ProbedMS: now, Ordered: order},
			isDown, "coming back: successes 1 of 3; last probe: status 200",
		},
		{
			"set by hand where nobody probes", off,
			record.TargetSummary{},
			hook.ProbeState{Health: hook.Unhealthy, SinceMS: now, Ordered: order},
			isDown, "set by hand, and no probe has changed it since; not probed: both intervals are 0",
		},
		{
			"set by hand, then probed, then switched off", off, failed,
			hook.ProbeState{Health: hook.Unhealthy, TCP: 5, SinceMS: now, ProbedMS: now, Ordered: order},
			"HEALTHCHECKS_OFF", "not probed: both intervals are 0",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newProbed(t, doc)
			p.must(200, "PATCH", "/upstreams/web", tt.patch)
			id := p.target(`{"target":"web1.test:80"}`)
			tt.state.Address = id + "/10.0.0.1"
			var s record.Summary
			if tt.summary.Result != "" {
				tt.summary.TargetID, tt.summary.IP = id, "10.0.0.1"
				s = record.Summary{LastMS: now, Targets: []record.TargetSummary{tt.summary}}
			}
			p.ran(s, tt.state)
			rows, _ := p.health()
			row := rows["web1.test:80"]
			if health, reason := address(t, row, "10.0.0.1"); health != tt.health || reason != tt.reason {
				t.Errorf("the address is %s, because %q\n\twant %s, because %q", health, reason, tt.health, tt.reason)
			}
			if row["health"] != tt.health || row["reason"] != tt.reason {
				t.Errorf("the target is %v, because %q; want what its only address is", row["health"], row["reason"])
			}
			var since any
			if tt.state.SinceMS != 0 && tt.health != "HEALTHCHECKS_OFF" {
				since = stamp(clock)
			}
			if of := row["data"].(map[string]any)["addresses"].([]any)[0].(map[string]any)["since"]; row["since"] != since || of != since {
				t.Errorf("since %v, its address since %v; want %v", row["since"], of, since)
			}
		})
	}
}

// TestHealth_changedTarget: what was seen before a target was given another host
// or port says nothing of it, whichever of summary and states is older.
func TestHealth_changedTarget(t *testing.T) {
	now := clock.UnixMilli()
	down := func(hostname string, port int) record.TargetSummary {
		return record.TargetSummary{
			IP: "10.0.0.1", Hostname: hostname, Port: port, Health: "unhealthy", SinceMS: now, TCPFailures: 5,
			Result: record.ResultFailure, Reason: "connection refused", LastMS: now,
		}
	}
	lost := record.TargetSummary{Hostname: "web1.test", Port: 80, DNSError: "name does not resolve", LastMS: now}
	const (
		notYet = "HEALTHY: not probed yet: it counts as healthy until then"
		isDown = "UNHEALTHY: down: TCP failures 2 of 2; last probe: connection refused"
	)
	state := func(endpoint string) hook.ProbeState {
		return hook.ProbeState{Endpoint: endpoint, Health: hook.Unhealthy, SinceMS: now, TCP: 2}
	}
	tests := []struct {
		name, target string
		summary      *record.TargetSummary
		state        hook.ProbeState
		want         string
	}{
		{"the same", "web1.test:80", new(down("web1.test", 80)), state("web1.test:80"), isDown},
		{"the same, an IPv6 address", "[2001:db8::1]:80", new(down("2001:db8::1", 80)), state("[2001:db8::1]:80"), isDown},
		{"the same, an IPv4 address in IPv6's form", "[::ffff:10.0.0.1]:80", new(down("10.0.0.1", 80)), state("10.0.0.1:80"), isDown},
		{"another port", "web1.test:80", new(down("web1.test", 81)), state("web1.test:81"), notYet},
		{"another host", "web1.test:80", new(down("web2.test", 80)), state("web2.test:80"), notYet},
		{"another name that gave no address", "web2.test:80", &lost, hook.ProbeState{}, notYet},
		{"a state that has no place", "web1.test:80", new(down("web1.test", 80)), state(""), isDown},
		{"a state of another port", "web1.test:80", nil, state("web1.test:81"), notYet},
		{"a summary of another port", "web1.test:80", new(down("web1.test", 81)), state("web1.test:80"), "UNHEALTHY: down: TCP failures 2 of 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newProbed(t, `{"name":"web"}`)
			id := p.target(`{"target":"` + tt.target + `"}`)
			s := record.Summary{LastMS: now}
			if tt.summary != nil {
				tt.summary.TargetID = id
				s.Targets = append(s.Targets, *tt.summary)
			}
			var states []hook.ProbeState
			if tt.state.Health != "" {
				tt.state.Address = id + "/10.0.0.1"
				states = append(states, tt.state)
			}
			p.ran(s, states...)
			rows, _ := p.health()
			row := rows[tt.target]
			if got := fmt.Sprint(row["health"], ": ", row["reason"]); got != tt.want {
				t.Errorf("%s; want %s", got, tt.want)
			}
			if tt.want == notYet && (row["last_probe"] != nil || row["since"] != nil || row["counters"] != nil) {
				t.Errorf("row = %v; want nothing that a probe saw", row)
			}
		})
	}
}

// TestHealth_speaks: which of a target's addresses speaks for it.
func TestHealth_speaks(t *testing.T) {
	p := newProbed(t, `{"name":"web"}`)
	now := clock.UnixMilli()
	of := func(health hook.Health, result string) record.TargetSummary {
		return record.TargetSummary{Health: string(health), Result: result, LastMS: now}
	}
	up, down := of(hook.Healthy, record.ResultSuccess), of(hook.Unhealthy, record.ResultFailure)
	blocked, unknown := of("", record.ResultBlocked), of("", record.ResultIgnored)
	tests := map[string]struct {
		of   []record.TargetSummary
		want string
		by   float64 // which of them speaks, counted from 1
	}{
		"down-up.test:80":      {[]record.TargetSummary{down, up}, "HEALTHY", 2},
		"blocked-up.test:80":   {[]record.TargetSummary{blocked, up}, "HEALTHY", 2},
		"blocked-down.test:80": {[]record.TargetSummary{blocked, down}, "UNHEALTHY", 2},
		"unknown-down.test:80": {[]record.TargetSummary{unknown, down}, "UNHEALTHY", 2},
		"down-unknown.test:80": {[]record.TargetSummary{down, unknown}, "UNHEALTHY", 1},
		"unknown.test:80":      {[]record.TargetSummary{unknown, unknown}, "HEALTHY", 1},
		"blocked.test:80":      {[]record.TargetSummary{blocked, blocked}, "HEALTHCHECKS_OFF", 1},
	}
	s := record.Summary{LastMS: now}
	for target, tt := range tests {
		id := p.target(`{"target":"` + target + `"}`)
		for i, e := range tt.of {
			e.TargetID, e.IP, e.DNSMS = id, fmt.Sprint("10.0.0.", i+1), float64(i+1)
			s.Targets = append(s.Targets, e)
		}
	}
	p.ran(s)
	rows, _ := p.health()
	for target, tt := range tests {
		by := rows[target]["last_probe"].(map[string]any)["dns_ms"]
		if got := rows[target]["health"]; got != tt.want || by != tt.by {
			t.Errorf("%s is %v, by its address %v; want %s, by %v", target, got, by, tt.want, tt.by)
		}
	}
}

// TestHealth_orders: a health that was set by hand is shown until its order is
// carried out, over all that was there.
func TestHealth_orders(t *testing.T) {
	p := newProbed(t, `{"name":"web"}`)
	two, literal, fresh, lost := p.target(`{"target":"two.test:80"}`), p.target(`{"target":"10.9.9.9:80"}`), p.target(`{"target":"fresh.test:80"}`), p.target(`{"target":"lost.test:80"}`)
	now := clock.UnixMilli()
	p.ran(record.Summary{LastMS: now, Targets: []record.TargetSummary{
		{TargetID: two, IP: "10.0.0.1", Result: record.ResultSuccess, Reason: "status 200", LastMS: now},
		{TargetID: two, IP: "10.0.0.2", Result: record.ResultSuccess, Reason: "status 200", LastMS: now},
		{TargetID: lost, DNSError: "name does not resolve"},
	}}, hook.ProbeState{Address: two + "/10.0.0.1", Health: hook.Healthy, Success: 1, SinceMS: 1}, hook.ProbeState{Address: two + "/10.0.0.2", Health: hook.Healthy, SinceMS: 1})
	const byHand = "set by hand: the next run of healthprobe carries it out and tells of it"
	healths := func(target string, want ...string) {
		t.Helper()
		rows, _ := p.health()
		got := []string{rows[target]["health"].(string)}
		for _, a := range rows[target]["data"].(map[string]any)["addresses"].([]any) {
			got = append(got, a.(map[string]any)["ip"].(string)+" "+a.(map[string]any)["health"].(string))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
	put := func(path string) {
		t.Helper()
		p.advance(time.Second)
		p.must(204, "PUT", "/upstreams/web/targets/"+path, "")
	}

	put("two.test:80/10.0.0.2:80/unhealthy")
	healths("two.test:80", "HEALTHY", "10.0.0.1 HEALTHY", "10.0.0.2 UNHEALTHY")
	put("two.test:80/unhealthy")
	healths("two.test:80", "UNHEALTHY", "10.0.0.1 UNHEALTHY", "10.0.0.2 UNHEALTHY")
	rows, _ := p.health()
	row := rows["two.test:80"]
	if row["reason"] != byHand || row["since"] != stamp(p.now()) || row["last_probe"] == nil {
		t.Errorf("row = %v; want by hand, since now, and the last probe still", row)
	}
	if diff := cmp.Diff(map[string]any{"successes": 0.0, "http_failures": 0.0, "tcp_failures": 0.0, "timeouts": 0.0}, row["counters"]); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	put("two.test:80/10.0.0.1:80/healthy")
	healths("two.test:80", "HEALTHY", "10.0.0.1 HEALTHY", "10.0.0.2 UNHEALTHY")
	put("two.test:80/10.0.0.3:80/unhealthy") // the name stands for others
	healths("two.test:80", "HEALTHY", "10.0.0.1 HEALTHY", "10.0.0.2 UNHEALTHY")

	put(literal + "/unhealthy") // was never probed
	healths("10.9.9.9:80", "UNHEALTHY", "10.9.9.9 UNHEALTHY")
	put("fresh.test:80/unhealthy")
	healths("fresh.test:80", "UNHEALTHY")
	put(fresh + "/10.0.0.7:80/unhealthy")
	healths("fresh.test:80", "UNHEALTHY", "10.0.0.7 UNHEALTHY")
	put(lost + "/healthy") // there is no address to set
	put(lost + "/10.0.0.7:80/healthy")
	healths("lost.test:80", "DNS_ERROR")

	// What was carried out is not shown again, though its order is still there.
	view, err := p.server.store.Probes(context.Background(), p.id, p.now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	last := view.Orders[len(view.Orders)-1].ID
	p.ran(record.Summary{LastMS: now}, hook.ProbeState{Address: two + "/10.0.0.2", Health: hook.MostlyUnhealthy, Success: 1, SinceMS: 5, ProbedMS: 6, Ordered: last})
	rows, _ = p.health()
	if health, reason := address(t, rows["two.test:80"], "10.0.0.2"); health != "UNHEALTHY" || strings.Contains(reason, "by hand") {
		t.Errorf("an address whose orders were carried out is %s, because %q", health, reason)
	}

	p.must(204, "DELETE", "/upstreams/web/targets/two.test:80", "")
	if rows, _ = p.health(); rows["two.test:80"] != nil {
		t.Errorf("orders of a target that is gone show it: %v", rows["two.test:80"])
	}
}

// TestOrder_id: each order's id is greater than all that were there before it,
// whatever this process's clock says, or healthprobe would take it for done.
func TestOrder_id(t *testing.T) {
	p := newProbed(t, `{"name":"web"}`)
	id := p.target(`{"target":"10.0.0.1:80"}`)
	ahead := eventid.NewGenerator(func() time.Time { return clock.Add(time.Hour) }, nil)
	done := ahead.Next()
	p.ran(record.Summary{}, hook.ProbeState{Address: id + "/10.0.0.1", Health: hook.Healthy, Ordered: done})
	want := []hook.HealthOrder{
		{TargetID: id, Health: hook.Unhealthy},
		{TargetID: id, IP: "10.0.0.1", Health: hook.Healthy},
		{TargetID: id, IP: "10.0.0.1", Health: hook.Healthy},
	}
	p.must(204, "PUT", "/upstreams/web/targets/"+id+"/unhealthy", "")
	p.advance(-time.Minute)
	p.must(204, "PUT", "/upstreams/web/targets/"+id+"/10.0.0.1:80/healthy", "")
	p.must(204, "PUT", "/upstreams/web/targets/"+id+"/10.0.0.1:80/healthy", "")
	view, err := p.server.store.Probes(context.Background(), p.id, clock.UnixMilli())
	if err != nil || len(view.Orders) != len(want) {
		t.Fatalf("Probes = %+v, %v; want %d orders", view, err, len(want))
	}
	before := done
	for i, o := range view.Orders {
		if _, v7 := eventid.Time(o.ID); !v7 || o.ID <= before {
			t.Errorf("order %d has the id %s; want a UUIDv7 beyond %s", i, o.ID, before)
		}
		before = o.ID
		o.ID = ""
		if o != want[i] {
			t.Errorf("order %d is %+v; want %+v", i, o, want[i])
		}
	}
}

func TestOrder_bounds(t *testing.T) {
	p := newProbed(t, `{"name":"web"}`)
	id := p.target(`{"target":"10.0.0.1:80"}`)
	path := "/upstreams/web/targets/" + id + "/healthy"
	p.store.fail = errors.New("disk on fire")
	p.must(500, "PUT", path, "")
	p.store.fail = nil
	for range 1000 {
		o := hook.HealthOrder{ID: eventid.NewGenerator(p.now, nil).Next(), TargetID: id, Health: hook.Healthy}
		if err := p.server.store.PutHealthOrder(context.Background(), p.id, o, clock.UnixMilli()); err != nil {
			t.Fatal(err)
		}
	}
	got := p.do("PUT", path, "")
	if got.status != 503 || got.header.Get("Retry-After") != "60" || got.json(t)["message"] != "1000 orders wait for healthprobe's next run, nothing was written; try again in a minute" {
		t.Errorf("PUT beyond 1000 orders = %d %v: %s", got.status, got.header, got.body)
	}
}

// TestHealth_watch: who reads the health asks for fresh results, at most once in
// five minutes.
func TestHealth_watch(t *testing.T) {
	p := newProbed(t, `{"name":"web"}`)
	p.health()
	if p.store.watched != 0 {
		t.Errorf("an upstream without targets was asked for %d times; want never", p.store.watched)
	}
	p.target(`{"target":"10.0.0.1:80","weight":0}`)
	p.health()
	if p.store.watched != 0 {
		t.Errorf("a target that is not probed was asked for %d times; want never", p.store.watched)
	}
	p.target(`{"target":"10.0.0.2:80"}`)
	asked := func(after time.Duration, want int) {
		t.Helper()
		p.advance(after)
		p.health()
		p.whole()
		p.whole()
		if p.store.watched != want {
			t.Errorf("asked %d times; want %d", p.store.watched, want)
		}
	}
	asked(0, 1)
	if until := clock.Add(10 * time.Minute).UnixMilli(); p.store.until != until {
		t.Errorf("asked until %d; want %d", p.store.until, until)
	}
	asked(5*time.Minute-time.Millisecond, 1)
	asked(time.Millisecond, 2)
	asked(time.Hour, 3)
	p.must(200, "PATCH", "/upstreams/web", `{"healthchecks":{"active":{"healthy":{"interval":0},"unhealthy":{"interval":0}}}}`)
	asked(time.Hour, 3)

	p.must(200, "PATCH", "/upstreams/web", `{"healthchecks":{"active":{"healthy":{"interval":60}}}}`)
	p.store.fail = errors.New("no such table")
	asked(0, 6) // answered all the same, and tried again
	if log := p.log.String(); !strings.Contains(log, "fresh probe results could not be asked for") || !strings.Contains(log, "no such table") || !strings.Contains(log, p.id) {
		t.Errorf("log = %s; want what failed", log)
	}
}

func TestHealth_note(t *testing.T) {
	const (
		unchanged = "nothing has changed since this was recorded: while nobody looks, only changes are; now that somebody does, fresh results are recorded from the next run on"
		stalled   = "no run has recorded anything since somebody looked minutes ago: does healthprobe run?"
	)
	p := newProbed(t, `{"name":"web"}`)
	id := p.target(`{"target":"10.0.0.1:80"}`)
	recorded := func(note string) {
		p.ran(record.Summary{LastMS: p.now().UnixMilli(), Note: note, Targets: []record.TargetSummary{{TargetID: id, IP: "10.0.0.1"}}})
	}
	said := func(what, recordedAt, want string) {
		t.Helper()
		_, got := p.health()
		note, _ := got["note"].(string)
		if note != want || fmt.Sprint(got["recorded_at"]) != recordedAt {
			t.Errorf("%s: recorded at %v, note %q\n\twant %s, %q", what, got["recorded_at"], note, recordedAt, want)
		}
	}
	said("before the first run", "<nil>", "")
	p.advance(3 * time.Minute)
	said("three minutes later", "<nil>", "")
	p.advance(time.Millisecond)
	said("a run is overdue", "<nil>", stalled)

	p.advance(time.Hour)
	recorded("")
	at := stamp(p.now())
	p.advance(2 * time.Minute)
	said("two periods later", at, "")
	p.advance(time.Hour)
	said("nobody has looked for an hour", at, unchanged)
	p.advance(time.Minute)
	said("a run may be under way", at, "")
	p.advance(2*time.Minute + time.Millisecond)
	said("no run has come", at, stalled)
	p.advance(time.Hour)
	p.health()
	p.advance(time.Minute)
	recorded("")
	at = stamp(p.now())
	p.advance(2*time.Minute + 2*time.Millisecond)
	said("one run has come since somebody looked", at, "")
	recorded("nothing judged")
	at = stamp(p.now())
	said("a run with a note", at, "nothing judged")
	p.advance(time.Hour)
	p.store.fail = errors.New("no such table")
	said("it could not be asked for fresh ones", at, "nothing judged")
	p.store.fail = nil
	said("that note, and nothing since", at, "nothing judged; "+unchanged)

	p.advance(time.Hour)
	p.must(200, "PATCH", "/upstreams/web", `{"healthchecks":{"active":{"healthy":{"interval":0},"unhealthy":{"interval":0}}}}`)
	said("nothing is probed", at, "nothing judged")

	for _, tt := range []struct {
		healthy, unhealthy string
		after              time.Duration
	}{{"1", "60", 5 * time.Second}, {"60", "1", 5 * time.Second}, {"10", "0", 20 * time.Second}, {"0", "7.5", 15 * time.Second}, {"600", "300", 10 * time.Minute}} {
		p.must(200, "PATCH", "/upstreams/web", `{"healthchecks":{"active":{"healthy":{"interval":`+tt.healthy+`},"unhealthy":{"interval":`+tt.unhealthy+`}}}}`)
		for after, want := range map[time.Duration]string{tt.after: "", tt.after + time.Millisecond: unchanged} {
			p.advance(time.Hour) // nobody looks any more
			recorded("")
			at := stamp(p.now())
			p.advance(after)
			said(fmt.Sprintf("intervals of %s and %s s, after %v", tt.healthy, tt.unhealthy, after), at, want)
		}
	}
}

// TestHealth_nextProbe: what is on record may be old, the next probe is not.
func TestHealth_nextProbe(t *testing.T) {
	p := newProbed(t, `{"name":"web","healthchecks":{"active":{"healthy":{"interval":60},"unhealthy":{"interval":7}}}}`)
	up, down, lost := p.target(`{"target":"10.0.0.1:80"}`), p.target(`{"target":"10.0.0.2:80"}`), p.target(`{"target":"lost.test:80"}`)
	now := clock.UnixMilli()
	p.ran(record.Summary{LastMS: now, Targets: []record.TargetSummary{
		{TargetID: up, IP: "10.0.0.1", Health: "healthy", LastMS: now, NextMS: now + 60_000},
		{TargetID: down, IP: "10.0.0.2", Health: "unhealthy", LastMS: now, NextMS: now + 7_000},
		{TargetID: lost, DNSError: "name does not resolve", NextMS: now + 60_000},
	}})
	next := func(after time.Duration, want map[string]string) {
		t.Helper()
		p.later.Store(int64(after))
		rows, _ := p.health()
		got := map[string]string{}
		for target := range want {
			got[target] = fmt.Sprint(rows[target]["next_probe"])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", after, diff)
		}
	}
	in := func(d time.Duration) string { return stamp(clock.Add(d)) }
	next(0, map[string]string{"10.0.0.1:80": in(time.Minute), "10.0.0.2:80": in(7 * time.Second), "lost.test:80": in(time.Minute)})
	next(time.Minute, map[string]string{"10.0.0.1:80": in(time.Minute), "10.0.0.2:80": in(63 * time.Second), "lost.test:80": in(time.Minute)})
	next(time.Minute+1e6, map[string]string{"10.0.0.1:80": in(2 * time.Minute), "10.0.0.2:80": in(63 * time.Second), "lost.test:80": in(2 * time.Minute)})
	next(20*24*time.Hour, map[string]string{"10.0.0.1:80": in(20 * 24 * time.Hour), "10.0.0.2:80": in(20*24*time.Hour + 6*time.Second), "lost.test:80": in(20 * 24 * time.Hour)})

	p.must(200, "PATCH", "/upstreams/web", `{"healthchecks":{"active":{"healthy":{"interval":10},"unhealthy":{"interval":0}}}}`)
	next(0, map[string]string{"10.0.0.1:80": in(10 * time.Second), "10.0.0.2:80": "<nil>", "lost.test:80": in(10 * time.Second)})
	p.must(200, "PATCH", "/upstreams/web/targets/10.0.0.1:80", `{"weight":0}`)
	next(0, map[string]string{"10.0.0.1:80": "<nil>"})
}

func TestHealth_lastProbe(t *testing.T) {
	p := newProbed(t, `{"name":"web","healthchecks":{"active":{"type":"https"}}}`)
	up, kept, lost := p.target(`{"target":"10.0.0.1:443"}`), p.target(`{"target":"kept.test:443"}`), p.target(`{"target":"lost.test:443"}`)
	now := clock.UnixMilli()
	p.ran(record.Summary{LastMS: now, Targets: []record.TargetSummary{
		{TargetID: up, IP: "10.0.0.1", LastMS: now, Result: record.ResultFailure, Reason: "TLS: no", ConnectMS: 1, TLSMS: 2, CertificateMS: now - 1000},
		{TargetID: kept, IP: "10.0.0.2", LastMS: now, Result: record.ResultSuccess, DNSMS: 3, ConnectMS: 4, TLSMS: 5, FirstByteMS: 6, DNSError: "the name server does not answer"},
		{TargetID: lost, DNSMS: 7, DNSError: "name does not resolve"},
	}})
	probe := func(at any, result string, reason any, certificate any, phases ...any) map[string]any {
		return map[string]any{
			"at": at, "result": result, "reason": reason, "certificate_expires_at": certificate,
			"dns_ms": phases[0], "connect_ms": phases[1], "tls_ms": phases[2], "first_byte_ms": phases[3],
		}
	}
	rows, _ := p.health()
	for target, want := range map[string]map[string]any{
		"10.0.0.1:443":  probe(stamp(clock), "failure", "TLS: no", stamp(clock.Add(-time.Second)), nil, 1.0, 2.0, nil),
		"kept.test:443": probe(stamp(clock), "success", nil, nil, 3.0, 4.0, 5.0, 6.0),
		"lost.test:443": probe(nil, "dns", "name does not resolve", nil, 7.0, nil, nil, nil),
	} {
		if diff := cmp.Diff(want, rows[target]["last_probe"]); diff != "" {
			t.Errorf("last probe of %s (-want +got):\n%s", target, diff)
		}
	}
	if rows["lost.test:443"]["health"] != "DNS_ERROR" || rows["lost.test:443"]["reason"] != "the name gives no address: name does not resolve" {
		t.Errorf("lost.test is %v, because %v", rows["lost.test:443"]["health"], rows["lost.test:443"]["reason"])
	}
	if rows["kept.test:443"]["health"] != "HEALTHY" {
		t.Errorf("kept.test is %v; want HEALTHY, by its addresses of before", rows["kept.test:443"]["health"])
	}
}

// TestHealth_whole: the health of an upstream is what its targets with weight
// come to.
func TestHealth_whole(t *testing.T) {
	p := newProbed(t, `{"name":"web"}`)
	now := clock.UnixMilli()
	s := record.Summary{LastMS: now}
	has := func(target string, weight int, e record.TargetSummary) {
		t.Helper()
		e.TargetID = p.target(fmt.Sprintf(`{"target":%q,"weight":%d}`, target, weight))
		s.Targets = append(s.Targets, e)
		p.ran(s)
	}
	is := func(what, want string) {
		t.Helper()
		if got := p.whole(); got != want {
			t.Errorf("%s: %s; want %s", what, got, want)
		}
	}
	is("without targets", "UNHEALTHY UNHEALTHY")
	has("a.test:80", 0, record.TargetSummary{IP: "10.0.0.1", Health: "healthy", Result: record.ResultSuccess})
	is("only a target without weight", "UNHEALTHY UNHEALTHY")
	has("b.test:80", 1, record.TargetSummary{IP: "10.0.0.2", Result: record.ResultBlocked, Reason: "blocked"})
	is("nothing is known of the only one with weight", "HEALTHCHECKS_OFF HEALTHY")
	has("c.test:80", 1, record.TargetSummary{IP: "10.0.0.3", Health: "unhealthy", Result: record.ResultFailure})
	is("one is down, of one nothing is known", "UNHEALTHY HEALTHY")
	p.must(204, "DELETE", "/upstreams/web/targets/b.test:80", "")
	is("the only one with weight is down", "UNHEALTHY UNHEALTHY")
	has("d.test:80", 1, record.TargetSummary{DNSError: "name does not resolve"})
	is("one is down, the name of one gives nothing", "UNHEALTHY UNHEALTHY")
	has("e.test:80", 1, record.TargetSummary{IP: "10.0.0.5", Health: "mostly_healthy", Result: record.ResultFailure})
	is("one is up", "HEALTHY HEALTHY")
	p.must(204, "PUT", "/upstreams/web/targets/e.test:80/unhealthy", "")
	is("that one was set down by hand", "UNHEALTHY UNHEALTHY")
	p.must(200, "PATCH", "/upstreams/web", `{"healthchecks":{"active":{"healthy":{"interval":0},"unhealthy":{"interval":0}}}}`)
	is("nothing is probed", "HEALTHCHECKS_OFF HEALTHY")
	for _, target := range []string{"c.test:80", "d.test:80"} {
		p.must(204, "PUT", "/upstreams/web/targets/"+target+"/unhealthy", "")
	}
	p.must(204, "DELETE", "/upstreams/web/targets/d.test:80", "")
	is("nothing is probed, and all were set down by hand", "HEALTHCHECKS_OFF UNHEALTHY")
}

// TestWarnings_reminder: names that only reminders have are no strangers.
func TestWarnings_reminder(t *testing.T) {
	s := newServer(t)
	for event, want := range map[string][]any{
		"health":               {"nothing: the catalogue lists no such field for balancer/health"},
		"certificate-expiring": {"nothing: the catalogue lists no such field for balancer/certificate-expiring", "reminder: the catalogue lists no such field for balancer/certificate-expiring", "since: the catalogue lists no such field for balancer/certificate-expiring"},
	} {
		got := s.must(201, "POST", "/event-hooks", `{"source":"balancer","event":"`+event+`","handler":"webhook-custom","config":{"url":"https://ok.test/x","method":"POST",
		  "body":"{{upstream_id}} {{ip}} {{nothing}} {{reminder}} {{since}}"}}`)
		if diff := cmp.Diff(any(want), got["warnings"]); diff != "" {
			t.Errorf("warnings of %s (-want +got):\n%s", event, diff)
		}
	}
}

// healthprobe carries out no order whose id is not greater than the last one's:
// the clock of the process that gave that one may have been ahead.
func TestHealth_ordersSortAfterEarlierOnes(t *testing.T) {
	p := newProbed(t, `{"name":"web"}`)
	id := p.target(`{"target":"10.0.0.1:80"}`)
	ahead := eventid.NewGenerator(func() time.Time { return p.now().Add(time.Minute) }, nil)
	last := func() string {
		t.Helper()
		p.must(204, "PUT", "/upstreams/web/targets/"+id+"/unhealthy", "")
		view, err := p.server.store.Probes(context.Background(), p.id, p.now().UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		return view.Orders[len(view.Orders)-1].ID
	}
	done := ahead.Next()
	p.ran(record.Summary{}, hook.ProbeState{Address: id + "/10.0.0.1", Health: hook.Healthy, Ordered: done})
	if got := last(); got <= done {
		t.Errorf("order %s; want one after %s, which was carried out", got, done)
	}
	p.advance(time.Minute)
	waits := hook.HealthOrder{ID: ahead.Next(), TargetID: id, Health: hook.Healthy}
	if err := p.server.store.PutHealthOrder(context.Background(), p.id, waits, p.now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	if got := last(); got <= waits.ID {
		t.Errorf("order %s; want one after %s, which waits", got, waits.ID)
	}
}
