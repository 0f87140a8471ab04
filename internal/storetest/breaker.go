package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"eventhooks/internal/hook"
)

// memory is how long a closed breaker goes on counting.
const memory = int64(hook.BreakerMemory / 1e6)

// fail is CountFailures; it must succeed.
func (s *suite) fail(t *testing.T, hookID string, gen, n, now int64) hook.Breaker {
	t.Helper()
	var b hook.Breaker
	err := patiently(func() (err error) {
		b, err = s.CountFailures(t.Context(), hookID, gen, n, now)
		return err
	})
	ok(t, "CountFailures", err)
	return b
}

// breaker fails the test unless the store holds exactly that breaker.
func (s *suite) breaker(t *testing.T, what string, want hook.Breaker, now int64) {
	t.Helper()
	eventually(t, what, func() error {
		got, err := s.Breaker(t.Context(), want.HookID, want.Gen, now)
		if d := diff(want, got); err == nil && d != "" {
			err = fmt.Errorf("it differs (-want +got):\n%s", d)
		}
		return err
	})
}

// noBreaker fails the test if the store holds a breaker of that hook and Gen.
func (s *suite) noBreaker(t *testing.T, what, hookID string, gen, now int64) {
	t.Helper()
	eventually(t, what, func() error {
		if b, err := s.Breaker(t.Context(), hookID, gen, now); !errors.Is(err, hook.ErrNotFound) {
			return fmt.Errorf("got %+v, %v; want ErrNotFound", b, err)
		}
		return nil
	})
}

// replace is UpdateBreaker; it must succeed, and answer what was given, one Rev
// on.
func (s *suite) replace(t *testing.T, b hook.Breaker, now int64) hook.Breaker {
	t.Helper()
	got, err := s.UpdateBreaker(t.Context(), b, now)
	ok(t, "UpdateBreaker", err)
	b.Rev++
	equal(t, "UpdateBreaker", got, b)
	return got
}

// open returns a breaker of a new hook that is stored, and open.
func (s *suite) open(t *testing.T, wakeMS int64) hook.Breaker {
	t.Helper()
	b := s.fail(t, newID(), 7, 10, s.now)
	b.State, b.OpenedMS, b.WakeMS = hook.BreakerOpen, s.now, wakeMS
	return s.replace(t, b, s.now)
}

func testBreakers(t *testing.T, s *suite) {
	t.Run("failures begin a breaker, which is closed", func(t *testing.T) {
		id := newID()
		s.noBreaker(t, "before", id, 7, s.now)
		want := hook.Breaker{HookID: id, Gen: 7, Rev: 1, State: hook.BreakerClosed, Count: 3, SinceMS: s.now, LastMS: s.now}
		equal(t, "CountFailures", s.fail(t, id, 7, 3, s.now), want)
		s.breaker(t, "after", want, s.now)
	})

	t.Run("failures add up until none comes for a while, then they begin anew", func(t *testing.T) {
		id := newID()
		want := s.fail(t, id, 7, 1, s.now)
		count := func(what string, n, now int64) {
			t.Helper()
			equal(t, what, s.fail(t, id, 7, n, now), want)
			s.breaker(t, what, want, now)
		}
		want.Count = 3
		count("at the same time", 2, s.now)
		want.Count, want.LastMS = 4, s.now+5*minute
		count("five minutes later", 1, s.now+5*minute)
		want.Count = 6
		count("by a clock that is behind", 2, s.now+4*minute)
		want.Count = 7
		count("by a clock that is far behind", 1, s.now-hour)
		want.Count, want.LastMS = 8, s.now+5*minute+memory-1
		count("in the last moment", 1, want.LastMS)
		now := want.LastMS + memory
		want.Rev, want.Count, want.SinceMS, want.LastMS = 2, 2, now, now
		count("too late", 2, now)
		want.Count = 3
		count("and on", 1, now)
		now += memory + second
		want.Rev, want.Count, want.SinceMS, want.LastMS = 3, 1, now, now
		count("too late again", 1, now)
	})

	t.Run("each hook and Gen has a breaker of its own", func(t *testing.T) {
		id := newID()
		var all []hook.Breaker
		for i, gen := range []int64{7, 8, 77, 1<<53 + 1, 0} {
			b := s.fail(t, id, gen, int64(i+1), s.now+int64(i))
			equal(t, "CountFailures", b, hook.Breaker{HookID: id, Gen: gen, Rev: 1, State: hook.BreakerClosed, Count: int64(i + 1), SinceMS: s.now + int64(i), LastMS: s.now + int64(i)})
			all = append(all, b)
		}
		other := s.fail(t, newID(), 7, 9, s.now)
		for _, b := range append(all, other) {
			s.breaker(t, fmt.Sprintf("Gen %d", b.Gen), b, s.now)
		}
		s.noBreaker(t, "another Gen", id, 9, s.now)
		ok(t, "DeleteBreaker", s.DeleteBreaker(t.Context(), all[0]))
		s.noBreaker(t, "the one that was deleted", id, all[0].Gen, s.now)
		for _, b := range append(all[1:], other) {
			s.breaker(t, fmt.Sprintf("Gen %d, when another was deleted", b.Gen), b, s.now)
		}
	})

	t.Run("failures are counted on a breaker that is not closed, however late they come", func(t *testing.T) {
		for _, state := range []hook.BreakerState{hook.BreakerOpen, hook.BreakerReleasing} {
			b := s.open(t, s.now+minute)
			if state != hook.BreakerOpen {
				b.State = state
				b = s.replace(t, b, s.now)
			}
			for i, now := range []int64{s.now, s.now + memory - 1, s.now + memory, s.now + 2*hour, s.now + hour, s.now + 9*day} {
				b.Count += int64(i + 1)
				b.LastMS = max(b.LastMS, now)
				equal(t, "CountFailures", s.fail(t, b.HookID, b.Gen, int64(i+1), now), b)
				s.breaker(t, string(state), b, now)
			}
		}
	})

	t.Run("of failures at the same time none is lost, whether there was a breaker or none, or a forgotten one", func(t *testing.T) {
		for _, there := range []string{"none", "one", "one to begin anew", "an open one"} {
			id, now := newID(), s.now
			want := hook.Breaker{HookID: id, Gen: 7, Rev: 1, State: hook.BreakerClosed}
			switch there {
			case "one":
				want = s.fail(t, id, 7, 5, s.now-1)
			case "one to begin anew":
				s.fail(t, id, 7, 5, s.now-1)
				now += memory
				want.Rev = 2
			case "an open one":
				want = s.open(t, s.now+minute)
			}
			counted := want.Count
			answers := race(func(worker int) []hook.Breaker {
				var bs []hook.Breaker
				for i := range int64(3) {
					b, err := hook.Breaker{}, error(nil)
					if err = patiently(func() error {
						b, err = s.CountFailures(t.Context(), want.HookID, 7, int64(worker+1), now+int64(worker)*10+i)
						return err
					}); err != nil {
						t.Errorf("%s: worker %d: %v", there, worker, err)
					}
					bs = append(bs, b)
				}
				return bs
			})
			got := s.fail(t, want.HookID, 7, 1, now+1000)
			want.Count, want.LastMS = counted+3*workers*(workers+1)/2+1, now+1000
			if want.SinceMS == 0 { // the first one's time, whoever that was
				want.SinceMS = got.SinceMS
				if got.SinceMS < now || got.SinceMS > now+10*workers {
					t.Errorf("%s: SinceMS = %d; want that of one of the workers", there, got.SinceMS-now)
				}
			}
			equal(t, there, got, want)
			// Each count is told once, so that one of the workers hears of any
			// number that matters.
			var told []int64
			for _, bs := range answers {
				for _, b := range bs {
					told = append(told, b.Count)
				}
			}
			slices.Sort(told)
			if n := len(slices.Compact(slices.Clone(told))); n != len(told) {
				t.Errorf("%s: of %d answers only %d tell different counts: %d", there, len(told), n, told)
			}
		}
	})

	t.Run("an update replaces the whole breaker and raises Rev", func(t *testing.T) {
		for _, state := range []hook.BreakerState{hook.BreakerOpen, hook.BreakerReleasing, hook.BreakerClosed} {
			from := s.fail(t, newID(), 7, 1, s.now)
			b := filled[hook.Breaker]()
			b.HookID, b.Gen, b.Rev, b.State = from.HookID, from.Gen, from.Rev, state
			if state == hook.BreakerClosed {
				b.WakeMS = 0
			}
			b = s.replace(t, b, s.now)
			s.breaker(t, "everything set", b, s.now)
			b = s.replace(t, hook.Breaker{HookID: b.HookID, Gen: b.Gen, Rev: b.Rev, State: hook.BreakerOpen}, s.now)
			s.breaker(t, "hardly anything set", b, s.now)
		}
	})

	t.Run("an update holds only at the Rev that was read", func(t *testing.T) {
		b := s.open(t, s.now+minute)
		stale := func(what string, b hook.Breaker, now int64) {
			t.Helper()
			b.Count, b.State = 99, hook.BreakerReleasing
			_, err := s.UpdateBreaker(t.Context(), b, now)
			is(t, "UpdateBreaker of "+what, err, hook.ErrStale)
		}
		for _, rev := range []int64{0, 1, 3} {
			other := b
			other.Rev = rev
			stale(fmt.Sprintf("Rev %d", rev), other, s.now)
		}
		for _, gen := range []int64{6, 8} {
			other := b
			other.Gen = gen
			stale(fmt.Sprintf("Gen %d", gen), other, s.now)
			s.noBreaker(t, "after a refused update", b.HookID, gen, s.now)
		}
		s.breaker(t, "after refused updates", b, s.now)

		none := b
		none.HookID = newID()
		stale("none", none, s.now)
		s.noBreaker(t, "after an update of none", none.HookID, none.Gen, s.now)

		again := s.fail(t, newID(), 7, 1, s.now)
		anew := s.fail(t, again.HookID, 7, 1, s.now+memory)
		stale("one that has begun anew", again, s.now+memory)
		s.breaker(t, "the new one", anew, s.now+memory)
		stale("one that is forgotten", anew, s.now+memory+2*hour)
	})

	t.Run("failures that come between the reading and the update or the deletion do not stand in its way", func(t *testing.T) {
		b := s.fail(t, newID(), 7, 10, s.now)
		s.fail(t, b.HookID, 7, 5, s.now+1)
		b.State, b.OpenedMS, b.WakeMS = hook.BreakerOpen, s.now+2, s.now+minute
		b = s.replace(t, b, s.now+2)
		s.breaker(t, "opened", b, s.now+2)
		s.fail(t, b.HookID, 7, 1, s.now+3)
		ok(t, "DeleteBreaker", s.DeleteBreaker(t.Context(), b))
		s.noBreaker(t, "deleted", b.HookID, b.Gen, s.now+3)
	})

	t.Run("of updates of one reading at the same time exactly one holds", func(t *testing.T) {
		b := s.fail(t, newID(), 7, 10, s.now)
		b.State = hook.BreakerOpen
		winner := oneWins(t, "UpdateBreaker", race(func(worker int) error {
			mine := b
			mine.WakeMS = s.now + int64(worker)
			_, err := s.UpdateBreaker(t.Context(), mine, s.now)
			return err
		}), hook.ErrStale)
		b.Rev, b.WakeMS = b.Rev+1, s.now+int64(winner)
		s.breaker(t, "the winner's", b, s.now)
	})

	t.Run("a deletion holds only at the Rev that was read", func(t *testing.T) {
		b := s.open(t, s.now+minute)
		stale := func(what string, b hook.Breaker) {
			t.Helper()
			is(t, "DeleteBreaker of "+what, s.DeleteBreaker(t.Context(), b), hook.ErrStale)
		}
		for _, rev := range []int64{0, 1, 3} {
			other := b
			other.Rev = rev
			stale(fmt.Sprintf("Rev %d", rev), other)
		}
		other := b
		other.Gen++
		stale("another Gen", other)
		s.breaker(t, "after refused deletions", b, s.now)
		ok(t, "DeleteBreaker", s.DeleteBreaker(t.Context(), b))
		s.noBreaker(t, "deleted", b.HookID, b.Gen, s.now)
		stale("none", b)

		anew := s.fail(t, b.HookID, b.Gen, 2, s.now)
		equal(t, "begun after a deletion", anew, hook.Breaker{HookID: b.HookID, Gen: b.Gen, Rev: 1, State: hook.BreakerClosed, Count: 2, SinceMS: s.now, LastMS: s.now})
	})

	t.Run("a closed breaker is forgotten an hour after its last failure, all others are not", func(t *testing.T) {
		b := s.fail(t, newID(), 7, 3, s.now)
		end := (s.now/1000 + 3600) * 1000
		s.breaker(t, "a millisecond before", b, end-1)
		s.noBreaker(t, "an hour after", b.HookID, b.Gen, end)
		b = s.fail(t, b.HookID, b.Gen, 1, s.now+5*second)
		s.breaker(t, "an hour after, with a failure between", b, end)
		s.noBreaker(t, "an hour after that one", b.HookID, b.Gen, end+5*second)
		again := s.fail(t, b.HookID, b.Gen, 1, end+5*second)
		equal(t, "begun in place of a forgotten one", again, hook.Breaker{
			HookID: b.HookID, Gen: b.Gen, Rev: 1, State: hook.BreakerClosed, Count: 1, SinceMS: end + 5*second, LastMS: end + 5*second,
		})

		b = s.open(t, s.now+minute)
		s.breaker(t, "an open one, much later", b, s.now+400*day)
		b = s.fail(t, b.HookID, b.Gen, 1, s.now+second)
		s.breaker(t, "an open one with another failure, much later", b, s.now+400*day)
		b.State = hook.BreakerReleasing
		b = s.replace(t, b, s.now)
		s.breaker(t, "a releasing one, much later", b, s.now+400*day)
		b.State, b.WakeMS = hook.BreakerClosed, 0
		b = s.replace(t, b, s.now)
		end = (b.LastMS/1000 + 3600) * 1000
		s.breaker(t, "closed again, before an hour after its last failure", b, end-1)
		s.noBreaker(t, "closed again, then", b.HookID, b.Gen, end)
	})

	// Breakers of the tests below wake in the first seconds of 1970, so that they
	// come before all others that the tables may hold, and are deleted when done.
	overdue := func(hooks []string, now int64, limit int) ([]hook.Breaker, error) {
		all, err := s.OverdueBreakers(t.Context(), now, limit)
		if err != nil {
			return nil, err
		}
		if len(all) > limit {
			return nil, fmt.Errorf("OverdueBreakers with limit %d has %d", limit, len(all))
		}
		for i, b := range all {
			if b.WakeMS == 0 || b.WakeMS > now || b.State == hook.BreakerClosed || i > 0 && b.WakeMS < all[i-1].WakeMS {
				return nil, fmt.Errorf("OverdueBreakers at %d has %+v at place %d; want those that are open and whose time has come, earliest first", now, b, i)
			}
		}
		return slices.DeleteFunc(all, func(b hook.Breaker) bool { return !slices.Contains(hooks, b.HookID) }), nil
	}
	listed := func(t *testing.T, what string, hooks []string, now int64, limit int, want ...hook.Breaker) {
		t.Helper()
		eventually(t, what, func() error {
			got, err := overdue(hooks, now, limit)
			if d := diff(want, got); err == nil && d != "" {
				err = fmt.Errorf("OverdueBreakers (-want +got):\n%s", d)
			}
			return err
		})
	}

	t.Run("a breaker that is not closed is overdue from its WakeMS on, wherever that moves", func(t *testing.T) {
		b := s.open(t, 1000)
		hooks := []string{b.HookID}
		listed(t, "before its time", hooks, 999, 1000)
		listed(t, "at its time", hooks, 1000, 1000, b)
		b = s.fail(t, b.HookID, b.Gen, 1, s.now)
		listed(t, "with another failure", hooks, 1000, 1000, b)
		b.WakeMS = 2000
		b = s.replace(t, b, s.now)
		listed(t, "moved, before its new time", hooks, 1999, 1000)
		listed(t, "moved, at its new time", hooks, 2000, 1000, b)
		b.State, b.WakeMS = hook.BreakerReleasing, 1500
		b = s.replace(t, b, s.now)
		listed(t, "releasing", hooks, 1500, 1000, b)
		b.WakeMS = 0
		b = s.replace(t, b, s.now)
		listed(t, "without a time", hooks, 3000, 1000)
		b.WakeMS = 1000
		b = s.replace(t, b, s.now)
		listed(t, "with one again", hooks, 3000, 1000, b)
		ok(t, "DeleteBreaker", s.DeleteBreaker(t.Context(), b))
		listed(t, "deleted", hooks, 3000, 1000)
	})

	t.Run("a closed breaker is never overdue: a WakeMS given with it is not stored", func(t *testing.T) {
		given := s.open(t, 1000)
		listed(t, "while it was open", []string{given.HookID}, 1000, 1000, given)
		given.State = hook.BreakerClosed
		b, err := s.UpdateBreaker(t.Context(), given, s.now)
		ok(t, "UpdateBreaker", err)
		want := given
		want.Rev, want.WakeMS = given.Rev+1, 0
		equal(t, "UpdateBreaker", b, want)
		s.breaker(t, "closed", want, s.now)
		listed(t, "closed", []string{b.HookID}, 1000, 1000)
	})

	t.Run("overdue breakers come earliest first, as many as are asked for, and never among deliveries", func(t *testing.T) {
		var bs []hook.Breaker
		var hooks []string
		var rows []hook.Delivery
		for i := range 12 {
			b := s.open(t, 100+int64(i*5%12)) // each its own time
			hooks = append(hooks, b.HookID)
			bs = append(bs, b)
			d := s.newRow(b.HookID)
			d.WakeMS = 100 + int64(i)
			rows = append(rows, d)
		}
		s.createAll(t, rows)
		slices.SortFunc(bs, func(a, b hook.Breaker) int { return int(a.WakeMS - b.WakeMS) })
		for _, limit := range []int{1, 3, 11, 12, 13, 1000} {
			listed(t, fmt.Sprintf("limit %d", limit), hooks, 1000, limit, bs[:min(limit, 12)]...)
		}
		listed(t, "those whose time has come", hooks, 104, 1000, bs[:5]...)
		woken := map[hook.DeliveryKey]bool{}
		for shard := range hook.WakeShards {
			os, err := s.OverdueDeliveries(t.Context(), shard, 1000, 1000)
			ok(t, "OverdueDeliveries", err)
			for _, o := range os {
				if slices.Contains(hooks, o.HookID) && !slices.ContainsFunc(rows, func(d hook.Delivery) bool { return d.Key() == o.DeliveryKey }) {
					t.Errorf("OverdueDeliveries has %+v; want deliveries only", o)
				}
				woken[o.DeliveryKey] = true
			}
		}
		if len(woken) == 0 {
			t.Error("OverdueDeliveries has none; want the rows of the breakers' hooks")
		}
		for _, b := range bs {
			ok(t, "DeleteBreaker", s.DeleteBreaker(t.Context(), b))
		}
		for _, d := range rows {
			_, err := s.UpdateDelivery(t.Context(), s.ended(d, hook.Failed), s.now)
			ok(t, "UpdateDelivery", err)
		}
		listed(t, "deleted", hooks, 1000, 1000)
	})
}

// waiting reads all pages of a hook's pending rows with the given limit.
func (s *suite) waiting(t *testing.T, hookID, after string, limit int) ([]hook.Waiting, error) {
	t.Helper()
	var all []hook.Waiting
	for {
		page, more, err := s.PendingDeliveries(t.Context(), hookID, after, limit)
		if err != nil {
			return nil, err
		}
		if len(page) > limit {
			return nil, fmt.Errorf("PendingDeliveries returned %d rows; want at most %d", len(page), limit)
		}
		for _, w := range page {
			if w.EventID <= after {
				return nil, fmt.Errorf("PendingDeliveries after %q returned %q; want rising ids", after, w.EventID)
			}
			after = w.EventID
		}
		all = append(all, page...)
		if !more {
			return all, nil
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("PendingDeliveries(after %q) returned an empty page and says that there is more", after)
		}
	}
}

// waits is what PendingDeliveries tells of a row.
func waits(d hook.Delivery) hook.Waiting {
	return hook.Waiting{
		Overdue: hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, WakeMS: d.WakeMS, Nudges: d.Nudges, DeadlineMS: d.DeadlineMS, Reason: d.Reason},
		DueMS:   d.DueMS, LeaseMS: d.LeaseMS,
	}
}

func testWaiting(t *testing.T, s *suite) {
	// are asks until the hook's pending rows are the given ones.
	are := func(t *testing.T, what, hookID, after string, limit int, want ...hook.Delivery) {
		t.Helper()
		var ws []hook.Waiting
		for _, d := range want {
			ws = append(ws, waits(d))
		}
		eventually(t, what, func() error {
			got, err := s.waiting(t, hookID, after, limit)
			if d := diff(ws, got); err == nil && d != "" {
				err = fmt.Errorf("PendingDeliveries (-want +got):\n%s", d)
			}
			return err
		})
	}

	t.Run("pending rows are listed oldest first, each with what wakes it, whatever the page", func(t *testing.T) {
		hookID := newID()
		var all, want []hook.Delivery
		for i := range 24 {
			d := s.fullRow(hookID, statuses[i*5/3%4])
			if i%2 == 0 { // so that pending ones of both kinds are among them
				d = s.newRow(hookID)
			}
			all = append(all, d)
			if d.Status == hook.Pending {
				want = append(want, d)
			}
			other := s.newRow(newID())
			other.Event.ID = d.Event.ID
			all = append(all, other)
		}
		s.createAll(t, slices.Concat(all[20:], all[:20]))
		n := len(want)
		if n < 10 || n > 20 {
			t.Fatalf("%d rows are pending; want some, and others too", n)
		}
		for _, limit := range []int{1, 3, n - 1, n, n + 1, 1000} {
			are(t, fmt.Sprintf("limit %d", limit), hookID, "", limit, want...)
			are(t, fmt.Sprintf("after the third, limit %d", limit), hookID, want[2].Event.ID, limit, want[3:]...)
		}
		are(t, "after what lies between two", hookID, want[2].Event.ID+"0", 5, want[3:]...)
		are(t, "after the last", hookID, want[n-1].Event.ID, 5)
		are(t, "those of a hook that has none", newID(), "", 5)
	})

	t.Run("a row is listed as it is, until it ends", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		are(t, "created", d.HookID, "", 10, d)
		nudged, err := s.NudgeDelivery(t.Context(), waits(d).Overdue, s.now+hour)
		ok(t, "NudgeDelivery", err)
		if !nudged {
			t.Fatal("NudgeDelivery = false; want true")
		}
		d.WakeMS, d.Nudges = s.now+hour, 1
		are(t, "nudged", d.HookID, "", 10, d)
		d, err = s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, s.now+90*second, s.now)
		ok(t, "ClaimDelivery", err)
		are(t, "claimed", d.HookID, "", 10, d)
		d.LeaseMS, d.Nudges, d.DueMS, d.WakeMS, d.Reason, d.DeadlineMS = 0, 0, s.now+2*hour, s.now+3*hour, hook.ReasonBreaker, s.now+day
		d.Seq, err = s.UpdateDelivery(t.Context(), d, s.now)
		ok(t, "UpdateDelivery", err)
		are(t, "put off", d.HookID, "", 10, d)
		for _, status := range []hook.Status{hook.Delivered, hook.Failed, hook.Superseded} {
			end := s.ended(d, status)
			if status == hook.Delivered {
				_, err = s.RecordDelivered(t.Context(), end, s.now)
				ok(t, "RecordDelivered", err)
			} else {
				_, err = s.UpdateDelivery(t.Context(), end, s.now)
				ok(t, "UpdateDelivery", err)
			}
			are(t, string(status), d.HookID, "", 10)
			d.Run, d.Seq = d.Run+1, s.seq(t, d.Key())
			d.Seq, err = s.RedeliverDelivery(t.Context(), d, s.now)
			ok(t, "RedeliverDelivery", err)
			are(t, "redelivered", d.HookID, "", 10, d)
		}
	})

	t.Run("a list of pending rows may begin after any text, and be of any hook", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		for _, after := range []string{"", "!", "!" + longText, "00\xff", "\x00"} {
			are(t, fmt.Sprintf("after %.10q", after), d.HookID, after, 10, d)
		}
		for _, after := range []string{"g", "g" + longText, "g\xff", "\xff", d.Event.ID + "\x00", d.Event.ID + longText} {
			are(t, fmt.Sprintf("after %.10q", after), d.HookID, after, 10)
		}
		for _, hookID := range []string{"", longText, d.HookID + "\x00" + "pending", d.HookID + "#", d.HookID + "\xff"} {
			are(t, fmt.Sprintf("hook %.50q", hookID), hookID, "", 10)
		}
	})

	t.Run("a page of no rows is refused", func(t *testing.T) {
		d := s.newRow(newID())
		s.create(t, d)
		are(t, "created", d.HookID, "", 1, d)
		for _, limit := range []int{0, -1} {
			page, more, err := s.PendingDeliveries(t.Context(), d.HookID, "", limit)
			refused(t, "PendingDeliveries", limit, len(page), more, err)
			_, more, err = s.PendingDeliveries(t.Context(), longText, "", limit)
			refused(t, "PendingDeliveries of a hook that is none", limit, 0, more, err)
		}
	})
}
