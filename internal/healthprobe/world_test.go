package healthprobe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eventhooks/internal/boltstore"
	"eventhooks/internal/eventid"
	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/record"
)

const (
	upstreamA = "0f4e5f6a-0000-4000-8000-00000000000a"
	upstreamB = "0f4e5f6a-0000-4000-8000-00000000000b"
)

// world is a store, a queue, a network and a clock for services to work in.
type world struct {
	t     testing.TB
	store *boltstore.Store
	queue *queue
	net   *network
	dns   *dns

	orders *eventid.Generator // of orders' ids

	mu  sync.Mutex
	now time.Time
	log strings.Builder
}

func newWorld(t testing.TB) *world {
	t.Helper()
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "store"), boltstore.Options{Strict: true, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		t: t, store: store, queue: &queue{},
		net: &network{answers: map[string]hook.ProbeResult{}, probes: map[string][]hook.Probe{}},
		dns: &dns{names: map[string][]netip.Addr{}, asked: map[string]int{}},
		now: time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC),
	}
	w.net.world = w
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Write takes log lines.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) options() healthprobe.Options {
	return healthprobe.Options{
		Store: w.store, Queue: w.queue, Prober: w.net, Resolver: w.dns, Now: w.clock,
		Log: slog.New(slog.NewJSONHandler(w, nil)),
	}
}

// service is a new process's service, which remembers nothing.
func (w *world) service(change ...func(*healthprobe.Options)) *healthprobe.Service {
	w.t.Helper()
	o := w.options()
	for _, f := range change {
		f(&o)
	}
	s, err := healthprobe.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// run runs a fresh process once; it must not fail.
func (w *world) run(change ...func(*healthprobe.Options)) {
	w.t.Helper()
	if err := w.service(change...).Run(w.t.Context(), hook.UpstreamRange{}); err != nil {
		w.t.Fatalf("Run: %v", err)
	}
}

// minute runs a fresh process, as each minute does.
func (w *world) minute(change ...func(*healthprobe.Options)) {
	w.t.Helper()
	w.pass(time.Minute)
	w.run(change...)
}

// withStore gives a service another store.
func withStore(s healthprobe.Store) func(*healthprobe.Options) {
	return func(o *healthprobe.Options) { o.Store = s }
}

func upstream(id string, change ...func(*hook.Upstream)) hook.Upstream {
	u := hook.Upstream{
		ID: id, Name: "web.example.test",
		Active: hook.ActiveCheck{
			Type: "http", Timeout: 1, Concurrency: 10, HTTPPath: "/status", HTTPSVerify: true,
			HealthyInterval: 60, HealthyStatuses: []int64{200, 302}, Successes: 2,
			UnhealthyInterval: 60, UnhealthyStatuses: []int64{429, 404, 500, 501, 502, 503, 504, 505},
			TCPFailures: 2, Timeouts: 2, HTTPFailures: 2,
		},
	}
	for _, f := range change {
		f(&u)
	}
	return u
}

func target(upstream, id, hostPort string) hook.Target {
	return hook.Target{ID: id, UpstreamID: upstream, Target: hostPort, Weight: 100, CreatedAt: 1}
}

// put writes upstreams and targets, as the admin API does.
func (w *world) put(entities ...any) {
	w.t.Helper()
	var changes []hook.Change
	for _, e := range entities {
		var r hook.Record
		var err error
		switch e := e.(type) {
		case hook.Upstream:
			r, err = record.Upstream(e)
		case hook.Target:
			r, err = record.Target(e)
		case hook.Record:
			r = e
		default:
			w.t.Fatalf("put of a %T", e)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		changes = append(changes, hook.Change{Record: r, Expect: hook.ExpectAny})
	}
	for chunk := range slices.Chunk(changes, 90) {
		if _, err := w.store.Write(w.t.Context(), hook.FeedUpstreams, chunk, nil, w.clock().UnixMilli()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// remove deletes upstreams and targets.
func (w *world) remove(entities ...any) {
	w.t.Helper()
	for _, e := range entities {
		switch e := e.(type) {
		case hook.Upstream:
			w.put(hook.Record{Kind: hook.KindUpstream, ID: e.ID, Deleted: true})
		case hook.Target:
			w.put(hook.Record{Kind: hook.KindTarget, ID: e.Key(), Deleted: true})
		}
	}
}

func (w *world) summary(upstreamID string) record.Summary {
	w.t.Helper()
	s, err := record.DecodeSummary(w.view(upstreamID).Summary)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) states(upstreamID string) []hook.ProbeState {
	w.t.Helper()
	return w.view(upstreamID).States
}

func (w *world) view(upstreamID string) hook.ProbeView {
	w.t.Helper()
	v, err := w.store.Probes(w.t.Context(), upstreamID, w.clock().UnixMilli())
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// told returns the events on the queue as "ip:port health", each id once, in
// the order in which they came.
func (w *world) told() []string {
	w.t.Helper()
	var all []string
	seen := map[string]bool{}
	for _, ev := range w.queue.events(w.t) {
		if seen[ev.ID] {
			continue
		}
		seen[ev.ID] = true
		var d struct {
			IP     string
			Port   int
			Health string
		}
		if err := json.Unmarshal(ev.Data, &d); err != nil {
			w.t.Fatalf("event data %s: %v", ev.Data, err)
		}
		all = append(all, fmt.Sprintf("%s:%d %s", d.IP, d.Port, d.Health))
	}
	return all
}

// wantHealth is wantTold of those events that are not of certificates, in any
// order; "" for none.
func (w *world) wantHealth(want ...string) {
	w.t.Helper()
	got := slices.DeleteFunc(w.told(), func(s string) bool { return strings.HasSuffix(s, " ") })
	slices.Sort(got)
	if !slices.Equal(got, slices.DeleteFunc(want, func(s string) bool { return s == "" })) {
		w.t.Errorf("told %q; want %q", got, want)
	}
}

func (w *world) wantTold(want ...string) {
	w.t.Helper()
	if got := w.told(); !slices.Equal(got, want) {
		w.t.Errorf("told %q; want %q", got, want)
	}
}

// queue keeps what is sent.
type queue struct {
	mu     sync.Mutex
	bodies []string
	refuse func(i int, m hook.Message) error // nil: takes all
}

func (q *queue) Send(_ context.Context, msgs []hook.Message) (failed []int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, m := range msgs {
		if q.refuse != nil {
			if e := q.refuse(i, m); e != nil {
				failed, err = append(failed, i), e
				continue
			}
		}
		q.bodies = append(q.bodies, m.Body)
	}
	return failed, err
}

func (q *queue) events(t testing.TB) []hook.Event {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []hook.Event
	for _, b := range q.bodies {
		m, err := message.Decode(b)
		if err != nil {
			t.Fatalf("a message that deliver cannot read: %v\n%s", err, b)
		}
		all = append(all, m.Events...)
	}
	return all
}

var errQueue = errors.New("the queue is away")

// network answers probes.
type network struct {
	world *world
	mu    sync.Mutex
	// answers by "ip:port"; without an entry a probe is answered with 200.
	answers map[string]hook.ProbeResult
	probes  map[string][]hook.Probe
	total   int
	at      []time.Time
	// during is called while a probe is under way; nil: nothing.
	during      func(ctx context.Context, p hook.Probe)
	flying, top int
	everything  bool // refuses
	hangs       bool // everything does
}

var (
	ok      = hook.ProbeResult{Code: 200, Connect: time.Millisecond, FirstByte: 2 * time.Millisecond}
	refused = hook.ProbeResult{Fault: hook.FaultTCP, Reason: "connection refused"}
	broken  = hook.ProbeResult{Code: 503}
)

func (n *network) set(address string, r hook.ProbeResult) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[address] = r
}

func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.total
}

func (n *network) of(address string) []hook.Probe {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.probes[address]
}

func (n *network) Probe(ctx context.Context, p hook.Probe) hook.ProbeResult {
	key := netip.AddrPortFrom(netip.MustParseAddr(p.IP), uint16(p.Port)).String()
	n.mu.Lock()
	n.total++
	n.at = append(n.at, n.world.clock())
	n.probes[key] = append(n.probes[key], p)
	n.flying++
	n.top = max(n.top, n.flying)
	r, known := n.answers[key]
	during := n.during
	n.mu.Unlock()
	if during != nil {
		during(ctx, p)
	}
	n.mu.Lock()
	n.flying--
	n.mu.Unlock()
	switch {
	case n.everything:
		return refused
	case n.hangs && !known:
		return hook.ProbeResult{Fault: hook.FaultTimeout}
	case !known:
		return ok
	}
	return r
}

// dns knows a few names.
type dns struct {
	mu    sync.Mutex
	names map[string][]netip.Addr
	asked map[string]int
	err   error
}

func (d *dns) set(name string, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name] = nil
	for _, a := range addrs {
		d.names[name] = append(d.names[name], netip.MustParseAddr(a))
	}
}

func (d *dns) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if network != "ip4" && network != "ip6" {
		return nil, errors.New("asked for " + network)
	}
	if network == "ip4" {
		d.asked[host]++
	}
	if d.err != nil {
		return nil, d.err
	}
	var all []netip.Addr
	for _, a := range d.names[host] {
		if a.Unmap().Is4() == (network == "ip4") {
			all = append(all, a)
		}
	}
	return all, nil
}

// counted counts the reads and writes of probes that reach a store.
type counted struct {
	healthprobe.Store
	mu     sync.Mutex
	writes map[string]int
}

func newCounted(s healthprobe.Store) *counted { return &counted{Store: s, writes: map[string]int{}} }

func (c *counted) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes[what]++
}

// taken returns what was counted, and begins anew.
func (c *counted) taken() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.writes
	c.writes = map[string]int{}
	return all
}

func (c *counted) Probes(ctx context.Context, id string, now int64) (hook.ProbeView, error) {
	c.note("read")
	return c.Store.Probes(ctx, id, now)
}

func (c *counted) DeleteHealthOrder(ctx context.Context, l hook.ProbeLease, id string, now int64) error {
	c.note("forget")
	return c.Store.DeleteHealthOrder(ctx, l, id, now)
}

func (c *counted) AcquireProbe(ctx context.Context, id string, now, until int64) (hook.ProbeLease, bool, error) {
	c.note("acquire")
	return c.Store.AcquireProbe(ctx, id, now, until)
}

func (c *counted) ReleaseProbe(ctx context.Context, l hook.ProbeLease, now int64) error {
	c.note("release")
	return c.Store.ReleaseProbe(ctx, l, now)
}

func (c *counted) PutProbeState(ctx context.Context, l hook.ProbeLease, s hook.ProbeState, now int64) error {
	c.note("put")
	return c.Store.PutProbeState(ctx, l, s, now)
}

func (c *counted) DeleteProbeState(ctx context.Context, l hook.ProbeLease, address string, now int64) error {
	c.note("delete")
	return c.Store.DeleteProbeState(ctx, l, address, now)
}
