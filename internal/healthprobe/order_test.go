package healthprobe_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
)

// order stores an order, as the admin API does, and returns its id.
func (w *world) order(upstreamID, targetID, ip string, h hook.Health) string {
	w.t.Helper()
	if w.orders == nil {
		w.orders = eventid.NewGenerator(w.clock, nil)
	}
	id := w.orders.Next()
	if err := w.store.PutHealthOrder(w.t.Context(), upstreamID, hook.HealthOrder{ID: id, TargetID: targetID, IP: ip, Health: h}, w.clock().UnixMilli()); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func off(u *hook.Upstream) { u.Active.HealthyInterval, u.Active.UnhealthyInterval = 0, 0 }

func TestService_Run_carriesOutOrders(t *testing.T) {
	// health returns what is stored as "t1/10.0.0.1 healthy".
	health := func(w *world) []string {
		var all []string
		for _, s := range w.states(upstreamA) {
			all = append(all, s.Address+" "+string(s.Health))
		}
		slices.Sort(all)
		return all
	}
	want := func(t *testing.T, w *world, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, health(w)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if left := w.view(upstreamA).Orders; len(left) != 0 {
			t.Errorf("orders left: %+v", left)
		}
	}
	t.Run("it sets the state, zeroes the counters and raises, of each address", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, off), target(upstreamA, "t1", "web.example.test:80"), target(upstreamA, "t2", "10.0.0.9:80"))
		w.dns.set("web.example.test", "10.0.0.1", "2001:db8::1")
		w.set(upstreamA, hook.ProbeState{Address: "t1/10.0.0.1", Health: hook.MostlyHealthy, TCP: 1, HTTP: 1, Timeout: 1, Success: 1, SinceMS: 5, Reminded: 3, RemindedMS: 7})
		id := w.order(upstreamA, "t1", "", hook.Unhealthy)
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy", "2001:db8::1:80 unhealthy")
		now := w.clock().UnixMilli()
		wanted := []hook.ProbeState{
			{Address: "t1/10.0.0.1", Health: hook.Unhealthy, SinceMS: now, Ordered: id, Endpoint: "web.example.test:80"},
			{Address: "t1/2001:db8::1", Health: hook.Unhealthy, SinceMS: now, Ordered: id, Endpoint: "web.example.test:80"},
		}
		if diff := cmp.Diff(wanted, w.states(upstreamA)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if s := w.summary(upstreamA).Targets; s[0].Health != "unhealthy" || s[2].Health != "" {
			t.Errorf("summary %+v", s)
		}
		if got := strings.Count(w.log.String(), `"target health ordered"`); got != 2 || !strings.Contains(w.log.String(), id) {
			t.Errorf("log: %s", w.log.String())
		}
		ev := w.queue.events(t)[0]
		if data := `{"upstream_id":"` + upstreamA + `","ip":"10.0.0.1","port":80,"hostname":"web.example.test","health":"unhealthy"}`; string(ev.Data) != data || ev.Source != "balancer" || ev.Event != "health" {
			t.Errorf("event %s/%s %s; want %s", ev.Source, ev.Event, ev.Data, data)
		}
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy", "2001:db8::1:80 unhealthy")
		want(t, w, "t1/10.0.0.1 unhealthy", "t1/2001:db8::1 unhealthy")
	})
	t.Run("of one address it sets that one", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
		w.dns.set("web.example.test", "10.0.0.1", "10.0.0.2")
		w.net.set("10.0.0.2:80", hook.ProbeResult{Code: 418})
		w.run()
		w.order(upstreamA, "t1", "10.0.0.2", hook.Unhealthy)
		w.minute()
		w.wantTold("10.0.0.2:80 unhealthy")
		want(t, w, "t1/10.0.0.1 healthy", "t1/10.0.0.2 unhealthy")
	})
	t.Run("it raises also what is so already, and twice is twice", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
		w.run()
		w.order(upstreamA, "t1", "", hook.Healthy)
		w.order(upstreamA, "t1", "10.0.0.1", hook.Healthy)
		w.minute()
		w.wantTold("10.0.0.1:80 healthy", "10.0.0.1:80 healthy")
		want(t, w, "t1/10.0.0.1 healthy")
	})
	t.Run("one after the other, in the order in which they were given", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, off), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "10.0.0.2:80"))
		w.order(upstreamA, "t1", "", hook.Unhealthy)
		w.order(upstreamA, "t2", "", hook.Unhealthy)
		w.order(upstreamA, "t1", "", hook.Healthy)
		w.order(upstreamA, "t1", "", hook.Unhealthy)
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.2:80 unhealthy", "10.0.0.1:80 healthy", "10.0.0.1:80 unhealthy")
		want(t, w, "t1/10.0.0.1 unhealthy", "t2/10.0.0.2 unhealthy")
	})
	t.Run("probing goes on and may turn it back", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
		w.run()
		w.order(upstreamA, "t1", "", hook.Unhealthy)
		w.minute()
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy", "10.0.0.1:80 healthy")
	})
	t.Run("also where nothing is probed", func(t *testing.T) {
		w := newWorld(t)
		heavy := target(upstreamA, "t1", "web.example.test:80")
		heavy.Weight = 0
		w.put(upstream(upstreamA), heavy)
		w.dns.set("web.example.test", "10.0.0.1")
		w.minute()
		if n := w.dns.asked["web.example.test"]; n != 0 {
			t.Errorf("the name was asked for %d times before the order", n)
		}
		w.order(upstreamA, "t1", "", hook.Unhealthy)
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy")
		if w.net.count() != 0 {
			t.Error("a target of weight 0 was probed")
		}
		want(t, w, "t1/10.0.0.1 unhealthy")
	})
	t.Run("what is gone is forgotten, and so is what makes no sense", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
		w.run()
		w.order(upstreamA, "t0", "", hook.Unhealthy)
		w.order(upstreamA, "t1", "10.0.0.2", hook.Unhealthy)
		w.order(upstreamA, "t1", "not an address", hook.Unhealthy)
		w.order(upstreamA, "t1", "", hook.MostlyHealthy)
		w.minute()
		w.wantTold()
		want(t, w, "t1/10.0.0.1 healthy")
		if got := strings.Count(w.log.String(), `"health order dropped`); got != 4 {
			t.Errorf("%d of 4 were logged: %s", got, w.log.String())
		}
	})
	t.Run("of an upstream that is gone", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "10.0.0.1:80"))
		w.run()
		w.order(upstreamA, "t1", "", hook.Unhealthy)
		w.remove(target(upstreamA, "t1", ""), upstream(upstreamA))
		w.minute()
		w.wantTold()
		want(t, w)
	})
	t.Run("it waits for a name that does not answer, but not for long", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
		w.dns.err = errors.New("away")
		w.order(upstreamA, "t1", "", hook.Unhealthy)
		w.minute()
		store := newCounted(w.store)
		l := &ledger{w, store, w.service(withStore(store))}
		l.next("while it waits", map[string]int{"read": 1})
		if n := len(w.view(upstreamA).Orders); n != 1 {
			t.Fatalf("%d orders; want it kept", n)
		}
		w.dns.err = nil
		w.dns.set("web.example.test", "10.0.0.1")
		w.minute()
		w.wantTold("10.0.0.1:80 unhealthy")

		w.put(target(upstreamA, "t1", "other.example.test:80"))
		w.dns.err = errors.New("away")
		w.order(upstreamA, "t1", "", hook.Healthy)
		w.pass(2 * time.Hour)
		w.run()
		if n := len(w.view(upstreamA).Orders); n != 0 {
			t.Errorf("%d orders after two hours; want none", n)
		}
	})
	t.Run("a name that no longer answers has the addresses it had", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA), target(upstreamA, "t1", "web.example.test:80"))
		w.dns.set("web.example.test", "10.0.0.1")
		w.run()
		w.dns.err = errors.New("away")
		w.order(upstreamA, "t1", "", hook.Healthy)
		w.minute()
		w.wantTold("10.0.0.1:80 healthy")
	})
	t.Run("what was raised comes first", func(t *testing.T) {
		w := newWorld(t)
		w.put(upstream(upstreamA, func(u *hook.Upstream) { u.Active.TCPFailures = 1 }), target(upstreamA, "t1", "10.0.0.1:80"), target(upstreamA, "t2", "10.0.0.2:80"))
		w.run()
		w.net.set("10.0.0.1:80", refused)
		w.queue.refuse = func(int, hook.Message) error { return errQueue }
		w.pass(time.Minute)
		_ = w.service().Run(t.Context(), hook.UpstreamRange{})
		w.order(upstreamA, "t1", "", hook.Healthy)
		w.order(upstreamA, "t2", "", hook.Unhealthy)
		w.pass(time.Minute)
		_ = w.service().Run(t.Context(), hook.UpstreamRange{})
		if n := len(w.view(upstreamA).Orders); n != 1 {
			t.Errorf("%d orders; want the one that waits", n)
		}
		w.queue.refuse = nil
		w.minute()
		got := w.told()
		slices.Sort(got[:2]) // of two addresses, in no order
		if diff := cmp.Diff([]string{"10.0.0.1:80 unhealthy", "10.0.0.2:80 unhealthy", "10.0.0.1:80 healthy"}, got[:3]); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
	t.Run("hundreds at once go out in few messages", func(t *testing.T) {
		w := newWorld(t)
		all := []any{upstream(upstreamA, off)}
		for i := range 200 {
			all = append(all, target(upstreamA, fmt.Sprintf("t%03d", i), fmt.Sprintf("10.0.0.%d:80", i)))
		}
		w.put(all...)
		for i := range 200 {
			w.order(upstreamA, fmt.Sprintf("t%03d", i), "", hook.Unhealthy)
		}
		w.run()
		if n := len(w.told()); n != 200 || len(w.queue.bodies) != 4 {
			t.Errorf("%d events in %d messages; want 200 in 4", n, len(w.queue.bodies))
		}
	})
}
