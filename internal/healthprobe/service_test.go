package healthprobe_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/eventid"
	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

func TestNew_namesWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*healthprobe.Options){
		"Store":  func(o *healthprobe.Options) { o.Store = nil },
		"Queue":  func(o *healthprobe.Options) { o.Queue = nil },
		"Prober": func(o *healthprobe.Options) { o.Prober = nil },
		"Period": func(o *healthprobe.Options) { o.Period = -1 },
	} {
		o := w.options()
		change(&o)
		if _, err := healthprobe.New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New without %s = %v", name, err)
		}
	}
}

func TestService_Run_tellsOfTransitions(t *testing.T) {
	t.Run("down after its threshold, and up again after its threshold", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:3000"))
		w.run()
		w.wantTold()
		w.net.set("10.0.0.1:3000", refused)
		w.minute()
		w.wantTold()
		w.minute()
		w.wantTold("10.0.0.1:3000 unhealthy")
		for range 5 {
			w.minute()
		}
		w.wantTold("10.0.0.1:3000 unhealthy")
		w.net.set("10.0.0.1:3000", ok)
		w.minute()
		w.wantTold("10.0.0.1:3000 unhealthy")
		w.minute()
		w.wantTold("10.0.0.1:3000 unhealthy", "10.0.0.1:3000 healthy")
		for range 5 {
			w.minute()
		}
		w.wantTold("10.0.0.1:3000 unhealthy", "10.0.0.1:3000 healthy")
	})
	t.Run("a blip is not told, on either side", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:3000"))
		for _, r := range []hook.ProbeResult{ok, refused, ok, broken, ok, ok, {Fault: hook.FaultTimeout}, ok} {
			w.net.set("10.0.0.1:3000", r)
			w.minute()
		}
		w.wantTold()
		for _, r := range []hook.ProbeResult{refused, refused, ok, refused, ok, broken} {
			w.net.set("10.0.0.1:3000", r)
			w.minute()
		}
		w.wantTold("10.0.0.1:3000 unhealthy")
	})
	t.Run("a new target that is down is told, one that is up is not", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:3000"), target(upstreamA, "t2", "10.0.0.2:3000"))
		w.net.set("10.0.0.2:3000", broken)
		for range 3 {
			w.minute()
		}
		w.wantTold("10.0.0.2:3000 unhealthy")
	})
	t.Run("the event is Kong's, with a number for a port", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "web1.example.test:3000"))
		w.dns.set("web1.example.test", "10.16.0.2")
		w.net.set("10.16.0.2:3000", refused)
		w.run()
		events := w.queue.events(t)
		if len(events) != 1 {
			t.Fatalf("%d events; want 1", len(events))
		}
		ev := events[0]
		want := `{"upstream_id":"` + upstreamA + `","ip":"10.16.0.2","port":3000,"hostname":"web1.example.test","health":"unhealthy"}`
		if ev.Source != "balancer" || ev.Event != "health" || string(ev.Data) != want || ev.Workspace != "" || !ev.Time.Equal(w.clock()) || !eventid.Valid(ev.ID) {
			t.Errorf("event %+v with data %s; want data %s", ev, ev.Data, want)
		}
	})
	t.Run("500 targets that go down at once are all told", func(t *testing.T) {
		w := newWorld(t)
		all := []any{upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1; u.Active.Concurrency = 64 })}
		for i := range 500 {
			all = append(all, target(upstreamA, fmt.Sprintf("t%03d", i), fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)))
			w.net.set(fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), refused)
		}
		w.put(all...)
		w.run()
		if n := len(w.told()); n != 500 {
			t.Errorf("%d events; want 500", n)
		}
		if n := len(w.queue.bodies); n != 10 {
			t.Errorf("%d messages; want 10 of 50 events", n)
		}
	})
}

func TestService_Run_probesWhatIsDue(t *testing.T) {
	count := func(t *testing.T, w *world, runs int, every time.Duration) int {
		t.Helper()
		before := w.net.count()
		s := w.service()
		for range runs {
			if err := s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
				t.Fatal(err)
			}
			w.pass(every)
		}
		return w.net.count() - before
	}
	intervals := func(healthy, unhealthy float64) func(*hook.Upstream) {
		return func(u *hook.Upstream) { u.Active.HealthyInterval, u.Active.UnhealthyInterval = healthy, unhealthy }
	}
	t.Run("each minute", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
		if n := count(t, w, 10, time.Minute); n != 10 {
			t.Errorf("%d probes in 10 minutes; want 10", n)
		}
	})
	t.Run("each minute of a schedule that is not exact", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
		if n := count(t, w, 10, 56*time.Second); n != 10 {
			t.Errorf("%d probes in 10 runs 56 s apart; want 10", n)
		}
		if n := count(t, w, 10, 30*time.Second); n != 5 {
			t.Errorf("%d probes in 10 runs 30 s apart; want 5", n)
		}
	})
	t.Run("every five minutes", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, intervals(300, 300)), target(upstreamA, "t1", "10.0.0.1:80"))
		if n := count(t, w, 15, time.Minute); n != 3 {
			t.Errorf("%d probes in 15 minutes; want 3", n)
		}
	})
	t.Run("by their own intervals what is up and what is down", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, intervals(300, 60), func(u *hook.Upstream) { u.Active.TCPFailures = 1 }),
			target(upstreamA, "up", "10.0.0.1:80"), target(upstreamA, "down", "10.0.0.2:80"))
		w.net.set("10.0.0.2:80", refused)
		count(t, w, 10, time.Minute)
		if up, down := len(w.net.of("10.0.0.1:80")), len(w.net.of("10.0.0.2:80")); up != 2 || down != 10 {
			t.Errorf("%d probes of what is up, %d of what is down; want 2 and 10", up, down)
		}
	})
	t.Run("never what is up when healthy.interval is 0", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, intervals(0, 60)), target(upstreamA, "t1", "10.0.0.1:80"))
		if n := count(t, w, 3, time.Minute); n != 0 {
			t.Errorf("%d probes; want none", n)
		}
	})
	t.Run("no more what is down when unhealthy.interval is 0", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, intervals(60, 0), func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
		w.net.set("10.0.0.1:80", refused)
		if n := count(t, w, 5, time.Minute); n != 1 {
			t.Errorf("%d probes; want 1", n)
		}
		w.wantTold("10.0.0.1:80 unhealthy")
	})
	t.Run("not a target of weight 0, and its state stays", func(t *testing.T) {
		w := newWorld(t)
		one := target(upstreamA, "t1", "web1.example.test:80")
		w.dns.set("web1.example.test", "10.0.0.1")
		w.net.set("10.0.0.1:80", refused)
		w.put(upstream(upstreamA), one)
		w.run()
		w.minute()
		one.Weight = 0
		w.put(one)
		w.pass(time.Minute)
		if n := count(t, w, 3, time.Minute); n != 0 {
			t.Errorf("%d probes; want none", n)
		}
		if s := w.summary(upstreamA).Targets; len(s) != 1 || s[0].Health != "unhealthy" || s[0].NextMS != 0 || s[0].IP != "10.0.0.1" {
			t.Errorf("summary %+v; want what was known, and nothing planned", s)
		}
		one.Weight = 1
		w.put(one)
		w.net.set("10.0.0.1:80", ok)
		count(t, w, 2, time.Minute)
		w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:80 healthy")
	})
	t.Run("not what another run has just probed, which died before its summary", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, intervals(300, 300)), target(upstreamA, "t1", "10.0.0.1:80"))
		w.set(upstreamA, hook.ProbeState{Address: "t1/10.0.0.1", Health: hook.Healthy, ProbedMS: w.clock().UnixMilli()})
		w.pass(time.Minute)
		if n := count(t, w, 3, time.Minute); n != 0 {
			t.Errorf("%d probes; want none before 300 s", n)
		}
	})
	t.Run("by the interval that was just made shorter", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, intervals(3600, 3600)), target(upstreamA, "t1", "10.0.0.1:80"))
		s := w.service()
		for range 3 {
			if err := s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
				t.Fatal(err)
			}
			w.pass(time.Minute)
		}
		w.put(upstream(upstreamA, intervals(60, 60)))
		if err := s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
			t.Fatal(err)
		}
		if n := w.net.count(); n != 2 {
			t.Errorf("%d probes; want the second right after the change", n)
		}
	})
	t.Run("an upstream of an unknown type is not, and says so", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.Type = "carrier-pigeon" }), target(upstreamA, "t1", "10.0.0.1:80"))
		if n := count(t, w, 2, time.Minute); n != 0 {
			t.Errorf("%d probes; want none", n)
		}
		if note := w.summary(upstreamA).Note; !strings.Contains(note, "carrier-pigeon") {
			t.Errorf("note %q", note)
		}
	})
}

func TestService_Run_asksAsTheUpstreamSays(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, func(u *hook.Upstream) {
		u.HostHeader = "shop.example.test"
		u.Active.Type, u.Active.HTTPSSNI, u.Active.HTTPSVerify = "https", "sni.example.test", false
		u.Active.Headers = map[string][]string{"X-Probe": {"1"}}
		u.Active.Timeout = 30
	}), target(upstreamA, "t1", "web1.example.test:8443"))
	w.put(upstream(upstreamB, func(u *hook.Upstream) { u.Active.Timeout = 0 }),
		target(upstreamB, "t2", "web1.example.test:80"), target(upstreamB, "t3", "[2001:db8::1]:80"))
	w.put(upstream("g", func(u *hook.Upstream) { u.Active.Type, u.Active.GRPCService = "grpcs", "shop.Cart" }), target("g", "t4", "web1.example.test:9000"))
	w.dns.set("web1.example.test", "10.0.0.1")
	w.run()
	for address, want := range map[string]hook.Probe{
		"10.0.0.1:9000": {Type: "grpcs", IP: "10.0.0.1", Port: 9000, Host: "web1.example.test", Path: "/status", VerifyTLS: true, Service: "shop.Cart", Timeout: time.Second},
		"10.0.0.1:8443": {
			Type: "https", IP: "10.0.0.1", Port: 8443, Host: "shop.example.test", SNI: "sni.example.test", Path: "/status",
			Headers: map[string][]string{"X-Probe": {"1"}}, Timeout: 10 * time.Second,
		},
		"10.0.0.1:80":      {Type: "http", IP: "10.0.0.1", Port: 80, Host: "web1.example.test", Path: "/status", VerifyTLS: true, Timeout: time.Second},
		"[2001:db8::1]:80": {Type: "http", IP: "2001:db8::1", Port: 80, Path: "/status", VerifyTLS: true, Timeout: time.Second},
	} {
		if diff := cmp.Diff([]hook.Probe{want}, w.net.of(address)); diff != "" {
			t.Errorf("probes of %s (-want +got):\n%s", address, diff)
		}
	}
	if n := w.dns.asked["web1.example.test"]; n != 1 {
		t.Errorf("the name was asked for %d times in one run; want once", n)
	}
}

// A clock that was wrong once, here or in another process, holds nothing up.
func TestService_Run_outlivesAWrongClock(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
	s := w.service()
	w.pass(400 * 24 * time.Hour)
	if err := s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
		t.Fatal(err)
	}
	w.pass(-400 * 24 * time.Hour)
	w.net.set("10.0.0.1:80", refused)
	for range 2 {
		w.pass(time.Minute)
		if err := s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
			t.Fatal(err)
		}
	}
	w.wantTold("10.0.0.1:80 unhealthy")
	w.net.set("10.0.0.1:80", ok)
	w.minute()
	w.minute()
	w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:80 healthy")
}

func TestService_Run_countsWhatHappened(t *testing.T) {
	w := newWorld(t)
	heavy := target(upstreamA, "t3", "10.0.0.3:80")
	w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "10.0.0.2:80"), heavy)
	var got map[string]int64
	count := func(o *healthprobe.Options) { o.Metrics = func(n map[string]int64) { got = n } }
	want := func(what string, want map[string]int64) {
		t.Helper()
		w.minute(count)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	want("all is well", map[string]int64{"Probes": 3})
	w.net.set("10.0.0.1:80", refused)
	w.net.set("10.0.0.3:80", refused)
	want("a failure", map[string]int64{"Probes": 3, "ProbeFailures": 2})
	want("down", map[string]int64{"Probes": 3, "ProbeFailures": 2, "TargetsDown": 2, "HealthChanges": 2})
	heavy.Weight = 0
	w.put(heavy)
	want("one still down, one taken out", map[string]int64{"Probes": 2, "ProbeFailures": 1, "TargetsDown": 1})
	w.order(upstreamA, "t1", "", hook.Unhealthy)
	want("an order", map[string]int64{"Probes": 2, "ProbeFailures": 1, "TargetsDown": 1})
	w.net.everything = true
	w.net.answers = map[string]hook.ProbeResult{}
	w.minute(count, func(o *healthprobe.Options) {
		o.SelfCheck = func(context.Context) error { return errors.New("no route") }
	})
	if diff := cmp.Diff(map[string]int64{"Probes": 2, "TargetsDown": 1, "ProbesNotJudged": 2}, got); diff != "" {
		t.Errorf("cut off (-want +got):\n%s", diff)
	}
}

func TestService_Run_keepsWhatItCannotRead(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"), upstream(upstreamB), target(upstreamB, "t2", "10.0.0.2:80"), target(upstreamB, "t3", "10.0.0.3:80"))
	w.run()
	// A later version wrote them, and was rolled back.
	w.put(hook.Record{Kind: hook.KindUpstream, ID: upstreamA, Data: []byte(`{"v":99}`)}, hook.Record{Kind: hook.KindTarget, ID: upstreamB + "/t2", Data: []byte(`{"v":99}`)})
	for range 3 {
		w.pass(time.Minute)
		if err := w.service().Run(t.Context(), hook.UpstreamRange{}); err == nil {
			t.Error("Run said nothing of what it could not read")
		}
	}
	if a, b := len(w.states(upstreamA)), len(w.states(upstreamB)); a != 1 || b != 2 {
		t.Errorf("%d and %d states; want 1 and 2", a, b)
	}
}

func TestService_Run_remembersForMonths(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.HealthyInterval, u.Active.UnhealthyInterval = 43200, 43200 }), target(upstreamA, "t1", "10.0.0.1:80"))
	w.net.set("10.0.0.1:80", refused)
	for range 2 * 100 { // half days
		w.run()
		w.pass(12 * time.Hour)
	}
	w.wantTold("10.0.0.1:80 unhealthy")
	w.net.set("10.0.0.1:80", ok)
	w.run()
	w.pass(12 * time.Hour)
	w.run()
	w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:80 healthy")
}

func TestService_Run_watchesEachAddressOfAName(t *testing.T) {
	t.Run("each by itself, of either kind", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
		w.dns.set("web.example.test", "10.0.0.2", "10.0.0.1", "10.0.0.1", "2001:db8::1")
		w.net.set("10.0.0.2:80", refused)
		w.run()
		w.minute()
		w.wantTold("10.0.0.2:80 unhealthy")
		var got []string
		for _, s := range w.states(upstreamA) {
			got = append(got, s.Address+" "+string(s.Health))
		}
		slices.Sort(got)
		if diff := cmp.Diff([]string{"t1/10.0.0.1 healthy", "t1/10.0.0.2 unhealthy", "t1/2001:db8::1 healthy"}, got); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
	t.Run("an address without a road from here is no failure, and says so", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "web.example.test:80"))
		w.dns.set("web.example.test", "10.0.0.1", "2001:db8::1")
		w.net.set("[2001:db8::1]:80", hook.ProbeResult{Fault: hook.FaultNoRoute, Reason: "no route to IPv6 addresses from here"})
		for range 3 {
			w.minute()
		}
		w.wantTold()
		if s := w.summary(upstreamA).Targets; len(s) != 2 || s[1].Result != "ignored" || s[1].Health != "" || s[1].Reason != "no route to IPv6 addresses from here" {
			t.Errorf("summary %+v", s)
		}
	})
	t.Run("at most 64 of one name", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
		var all []string
		for i := range 100 {
			all = append(all, fmt.Sprintf("10.0.0.%d", i))
		}
		w.dns.set("web.example.test", all...)
		w.run()
		if n := w.net.count(); n != 64 {
			t.Errorf("%d probes; want 64", n)
		}
	})
	t.Run("an address that is gone is forgotten, a new one begins anew", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
		w.dns.set("web.example.test", "10.0.0.1")
		w.net.set("10.0.0.1:80", refused)
		w.run()
		w.minute()
		w.dns.set("web.example.test", "10.0.0.2")
		w.minute()
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy")
		if s := w.states(upstreamA); len(s) != 1 || s[0].Address != "t1/10.0.0.2" || s[0].Health != hook.Healthy {
			t.Errorf("states %+v", s)
		}
	})
	t.Run("a name that does not resolve is no verdict, and what was known goes on being probed", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"), target(upstreamA, "t2", "10.0.0.9:80"))
		w.dns.set("web.example.test", "10.0.0.1")
		w.run()
		w.dns.err = &net.DNSError{Err: "no such host", Name: "web.example.test", IsNotFound: true}
		for range 3 {
			w.minute()
		}
		w.wantTold()
		s := w.summary(upstreamA)
		if len(s.Targets) != 2 || s.Targets[0].DNSError != "name does not resolve" || s.Targets[0].Health != "healthy" || s.Targets[0].NextMS == 0 || s.Targets[1].DNSError != "" {
			t.Errorf("summary %+v", s.Targets)
		}
		if n := len(w.net.of("10.0.0.1:80")); n != 4 {
			t.Errorf("%d probes of the address that was known; want 4", n)
		}
		w.net.set("10.0.0.1:80", refused)
		w.minute()
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy") // although the name is still away
		w.dns.err = nil
		w.minute()
		if s := w.summary(upstreamA); s.Targets[0].DNSError != "" {
			t.Errorf("summary %+v; want no DNS error any more", s.Targets[0])
		}
	})
	t.Run("a target that was given another port begins anew, for every process", func(t *testing.T) {
		for name, service := range map[string]func(w *world) *healthprobe.Service{
			"the same": func() func(*world) *healthprobe.Service {
				var s *healthprobe.Service
				return func(w *world) *healthprobe.Service {
					if s == nil {
						s = w.service()
					}
					return s
				}
			}(),
			"a new one each minute": func(w *world) *healthprobe.Service { return w.service() },
		} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				minutes := func(n int) {
					t.Helper()
					for range n {
						w.pass(time.Minute)
						if err := service(w).Run(t.Context(), hook.UpstreamRange{}); err != nil {
							t.Fatal(err)
						}
					}
				}
				w.net.set("10.0.0.1:80", refused)
				w.net.set("10.0.0.1:81", refused)
				w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
				minutes(3)
				w.put(target(upstreamA, "t1", "10.0.0.1:81"))
				minutes(3)
				w.put(target(upstreamA, "t1", "10.0.0.1:82")) // which is up
				minutes(3)
				w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:81 unhealthy")
				if s := w.states(upstreamA); len(s) != 1 || s[0].Health != hook.Healthy || s[0].Endpoint != "10.0.0.1:82" {
					t.Errorf("states %+v; want one, healthy, of port 82", s)
				}
			})
		}
	})
	t.Run("what a target's former address left to send is sent", func(t *testing.T) {
		w := newWorld(t)
		w.net.set("10.0.0.1:80", refused)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
		w.run()
		w.queue.refuse = func(int, hook.Message) error { return errors.New("no queue") }
		w.pass(time.Minute)
		if err := w.service().Run(t.Context(), hook.UpstreamRange{}); err == nil {
			t.Fatal("Run with a queue that takes nothing = nil")
		}
		w.queue.refuse = nil
		w.put(target(upstreamA, "t1", "10.0.0.1:81"))
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy")
	})
	t.Run("a target that was given another name has none of the old one's addresses", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
		w.dns.set("web.example.test", "10.0.0.1")
		w.run()
		w.put(target(upstreamA, "t1", "other.example.test:80"))
		w.dns.err = &net.DNSError{Err: "no such host", IsNotFound: true}
		w.minute()
		if n := w.net.count(); n != 1 {
			t.Errorf("%d probes; want only the first name's", n)
		}
		if s := w.summary(upstreamA).Targets; len(s) != 1 || s[0].IP != "" || s[0].DNSError == "" {
			t.Errorf("summary %+v; want a name without an address", s)
		}
		w.dns.err = nil
		w.dns.set("other.example.test", "10.0.0.2")
		w.minute()
		if s := w.states(upstreamA); len(s) != 1 || s[0].Address != "t1/10.0.0.2" {
			t.Errorf("states %+v", s)
		}
	})
	t.Run("a name that never resolved has an entry without an address", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "nowhere.example.test:80"))
		w.run()
		want := []record.TargetSummary{{TargetID: "t1", Port: 80, Hostname: "nowhere.example.test", DNSError: "name has no address", LastMS: w.clock().UnixMilli(), NextMS: w.clock().Add(time.Minute).UnixMilli()}}
		got := w.summary(upstreamA).Targets
		got[0].DNSMS = 0
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("summary (-want +got):\n%s", diff)
		}
	})
}

func TestService_Run_leavesASummary(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "10.0.0.2:80"), target(upstreamA, "t3", "10.0.0.3:80"))
	w.net.set("10.0.0.2:80", broken)
	w.net.set("10.0.0.3:80", hook.ProbeResult{Fault: hook.FaultBlocked, Reason: "blocked by the egress rules: private address"})
	first := w.clock().UnixMilli()
	w.run()
	w.minute()
	now := w.clock().UnixMilli()
	want := record.Summary{LastMS: now, KeptMS: first, Targets: []record.TargetSummary{
		{TargetID: "t1", Address: "t1/10.0.0.1", IP: "10.0.0.1", Port: 80, Hostname: "10.0.0.1", Health: "healthy", SinceMS: first, LastMS: now, Result: "success", Reason: "status 200", ConnectMS: 1, FirstByteMS: 2, NextMS: now + 60_000},
		{TargetID: "t2", Address: "t2/10.0.0.2", IP: "10.0.0.2", Port: 80, Hostname: "10.0.0.2", Health: "unhealthy", SinceMS: now, HTTPFailures: 2, LastMS: now, Result: "failure", Reason: "status 503", NextMS: now + 60_000},
		{TargetID: "t3", Address: "t3/10.0.0.3", IP: "10.0.0.3", Port: 80, Hostname: "10.0.0.3", LastMS: now, Result: "blocked", Reason: "blocked by the egress rules: private address", NextMS: now + 60_000},
	}}
	if diff := cmp.Diff(want, w.summary(upstreamA)); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestService_Run_doubtsItself(t *testing.T) {
	checks := 0
	var checkErr error
	check := func(o *healthprobe.Options) {
		o.SelfCheck = func(context.Context) error { checks++; return checkErr }
	}
	fresh := func(t *testing.T) *world {
		w := newWorld(t)
		checks, checkErr = 0, nil
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
		w.put(upstream(upstreamB, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamB, "t2", "10.0.0.2:80"))
		w.run(check)
		return w
	}
	t.Run("when everything fails and so does the check, nothing is judged", func(t *testing.T) {
		w := fresh(t)
		w.net.set("10.0.0.1:80", refused)
		w.net.set("10.0.0.2:80", hook.ProbeResult{Fault: hook.FaultTimeout})
		checkErr = errors.New("no route")
		for range 3 {
			w.minute(check)
		}
		w.wantTold()
		if checks != 3 {
			t.Errorf("%d checks in 3 runs; want 3", checks)
		}
		for _, id := range []string{upstreamA, upstreamB} {
			s := w.summary(id)
			if !strings.Contains(s.Note, "nothing judged") || !strings.Contains(s.Note, "no route") || s.Targets[0].Result != "ignored" || s.Targets[0].Health != "healthy" {
				t.Errorf("summary %+v", s)
			}
		}
		if !strings.Contains(w.log.String(), "probes not judged") {
			t.Errorf("log: %s", w.log.String())
		}
		checkErr = nil
		w.minute(check)
		if n := len(w.told()); n != 1 { // the other has a threshold of two for time-outs
			t.Errorf("told %q; want the failure once it is believed", w.told())
		}
		if s := w.summary(upstreamA); s.Note != "" {
			t.Errorf("note %q after a run that judged", s.Note)
		}
	})
	t.Run("when everything fails and the check does not, it is believed", func(t *testing.T) {
		w := fresh(t)
		w.net.set("10.0.0.1:80", refused)
		w.net.set("10.0.0.2:80", refused)
		w.minute(check)
		if n := len(w.told()); n != 2 || checks != 1 {
			t.Errorf("told %q after %d checks; want both after one", w.told(), checks)
		}
	})
	t.Run("one answer anywhere is proof enough", func(t *testing.T) {
		for _, r := range []hook.ProbeResult{ok, broken, {Fault: hook.FaultHTTP}} {
			w := fresh(t)
			w.net.set("10.0.0.1:80", refused)
			w.net.set("10.0.0.2:80", r)
			checkErr = errors.New("no route")
			w.minute(check)
			if got := w.told(); len(got) != 1 || got[0] != "10.0.0.1:80 unhealthy" || checks != 0 {
				t.Errorf("told %q after %d checks", got, checks)
			}
		}
	})
	t.Run("one target alone is believed", func(t *testing.T) {
		w := fresh(t)
		w.remove(target(upstreamB, "t2", ""), upstream(upstreamB))
		w.net.set("10.0.0.1:80", refused)
		checkErr = errors.New("no route")
		w.minute(check)
		w.wantTold("10.0.0.1:80 unhealthy")
	})
	t.Run("what the rules refuse, or no road leads to, is no proof of anything", func(t *testing.T) {
		for _, fault := range []hook.ProbeFault{hook.FaultBlocked, hook.FaultNoRoute} {
			w := fresh(t)
			w.put(target(upstreamB, "t3", "10.0.0.3:80"))
			w.net.set("10.0.0.1:80", refused)
			w.net.set("10.0.0.2:80", refused)
			w.net.set("10.0.0.3:80", hook.ProbeResult{Fault: fault})
			checkErr = errors.New("no route")
			w.minute(check)
			w.wantTold()
			if checks != 1 {
				t.Errorf("%d checks; want 1", checks)
			}
		}
	})
}

func TestService_Run_sharesOneStore(t *testing.T) {
	t.Run("two at once report once", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
		w.net.set("10.0.0.1:80", refused)
		for range 5 {
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if err := w.service().Run(t.Context(), hook.UpstreamRange{}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			w.pass(time.Minute)
		}
		if n := len(w.queue.events(t)); n != 1 {
			t.Errorf("%d events; want 1", n)
		}
	})
	t.Run("who finds it taken leaves it alone", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
		w.net.set("10.0.0.1:80", refused)
		entered, leave := make(chan struct{}), make(chan struct{})
		w.queue.refuse = func(int, hook.Message) error { close(entered); <-leave; return nil }
		done := make(chan error)
		go func() { done <- w.service().Run(t.Context(), hook.UpstreamRange{}) }() // holds the lease while it sends
		<-entered
		w.pass(69 * time.Second)
		w.run()
		if n := w.net.count(); n != 1 {
			t.Errorf("%d probes; want 1", n)
		}
		close(leave)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("who finds it taken does not even probe", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
		now := w.clock().UnixMilli()
		if _, free, err := w.store.AcquireProbe(t.Context(), upstreamA, now, now+70_000); !free || err != nil {
			t.Fatal(free, err)
		}
		w.minute()
		if n := w.net.count(); n != 0 {
			t.Errorf("%d probes; want none", n)
		}
		w.minute()
		if n := w.net.count(); n != 1 {
			t.Errorf("%d probes once it was free; want 1", n)
		}
	})
	t.Run("who stood still judges nothing by what it saw before", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
		w.net.set("10.0.0.1:80", refused)
		w.net.during = func(context.Context, hook.Probe) { w.pass(2 * time.Minute) }
		w.run()
		w.wantTold()
		w.net.during = nil
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy")
	})
	t.Run("who cannot read under its lease gives it back, with what was stored", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
		w.run()
		before := w.summary(upstreamA)
		w.net.set("10.0.0.1:80", refused)
		w.pass(time.Minute)
		store := &readsOnce{Store: w.store, err: errors.New("throttled")}
		if err := w.service(withStore(store)).Run(t.Context(), hook.UpstreamRange{}); !errors.Is(err, store.err) {
			t.Errorf("Run = %v; want the store's error", err)
		}
		if diff := cmp.Diff(before, w.summary(upstreamA)); diff != "" {
			t.Errorf("summary (-before +after):\n%s", diff)
		}
		w.pass(time.Second)
		w.run()
		w.wantTold("10.0.0.1:80 unhealthy")
	})
	t.Run("who is late writes nothing any more", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
		w.run()
		w.net.set("10.0.0.1:80", refused)
		entered, leave := make(chan struct{}), make(chan struct{})
		var late atomic.Bool
		w.net.during = func(context.Context, hook.Probe) {
			if late.CompareAndSwap(false, true) {
				close(entered)
				<-leave
			}
		}
		w.pass(time.Minute)
		done := make(chan error)
		go func() { done <- w.service().Run(t.Context(), hook.UpstreamRange{}) }() // reads refused, and then sleeps
		<-entered
		w.pass(71 * time.Second)
		w.run() // takes over and tells
		w.net.set("10.0.0.1:80", ok)
		w.minute()
		w.minute() // and tells of the recovery
		before := w.states(upstreamA)
		close(leave)
		if err := <-done; err != nil {
			t.Errorf("the late run failed: %v; want it to stand back quietly", err)
		}
		w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:80 healthy")
		if diff := cmp.Diff(before, w.states(upstreamA)); diff != "" {
			t.Errorf("the late run wrote (-before +after):\n%s", diff)
		}
	})
}

func TestService_Run_losesNoEvent(t *testing.T) {
	down := func(u *hook.Upstream) { u.Active.TCPFailures, u.Active.Successes = 1, 1 }
	t.Run("while the queue is away", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, down), target(upstreamA, "t1", "10.0.0.1:80"))
		w.run()
		w.net.set("10.0.0.1:80", refused)
		w.queue.refuse = func(int, hook.Message) error { return errQueue }
		w.pass(time.Minute)
		if err := w.service().Run(t.Context(), hook.UpstreamRange{}); !errors.Is(err, errQueue) || !strings.Contains(err.Error(), upstreamA) {
			t.Errorf("Run = %v; want the queue's error with the upstream's id", err)
		}
		probes := w.net.count()
		w.net.set("10.0.0.1:80", ok) // it recovers before the first event is out
		w.pass(time.Minute)
		if err := w.service().Run(t.Context(), hook.UpstreamRange{}); err == nil {
			t.Error("Run with the queue away succeeded")
		}
		if w.net.count() != probes {
			t.Error("a target with an unsent event was probed")
		}
		if s := w.summary(upstreamA); s.Unsent != 1 || s.Targets[0].Health != "unhealthy" {
			t.Errorf("summary %+v; want one unsent event", s)
		}
		w.queue.refuse = nil
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:80 healthy")
	})
	t.Run("while the queue takes some", func(t *testing.T) {
		w := newWorld(t)
		all := []any{upstream(upstreamA, down)}
		for i := range 120 {
			all = append(all, target(upstreamA, fmt.Sprintf("t%03d", i), fmt.Sprintf("10.0.0.%d:80", i)))
			w.net.set(fmt.Sprintf("10.0.0.%d:80", i), refused)
		}
		w.put(all...)
		messages := 0
		w.queue.refuse = func(int, hook.Message) error {
			if messages++; messages == 2 {
				return errQueue
			}
			return nil
		}
		if err := w.service().Run(t.Context(), hook.UpstreamRange{}); !errors.Is(err, errQueue) {
			t.Errorf("Run = %v", err)
		}
		if n := len(w.told()); n != 70 {
			t.Errorf("%d told; want 70", n)
		}
		w.queue.refuse = nil
		w.minute()
		if n := len(w.queue.events(t)); n != 120 || len(w.told()) != 120 {
			t.Errorf("%d events, %d ids; want 120 of each", n, len(w.told()))
		}
	})
	t.Run("the first of many before the last is written", func(t *testing.T) {
		w := newWorld(t)
		all := []any{upstream(upstreamA, down)}
		for i := range 120 {
			all = append(all, target(upstreamA, fmt.Sprintf("t%03d", i), fmt.Sprintf("10.0.0.%d:80", i)))
			w.net.set(fmt.Sprintf("10.0.0.%d:80", i), refused)
		}
		w.put(all...)
		store := newCounted(w.store)
		var puts []int
		w.queue.refuse = func(int, hook.Message) error {
			puts = append(puts, store.taken()["put"])
			return nil
		}
		w.run(func(o *healthprobe.Options) { o.Store = store })
		if diff := cmp.Diff([]int{50, 50, 20}, puts); diff != "" {
			t.Errorf("states written before each message (-want +got):\n%s", diff)
		}
		if n := store.taken()["put"]; n != 120 {
			t.Errorf("%d states written after the last message; want each without its event", n)
		}
	})
	t.Run("of a target that was removed meanwhile", func(t *testing.T) {
		w := newWorld(t)
		one := target(upstreamA, "t1", "10.0.0.1:80")
		w.put(upstream(upstreamA, down), one, target(upstreamA, "t2", "10.0.0.2:80"))
		w.net.set("10.0.0.1:80", refused)
		w.queue.refuse = func(int, hook.Message) error { return errQueue }
		_ = w.service().Run(t.Context(), hook.UpstreamRange{})
		w.remove(one)
		w.pass(time.Minute)
		_ = w.service().Run(t.Context(), hook.UpstreamRange{})
		if s := w.states(upstreamA); len(s) != 2 {
			t.Errorf("states %+v; want the unsent event kept", s)
		}
		w.queue.refuse = nil
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy")
		if s := w.states(upstreamA); len(s) != 1 || s[0].Address != "t2/10.0.0.2" {
			t.Errorf("states %+v; want only what is still there", s)
		}
	})
	t.Run("of an upstream that was removed meanwhile", func(t *testing.T) {
		w := newWorld(t)
		one := target(upstreamA, "t1", "10.0.0.1:80")
		w.put(upstream(upstreamA, down), one)
		w.net.set("10.0.0.1:80", refused)
		w.queue.refuse = func(int, hook.Message) error { return errQueue }
		_ = w.service().Run(t.Context(), hook.UpstreamRange{})
		w.remove(one, upstream(upstreamA))
		w.queue.refuse = nil
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy")
		if s := w.states(upstreamA); len(s) != 0 {
			t.Errorf("states %+v; want none", s)
		}
		left, err := w.store.ProbedUpstreams(t.Context(), w.clock().UnixMilli())
		if err != nil || len(left) != 0 {
			t.Errorf("ProbedUpstreams = %q, %v; want none", left, err)
		}
	})
	t.Run("of an upstream whose probing was switched off meanwhile", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, down), target(upstreamA, "t1", "10.0.0.1:80"))
		w.net.set("10.0.0.1:80", refused)
		w.queue.refuse = func(int, hook.Message) error { return errQueue }
		_ = w.service().Run(t.Context(), hook.UpstreamRange{})
		w.put(upstream(upstreamA, down, func(u *hook.Upstream) { u.Active.HealthyInterval, u.Active.UnhealthyInterval = 0, 0 }))
		w.queue.refuse = nil
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy")
	})
}

func TestService_Run_goesOnAfterErrors(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
	w.put(upstream(upstreamB, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamB, "t2", "10.0.0.2:80"))
	w.put(hook.Record{Kind: hook.KindUpstream, ID: "later", Data: []byte(`{"v":99}`)}, hook.Record{Kind: hook.KindTarget, ID: upstreamB + "/later", Data: []byte(`{"v":99}`)})
	w.net.set("10.0.0.1:80", refused)
	w.net.set("10.0.0.2:80", refused)
	store := &failing{Store: w.store, upstream: upstreamA, err: errors.New("throttled")}
	err := w.service(func(o *healthprobe.Options) { o.Store = store }).Run(t.Context(), hook.UpstreamRange{})
	for _, want := range []string{"throttled", "upstream " + upstreamA, "later", "form 99"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v; want it to name %q", err, want)
		}
	}
	w.wantTold("10.0.0.2:80 unhealthy")
}

// failing fails for one upstream.
type failing struct {
	healthprobe.Store
	upstream string
	err      error
}

func (f *failing) AcquireProbe(ctx context.Context, id string, now, until int64) (hook.ProbeLease, bool, error) {
	if id == f.upstream {
		return hook.ProbeLease{}, false, f.err
	}
	return f.Store.AcquireProbe(ctx, id, now, until)
}

// readsOnce can be read once.
type readsOnce struct {
	healthprobe.Store
	err  error
	read bool
}

func (r *readsOnce) Probes(ctx context.Context, id string, now int64) (hook.ProbeView, error) {
	if r.read {
		return hook.ProbeView{}, r.err
	}
	r.read = true
	return r.Store.Probes(ctx, id, now)
}
