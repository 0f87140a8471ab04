package healthprobe_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

// A target that is made and ordered down while a run is under way is not in the
// run's copy of the configuration: the order is the next run's.
func TestService_Run_leavesOrdersForTargetsThatAreNewerThanIt(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
	w.run()
	w.net.set("10.0.0.1:80", refused)
	w.net.during = func(context.Context, hook.Probe) {
		w.pass(20 * time.Second)
		w.net.during = nil
		w.put(target(upstreamA, "t2", "10.0.0.2:80"))
		w.order(upstreamA, "t2", "", hook.Unhealthy)
	}
	w.minute()
	w.wantTold("10.0.0.1:80 unhealthy")
	w.minute()
	w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.2:80 unhealthy")
}

// One family's question may fail while the other's is answered: that is no word
// on the addresses of the first.
func TestService_Run_keepsAFamilyThatWasNotAnswered(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
	dns := &families{four: []string{"10.0.0.1"}, six: []string{"2001:db8::1"}}
	half := func(o *healthprobe.Options) { o.Resolver = dns }
	w.minute(half)
	w.net.set("10.0.0.1:80", refused)
	w.minute(half) // the first failure
	dns.err4 = &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	w.minute(half) // the second
	w.wantTold("10.0.0.1:80 unhealthy")
	w.minute(half)
	dns.err4 = nil
	w.minute(half)
	w.minute(half)
	w.wantTold("10.0.0.1:80 unhealthy")

	dns.err4 = &net.DNSError{Err: "no such host", IsNotFound: true} // there are none
	w.minute(half)
	if s := w.states(upstreamA); len(s) != 1 || s[0].Address != "t1/2001:db8::1" {
		t.Errorf("states %+v; want only the family that is left", s)
	}
}

// families answers as a net.Resolver does: without StrictErrors a question for
// both families is answered by the one that is.
type families struct {
	four, six  []string
	err4, err6 error
}

func (f *families) LookupNetIP(_ context.Context, network, _ string) (all []netip.Addr, err error) {
	if network != "ip6" && f.err4 == nil {
		for _, a := range f.four {
			all = append(all, netip.MustParseAddr(a))
		}
	}
	if network != "ip4" && f.err6 == nil {
		for _, a := range f.six {
			all = append(all, netip.MustParseAddr(a))
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	if network != "ip6" && f.err4 != nil {
		return nil, f.err4
	}
	if f.err6 != nil {
		return nil, f.err6
	}
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

// A shorter interval counts at once, also for a name that has no address.
func TestService_Run_asksForANameByItsInterval(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, every(3600, 3600)), target(upstreamA, "t1", "web.example.test:80"))
	w.run()
	w.put(upstream(upstreamA, every(60, 60)))
	w.dns.set("web.example.test", "10.0.0.1")
	w.minute()
	if n := w.net.count(); n != 1 {
		t.Errorf("%d probes a minute after the interval became one; want 1", n)
	}
}

func TestService_Run_asksForANameAfterAWrongClock(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
	w.pass(100 * time.Hour)
	w.run()
	w.pass(-100 * time.Hour)
	w.dns.set("web.example.test", "10.0.0.1")
	w.minute()
	if n := w.net.count(); n != 1 {
		t.Errorf("%d probes; want 1", n)
	}
}

// Where what is down is not probed any more, a name may still get another address.
func TestService_Run_asksForANameOfWhichNothingIsProbed(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, every(60, 0)), target(upstreamA, "t1", "web.example.test:80"))
	w.dns.set("web.example.test", "10.0.0.1")
	w.net.set("10.0.0.1:80", refused)
	w.run()
	w.minute()
	w.wantTold("10.0.0.1:80 unhealthy")
	w.dns.set("web.example.test", "10.0.0.2")
	w.minute()
	w.net.set("10.0.0.2:80", refused)
	w.minute()
	w.minute()
	w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.2:80 unhealthy")
}

// Another port, or another name, of the same address is another endpoint.
func TestService_Run_beginsAnewWithAnotherPort(t *testing.T) {
	for name, tt := range map[string]struct{ other, told string }{
		"port": {"web.example.test:81", "10.0.0.1:81 unhealthy"},
		"name": {"other.example.test:80", "10.0.0.1:80 unhealthy"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
			w.dns.set("web.example.test", "10.0.0.1")
			w.dns.set("other.example.test", "10.0.0.1")
			w.net.set("10.0.0.1:80", refused)
			w.net.set("10.0.0.1:81", refused)
			w.run()
			w.minute()
			w.put(target(upstreamA, "t1", tt.other))
			w.minute()
			w.wantTold("10.0.0.1:80 unhealthy")
			w.minute()
			w.minute()
			if got := len(w.queue.events(t)); got != 2 || w.told()[1] != tt.told {
				t.Errorf("told %q; want the new endpoint's %q", w.told(), tt.told)
			}
		})
	}
}

// A name server that does not answer for once costs the other targets of an
// upstream no run.
func TestService_Run_isNotThrownOutOfStepByASlowName(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "slow.example.test:80"))
		dns := &slowOnce{dns: w.dns}
		w.dns.set("slow.example.test", "10.0.0.2")
		s := w.service(real, func(o *healthprobe.Options) { o.Resolver = dns })
		began := time.Now()
		for i := range 4 {
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Minute)))
			if dns.slow = i == 1; dns.slow {
				time.Sleep(time.Second / 2) // schedules are not exact
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := s.Run(ctx, hook.UpstreamRange{}); err != nil {
				t.Error(err)
			}
			cancel()
		}
		if n := len(w.net.of("10.0.0.1:80")); n != 4 {
			t.Errorf("%d probes in 4 runs; want 4", n)
		}
	})
}

type slowOnce struct {
	*dns
	slow bool
}

func (d *slowOnce) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if d.slow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return d.dns.LookupNetIP(ctx, network, host)
}

// A run that takes a lease late in its time and is cut off then holds up the
// next run no longer than one that took it early.
func TestService_Run_leasesNoLongerThanItMayLast(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
	w.run()
	w.pass(time.Minute)
	began := w.clock()
	w.net.set("10.0.0.1:80", refused)
	w.net.during = func(context.Context, hook.Probe) { w.pass(50 * time.Second) }
	var until int64
	w.queue.refuse = func(int, hook.Message) error { until = w.view(upstreamA).UntilMS; return errQueue }
	if err := w.service().Run(t.Context(), hook.UpstreamRange{}); !errors.Is(err, errQueue) {
		t.Fatal(err)
	}
	if d := time.UnixMilli(until).Sub(began); d > 70*time.Second {
		t.Errorf("the lease ends %s after the run's beginning; want at most 70 s", d)
	}
}

// A clock that was wrong once silences no reminder.
func TestService_Run_remindsAfterAWrongClock(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, func(u *hook.Upstream) { u.RemindEvery = 600 }), target(upstreamA, "t1", "10.0.0.1:80"))
	w.net.set("10.0.0.1:80", refused)
	w.run()
	w.minute()
	w.pass(100 * time.Hour)
	w.run() // reminds, by a clock that is wrong
	w.pass(-100 * time.Hour)
	for range 15 {
		w.minute()
	}
	if n := len(w.queue.events(t)); n < 3 {
		t.Errorf("%d events; want the transition, a reminder, and another", n)
	}
}

// Cold processes each minute: an interval of five minutes is one.
func TestService_Run_countsByTheIntervalWithColdProcesses(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, every(300, 300)), target(upstreamA, "t1", "10.0.0.1:80"))
	w.run()
	w.pass(time.Hour)
	w.net.set("10.0.0.1:80", refused)
	began := w.clock()
	for len(w.told()) == 0 && w.clock().Sub(began) < time.Hour {
		w.minute()
	}
	if d := w.clock().Sub(began); d < 5*time.Minute || d > 6*time.Minute {
		t.Errorf("told after %s; want an interval and a run", d)
	}
}

// Nothing is written while nothing changes, whatever there is to watch.
func TestService_Run_nothingIsWrittenFor_unusualUpstreams(t *testing.T) {
	zero := target(upstreamA, "t1", "web.example.test:80")
	zero.Weight = 0
	for name, tt := range map[string]struct {
		change  func(u *hook.Upstream)
		targets []any
		set     func(w *world)
	}{
		"empty":         {},
		"probing off":   {change: off, targets: []any{target(upstreamA, "t1", "10.0.0.1:80")}},
		"weight 0 only": {targets: []any{zero}},
		"unknown type":  {change: func(u *hook.Upstream) { u.Active.Type = "quic" }, targets: []any{target(upstreamA, "t1", "10.0.0.1:80")}},
		"blocked": {targets: []any{target(upstreamA, "t1", "10.0.0.1:80")}, set: func(w *world) {
			w.net.set("10.0.0.1:80", hook.ProbeResult{Fault: hook.FaultBlocked, Reason: "private"})
		}},
		"neither list": {targets: []any{target(upstreamA, "t1", "10.0.0.1:80")}, set: func(w *world) { w.net.set("10.0.0.1:80", hook.ProbeResult{Code: 401}) }},
		"no route": {targets: []any{target(upstreamA, "t1", "[2001:db8::1]:80")}, set: func(w *world) {
			w.net.set("[2001:db8::1]:80", hook.ProbeResult{Fault: hook.FaultNoRoute, Reason: "no"})
		}},
		"no address": {targets: []any{target(upstreamA, "t1", "web.example.test:80")}},
		"never planned": {change: every(0, 60), targets: []any{target(upstreamA, "t1", "web.example.test:80")}, set: func(w *world) {
			w.dns.set("web.example.test", "10.0.0.1")
		}},
	} {
		for _, cold := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				u := upstream(upstreamA)
				if tt.change != nil {
					tt.change(&u)
				}
				w.put(append([]any{u}, tt.targets...)...)
				if tt.set != nil {
					tt.set(w)
				}
				store := newCounted(w.store)
				s := w.service(withStore(store))
				for i := range 8 {
					if cold {
						s = w.service(withStore(store))
					}
					if err := s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
						t.Fatal(err)
					}
					got := store.taken()
					delete(got, "read")
					if i > 1 && len(got) > 0 {
						t.Errorf("run %d (cold %t) wrote %v", i, cold, got)
					}
					w.pass(time.Minute)
					if names := w.dns.names["web.example.test"]; i%2 == 0 {
						slices.Reverse(names)
					}
				}
			})
		}
	}
}

// Schedules are not exact, neither when an address is due nor when its failure
// counts.
func TestService_Run_countsAFailureAMomentBeforeItsInterval(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
	w.net.set("10.0.0.1:80", refused)
	w.run()
	w.pass(56 * time.Second)
	w.run()
	w.wantTold("10.0.0.1:80 unhealthy")
}

// failsOnce fails the first write of a state.
type failsOnce struct {
	healthprobe.Store
	left int
}

func (s *failsOnce) PutProbeState(ctx context.Context, l hook.ProbeLease, st hook.ProbeState, now int64) error {
	if s.left--; s.left >= 0 {
		return errors.New("throttled")
	}
	return s.Store.PutProbeState(ctx, l, st, now)
}

func TestService_Run_keepsAnOrderWhoseStateWasNotWritten(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, off), target(upstreamA, "t1", "10.0.0.1:80"))
	w.order(upstreamA, "t1", "", hook.Unhealthy)
	w.order(upstreamA, "t1", "", hook.Healthy) // must not overtake the first
	w.pass(time.Minute)
	store := &failsOnce{Store: w.store, left: 1}
	if err := w.service(withStore(store)).Run(t.Context(), hook.UpstreamRange{}); err == nil {
		t.Error("Run = nil; want the store's error")
	}
	w.wantTold()
	w.minute()
	w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:80 healthy")
}

// A run whose time ends while it writes gives the upstream back.
func TestService_Run_releasesWhenItsTimeIsOver(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
	w.run()
	w.net.set("10.0.0.1:80", refused)
	ctx, cancel := context.WithCancel(t.Context())
	w.queue.refuse = func(int, hook.Message) error { cancel(); return errQueue }
	w.pass(time.Minute)
	if err := w.service().Run(ctx, hook.UpstreamRange{}); !errors.Is(err, errQueue) {
		t.Errorf("Run = %v; want the queue's error", err)
	}
	if v := w.view(upstreamA); v.UntilMS > w.clock().UnixMilli() {
		t.Error("the lease is still held")
	}
	w.queue.refuse = nil
	w.minute()
	w.wantTold("10.0.0.1:80 unhealthy")
}

func TestService_Run_asksForAnotherNameAtOnce(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, every(3600, 3600)), target(upstreamA, "t1", "web.example.test:80"))
	w.run()
	w.dns.set("other.example.test", "10.0.0.1")
	w.put(target(upstreamA, "t1", "other.example.test:80"))
	w.minute()
	if n := w.net.count(); n != 1 {
		t.Errorf("%d probes; want 1", n)
	}
}

// While a name is not asked for, it is still what it was when it was.
func TestService_Run_remembersThatANameDidNotAnswer(t *testing.T) {
	l := newLedger(t)
	l.put(upstream(upstreamA, every(300, 300)), target(upstreamA, "t1", "web.example.test:80"))
	l.dns.set("web.example.test", "10.0.0.1")
	l.run()
	l.dns.err = errors.New("away")
	l.pass(4 * time.Minute)
	l.next("no answer", map[string]int{"read": 2, "acquire": 1, "release": 1})
	for range 4 {
		l.next("not asked", map[string]int{"read": 1})
	}
}

// What answered in an earlier round says nothing of a later one.
func TestService_Run_doubtsItselfInLaterRounds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, real func(*healthprobe.Options)) {
		w.put(upstream(upstreamA, every(10, 10)), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "10.0.0.2:80"))
		cut := func(ctx context.Context, _ hook.Probe) {
			if w.net.count() > 2 {
				w.net.set("10.0.0.1:80", refused)
				w.net.set("10.0.0.2:80", refused)
			}
		}
		w.net.during = cut
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.service(real, func(o *healthprobe.Options) {
			o.SelfCheck = func(context.Context) error { return errors.New("no route") }
		}).Run(ctx, hook.UpstreamRange{}); err != nil {
			t.Error(err)
		}
		w.wantTold()
	})
}

// A summary that does not hold all addresses of an upstream is still not
// written each run.
func TestService_Run_writesNothingForASummaryThatIsTooLong(t *testing.T) {
	l := newLedger(t)
	all := []any{upstream(upstreamA)}
	why := strings.Repeat("neither here nor there ", 20)
	for i := range 500 {
		name := fmt.Sprintf("web%03d.%s.test", i, strings.Repeat("a-long-label.", 12))
		all = append(all, target(upstreamA, fmt.Sprintf("0f4e5f6a-0000-4000-8000-%012d", i), name+":80"))
		four, six := fmt.Sprintf("10.0.%d.%d", i/250, i%250), fmt.Sprintf("2001:db8::%x", i)
		l.dns.set(name, four, six)
		l.net.set("["+six+"]:80", hook.ProbeResult{Fault: hook.FaultNoRoute, Reason: why})
	}
	l.put(all...)
	l.run()
	if s := l.summary(upstreamA); s.Omitted == 0 {
		t.Fatalf("all %d addresses fit", len(s.Targets))
	}
	l.next("a warm process", map[string]int{"read": 1})
	l.s = l.service(withStore(l.store))
	l.next("a cold one", map[string]int{"read": 1})
}

// What is made anew under the id of an upstream that was buried begins anew.
func TestService_Run_buriesTheSummaryToo(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
	w.run()
	w.remove(target(upstreamA, "t1", ""), upstream(upstreamA))
	w.minute()
	if v := w.view(upstreamA); v.Summary != nil || len(v.States) != 0 || v.UntilMS > w.clock().UnixMilli() {
		t.Errorf("left behind: %+v", v)
	}
}

// A crash after a target was edited must not tell twice of its new endpoint.
func TestService_Run_beginsAnewOnce(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
	w.net.set("10.0.0.1:80", refused)
	w.net.set("10.0.0.1:81", refused)
	w.run()
	w.put(target(upstreamA, "t1", "10.0.0.1:81"))
	w.pass(time.Minute)
	if err := w.service(withStore(&neverReleases{w.store})).Run(t.Context(), hook.UpstreamRange{}); err == nil {
		t.Error("Run = nil; want the store's error")
	}
	for range 4 {
		w.minute()
	}
	w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:81 unhealthy")
}

type neverReleases struct{ healthprobe.Store }

func (*neverReleases) ReleaseProbe(context.Context, hook.ProbeLease, int64) error {
	return errors.New("throttled")
}

// An event that is not sent outlives the edit of its target, and then the new
// endpoint is probed at once.
func TestService_Run_beginsAnewAfterWhatIsToldOfTheOldEndpoint(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA, every(300, 300), func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"))
	w.net.set("10.0.0.1:80", refused)
	w.net.set("10.0.0.1:81", refused)
	w.queue.refuse = func(int, hook.Message) error { return errQueue }
	away := func() {
		t.Helper()
		if err := w.service().Run(t.Context(), hook.UpstreamRange{}); !errors.Is(err, errQueue) {
			t.Errorf("Run = %v; want the queue's error", err)
		}
		w.pass(time.Minute)
	}
	away()
	w.put(target(upstreamA, "t1", "10.0.0.1:81"))
	away()
	w.queue.refuse = nil
	w.run()
	w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:81 unhealthy")
}

// States that could not be written again are not taken for written.
func TestService_Run_writesAgainUntilItIsDone(t *testing.T) {
	w := newWorld(t)
	w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
	w.run()
	kept := w.summary(upstreamA).KeptMS
	w.pass(8 * 24 * time.Hour)
	if err := w.service(withStore(&failsOnce{Store: w.store, left: 1})).Run(t.Context(), hook.UpstreamRange{}); err == nil {
		t.Error("Run = nil; want the store's error")
	}
	if got := w.summary(upstreamA).KeptMS; got != kept {
		t.Errorf("kept at %d; want still %d", got, kept)
	}
	w.minute()
	if got := w.summary(upstreamA).KeptMS; got != w.clock().UnixMilli() {
		t.Errorf("kept at %d; want now", got)
	}
}
