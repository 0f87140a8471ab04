package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"eventhooks/internal/hook"
)

// order is PutHealthOrder at the present; it must succeed.
func (s *suite) order(t *testing.T, upstreamID string, o hook.HealthOrder) {
	t.Helper()
	ok(t, "PutHealthOrder", s.PutHealthOrder(t.Context(), upstreamID, o, s.now))
}

func testOrders(t *testing.T, s *suite) {
	t.Run("orders read back as they were written, in the order of their ids, until they are deleted", func(t *testing.T) {
		id := newID()
		full := filled[hook.HealthOrder]()
		full.ID = newEventID()
		want := []hook.HealthOrder{
			full,
			{ID: newEventID(), TargetID: "t1", Health: hook.Healthy},
			{ID: newEventID(), TargetID: "t1", IP: "2001:db8::1", Health: hook.Unhealthy},
			{ID: newEventID()},
		}
		for _, i := range []int{2, 0, 3, 1} {
			s.order(t, id, want[i])
		}
		equal(t, "Orders", s.probes(t, id, s.now).Orders, want)

		want[0] = hook.HealthOrder{ID: full.ID, TargetID: "t2"}
		s.order(t, id, want[0])
		equal(t, "Orders after one was put again", s.probes(t, id, s.now).Orders, want)

		l := s.lease(t, id, s.now)
		for _, order := range []string{want[1].ID, want[1].ID, "nobody's", "1"} { // twice is harmless
			ok(t, "DeleteHealthOrder", s.DeleteHealthOrder(t.Context(), l, order, s.now))
		}
		want = append(want[:1], want[2:]...)
		equal(t, "Orders after one was deleted", s.probes(t, id, s.now).Orders, want)
		equal(t, "Orders of other upstreams", append(s.probes(t, id+"0", s.now).Orders, s.probes(t, id[:35], s.now).Orders...), []hook.HealthOrder{})
	})

	t.Run("an order is neither a state nor a lease", func(t *testing.T) {
		id := newID()
		order := hook.HealthOrder{ID: newEventID(), TargetID: "t1", Health: hook.Healthy}
		s.order(t, id, order)
		ok(t, "WatchProbes", s.WatchProbes(t.Context(), id, s.now+10*minute, s.now))
		equal(t, "Probes", s.probes(t, id, s.now), hook.ProbeView{Orders: []hook.HealthOrder{order}, WatchedMS: s.now + 10*minute})
		l := s.lease(t, id, s.now)
		equal(t, "the first lease", l, hook.ProbeLease{UpstreamID: id, Gen: l.Gen, UntilMS: s.now + 70*second})

		st := hook.ProbeState{Address: order.ID, Ordered: order.ID}
		ok(t, "PutProbeState", s.PutProbeState(t.Context(), l, st, s.now))
		ok(t, "DeleteHealthOrder", s.DeleteHealthOrder(t.Context(), l, order.ID, s.now))
		equal(t, "Probes after the order was deleted", s.probes(t, id, s.now), hook.ProbeView{UntilMS: l.UntilMS, States: []hook.ProbeState{st}, WatchedMS: s.now + 10*minute})
		s.order(t, id, order)
		ok(t, "DeleteProbeState", s.DeleteProbeState(t.Context(), l, order.ID, s.now))
		ok(t, "ReleaseProbe", s.ReleaseProbe(t.Context(), l, s.now))
		v := s.probes(t, id, s.now)
		equal(t, "Orders after the state was deleted", v.Orders, []hook.HealthOrder{order})
		equal(t, "States", v.States, []hook.ProbeState{})
		if s.listed(t, id, s.now) {
			t.Errorf("ProbedUpstreams has an upstream that has an order and no state")
		}
	})

	t.Run("orders and watches are taken while a run holds the lease, and a run that has lost it deletes none", func(t *testing.T) {
		id := newID()
		old := s.lease(t, id, s.now)
		orders := []hook.HealthOrder{{ID: newEventID(), TargetID: "t1"}, {ID: newEventID(), TargetID: "t1"}}
		s.order(t, id, orders[0])
		s.order(t, id, orders[1])
		ok(t, "WatchProbes", s.WatchProbes(t.Context(), id, s.now+minute, s.now))
		equal(t, "Probes under the lease", s.probes(t, id, s.now), hook.ProbeView{UntilMS: old.UntilMS, Orders: orders, WatchedMS: s.now + minute})

		late := old.UntilMS + 1
		ok(t, "DeleteHealthOrder after the lease's end", s.DeleteHealthOrder(t.Context(), old, orders[0].ID, late))
		l := s.lease(t, id, late)
		is(t, "DeleteHealthOrder under an older lease", s.DeleteHealthOrder(t.Context(), old, orders[1].ID, late), hook.ErrStale)
		is(t, "DeleteHealthOrder of what is not there, under an older lease", s.DeleteHealthOrder(t.Context(), old, "nobody's", late), hook.ErrStale)
		equal(t, "Orders", s.probes(t, id, late).Orders, orders[1:])
		ok(t, "DeleteHealthOrder", s.DeleteHealthOrder(t.Context(), l, orders[1].ID, late))
		equal(t, "Orders", s.probes(t, id, late).Orders, []hook.HealthOrder{})

		never := newID()
		s.order(t, never, orders[0])
		is(t, "DeleteHealthOrder without a lease", s.DeleteHealthOrder(t.Context(), hook.ProbeLease{UpstreamID: never, Gen: 1}, orders[0].ID, s.now), hook.ErrStale)
		equal(t, "Orders", s.probes(t, never, s.now).Orders, orders[:1])
	})

	t.Run("orders, states and ends of a lease may be written at the same time", func(t *testing.T) {
		id := newID()
		l := s.lease(t, id, s.now)
		var want hook.ProbeView
		for i := range workers {
			s.order(t, id, hook.HealthOrder{ID: fmt.Sprintf("a%02d", i), TargetID: "t1"})
			want.Orders = append(want.Orders, hook.HealthOrder{ID: fmt.Sprintf("b%02d", i), TargetID: "t2"})
			want.States = append(want.States, hook.ProbeState{Address: fmt.Sprintf("t1/%d", i), Ordered: fmt.Sprintf("a%02d", i)})
		}
		for i, err := range race(func(worker int) error {
			return errors.Join(
				s.PutHealthOrder(t.Context(), id, want.Orders[worker], s.now),
				s.PutProbeState(t.Context(), l, want.States[worker], s.now),
				s.DeleteHealthOrder(t.Context(), l, want.States[worker].Ordered, s.now),
			)
		}) {
			ok(t, fmt.Sprintf("writes of worker %d", i), err)
		}
		want.UntilMS = l.UntilMS
		equal(t, "Probes", s.probes(t, id, s.now), want)
	})

	t.Run("an order is forgotten 30 days after it was put last", func(t *testing.T) {
		id := newID()
		orders := []hook.HealthOrder{{ID: newEventID(), TargetID: "t1"}, {ID: newEventID(), TargetID: "t2"}}
		s.order(t, id, orders[0])
		s.order(t, id, orders[1])
		ok(t, "PutHealthOrder", s.PutHealthOrder(t.Context(), id, orders[1], s.now+20*day))
		for _, c := range []struct {
			days int64
			want []hook.HealthOrder
		}{{29, orders}, {31, orders[1:]}, {49, orders[1:]}, {51, nil}} {
			equal(t, fmt.Sprintf("Orders after %d days", c.days), s.probes(t, id, s.now+c.days*day).Orders, c.want)
		}
	})

	t.Run("an order whose id cannot be a key is not stored", func(t *testing.T) {
		id := newID()
		for _, order := range []string{"", strings.Repeat("o", 1025)} {
			if err := s.PutHealthOrder(t.Context(), id, hook.HealthOrder{ID: order, TargetID: "t1"}, s.now); err == nil {
				t.Errorf("PutHealthOrder with an id of %d bytes = nil; want an error", len(order))
			}
		}
		equal(t, "Probes", s.probes(t, id, s.now), hook.ProbeView{})
	})
}

func testWatches(t *testing.T, s *suite) {
	watch := func(t *testing.T, id string, until, now int64) {
		t.Helper()
		ok(t, "WatchProbes", s.WatchProbes(t.Context(), id, until, now))
	}
	// watched fails the test unless the upstream is watched until then; 0 is
	// not any more.
	watched := func(t *testing.T, what, id string, now, want int64) {
		t.Helper()
		got := s.probes(t, id, now).WatchedMS
		if got <= now {
			got = 0 // the same to whoever reads it
		}
		if got != want {
			t.Errorf("%s: WatchedMS = %d; want %d", what, got, want)
		}
	}

	t.Run("an upstream is watched for as long as was ever asked", func(t *testing.T) {
		id := newID()
		long := s.now + 10*minute
		watched(t, "before", id, s.now, 0)
		watch(t, id, s.now+5*minute, s.now)
		watched(t, "once asked", id, s.now, s.now+5*minute)
		watch(t, id, long, s.now)
		watched(t, "asked for longer", id, s.now, long)
		for _, until := range []int64{long, long - 1, s.now, 0} {
			watch(t, id, until, s.now)
			watched(t, "asked for less", id, s.now, long)
		}
		watched(t, "in the end", id, long, 0)
		watch(t, id, long+minute, long+1)
		watched(t, "asked again", id, long+1, long+minute)
		watched(t, "another upstream", id+"0", s.now, 0)
	})

	t.Run("a watch lasts to its last millisecond", func(t *testing.T) {
		at := s.now - s.now%second + minute
		for _, until := range []int64{at, at + 1, at + 999} {
			id := newID()
			watch(t, id, until, s.now)
			watched(t, "a millisecond before the end", id, until-1, until)
			watched(t, "at the end", id, until, 0)
			watched(t, "an hour after", id, until+hour, 0)
		}
	})

	t.Run("of watches at the same time the longest stays", func(t *testing.T) {
		id := newID()
		for i, err := range race(func(worker int) error {
			return s.WatchProbes(t.Context(), id, s.now+minute+int64(worker)*second, s.now)
		}) {
			ok(t, fmt.Sprintf("WatchProbes of worker %d", i), err)
		}
		watched(t, "after all", id, s.now, s.now+minute+(workers-1)*second)
	})
}
