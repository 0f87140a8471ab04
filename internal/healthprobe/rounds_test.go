package healthprobe_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

// bubble runs f where time passes only when everybody waits.
func bubble(t *testing.T, f func(t *testing.T, w *world, real func(*healthprobe.Options))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f(t, w, func(o *healthprobe.Options) { o.Now = time.Now })
	})
}

// inBubble is a test in which nobody waits for the store.
func inBubble(f func(t *testing.T, w *world)) func(t *testing.T) {
	return func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, _ func(*healthprobe.Options)) { f(t, w) })
	}
}

func every(healthy, unhealthy float64) func(*hook.Upstream) {
	return func(u *hook.Upstream) {
		u.Active.HealthyInterval, u.Active.UnhealthyInterval = healthy, unhealthy
		u.Active.TCPFailures, u.Active.Successes = 2, 2
	}
}

func TestService_Run_goesRoundWithinARun(t *testing.T) {
	// minutes runs a service at each minute of a schedule, each run with the
	// deadline of a function of 60 s, and returns when it probed, in seconds.
	minutes := func(t *testing.T, w *world, s *healthprobe.Service, n int) []float64 {
		t.Helper()
		began := time.Now()
		var at []float64
		w.net.during = func(context.Context, hook.Probe) {
			w.net.mu.Lock()
			defer w.net.mu.Unlock()
			at = append(at, time.Since(began).Seconds())
		}
		for i := range n {
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Minute)))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := s.Run(ctx, hook.UpstreamRange{}); err != nil {
				t.Errorf("Run: %v", err)
			}
			if ctx.Err() != nil {
				t.Errorf("run %d took its whole minute", i)
			}
			cancel()
		}
		return at
	}
	t.Run("every ten seconds, without a gap or a double at the change of runs", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.put(upstream(upstreamA, every(10, 10)), target(upstreamA, "t1", "10.0.0.1:80"))
			got := minutes(t, w, w.service(real), 3)
			want := []float64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170}
			if !slices.Equal(got, want) {
				t.Errorf("probed at %v; want %v", got, want)
			}
		})
	})
	t.Run("every 45 seconds, also in the middle of a run", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.put(upstream(upstreamA, every(45, 45)), target(upstreamA, "t1", "10.0.0.1:80"))
			if got, want := minutes(t, w, w.service(real), 3), []float64{0, 45, 90, 135}; !slices.Equal(got, want) {
				t.Errorf("probed at %v; want %v", got, want)
			}
		})
	})
	t.Run("with the addresses that a name has then, also in the middle of a run", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.put(upstream(upstreamA, every(45, 45)), target(upstreamA, "t1", "web.example.test:80"))
			w.dns.set("web.example.test", "10.0.0.1")
			s := w.service(real)
			minutes(t, w, s, 2)
			w.dns.set("web.example.test", "10.0.0.2")
			time.Sleep(time.Minute / 4) // until the next run
			minutes(t, w, s, 2)
			if n := len(w.net.of("10.0.0.2:80")); n == 0 {
				t.Error("the new address was not probed in two minutes")
			}
		})
	})
	t.Run("only those that are due, each by its interval", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.put(upstream(upstreamA, every(60, 20)), target(upstreamA, "up", "10.0.0.1:80"), target(upstreamA, "down", "10.0.0.2:80"))
			w.put(upstream(upstreamB, every(15, 15)), target(upstreamB, "t3", "10.0.0.3:80"))
			w.net.set("10.0.0.2:80", refused)
			s := w.service(real)
			minutes(t, w, s, 4)
			// What is down is probed at 0 and 60, while it is new, then each 20 s.
			for address, want := range map[string]int{"10.0.0.1:80": 4, "10.0.0.2:80": 10, "10.0.0.3:80": 16} {
				if got := len(w.net.of(address)); got != want {
					t.Errorf("%d probes of %s; want %d", got, address, want)
				}
			}
			w.wantTold("10.0.0.2:80 unhealthy")
		})
	})
	t.Run("a transition is told in its round, not at the end of the run", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.put(upstream(upstreamA, every(5, 5)), target(upstreamA, "t1", "10.0.0.1:80"))
			w.net.set("10.0.0.1:80", refused)
			go func() {
				time.Sleep(6 * time.Second) // after the second probe
				w.wantTold("10.0.0.1:80 unhealthy")
				w.net.set("10.0.0.1:80", ok)
				time.Sleep(10 * time.Second)
				w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:80 healthy")
			}()
			minutes(t, w, w.service(real), 1)
		})
	})
	t.Run("a hanging target of one upstream does not slow another down", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.put(upstream(upstreamA, every(60, 60), func(u *hook.Upstream) { u.Active.Timeout = 10 }), target(upstreamA, "slow", "10.0.0.1:80"))
			w.put(upstream(upstreamB, every(1, 1)), target(upstreamB, "fast", "10.0.0.2:80"))
			w.net.set("10.0.0.1:80", hook.ProbeResult{Fault: hook.FaultTimeout})
			w.net.during = func(_ context.Context, p hook.Probe) {
				if p.IP == "10.0.0.1" {
					time.Sleep(p.Timeout)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := w.service(real).Run(ctx, hook.UpstreamRange{}); err != nil {
				t.Fatal(err)
			}
			if n := len(w.net.of("10.0.0.2:80")); n < 50 || n > 60 {
				t.Errorf("%d probes of the fast one in a minute; want one a second", n)
			}
		})
	})
	t.Run("no round when runs come as often as probes", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.put(upstream(upstreamA, every(1, 1)), target(upstreamA, "t1", "10.0.0.1:80"))
			s := w.service(real, func(o *healthprobe.Options) { o.Period = time.Second })
			for i := range 20 {
				began := time.Now()
				if err := s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("run %d took %s; want it to probe once and return", i, took)
				}
				time.Sleep(time.Second)
			}
			if n := w.net.count(); n != 20 {
				t.Errorf("%d probes in 20 runs; want 20", n)
			}
		})
	})
	t.Run("no slack that eats a short interval", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.put(upstream(upstreamA, every(2, 2)), target(upstreamA, "t1", "10.0.0.1:80"))
			s := w.service(real, func(o *healthprobe.Options) { o.Period = time.Second })
			for range 20 {
				if err := s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			if n := w.net.count(); n != 10 {
				t.Errorf("%d probes in 20 s; want one every 2 s", n)
			}
		})
	})
}

func TestService_Run_judgesNothingWhenItIsCutOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
		w.put(upstream(upstreamA, every(60, 60), func(u *hook.Upstream) { u.Active.TCPFailures, u.Active.Timeouts = 1, 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
		ctx, cancel := context.WithCancel(t.Context())
		w.net.set("10.0.0.1:80", hook.ProbeResult{Fault: hook.FaultTimeout})
		w.net.during = func(context.Context, hook.Probe) { cancel() }
		_ = w.service(real).Run(ctx, hook.UpstreamRange{})
		w.wantTold()
		// And it lets go of the upstream, so that the next one need not wait.
		w.net.during = nil
		if err := w.service(real).Run(t.Context(), hook.UpstreamRange{}); err != nil {
			t.Fatal(err)
		}
		w.wantTold("10.0.0.1:80 unhealthy")
	})
}
