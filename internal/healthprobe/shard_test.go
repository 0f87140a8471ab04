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

	"pgregory.net/rapid"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

// TestCut_tiles holds for any upstreams: each possible id is in one part, also
// one that no upstream has; no part has more targets than the limit unless one
// upstream has; and no two neighbours would fit into one.
func TestCut_tiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringOfN(rapid.SampledFrom([]rune("abcz0")), 1, 4, -1)
		targets := rapid.MapOfN(id, rapid.IntRange(0, 30), 0, 40).Draw(t, "targets")
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		parts := healthprobe.Cut(targets, limit)

		if parts[0].From != "" || parts[len(parts)-1].To != "" {
			t.Fatalf("parts %v do not reach from end to end", parts)
		}
		for i := 1; i < len(parts); i++ {
			if parts[i].From != parts[i-1].To || parts[i].From == "" {
				t.Fatalf("parts %v: %v does not begin where %v ends", parts, parts[i], parts[i-1])
			}
		}
		for _, part := range parts {
			sum, with := 0, 0
			for id, n := range targets {
				if healthprobe.Contains(part, id) && n > 0 {
					sum, with = sum+n, with+1
				}
			}
			if sum > limit && with > 1 {
				t.Fatalf("part %v of %v has %d targets of %d upstreams; want at most %d", part, parts, sum, with, limit)
			}
		}
		for _, id := range append(rapid.SliceOfN(id, 20, 20).Draw(t, "others"), "") {
			in := 0
			for _, part := range parts {
				if healthprobe.Contains(part, id) {
					in++
				}
			}
			if in != 1 {
				t.Fatalf("%q is in %d parts of %v; want one", id, in, parts)
			}
		}
	})
}

// shards runs parts in services of their own.
type shards struct {
	run func(ctx context.Context, part hook.UpstreamRange) error

	mu   sync.Mutex
	made []hook.UpstreamRange
}

func (s *shards) Invoke(ctx context.Context, part hook.UpstreamRange) error {
	s.mu.Lock()
	s.made = append(s.made, part)
	s.mu.Unlock()
	return s.run(ctx, part)
}

// fleet puts upstreams with targets.
func (w *world) fleet(upstreams, targets int) {
	for u := range upstreams {
		id := fmt.Sprintf("u%03d", u)
		all := []any{upstream(id)}
		for i := range targets {
			all = append(all, target(id, fmt.Sprintf("t%03d", i), fmt.Sprintf("10.%d.%d.%d:80", u, i/250, i%250)))
		}
		w.put(all...)
	}
}

func TestService_Run_probesLargeFleetsInParts(t *testing.T) {
	inBubble(probesLargeFleetsInParts)(t)
}

func probesLargeFleetsInParts(t *testing.T, w *world) {
	w.fleet(200, 100)
	// Each part of each minute is another process's, one of a few that last.
	var services []*healthprobe.Service
	for range 5 {
		services = append(services, w.service())
	}
	turn := 0
	all := &shards{}
	all.run = func(ctx context.Context, part hook.UpstreamRange) error {
		all.mu.Lock()
		turn += 2
		s := services[turn%len(services)]
		all.mu.Unlock()
		return s.Run(ctx, part)
	}
	first := w.service(func(o *healthprobe.Options) { o.Shards = all })
	for minute := range 3 {
		all.made = nil
		if err := first.Run(t.Context(), hook.UpstreamRange{}); err != nil {
			t.Fatal(err)
		}
		if n := len(all.made); n != 20 {
			t.Errorf("minute %d: %d parts; want 20", minute, n)
		}
		w.net.mu.Lock()
		if n := len(w.net.probes); n != 20_000 {
			t.Errorf("minute %d: %d targets were probed; want 20000", minute, n)
		}
		for address, probes := range w.net.probes {
			if len(probes) != 1 {
				t.Errorf("minute %d: %s was probed %d times", minute, address, len(probes))
			}
		}
		w.net.probes = map[string][]hook.Probe{}
		w.net.mu.Unlock()
		w.pass(time.Minute)
	}
}

func TestService_Run_handsOver(t *testing.T) {
	t.Run("nothing while it can do it all", func(t *testing.T) {
		w := newWorld(t)
		w.fleet(10, 100)
		all := &shards{}
		w.run(func(o *healthprobe.Options) { o.Shards = all })
		if len(all.made) != 0 || w.net.count() != 1000 {
			t.Errorf("%d parts, %d probes; want none and 1000", len(all.made), w.net.count())
		}
	})
	t.Run("nothing of a part", func(t *testing.T) {
		w := newWorld(t)
		w.fleet(11, 100)
		all := &shards{}
		s := w.service(func(o *healthprobe.Options) { o.Shards = all })
		if err := s.Run(t.Context(), hook.UpstreamRange{From: "u000"}); err != nil {
			t.Fatal(err)
		}
		if len(all.made) != 0 || w.net.count() != 1100 {
			t.Errorf("%d parts, %d probes; want none and 1100", len(all.made), w.net.count())
		}
	})
	t.Run("nothing to nobody", func(t *testing.T) {
		w := newWorld(t)
		w.fleet(11, 100)
		w.run()
		if n := w.net.count(); n != 1100 {
			t.Errorf("%d probes; want 1100", n)
		}
	})
	t.Run("nothing of a single upstream, however large", func(t *testing.T) {
		w := newWorld(t)
		w.fleet(1, 1001)
		all := &shards{}
		_ = w.service(func(o *healthprobe.Options) { o.Shards = all }).Run(t.Context(), hook.UpstreamRange{})
		if len(all.made) != 0 || w.net.count() != 1000 {
			t.Errorf("%d parts, %d probes; want none and the 1000 that are watched", len(all.made), w.net.count())
		}
	})
	t.Run("the other parts when one is refused", func(t *testing.T) {
		w := newWorld(t)
		w.fleet(11, 500)
		var mu sync.Mutex
		var taken []string
		all := &shards{run: func(_ context.Context, part hook.UpstreamRange) error {
			if part.From == "u004" {
				return errors.New("throttled")
			}
			mu.Lock()
			defer mu.Unlock()
			taken = append(taken, part.From)
			return nil
		}}
		err := w.service(func(o *healthprobe.Options) { o.Shards = all }).Run(t.Context(), hook.UpstreamRange{})
		if err == nil || !strings.Contains(err.Error(), "throttled") || !strings.Contains(err.Error(), "u004") {
			t.Errorf("Run = %v; want the refusal, with its part", err)
		}
		slices.Sort(taken)
		if want := []string{"", "u002", "u006", "u008", "u010"}; !slices.Equal(taken, want) {
			t.Errorf("parts from %q; want %q", taken, want)
		}
		if n := w.net.count(); n != 0 {
			t.Errorf("%d probes by the run that hands over; want none", n)
		}
	})
	t.Run("what is gone to the part it belonged to", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream("u1"), target("u1", "t1", "10.0.0.1:80"), upstream("u2"), target("u2", "t2", "10.0.0.2:80"))
		w.run()
		w.remove(upstream("u1"), target("u1", "t1", ""))
		w.pass(time.Minute)
		s := w.service()
		for _, part := range []hook.UpstreamRange{{From: "u2"}, {To: "u1"}} {
			if err := s.Run(t.Context(), part); err != nil {
				t.Fatal(err)
			}
			if n := len(w.states("u1")); n != 1 {
				t.Errorf("the part %v forgot another's upstream", part)
			}
		}
		if err := s.Run(t.Context(), hook.UpstreamRange{From: "u1", To: "u2"}); err != nil {
			t.Fatal(err)
		}
		if n := len(w.states("u1")); n != 0 {
			t.Errorf("%d states of an upstream that is gone; want none", n)
		}
	})
}
