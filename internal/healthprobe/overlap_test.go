package healthprobe_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"eventhooks/internal/eventid"
	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

// puppet is a process whose every step outside of itself, each read, probe,
// write and send, waits to be allowed.
type puppet struct {
	healthprobe.Store
	queue healthprobe.Queue
	net   healthprobe.Prober

	ready chan struct{} // a step waits
	allow chan struct{}
	done  chan error
	over  bool
}

// start starts a run, which stops before its first step.
func (w *world) start() *puppet {
	p := &puppet{Store: w.store, queue: w.queue, net: w.net, ready: make(chan struct{}), allow: make(chan struct{}), done: make(chan error)}
	s := w.service(func(o *healthprobe.Options) { o.Store, o.Queue, o.Prober = p, p, p })
	go func() { p.done <- s.Run(w.t.Context(), hook.UpstreamRange{}) }()
	p.await(w.t)
	return p
}

func (p *puppet) await(t testing.TB) {
	t.Helper()
	select {
	case <-p.ready:
	case err := <-p.done:
		p.over = true
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// steps lets n steps happen, or all that are left.
func (p *puppet) steps(t testing.TB, n int) {
	t.Helper()
	for ; n > 0 && !p.over; n-- {
		p.allow <- struct{}{}
		p.await(t)
	}
}

func (p *puppet) step() {
	p.ready <- struct{}{}
	<-p.allow
}

func (p *puppet) Probes(ctx context.Context, id string, now int64) (hook.ProbeView, error) {
	p.step()
	return p.Store.Probes(ctx, id, now)
}

func (p *puppet) AcquireProbe(ctx context.Context, id string, now, until int64) (hook.ProbeLease, bool, error) {
	p.step()
	return p.Store.AcquireProbe(ctx, id, now, until)
}

func (p *puppet) ReleaseProbe(ctx context.Context, l hook.ProbeLease, now int64) error {
	p.step()
	return p.Store.ReleaseProbe(ctx, l, now)
}

func (p *puppet) PutProbeState(ctx context.Context, l hook.ProbeLease, s hook.ProbeState, now int64) error {
	p.step()
	return p.Store.PutProbeState(ctx, l, s, now)
}

func (p *puppet) DeleteHealthOrder(ctx context.Context, l hook.ProbeLease, id string, now int64) error {
	p.step()
	return p.Store.DeleteHealthOrder(ctx, l, id, now)
}

func (p *puppet) Send(ctx context.Context, msgs []hook.Message) ([]int, error) {
	p.step()
	return p.queue.Send(ctx, msgs)
}

func (p *puppet) Probe(ctx context.Context, probe hook.Probe) hook.ProbeResult {
	p.step()
	return p.net.Probe(ctx, probe)
}

// set makes a state what is stored of an upstream.
func (w *world) set(upstreamID string, states ...hook.ProbeState) {
	w.t.Helper()
	now := w.clock().UnixMilli()
	l, free, err := w.store.AcquireProbe(w.t.Context(), upstreamID, now, now+1000)
	if err != nil || !free {
		w.t.Fatalf("AcquireProbe = %t, %v", free, err)
	}
	for _, s := range states {
		if err := w.store.PutProbeState(w.t.Context(), l, s, now); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.store.ReleaseProbe(w.t.Context(), l, now); err != nil {
		w.t.Fatal(err)
	}
}

// TestService_Run_overlaps lets one run begin while another is on, at every
// step of it, go on at every step of its own, and wait there for the first one,
// shortly or until every lease is over. Whatever happens at one moment counts
// once and is told once, under one id.
func TestService_Run_overlaps(t *testing.T) {
	const address = "t1/10.0.0.1"
	for _, tt := range []struct {
		name   string
		state  hook.ProbeState // ProbedMS and the like are a minute ago
		answer hook.ProbeResult
		order  hook.Health
		once   string // what is told, once, whatever happens; "" for nothing that must be
		// after is what is stored when both are over, if they saw the same
		// moment.
		after string
	}{
		{"it dies", hook.ProbeState{Health: hook.MostlyHealthy, TCP: 1}, refused, "", "10.0.0.1:80 unhealthy", "unhealthy s0 h0 t2 o0"},
		{"it is new and down", hook.ProbeState{TCP: 1}, refused, "", "10.0.0.1:80 unhealthy", "unhealthy s0 h0 t2 o0"},
		{"it comes back", hook.ProbeState{Health: hook.MostlyUnhealthy, Success: 1}, ok, "", "10.0.0.1:80 healthy", "healthy s2 h0 t0 o0"},
		{"a blip", hook.ProbeState{Health: hook.Healthy}, refused, "", "", "mostly_healthy s0 h0 t1 o0"},
		{"a blip of what is down", hook.ProbeState{Health: hook.Unhealthy, TCP: 2}, ok, "", "", "mostly_unhealthy s1 h0 t0 o0"},
		{"an order", hook.ProbeState{Health: hook.Healthy}, ok, hook.Unhealthy, "10.0.0.1:80 unhealthy", "mostly_unhealthy s1 h0 t0 o0"},
		{"an event that was left", hook.ProbeState{Health: hook.Healthy, Outbox: &hook.Event{Source: "balancer", Event: "health", Data: []byte(`{"ip":"10.0.0.1","port":80,"health":"healthy"}`)}}, ok, "", "10.0.0.1:80 healthy", "healthy s0 h0 t0 o0"},
	} {
		t.Run(tt.name, inBubble(func(t *testing.T, w *world) {
			w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
			w.run()
			ids := eventid.NewGenerator(w.clock, nil)
			for _, pause := range []time.Duration{time.Second, 71 * time.Second} {
				for first := range 9 {
					for second := range 9 {
						for _, third := range []int{0, 1, 3} {
							if third > 0 && pause > time.Second {
								break // what its first step does is known: its lease is over
							}
							w.pass(10 * time.Minute)
							now := w.clock().UnixMilli()
							s := tt.state
							s.Address, s.SinceMS, s.ProbedMS = address, now-600_000, now-60_000
							if s.Outbox != nil {
								ev := *s.Outbox
								ev.ID, ev.Time = ids.Next(), w.clock()
								s.Outbox = &ev
							}
							w.set(upstreamA, s)
							if tt.order != "" {
								if err := w.store.PutHealthOrder(t.Context(), upstreamA, hook.HealthOrder{ID: ids.Next(), TargetID: "t1", Health: tt.order}, now); err != nil {
									t.Fatal(err)
								}
							}
							w.queue.bodies = nil
							w.net.set("10.0.0.1:80", tt.answer)

							a := w.start()
							a.steps(t, first)
							w.pass(pause)
							b := w.start()
							b.steps(t, second)
							w.pass(pause)
							a.steps(t, third)
							w.pass(pause)
							b.steps(t, 100)
							a.steps(t, 100)

							what := fmt.Sprintf("%d steps, %s, %d of the other, %d more", first, pause, second, third)
							if pause == time.Second {
								if got := short(w.states(upstreamA)[0]); got != tt.after {
									t.Errorf("%s: %s is stored; want %s", what, got, tt.after)
								}
								if got := w.told(); len(got) > 1 || len(got) == 1 && got[0] != tt.once {
									t.Errorf("%s: told %q; want %q", what, got, tt.once)
								}
							}
							// What a run dropped, the next one finds.
							w.pass(70 * time.Second)
							w.run()
							w.minute()
							got := slices.DeleteFunc(w.told(), func(s string) bool { return s != tt.once })
							if tt.once != "" && len(got) != 1 {
								t.Errorf("%s: told %q %d times; want once", what, tt.once, len(got))
							}
							if v := w.view(upstreamA); len(v.Orders) > 0 || v.States[0].Outbox != nil {
								t.Errorf("%s: left %+v", what, v)
							}
							if t.Failed() {
								return
							}
						}
					}
				}
			}
		}))
	}
}

// What a run saw is judged by what is stored when it writes, not by what it read
// when it began.
func TestService_Run_judgesAnewWhatItWrites(t *testing.T) {
	setup := func(t *testing.T) *world {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
		w.run()
		w.pass(time.Minute)
		return w
	}
	t.Run("also what was nothing to write by what it read", func(t *testing.T) {
		w := setup(t)
		now := w.clock().UnixMilli()
		if err := w.store.WatchProbes(t.Context(), upstreamA, now+600_000, now); err != nil {
			t.Fatal(err)
		}
		p := w.start()
		p.steps(t, 2) // it reads, and probes
		w.set(upstreamA, hook.ProbeState{Address: "t1/10.0.0.1", Health: hook.MostlyUnhealthy, Success: 1, ProbedMS: now - 60_000})
		p.steps(t, 100)
		w.wantTold("10.0.0.1:80 healthy")
	})
	t.Run("a probe that began before an order says nothing against it", func(t *testing.T) {
		w := setup(t)
		w.net.set("10.0.0.1:80", refused)
		p := w.start()
		p.steps(t, 2)
		w.net.set("10.0.0.1:80", ok)
		w.pass(10 * time.Second)
		w.order(upstreamA, "t1", "", hook.Healthy)
		w.run()
		p.steps(t, 100)
		w.wantTold("10.0.0.1:80 healthy")
	})
}

// lossy stores a state and loses the answer, once.
type lossy struct {
	healthprobe.Store
	lost bool
}

func (l *lossy) PutProbeState(ctx context.Context, lease hook.ProbeLease, s hook.ProbeState, now int64) error {
	err := l.Store.PutProbeState(ctx, lease, s, now)
	if s.Outbox != nil && !l.lost {
		l.lost = true
		return context.DeadlineExceeded
	}
	return err
}

func TestService_Run_leavesAloneWhatItDoesNotKnow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
		w.put(upstream(upstreamA, every(5, 5)), target(upstreamA, "t1", "10.0.0.1:80"))
		w.net.set("10.0.0.1:80", refused)
		s := w.service(real, withStore(&lossy{Store: w.store}))
		if err := s.Run(t.Context(), hook.UpstreamRange{}); err == nil {
			t.Error("Run said nothing of the write that failed")
		}
		w.wantTold()
		if n := w.net.count(); n != 2 {
			t.Errorf("%d probes; want none after the write that failed", n)
		}
		time.Sleep(10 * time.Second)
		if err := s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
			t.Error(err)
		}
		w.wantTold("10.0.0.1:80 unhealthy")
	})
}
