package healthprobe_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

// slow makes each probe take d or its timeout, and time out if that is shorter.
func (w *world) slow(d time.Duration) {
	w.net.during = func(_ context.Context, p hook.Probe) { time.Sleep(min(d, p.Timeout)) }
}

// crowd puts upstreams of targets that are asked with a timeout of 10 s.
func (w *world) crowd(upstreams, targets int, concurrency int64) {
	for u := range upstreams {
		id := fmt.Sprintf("u%03d", u)
		all := []any{upstream(id, func(u *hook.Upstream) { u.Active.Timeout, u.Active.Concurrency = 10, concurrency })}
		for i := range targets {
			all = append(all, target(id, fmt.Sprintf("t%03d", i), fmt.Sprintf("10.%d.%d.%d:80", u, i/250, i%250)))
		}
		w.put(all...)
	}
}

func TestService_Run_boundsWhatItDoesAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name        string
		took        time.Duration
		concurrency int64
		upstreams   int
		targets     int
		want        int // at once
	}{
		{"by the upstream's own limit", 200 * time.Millisecond, 3, 1, 100, 3},
		{"by Kong's limit when there is none", 200 * time.Millisecond, 0, 1, 100, 10},
		{"by that of all together", 200 * time.Millisecond, 100, 2, 100, 32},
		{"those without an answer no longer count", 9 * time.Second, 3, 1, 30, 30},
		{"but not without end", 9 * time.Second, 32, 4, 500, 512},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
				w.crowd(tt.upstreams, tt.targets, tt.concurrency)
				w.slow(tt.took)
				if err := w.service(real).Run(t.Context(), hook.UpstreamRange{}); err != nil {
					t.Fatal(err)
				}
				if w.net.top != tt.want || w.net.total != tt.targets*tt.upstreams {
					t.Errorf("%d of %d probes at once; want %d of %d", w.net.top, w.net.total, tt.want, tt.targets*tt.upstreams)
				}
			})
		})
	}
}

func TestService_Run_keepsWithinItsTime(t *testing.T) {
	run := func(t *testing.T, s *healthprobe.Service, patience, want time.Duration) {
		t.Helper()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := s.Run(ctx, hook.UpstreamRange{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > want {
			t.Errorf("the run took %s; want at most %s, to have time left to write", took, want)
		} else {
			t.Logf("the run took %s", took)
		}
		time.Sleep(time.Until(began.Add(time.Minute)))
	}
	hangs := func(w *world) {
		w.slow(time.Hour)
		w.net.hangs = true
	}
	for name, upstreams := range map[string]int{"in one upstream": 1, "in two": 2, "in a hundred": 100} {
		t.Run("1,000 targets that hang, "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
				w.crowd(upstreams, 1000/upstreams, 10)
				hangs(w)
				s := w.service(real)
				for range 2 {
					run(t, s, time.Minute, 55*time.Second)
				}
				if n := w.net.count(); n != 2000 {
					t.Errorf("%d probes in two runs; want 2000", n)
				}
				if n := len(w.told()); n != 1000 {
					t.Errorf("%d told; want 1000", n)
				}
			})
		})
	}
	t.Run("those it has no time for come first in the next", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.crowd(1, 40, 1)
			hangs(w)
			s := w.service(real)
			for range 2 {
				run(t, s, 20*time.Second, 15*time.Second)
			}
			// One more each 250 ms, until 5 s: what begins later has no time.
			for i := range 40 {
				if n := len(w.net.of(fmt.Sprintf("10.0.0.%d:80", i))); n != 1 && (i > 1 || n != 2) {
					t.Errorf("target %d was probed %d times in two runs; want once", i, n)
				}
			}
		})
	})
	t.Run("a fast target beside hundreds that hang is not found slow", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
			w.crowd(2, 500, 10)
			hangs(w)
			w.put(upstream(upstreamA), target(upstreamA, "fast", "192.0.2.1:80"))
			began := time.Now()
			var waited time.Duration
			w.net.during = func(_ context.Context, p hook.Probe) {
				if p.IP == "192.0.2.1" {
					waited = time.Since(began)
					return
				}
				time.Sleep(p.Timeout)
			}
			if err := w.service(real).Run(t.Context(), hook.UpstreamRange{}); err != nil {
				t.Fatal(err)
			}
			if waited > time.Second {
				t.Errorf("the fast one was probed after %s; want at once", waited)
			}
		})
	})
}
