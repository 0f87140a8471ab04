package healthprobe_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
)

// ledger is a world whose runs' reads and writes of probes are counted.
type ledger struct {
	*world
	store *counted
	s     *healthprobe.Service
}

func newLedger(t *testing.T) *ledger {
	w := newWorld(t)
	store := newCounted(w.store)
	return &ledger{w, store, w.service(withStore(store))}
}

// next runs the process a minute later; it must have read and written what is
// given.
func (l *ledger) next(what string, want map[string]int) {
	l.t.Helper()
	l.pass(time.Minute)
	l.store.taken()
	if err := l.s.Run(l.t.Context(), hook.UpstreamRange{}); err != nil {
		l.t.Fatal(err)
	}
	if diff := cmp.Diff(want, l.store.taken()); diff != "" {
		l.t.Errorf("%s: a run's reads and writes (-want +got):\n%s", what, diff)
	}
}

func TestService_Run_writesNothingWhileAllIsWell(t *testing.T) {
	l := newLedger(t)
	l.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "web.example.test:80"))
	l.put(upstream(upstreamB), target(upstreamB, "t3", "10.0.0.3:80"))
	l.dns.set("web.example.test", "10.0.0.2", "2001:db8::2")
	l.next("the first", map[string]int{"read": 4, "acquire": 2, "put": 4, "release": 2})
	for range 60 {
		l.next("all is well", map[string]int{"read": 2})
	}
	if n := l.net.count(); n != 4*61 {
		t.Errorf("%d probes; want %d", n, 4*61)
	}
	if l.log.Len() != 0 {
		t.Errorf("log: %s", l.log.String())
	}
	// A new process knows no more than what is stored: it probes at once, and
	// writes as little.
	l.s = l.service(withStore(l.store))
	for range 3 {
		l.next("a new process", map[string]int{"read": 2})
	}
	if n := l.net.count(); n != 4*64 {
		t.Errorf("%d probes; want %d", n, 4*64)
	}
}

func TestService_Run_writesWhatChanges(t *testing.T) {
	quiet := map[string]int{"read": 2}
	setup := func(t *testing.T) *ledger {
		l := newLedger(t)
		l.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "10.0.0.2:80"))
		l.put(upstream(upstreamB), target(upstreamB, "t3", "10.0.0.3:80"))
		l.pass(time.Minute)
		if err := l.s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
			t.Fatal(err)
		}
		return l
	}
	t.Run("a target that dies, until it is told, and again when it is back", func(t *testing.T) {
		l := setup(t)
		l.next("before", quiet)
		l.net.set("10.0.0.2:80", refused)
		l.next("the first failure", map[string]int{"read": 3, "acquire": 1, "put": 1, "release": 1})
		l.next("the second, and the event", map[string]int{"read": 3, "acquire": 1, "put": 2, "release": 1})
		for range 60 {
			l.next("it stays down", quiet)
		}
		l.net.set("10.0.0.2:80", ok)
		l.next("the first success", map[string]int{"read": 3, "acquire": 1, "put": 1, "release": 1})
		l.next("the second, and the event", map[string]int{"read": 3, "acquire": 1, "put": 2, "release": 1})
		l.next("after", quiet)
		l.wantTold("10.0.0.2:80 unhealthy", "10.0.0.2:80 healthy")
	})
	t.Run("another reason for the same", func(t *testing.T) {
		l := setup(t)
		l.net.set("10.0.0.1:80", hook.ProbeResult{Code: 302})
		l.next("another status", map[string]int{"read": 3, "acquire": 1, "release": 1})
		if s := l.summary(upstreamA).Targets[0]; s.Reason != "status 302" {
			t.Errorf("reason %q", s.Reason)
		}
		l.next("after", quiet)
	})
	t.Run("a name that does not answer, once", func(t *testing.T) {
		l := setup(t)
		l.put(target(upstreamA, "t2", "web.example.test:80"))
		l.dns.set("web.example.test", "10.0.0.2")
		l.next("another target", map[string]int{"read": 3, "acquire": 1, "put": 1, "release": 1})
		l.dns.err = errors.New("away")
		l.next("no answer", map[string]int{"read": 3, "acquire": 1, "release": 1})
		l.next("still none", quiet)
	})
	t.Run("a target that comes and goes", func(t *testing.T) {
		l := setup(t)
		l.put(target(upstreamA, "t4", "10.0.0.4:80"))
		l.next("it comes", map[string]int{"read": 3, "acquire": 1, "put": 1, "release": 1})
		l.next("it is there", quiet)
		l.remove(target(upstreamA, "t4", ""))
		l.next("it goes", map[string]int{"read": 3, "acquire": 1, "delete": 1, "release": 1})
		l.next("it is gone", quiet)
	})
	t.Run("a note that nothing is judged, once", func(t *testing.T) {
		l := setup(t)
		broken := errors.New("no route")
		l.s = l.service(func(o *healthprobe.Options) {
			o.Store = l.store
			o.SelfCheck = func(ctx context.Context) error { return broken }
		})
		l.net.everything = true
		l.next("cut off", map[string]int{"read": 4, "acquire": 2, "release": 2})
		for range 5 {
			l.next("still cut off", quiet)
		}
		l.net.everything = false
		l.next("back", map[string]int{"read": 4, "acquire": 2, "release": 2})
		l.next("after", quiet)
		l.wantTold()
	})
	t.Run("a note of what is probed seldom, once", func(t *testing.T) {
		l := setup(t)
		seldom := func(u *hook.Upstream) { u.Active.HealthyInterval = 300 }
		l.put(upstream(upstreamA, seldom), upstream(upstreamB, seldom))
		broken := errors.New("no route")
		l.s = l.service(withStore(l.store), func(o *healthprobe.Options) {
			o.SelfCheck = func(ctx context.Context) error { return broken }
		})
		l.pass(10 * time.Minute)
		l.net.everything = true
		l.next("cut off", map[string]int{"read": 4, "acquire": 2, "release": 2})
		for range 4 {
			l.next("still cut off", quiet)
		}
	})
	t.Run("a summary of an upstream without targets, once", func(t *testing.T) {
		l := setup(t)
		l.put(upstream("empty"))
		l.next("the first", map[string]int{"read": 4, "acquire": 1, "release": 1})
		l.next("after", map[string]int{"read": 3})
	})
	t.Run("nothing of an upstream that is not probed, once it has a summary", func(t *testing.T) {
		l := setup(t)
		l.put(upstream(upstreamB, func(u *hook.Upstream) { u.Active.HealthyInterval, u.Active.UnhealthyInterval = 0, 0 }))
		l.next("switched off", map[string]int{"read": 3, "acquire": 1, "release": 1})
		l.next("after", quiet)
	})
}

func TestService_Run_writesAgainWhatStoresForget(t *testing.T) {
	l := newLedger(t)
	l.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.HealthyInterval = 3600 }), target(upstreamA, "t1", "10.0.0.1:80"))
	writes := map[time.Duration]map[string]int{}
	for at := time.Duration(0); at < 30*24*time.Hour; at += time.Hour {
		if err := l.s.Run(t.Context(), hook.UpstreamRange{}); err != nil {
			t.Fatal(err)
		}
		if n := l.store.taken(); len(n) > 1 {
			writes[at] = n
		}
		l.pass(time.Hour)
	}
	want := map[time.Duration]map[string]int{}
	for week := range 5 {
		want[time.Duration(week)*7*24*time.Hour] = map[string]int{"read": 2, "acquire": 1, "put": 1, "release": 1}
	}
	if diff := cmp.Diff(want, writes); diff != "" {
		t.Errorf("runs that wrote (-want +got):\n%s", diff)
	}
}

func TestService_Run_writesWhatSomebodyWatches(t *testing.T) {
	l := newLedger(t)
	l.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.HealthyInterval = 120 }), target(upstreamA, "t1", "10.0.0.1:80"))
	l.put(upstream(upstreamB), target(upstreamB, "t2", "10.0.0.2:80"))
	l.next("the first", map[string]int{"read": 4, "acquire": 2, "put": 2, "release": 2})
	l.next("before", map[string]int{"read": 2})
	now := l.clock().UnixMilli()
	if err := l.world.store.WatchProbes(t.Context(), upstreamA, now+10*time.Minute.Milliseconds(), now); err != nil {
		t.Fatal(err)
	}
	probed := int64(0)
	for i := range 9 {
		l.next(fmt.Sprintf("watched, %d", i), map[string]int{"read": 3, "acquire": 1, "release": 1})
		s := l.summary(upstreamA)
		if s.LastMS != l.clock().UnixMilli() || s.Targets[0].LastMS < s.LastMS-60_000 || s.Targets[0].LastMS < probed {
			t.Errorf("summary of %d with a probe of %d; want it to be of %d", s.LastMS, s.Targets[0].LastMS, l.clock().UnixMilli())
		}
		probed = s.Targets[0].LastMS
	}
	for range 3 {
		l.next("no longer", map[string]int{"read": 2})
	}
}
