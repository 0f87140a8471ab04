package healthprobe_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

func (m *mortal) Send(ctx context.Context, msgs []hook.Message) (failed []int, err error) {
	err = m.effect("send", func() (err error) {
		failed, err = m.q.Send(ctx, msgs)
		return err
	})
	return failed, err
}

// TestService_Run_survivesEveryCrash kills a run at each of its effects, before
// and after, and lets later runs go on: each transition must be told at least
// once, and always under one id.
func TestService_Run_survivesEveryCrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			done := false
			t.Run(fmt.Sprintf("at effect %d, after it: %t", n, after), func(t *testing.T) {
				w := newWorld(t)
				one := func(u *hook.Upstream) { u.Active.TCPFailures, u.Active.Successes = 1, 1 }
				gone := target(upstreamA, "t3", "10.0.0.3:80")
				w.put(upstream(upstreamA, one), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "10.0.0.2:80"), gone, target(upstreamA, "t4", "10.0.0.4:80"))
				w.put(upstream(upstreamB, one), target(upstreamB, "t5", "10.0.0.5:80"))
				w.net.set("10.0.0.2:80", refused)
				w.run()
				w.wantTold("10.0.0.2:80 unhealthy")

				// One goes down, one comes up, one wavers, one is removed, and
				// an upstream is removed with an event that was never sent.
				w.net.set("10.0.0.1:80", refused)
				w.net.set("10.0.0.2:80", ok)
				w.net.set("10.0.0.5:80", refused)
				w.queue.refuse = func(int, hook.Message) error { return errQueue }
				w.pass(time.Minute)
				_ = w.service().Run(t.Context())
				w.queue.refuse = nil
				w.remove(gone, target(upstreamB, "t5", ""), upstream(upstreamB))
				w.net.set("10.0.0.2:80", refused)
				w.net.set("10.0.0.4:80", refused)

				w.pass(time.Minute)
				m := &mortal{Store: w.store, q: w.queue, n: n, after: after}
				err := w.service(func(o *healthprobe.Options) { o.Store, o.Queue = m, m }).Run(t.Context())
				if m.count < n {
					if err != nil {
						t.Errorf("a run of %d effects that did not die: %v", m.count, err)
					}
					done = true
				}

				w.pass(71 * time.Second) // the dead one's lease is over
				for range 3 {
					w.minute()
				}
				got := w.told()
				slices.Sort(got)
				want := []string{
					"10.0.0.1:80 unhealthy",
					"10.0.0.2:80 healthy", "10.0.0.2:80 unhealthy", "10.0.0.2:80 unhealthy",
					"10.0.0.4:80 unhealthy", "10.0.0.5:80 unhealthy",
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("died %s; events by id (-want +got):\n%s", m.died, diff)
				}
				var states []string
				for _, s := range w.states(upstreamA) {
					states = append(states, fmt.Sprintf("%s %s, unsent: %t", s.Address, s.Health, s.Outbox != nil))
				}
				slices.Sort(states)
				if diff := cmp.Diff([]string{"t1/10.0.0.1 unhealthy, unsent: false", "t2/10.0.0.2 unhealthy, unsent: false", "t4/10.0.0.4 unhealthy, unsent: false"}, states); diff != "" {
					t.Errorf("died %s; states (-want +got):\n%s", m.died, diff)
				}
				if left, err := w.store.ProbedUpstreams(t.Context(), w.clock().UnixMilli()); err != nil || !slices.Equal(left, []string{upstreamA}) {
					t.Errorf("died %s; upstreams with states %q, %v", m.died, left, err)
				}
			})
			if done || t.Failed() {
				if n < 10 {
					t.Errorf("the scenario has %d effects; it should have many", n)
				}
				break
			}
		}
	}
}
