package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"eventhooks/internal/hook"
)

// lease takes an upstream's lease for 70 s; it must be free.
func (s *suite) lease(t *testing.T, upstreamID string, now int64) hook.ProbeLease {
	t.Helper()
	l, free, err := s.AcquireProbe(t.Context(), upstreamID, now, now+70*second)
	ok(t, "AcquireProbe", err)
	if !free {
		t.Fatalf("AcquireProbe(%s) = false; want true", upstreamID)
	}
	return l
}

// probes returns what is stored of an upstream's probes, states in the order of
// their addresses.
func (s *suite) probes(t *testing.T, upstreamID string, now int64) hook.ProbeView {
	t.Helper()
	v, err := s.Probes(t.Context(), upstreamID, now)
	ok(t, "Probes", err)
	slices.SortFunc(v.States, func(a, b hook.ProbeState) int { return cmp.Compare(a.Address, b.Address) })
	return v
}

// states returns an upstream's states in the order of their addresses.
func (s *suite) states(t *testing.T, upstreamID string, now int64) []hook.ProbeState {
	t.Helper()
	return s.probes(t, upstreamID, now).States
}

// listed reports whether an upstream is among those that were probed.
func (s *suite) listed(t *testing.T, upstreamID string, now int64) bool {
	t.Helper()
	all, err := s.ProbedUpstreams(t.Context(), now)
	ok(t, "ProbedUpstreams", err)
	return slices.Contains(all, upstreamID)
}

func testProbes(t *testing.T, s *suite) {
	t.Run("a lease is held by one run until it ends", func(t *testing.T) {
		id := newID()
		first := s.lease(t, id, s.now)
		equal(t, "the first lease", first, hook.ProbeLease{UpstreamID: id, Gen: first.Gen, UntilMS: s.now + 70*second})
		if first.Gen <= 0 {
			t.Errorf("Gen = %d; want above 0", first.Gen)
		}
		_, free, err := s.AcquireProbe(t.Context(), id, first.UntilMS-1, first.UntilMS+hour)
		ok(t, "AcquireProbe", err)
		if free {
			t.Errorf("AcquireProbe a millisecond before the end = true; want false")
		}
		equal(t, "Probes while it is held", s.probes(t, id, s.now), hook.ProbeView{UntilMS: first.UntilMS})
		second := s.lease(t, id, first.UntilMS)
		if second.Gen <= first.Gen {
			t.Errorf("Gen = %d; want above %d", second.Gen, first.Gen)
		}
		s.lease(t, newID(), s.now) // another upstream's is free
	})

	t.Run("of runs at the same time exactly one gets the lease", func(t *testing.T) {
		id := newID()
		oneWins(t, "AcquireProbe", race(func(int) error {
			_, free, err := s.AcquireProbe(t.Context(), id, s.now, s.now+70*second)
			return won(free, err)
		}), errLost)
	})

	t.Run("a released lease is free at once, and its summary comes with the next", func(t *testing.T) {
		id := newID()
		l := s.lease(t, id, s.now)
		for _, summary := range [][]byte{everyByte(), []byte("text"), nil} {
			l.Summary = summary
			ok(t, "ReleaseProbe", s.ReleaseProbe(t.Context(), l, s.now))
			v := s.probes(t, id, s.now)
			equal(t, "Summary", v.Summary, summary)
			if v.UntilMS > s.now {
				t.Errorf("UntilMS of a released lease = %d; want at most %d, the present", v.UntilMS, s.now)
			}
			next := s.lease(t, id, s.now)
			equal(t, "the next lease's summary", next.Summary, summary)
			equal(t, "Probes under the next lease", s.probes(t, id, s.now), hook.ProbeView{UntilMS: next.UntilMS, Summary: summary})
			if next.Gen <= l.Gen {
				t.Errorf("Gen = %d; want above %d", next.Gen, l.Gen)
			}
			l = next
		}
	})

	t.Run("a lease that has ended can still be released, unless another run has taken it", func(t *testing.T) {
		id := newID()
		old := s.lease(t, id, s.now)
		old.Summary = []byte("late")
		late := old.UntilMS + second
		ok(t, "ReleaseProbe after the end", s.ReleaseProbe(t.Context(), old, late))
		l := s.lease(t, id, late)
		equal(t, "the next lease's summary", l.Summary, []byte("late"))
		old.Summary = []byte("too late")
		is(t, "ReleaseProbe of an older lease", s.ReleaseProbe(t.Context(), old, late), hook.ErrStale)
		_, free, err := s.AcquireProbe(t.Context(), id, late, late+70*second)
		ok(t, "AcquireProbe", err)
		if free {
			t.Errorf("AcquireProbe after a refused release = true; want false")
		}
		equal(t, "Summary", s.probes(t, id, late).Summary, []byte("late"))
	})

	t.Run("what was never leased has nothing, and nothing to release", func(t *testing.T) {
		id := newID()
		equal(t, "Probes", s.probes(t, id, s.now), hook.ProbeView{})
		l := hook.ProbeLease{UpstreamID: id, Gen: 1, UntilMS: s.now + minute, Summary: []byte("x")}
		is(t, "ReleaseProbe", s.ReleaseProbe(t.Context(), l, s.now), hook.ErrStale)
		is(t, "PutProbeState", s.PutProbeState(t.Context(), l, hook.ProbeState{Address: "a"}, s.now), hook.ErrStale)
		is(t, "DeleteProbeState", s.DeleteProbeState(t.Context(), l, "a", s.now), hook.ErrStale)
		equal(t, "Probes after refused writes", s.probes(t, id, s.now), hook.ProbeView{})
		s.lease(t, id, s.now)
	})

	t.Run("states read back as they were written, and are replaced whole", func(t *testing.T) {
		id := newID()
		l := s.lease(t, id, s.now)
		full := filled[hook.ProbeState]()
		full.Address = "t1/192.0.2.1:80"
		full.Outbox.ID = newEventID()
		want := []hook.ProbeState{full, {Address: "t1/192.0.2.2:80"}, {Address: "t2/[2001:db8::1]:443", Outbox: &hook.Event{ID: newEventID(), Data: []byte("{}")}}, {Address: "t3/ü#/😀"}}
		for _, st := range want {
			ok(t, "PutProbeState", s.PutProbeState(t.Context(), l, st, s.now))
		}
		equal(t, "States", s.states(t, id, s.now), want)
		if at := s.states(t, id, s.now)[0].Outbox.Time; at.Location().String() != "UTC" {
			t.Errorf("Outbox.Time is in %v; want UTC", at.Location())
		}
		want[0], want[1] = hook.ProbeState{Address: full.Address, Health: hook.Unhealthy}, full
		want[1].Address = "t1/192.0.2.2:80"
		for _, st := range want[:2] {
			ok(t, "PutProbeState", s.PutProbeState(t.Context(), l, st, s.now))
		}
		equal(t, "States", s.states(t, id, s.now), want)
		for _, address := range []string{want[2].Address, want[2].Address, "nobody's"} { // twice is harmless
			ok(t, "DeleteProbeState", s.DeleteProbeState(t.Context(), l, address, s.now))
		}
		equal(t, "States", s.states(t, id, s.now), slices.Delete(slices.Clone(want), 2, 3))
		equal(t, "States of another upstream", s.states(t, id+"0", s.now), []hook.ProbeState{})
	})

	t.Run("a run that has lost its lease changes no state", func(t *testing.T) {
		id := newID()
		old := s.lease(t, id, s.now)
		st := hook.ProbeState{Address: "a", Health: hook.Healthy}
		ok(t, "PutProbeState", s.PutProbeState(t.Context(), old, st, s.now))
		ok(t, "PutProbeState after the lease's end", s.PutProbeState(t.Context(), old, st, old.UntilMS+1))
		l := s.lease(t, id, old.UntilMS+1)
		is(t, "PutProbeState under an older lease", s.PutProbeState(t.Context(), old, hook.ProbeState{Address: "a", Health: hook.Unhealthy}, s.now), hook.ErrStale)
		is(t, "PutProbeState of a new state under an older lease", s.PutProbeState(t.Context(), old, hook.ProbeState{Address: "b"}, s.now), hook.ErrStale)
		is(t, "DeleteProbeState under an older lease", s.DeleteProbeState(t.Context(), old, "a", s.now), hook.ErrStale)
		equal(t, "States", s.states(t, id, s.now), []hook.ProbeState{st})
		ok(t, "DeleteProbeState", s.DeleteProbeState(t.Context(), l, "a", s.now))
		equal(t, "States", s.states(t, id, s.now), []hook.ProbeState{})
	})

	t.Run("states of one run may be written at the same time", func(t *testing.T) {
		id := newID()
		l := s.lease(t, id, s.now)
		var want []hook.ProbeState
		for i := range workers * 3 {
			want = append(want, hook.ProbeState{Address: fmt.Sprintf("a%02d", i), Success: int64(i)})
		}
		for i, err := range race(func(worker int) error {
			for _, st := range want[worker*3 : worker*3+3] {
				if err := s.PutProbeState(t.Context(), l, st, s.now); err != nil {
					return err
				}
			}
			return nil
		}) {
			ok(t, fmt.Sprintf("PutProbeState of worker %d", i), err)
		}
		equal(t, "States", s.states(t, id, s.now), want)
	})

	t.Run("states go beyond a megabyte, one state not beyond 400 KB", func(t *testing.T) {
		id := newID()
		l := s.lease(t, id, s.now)
		var want []hook.ProbeState
		for i := range 6 {
			want = append(want, hook.ProbeState{Address: fmt.Sprint("a", i), Outbox: &hook.Event{ID: newEventID(), Data: noise(200 << 10)}})
			ok(t, "PutProbeState", s.PutProbeState(t.Context(), l, want[i], s.now))
		}
		for _, address := range []string{"a0", "b"} {
			large := hook.ProbeState{Address: address, Outbox: &hook.Event{ID: newEventID(), Data: noise(maxItem + 1)}}
			if err := s.PutProbeState(t.Context(), l, large, s.now); err == nil || errors.Is(err, hook.ErrStale) {
				t.Errorf("PutProbeState of a large state = %v; want an error of its own", err)
			}
		}
		equal(t, "States", s.states(t, id, s.now), want)
		order := hook.HealthOrder{ID: newEventID(), TargetID: "t1"}
		s.order(t, id, order)
		ok(t, "WatchProbes", s.WatchProbes(t.Context(), id, s.now+minute, s.now))
		equal(t, "Probes", s.probes(t, id, s.now), hook.ProbeView{UntilMS: l.UntilMS, States: want, Orders: []hook.HealthOrder{order}, WatchedMS: s.now + minute})

		l.Summary = noise(maxItem + 1)
		if err := s.ReleaseProbe(t.Context(), l, s.now); err == nil || errors.Is(err, hook.ErrStale) {
			t.Errorf("ReleaseProbe with a large summary = %v; want an error of its own", err)
		}
		equal(t, "Summary", s.probes(t, id, s.now).Summary, []byte(nil))
		_, free, err := s.AcquireProbe(t.Context(), id, s.now, s.now+minute)
		ok(t, "AcquireProbe", err)
		if free {
			t.Errorf("AcquireProbe after a refused release = true; want false")
		}
	})

	t.Run("states and summary are forgotten 30 days after they were written last", func(t *testing.T) {
		id := newID()
		l := s.lease(t, id, s.now)
		a, b := hook.ProbeState{Address: "a"}, hook.ProbeState{Address: "b"}
		ok(t, "PutProbeState", s.PutProbeState(t.Context(), l, a, s.now))
		ok(t, "PutProbeState", s.PutProbeState(t.Context(), l, b, s.now))
		ok(t, "PutProbeState", s.PutProbeState(t.Context(), l, b, s.now+20*day))
		l.Summary = []byte("summary")
		ok(t, "ReleaseProbe", s.ReleaseProbe(t.Context(), l, s.now+20*day))
		for _, c := range []struct {
			days    int64
			want    []hook.ProbeState
			summary []byte
		}{{29, []hook.ProbeState{a, b}, l.Summary}, {31, []hook.ProbeState{b}, l.Summary}, {49, []hook.ProbeState{b}, l.Summary}, {51, nil, nil}} {
			equal(t, fmt.Sprintf("States after %d days", c.days), s.states(t, id, s.now+c.days*day), c.want)
			equal(t, fmt.Sprintf("Summary after %d days", c.days), s.probes(t, id, s.now+c.days*day).Summary, c.summary)
		}
		next := s.lease(t, id, s.now+51*day)
		equal(t, "the next lease's summary", next.Summary, []byte(nil))
	})

	t.Run("ProbedUpstreams has each upstream that has a state, once", func(t *testing.T) {
		with, without, never := newID(), newID(), newID()
		l := s.lease(t, with, s.now)
		for _, address := range []string{"a", "b"} {
			ok(t, "PutProbeState", s.PutProbeState(t.Context(), l, hook.ProbeState{Address: address}, s.now))
		}
		ok(t, "ReleaseProbe", s.ReleaseProbe(t.Context(), l, s.now))

		l = s.lease(t, without, s.now)
		ok(t, "PutProbeState", s.PutProbeState(t.Context(), l, hook.ProbeState{Address: "a"}, s.now))
		ok(t, "DeleteProbeState", s.DeleteProbeState(t.Context(), l, "a", s.now))
		ok(t, "ReleaseProbe", s.ReleaseProbe(t.Context(), l, s.now))

		all, err := s.ProbedUpstreams(t.Context(), s.now)
		ok(t, "ProbedUpstreams", err)
		for id, want := range map[string]int{with: 1, without: 0, never: 0} {
			got := 0
			for _, u := range all {
				if u == id {
					got++
				}
			}
			if got != want {
				t.Errorf("ProbedUpstreams has %d times one of the upstreams; want %d", got, want)
			}
		}

		if !s.listed(t, with, s.now+29*day) {
			t.Errorf("ProbedUpstreams after 29 days lacks an upstream that has states")
		}
	})
}
