package healthprobe_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

var errDead = errors.New("the process is dead")

// mortal is a store and a queue of a process that dies at its nth effect:
// before it, or after it but before the process learns of it. From then on
// nothing has an effect.
type mortal struct {
	healthprobe.Store
	q     healthprobe.Queue
	n     int
	after bool

	mu    sync.Mutex
	count int
	died  string // what the last effect was
}

// effect runs do unless the process is dead.
func (m *mortal) effect(what string, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	switch {
	case m.count > m.n || m.count == m.n && !m.after:
		if m.count == m.n {
			m.died = "before " + what
		}
		return errDead
	case m.count == m.n:
		m.died = "after " + what
		_ = do()
		return errDead
	}
	return do()
}

func (m *mortal) AcquireProbe(ctx context.Context, id string, now, until int64) (l hook.ProbeLease, ok bool, err error) {
	err = m.effect("acquire", func() (err error) {
		l, ok, err = m.Store.AcquireProbe(ctx, id, now, until)
		return err
	})
	return l, ok, err
}

func (m *mortal) ReleaseProbe(ctx context.Context, l hook.ProbeLease, now int64) error {
	return m.effect("release", func() error { return m.Store.ReleaseProbe(ctx, l, now) })
}

func (m *mortal) PutProbeState(ctx context.Context, l hook.ProbeLease, s hook.ProbeState, now int64) error {
	what := fmt.Sprintf("put of %s, event: %t", s.Address, s.Outbox != nil)
	return m.effect(what, func() error { return m.Store.PutProbeState(ctx, l, s, now) })
}

func (m *mortal) DeleteProbeState(ctx context.Context, l hook.ProbeLease, address string, now int64) error {
	return m.effect("delete of "+address, func() error { return m.Store.DeleteProbeState(ctx, l, address, now) })
}

func (m *mortal) DeleteHealthOrder(ctx context.Context, l hook.ProbeLease, id string, now int64) error {
	return m.effect("delete of an order", func() error { return m.Store.DeleteHealthOrder(ctx, l, id, now) })
}

func (m *mortal) Send(ctx context.Context, msgs []hook.Message) (failed []int, err error) {
	err = m.effect("send", func() (err error) {
		failed, err = m.q.Send(ctx, msgs)
		return err
	})
	return failed, err
}

// everyCrash kills a run at each of its effects, before and after, and lets
// later runs go on. prepare makes a world for it, check looks at what became of
// that.
func everyCrash(t *testing.T, atLeast int, prepare func(w *world), check func(w *world, died string)) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			done := false
			t.Run(fmt.Sprintf("at effect %d, after it: %t", n, after), func(t *testing.T) {
				w := newWorld(t)
				prepare(w)
				w.pass(time.Minute)
				m := &mortal{Store: w.store, q: w.queue, n: n, after: after}
				err := w.service(func(o *healthprobe.Options) { o.Store, o.Queue = m, m }).Run(t.Context(), hook.UpstreamRange{})
				if m.count < n {
					if err != nil {
						t.Errorf("a run of %d effects that did not die: %v", m.count, err)
					}
					done = true
				}
				w.pass(71 * time.Second) // the dead one's lease is over
				for range 3 {
					w.minute() // each another process
				}
				check(w, m.died)
			})
			if done || t.Failed() {
				if n < atLeast {
					t.Errorf("the scenario has %d effects; it should have %d", n, atLeast)
				}
				break
			}
		}
	}
}

// TestService_Run_survivesEveryCrash is of transitions: each must be told at
// least once, and always under one id.
func TestService_Run_survivesEveryCrash(t *testing.T) {
	one := func(u *hook.Upstream) { u.Active.TCPFailures, u.Active.Successes = 1, 1 }
	everyCrash(t, 10, func(w *world) {
		gone := target(upstreamA, "t3", "10.0.0.3:80")
		w.put(upstream(upstreamA, one), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "10.0.0.2:80"), gone, target(upstreamA, "t4", "10.0.0.4:80"))
		w.put(upstream(upstreamB, one), target(upstreamB, "t5", "10.0.0.5:80"))
		w.net.set("10.0.0.2:80", refused)
		w.run()
		w.wantTold("10.0.0.2:80 unhealthy")

		// One goes down, one comes up, one wavers, one is removed, and an
		// upstream is removed with an event that was never sent.
		w.net.set("10.0.0.1:80", refused)
		w.net.set("10.0.0.2:80", ok)
		w.net.set("10.0.0.5:80", refused)
		w.queue.refuse = func(int, hook.Message) error { return errQueue }
		w.pass(time.Minute)
		_ = w.service().Run(w.t.Context(), hook.UpstreamRange{})
		w.queue.refuse = nil
		w.remove(gone, target(upstreamB, "t5", ""), upstream(upstreamB))
		w.net.set("10.0.0.2:80", refused)
		w.net.set("10.0.0.4:80", refused)
	}, func(w *world, died string) {
		got := w.told()
		slices.Sort(got)
		want := []string{
			"10.0.0.1:80 unhealthy",
			"10.0.0.2:80 healthy", "10.0.0.2:80 unhealthy", "10.0.0.2:80 unhealthy",
			"10.0.0.4:80 unhealthy", "10.0.0.5:80 unhealthy",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.t.Errorf("died %s; events by id (-want +got):\n%s", died, diff)
		}
		w.wantStored(died, "t1/10.0.0.1 unhealthy", "t2/10.0.0.2 unhealthy", "t4/10.0.0.4 unhealthy")
	})
}

// wantStored compares the states of upstreamA, and nothing else may be left.
func (w *world) wantStored(died string, want ...string) {
	w.t.Helper()
	var states []string
	v := w.view(upstreamA)
	for _, s := range v.States {
		states = append(states, s.Address+" "+string(s.Health))
		if s.Outbox != nil {
			w.t.Errorf("died %s; the event of %s is unsent", died, s.Address)
		}
	}
	slices.Sort(states)
	if diff := cmp.Diff(want, states); diff != "" {
		w.t.Errorf("died %s; states (-want +got):\n%s", died, diff)
	}
	if len(v.Orders) > 0 {
		w.t.Errorf("died %s; orders left: %+v", died, v.Orders)
	}
	if left, err := w.store.ProbedUpstreams(w.t.Context(), w.clock().UnixMilli()); err != nil || !slices.Equal(left, []string{upstreamA}) {
		w.t.Errorf("died %s; upstreams with states %q, %v", died, left, err)
	}
}

// TestService_Run_survivesEveryCrash_otherEvents is of what operators order, of
// reminders and of certificates.
func TestService_Run_survivesEveryCrash_otherEvents(t *testing.T) {
	unknown := hook.ProbeResult{Code: 418} // no verdict
	everyCrash(t, 18, func(w *world) {
		w.put(upstream(upstreamA, remind(3600), days(14)), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "10.0.0.2:80"), target(upstreamA, "t3", "web.example.test:80"))
		w.dns.set("web.example.test", "10.0.0.3", "10.0.0.4")
		w.net.set("10.0.0.1:80", refused)
		w.net.set("10.0.0.3:80", unknown)
		w.net.set("10.0.0.4:80", unknown)
		w.run()
		w.pass(59 * time.Minute)
		w.run()
		w.wantTold("10.0.0.1:80 unhealthy")
		w.shows("10.0.0.2:80", w.clock().Add(time.Hour), ok)
		w.order(upstreamA, "t3", "", hook.Unhealthy)
		w.order(upstreamA, "gone", "", hook.Unhealthy)
		w.order(upstreamA, "t3", "10.0.0.4", hook.Healthy)
		w.order(upstreamA, "t3", "10.0.0.4", hook.Unhealthy)
	}, func(w *world, died string) {
		var got []string
		for _, s := range w.told() {
			if !strings.HasPrefix(s, "10.0.0.4:") {
				got = append(got, s)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff([]string{"10.0.0.1:80 unhealthy", "10.0.0.1:80 unhealthy", "10.0.0.2:80 ", "10.0.0.3:80 unhealthy"}, got); diff != "" {
			w.t.Errorf("died %s; events by id (-want +got):\n%s", died, diff)
		}
		// The orders of one address, in their order.
		got = slices.DeleteFunc(w.told(), func(s string) bool { return !strings.HasPrefix(s, "10.0.0.4:") })
		if diff := cmp.Diff([]string{"10.0.0.4:80 unhealthy", "10.0.0.4:80 healthy", "10.0.0.4:80 unhealthy"}, got); diff != "" {
			w.t.Errorf("died %s; events of orders by id (-want +got):\n%s", died, diff)
		}
		if n := len(slices.DeleteFunc(w.reminders(), func(s string) bool { return s != "unhealthy 1 since 18:00" })); n != 1 {
			w.t.Errorf("died %s; %d reminders: %q", died, n, w.reminders())
		}
		if n := len(w.certificates()); n != 1 {
			w.t.Errorf("died %s; %d events of certificates", died, n)
		}
		w.wantStored(died, "t1/10.0.0.1 unhealthy", "t2/10.0.0.2 healthy", "t3/10.0.0.3 unhealthy", "t3/10.0.0.4 unhealthy")
	})
}
