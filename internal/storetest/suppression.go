package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"eventhooks/internal/hook"
)

// keys that are hard to keep apart or to carry. Real ones are short.
func hardKeys() []string {
	return []string{"7#k", "7#k#", "7", "#", "a/b", "ünï 😀", "nul\u0000l", "nul\u0000", strings.Repeat("k", 700)}
}

// admit is Admit; it must succeed.
func (s *suite) admit(t *testing.T, a hook.Admission) {
	t.Helper()
	ok(t, "Admit", patiently(func() error { return s.Admit(t.Context(), a) }))
}

// slot returns what is stored of a slot, zero when nothing is.
func (s *suite) slot(t *testing.T, hookID, key string, now int64) hook.Slot {
	t.Helper()
	m, err := s.Slots(t.Context(), hookID, []string{key}, now)
	ok(t, "Slots", err)
	return m[key]
}

// window returns what is stored of a window, zero when nothing is.
func (s *suite) window(t *testing.T, hookID, key string, now int64) hook.Snooze {
	t.Helper()
	m, err := s.Snoozes(t.Context(), hookID, []string{key}, now)
	ok(t, "Snoozes", err)
	return m[key]
}

// claim is a window of a minute, opened by the event at now.
func claim(key, event string, now int64) hook.SnoozeClaim {
	return hook.SnoozeClaim{Key: key, Snooze: hook.Snooze{UntilMS: now + minute, By: event}, ExpiresAt: (now + day) / 1000}
}

// admitted returns an admission of a new event under a slot and a window.
func (s *suite) admitted(hookID, slot, window string, read int64) hook.Admission {
	d := s.newRow(hookID)
	d.Attempt, d.Attempts, d.SlotKey, d.SnoozeKey = 0, nil, slot, window
	a := hook.Admission{HookID: hookID, NowMS: s.now, Rows: []hook.Delivery{d}}
	if slot != "" {
		a.Slot = &hook.SlotWrite{Key: slot, Read: read, Slot: hook.Slot{Rev: read + 1, Sig: "sig of " + d.Event.ID, Seen: d.Event.ID, By: d.Event.ID}}
	}
	if window != "" {
		a.Snoozes = []hook.SnoozeClaim{claim(window, d.Event.ID, s.now)}
	}
	return a
}

func testSuppression(t *testing.T, s *suite) {
	t.Run("an admission stores slot, windows and rows", func(t *testing.T) {
		hookID := newID()
		rows := []hook.Delivery{s.fullRow(hookID, hook.Pending), s.newRow(hookID)}
		slot := filled[hook.Slot]()
		slot.Rev = 1
		a := hook.Admission{
			HookID: hookID, NowMS: s.now, Slot: &hook.SlotWrite{Key: "slot", Slot: slot}, Rows: rows,
			Snoozes: []hook.SnoozeClaim{claim("one", rows[0].Event.ID, s.now), claim("two", "by somebody", s.now)},
		}
		a.Snoozes[1].Snooze = filled[hook.Snooze]()
		s.admit(t, a)
		equal(t, "slot", s.slot(t, hookID, "slot", s.now), slot)
		equal(t, "first window", s.window(t, hookID, "one", s.now), a.Snoozes[0].Snooze)
		equal(t, "second window", s.window(t, hookID, "two", s.now), a.Snoozes[1].Snooze)
		for _, d := range rows {
			s.holds(t, "row", d)
		}
	})

	t.Run("an admission may have a slot only, a window only, or rows only", func(t *testing.T) {
		for _, a := range []hook.Admission{s.admitted(newID(), "slot", "", 0), s.admitted(newID(), "", "window", 0), s.admitted(newID(), "", "", 0)} {
			s.admit(t, a)
			s.holds(t, "row", a.Rows[0])
			if a.Slot == nil {
				equal(t, "slot", s.slot(t, a.HookID, "slot", s.now), hook.Slot{})
			} else {
				equal(t, "slot", s.slot(t, a.HookID, "slot", s.now), a.Slot.Slot)
			}
			if len(a.Snoozes) == 0 {
				equal(t, "window", s.window(t, a.HookID, "window", s.now), hook.Snooze{})
			} else {
				equal(t, "window", s.window(t, a.HookID, "window", s.now), a.Snoozes[0].Snooze)
			}
		}
	})

	t.Run("slots and windows of any key are kept apart, by hook too", func(t *testing.T) {
		one, two := newID(), newID()
		for i, key := range hardKeys() {
			for _, hookID := range []string{one, two} {
				a := s.admitted(hookID, key, key, 0)
				a.Slot.Slot.Sig, a.Snoozes[0].Snooze.UntilMS = fmt.Sprint(hookID, i), s.now+int64(i)+1
				s.admit(t, a)
			}
		}
		for _, hookID := range []string{one, two} {
			slots, err := s.Slots(t.Context(), hookID, hardKeys(), s.now)
			ok(t, "Slots", err)
			windows, err := s.Snoozes(t.Context(), hookID, hardKeys(), s.now)
			ok(t, "Snoozes", err)
			for i, key := range hardKeys() {
				if got, want := slots[key].Sig, fmt.Sprint(hookID, i); got != want {
					t.Errorf("slot %q has Sig %q; want %q", key, got, want)
				}
				if got, want := windows[key].UntilMS, s.now+int64(i)+1; got != want {
					t.Errorf("window %q has UntilMS %d; want %d", key, got, want)
				}
			}
		}
	})

	t.Run("Slots and Snoozes return those that exist, however many are asked for", func(t *testing.T) {
		hookID := newID()
		var keys []string
		a := hook.Admission{HookID: hookID, NowMS: s.now}
		for i := range 90 {
			key := fmt.Sprint("key", i)
			keys = append(keys, key, fmt.Sprint("nobody's", i))
			a.Snoozes = append(a.Snoozes, claim(key, newEventID(), s.now))
		}
		s.admit(t, a)
		s.admit(t, s.admitted(hookID, "key0", "", 0))
		s.admit(t, s.admitted(hookID, "key70", "", 0))
		keys = append(keys, "key0", "key0")
		windows, err := s.Snoozes(t.Context(), hookID, keys, s.now)
		ok(t, "Snoozes", err)
		want := map[string]hook.Snooze{}
		for _, c := range a.Snoozes {
			want[c.Key] = c.Snooze
		}
		equal(t, "Snoozes", windows, want)
		slots, err := s.Slots(t.Context(), hookID, keys, s.now)
		ok(t, "Slots", err)
		if _, other := slots["key1"]; len(slots) != 2 || slots["key0"].Rev != 1 || slots["key70"].Rev != 1 || other {
			t.Errorf("Slots = %+v; want key0 and key70", slots)
		}
		windows, err = s.Snoozes(t.Context(), hookID, nil, s.now)
		ok(t, "Snoozes of none", err)
		equal(t, "Snoozes of none", windows, map[string]hook.Snooze{})
		slots, err = s.Slots(t.Context(), hookID, nil, s.now)
		ok(t, "Slots of none", err)
		equal(t, "Slots of none", slots, map[string]hook.Slot{})
	})

	t.Run("99 rows and windows fit in an admission beside the slot, 100 are an error", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "slot", "window", 0)
		for range 97 {
			a.Rows = append(a.Rows, s.newRow(hookID))
		}
		tooMany := a
		tooMany.Slot = nil
		tooMany.Rows = append(slices.Clone(a.Rows), s.newRow(hookID))
		if len(tooMany.Rows)+len(tooMany.Snoozes) != 100 {
			t.Fatal("the test does not count well")
		}
		if err := s.Admit(t.Context(), tooMany); err == nil {
			t.Errorf("Admit of 100 = nil; want an error")
		}
		s.holdsNone(t, "after a refused admission", a.Rows[0].Key())
		s.admit(t, a)
		s.holds(t, "the first row", a.Rows[0])
		s.holds(t, "the last row", a.Rows[97])
	})

	t.Run("W7: a slot that is not as read stops the whole admission", func(t *testing.T) {
		hookID := newID()
		first := s.admitted(hookID, "slot", "", 0)
		s.admit(t, first)
		second := s.admitted(hookID, "slot", "", 1)
		s.admit(t, second)
		equal(t, "slot", s.slot(t, hookID, "slot", s.now), second.Slot.Slot)
		for _, read := range []int64{0, 1, 3} {
			a := s.admitted(hookID, "slot", "window", read)
			is(t, fmt.Sprintf("Admit after reading %d", read), s.Admit(t.Context(), a), hook.ErrStale)
			s.holdsNone(t, "after a refused admission", a.Rows[0].Key())
			equal(t, "window after a refused admission", s.window(t, hookID, "window", s.now), hook.Snooze{})
		}
		equal(t, "slot after refused admissions", s.slot(t, hookID, "slot", s.now), second.Slot.Slot)
	})

	t.Run("W7: a window that is open stops the whole admission, until it has passed", func(t *testing.T) {
		hookID := newID()
		first := s.admitted(hookID, "", "b", 0)
		s.admit(t, first)
		until := first.Snoozes[0].Snooze.UntilMS

		a := s.admitted(hookID, "slot", "a", 0)
		a.NowMS = until - 1
		a.Snoozes = append(a.Snoozes, claim("b", a.Rows[0].Event.ID, a.NowMS), claim("c", a.Rows[0].Event.ID, a.NowMS))
		is(t, "Admit while the window is open", s.Admit(t.Context(), a), hook.ErrStale)
		s.holdsNone(t, "after a refused admission", a.Rows[0].Key())
		equal(t, "slot after a refused admission", s.slot(t, hookID, "slot", s.now), hook.Slot{})
		for _, key := range []string{"a", "c"} {
			equal(t, "window after a refused admission", s.window(t, hookID, key, s.now), hook.Snooze{})
		}
		equal(t, "the open window", s.window(t, hookID, "b", s.now), first.Snoozes[0].Snooze)

		added, err := s.AddSuppressed(t.Context(), hookID, "b", until, 3, "an event", "snoozed")
		ok(t, "AddSuppressed", err)
		if !added {
			t.Errorf("AddSuppressed = false; want true")
		}
		a.NowMS = until
		s.admit(t, a)
		s.holds(t, "row", a.Rows[0])
		equal(t, "the new window, which counts anew", s.window(t, hookID, "b", s.now), a.Snoozes[1].Snooze)
	})

	t.Run("W7: a row that exists means admitted before, whatever slot and window say, and is named", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "slot", "window", 0)
		a.Rows = append(a.Rows, s.newRow(hookID), s.newRow(hookID))
		s.admit(t, a)
		conflict(t, "Admit of the very same", s.Admit(t.Context(), hook.Admission{
			HookID: hookID, NowMS: s.now, Slot: a.Slot, Snoozes: a.Snoozes, Rows: a.Rows[:1],
		}), hook.ErrExists, -1, 0)
		for bad := range 3 {
			b := s.admitted(hookID, "other slot", "other window", 0)
			b.Rows = append(b.Rows, s.newRow(hookID), s.newRow(hookID))
			b.Rows[bad] = a.Rows[bad]
			conflict(t, "Admit", s.Admit(t.Context(), b), hook.ErrExists, -1, bad)
			for i, d := range b.Rows {
				if i != bad {
					s.holdsNone(t, "after a refused admission", d.Key())
				}
			}
		}
		equal(t, "slot after refused admissions", s.slot(t, hookID, "other slot", s.now), hook.Slot{})
		equal(t, "window after refused admissions", s.window(t, hookID, "other window", s.now), hook.Snooze{})
		for _, d := range a.Rows {
			s.holds(t, "the rows that were there", d)
		}

		old := s.ended(s.newRow(hookID), hook.Failed)
		s.create(t, old)
		c := s.admitted(hookID, "third slot", "third window", 0)
		c.Rows[0].Event.ID = old.Event.ID
		c.NowMS = old.ExpiresAt*1000 - 1
		conflict(t, "Admit over a row that has ended", s.Admit(t.Context(), c), hook.ErrExists, -1, 0)
		c.NowMS++
		s.admit(t, c)
		s.holds(t, "the row in place of an expired one", c.Rows[0])
	})

	t.Run("W7: an admission with a row over 400 KB is an error and stores nothing", func(t *testing.T) {
		a := s.admitted(newID(), "slot", "window", 0)
		large := s.newRow(a.HookID)
		large.Event.Data = noise(maxItem + 1)
		a.Rows = append(a.Rows, large)
		err := s.Admit(t.Context(), a)
		if err == nil || errors.Is(err, hook.ErrStale) || errors.Is(err, hook.ErrExists) || errors.Is(err, hook.ErrBusy) {
			t.Errorf("Admit = %v; want an error of its own", err)
		}
		s.holdsNone(t, "beside one too large", a.Rows[0].Key())
		equal(t, "slot", s.slot(t, a.HookID, "slot", s.now), hook.Slot{})
		equal(t, "window", s.window(t, a.HookID, "window", s.now), hook.Snooze{})
	})

	t.Run("W7: of admissions into one window at the same time exactly one opens it", func(t *testing.T) {
		hookID := newID()
		var as []hook.Admission
		for range workers {
			as = append(as, s.admitted(hookID, "", "window", 0))
		}
		winner := oneWins(t, "Admit", race(func(worker int) error {
			return patiently(func() error { return s.Admit(t.Context(), as[worker]) })
		}), hook.ErrStale)
		equal(t, "window", s.window(t, hookID, "window", s.now), as[winner].Snoozes[0].Snooze)
		for i, a := range as {
			if i == winner {
				s.holds(t, "the winner's row", a.Rows[0])
			} else {
				s.holdsNone(t, "a loser's row", a.Rows[0].Key())
			}
		}
	})

	t.Run("W7: of admissions over one reading of a slot at the same time exactly one holds", func(t *testing.T) {
		hookID := newID()
		var as []hook.Admission
		for range workers {
			as = append(as, s.admitted(hookID, "slot", "", 0))
		}
		winner := oneWins(t, "Admit", race(func(worker int) error {
			return patiently(func() error { return s.Admit(t.Context(), as[worker]) })
		}), hook.ErrStale)
		equal(t, "slot", s.slot(t, hookID, "slot", s.now), as[winner].Slot.Slot)
	})

	t.Run("W7: of admissions of one event at the same time exactly one stores it, and the others hear that it exists", func(t *testing.T) {
		a := s.admitted(newID(), "slot", "window", 0)
		oneWins(t, "Admit", race(func(int) error {
			return patiently(func() error { return s.Admit(t.Context(), a) })
		}), hook.ErrExists)
		s.holds(t, "row", a.Rows[0])
	})

	t.Run("an admission stores the slot's counts as they are given, zero too", func(t *testing.T) {
		a := s.admitted(newID(), "slot", "", 0)
		a.Slot.Slot.Suppressed, a.Slot.Slot.LastEvent, a.Slot.Slot.LastReason = 1<<40, "event ü", "stale 😀"
		s.admit(t, a)
		equal(t, "a new slot", s.slot(t, a.HookID, "slot", s.now), a.Slot.Slot)
		b := s.admitted(a.HookID, "slot", "", 1)
		s.admit(t, b)
		equal(t, "replaced by one without counts", s.slot(t, a.HookID, "slot", s.now), b.Slot.Slot)
	})

	// seeing is SeeSlot of a hook's slot, which must answer as wanted, and after
	// which the slot must be as wanted.
	seeing := func(hookID string) func(t *testing.T, what, key string, saw hook.SlotSight, yes bool, want hook.Slot) {
		return func(t *testing.T, what, key string, saw hook.SlotSight, yes bool, want hook.Slot) {
			t.Helper()
			seen, err := s.SeeSlot(t.Context(), hookID, key, saw, s.now)
			ok(t, "SeeSlot", err)
			if seen != yes {
				t.Errorf("%s: SeeSlot(%q, %+v) = %v; want %v", what, key, saw, seen, yes)
			}
			equal(t, what, s.slot(t, hookID, key, s.now), want)
		}
	}

	t.Run("SeeSlot of unchanged events counts, and raises Seen and Rev, while Sig is the same and Seen is less", func(t *testing.T) {
		hookID := newID()
		see := seeing(hookID)
		older := newEventID()
		a := s.admitted(hookID, "slot", "", 0)
		newer, newest := newEventID(), newEventID()
		s.admit(t, a)
		want := a.Slot.Slot
		saw := func(sig, seen string) hook.SlotSight {
			return hook.SlotSight{Sig: sig, Seen: seen, N: 3, LastEvent: "event ü", LastReason: "unchanged 😀"}
		}
		see(t, "an older event", "slot", saw(want.Sig, older), false, want)
		see(t, "the event that was admitted", "slot", saw(want.Sig, want.Seen), false, want)
		see(t, "another Sig", "slot", saw("another sig", newer), false, want)
		see(t, "no Sig", "slot", saw("", newer), false, want)
		see(t, "no slot", "nobody's", saw(want.Sig, newer), false, hook.Slot{})

		want.Seen, want.Rev, want.Suppressed, want.LastEvent, want.LastReason = newer, 2, 3, "event ü", "unchanged 😀"
		see(t, "a newer event", "slot", saw(want.Sig, newer), true, want)
		see(t, "the same again", "slot", saw(want.Sig, newer), false, want)
		want.Seen, want.Rev, want.Suppressed, want.LastEvent, want.LastReason = newest, 3, 1<<40+3, "another", "again"
		see(t, "a newer event yet", "slot", hook.SlotSight{Sig: want.Sig, Seen: newest, N: 1 << 40, LastEvent: "another", LastReason: "again"}, true, want)

		is(t, "Admit over a reading from before SeeSlot", s.Admit(t.Context(), s.admitted(hookID, "slot", "", 1)), hook.ErrStale)
		s.admit(t, s.admitted(hookID, "slot", "", want.Rev))
	})

	t.Run("SeeSlot of stale events counts and raises Rev wherever there is a slot, and leaves its Seen", func(t *testing.T) {
		hookID := newID()
		see := seeing(hookID)
		stale := hook.SlotSight{N: 2, LastEvent: newEventID(), LastReason: "stale"}
		see(t, "no slot", "slot", stale, false, hook.Slot{})
		a := s.admitted(hookID, "slot", "", 0)
		s.admit(t, a)
		want := a.Slot.Slot
		want.Rev, want.Suppressed, want.LastEvent, want.LastReason = 2, 2, stale.LastEvent, "stale"
		see(t, "a slot", "slot", stale, true, want)
		want.Rev, want.Suppressed = 3, 4
		see(t, "again", "slot", stale, true, want)
		stale.Sig = "another sig" // which says nothing without Seen
		want.Rev, want.Suppressed = 4, 6
		see(t, "with a Sig that is another", "slot", stale, true, want)

		is(t, "Admit over a reading from before SeeSlot", s.Admit(t.Context(), s.admitted(hookID, "slot", "", 1)), hook.ErrStale)
		s.admit(t, s.admitted(hookID, "slot", "", want.Rev))
	})

	t.Run("SeeSlot of a slot whose Sig was given back", func(t *testing.T) {
		hookID := newID()
		see := seeing(hookID)
		a := s.admitted(hookID, "slot", "", 0)
		a.Slot.Slot.Suppressed, a.Slot.Slot.LastEvent, a.Slot.Slot.LastReason = 7, "e", "stale"
		s.admit(t, a)
		ok(t, "GiveBack", s.GiveBack(t.Context(), a.Rows[0]))
		want := a.Slot.Slot
		want.Sig, want.Rev = "", 2
		equal(t, "given back, with its counts", s.slot(t, hookID, "slot", s.now), want)
		newer := newEventID()
		see(t, "the Sig that it had", "slot", hook.SlotSight{Sig: a.Slot.Slot.Sig, Seen: newer, N: 1}, false, want)
		want.Rev, want.Suppressed, want.LastEvent, want.LastReason = 3, 8, "late", "stale"
		see(t, "a stale event", "slot", hook.SlotSight{N: 1, LastEvent: "late", LastReason: "stale"}, true, want)
	})

	t.Run("SeeSlot at the same time loses no count and no Rev", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "slot", "", 0)
		s.admit(t, a)
		for i, err := range race(func(worker int) error {
			for range 5 {
				if err := won(s.SeeSlot(t.Context(), hookID, "slot", hook.SlotSight{N: int64(worker + 1), LastEvent: "e", LastReason: "stale"}, s.now)); err != nil {
					return err
				}
			}
			return nil
		}) {
			ok(t, fmt.Sprintf("SeeSlot of worker %d", i), err)
		}
		want := a.Slot.Slot
		want.Rev, want.Suppressed, want.LastEvent, want.LastReason = 1+5*workers, 5*workers*(workers+1)/2, "e", "stale"
		equal(t, "slot", s.slot(t, hookID, "slot", s.now), want)
	})

	t.Run("SeeSlot at the same time raises Seen to the greatest", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "slot", "", 0)
		s.admit(t, a)
		var events []string
		for range workers {
			events = append(events, newEventID())
		}
		for i, err := range race(func(worker int) error {
			_, err := s.SeeSlot(t.Context(), hookID, "slot", hook.SlotSight{Sig: a.Slot.Slot.Sig, Seen: events[worker], N: 1}, s.now)
			return err
		}) {
			ok(t, fmt.Sprintf("SeeSlot of worker %d", i), err)
		}
		got := s.slot(t, hookID, "slot", s.now)
		if want := events[workers-1]; got.Seen != want {
			t.Errorf("Seen = %q; want %q", got.Seen, want)
		}
		if got.Suppressed != got.Rev-1 {
			t.Errorf("%d are counted, %d were seen; want as many", got.Suppressed, got.Rev-1)
		}
	})

	t.Run("a slot is forgotten 30 days after it was written or seen last", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "slot", "", 0)
		s.admit(t, a)
		equal(t, "slot after 29 days", s.slot(t, hookID, "slot", s.now+29*day), a.Slot.Slot)
		equal(t, "slot after 31 days", s.slot(t, hookID, "slot", s.now+31*day), hook.Slot{})

		see := func(saw hook.SlotSight, now int64, yes bool) {
			t.Helper()
			seen, err := s.SeeSlot(t.Context(), hookID, "slot", saw, now)
			ok(t, "SeeSlot", err)
			if seen != yes {
				t.Errorf("SeeSlot(%+v) after %d days = %v; want %v", saw, (now-s.now)/day, seen, yes)
			}
		}
		unchanged, stale := hook.SlotSight{Sig: a.Slot.Slot.Sig, Seen: newEventID(), N: 1}, hook.SlotSight{N: 1}
		see(unchanged, s.now+31*day, false)
		see(stale, s.now+31*day, false)
		see(unchanged, s.now+20*day, true)
		equal(t, "slot 29 days after it was seen", s.slot(t, hookID, "slot", s.now+49*day).Seen, unchanged.Seen)
		equal(t, "slot 31 days after it was seen", s.slot(t, hookID, "slot", s.now+51*day), hook.Slot{})
		see(stale, s.now+40*day, true)
		equal(t, "slot 29 days after stale events", s.slot(t, hookID, "slot", s.now+69*day).Seen, unchanged.Seen)
		equal(t, "slot 31 days after stale events", s.slot(t, hookID, "slot", s.now+71*day), hook.Slot{})

		anew := s.admitted(hookID, "slot", "", 0) // as one who found nothing
		anew.NowMS = s.now + 71*day
		s.admit(t, anew)
		equal(t, "slot made anew", s.slot(t, hookID, "slot", anew.NowMS), anew.Slot.Slot)
	})

	t.Run("a window is forgotten at its expiry, although it is still stored", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "", "window", 0)
		a.Snoozes[0].ExpiresAt = s.now/1000 + 3600
		a.Snoozes[0].Snooze.UntilMS = s.now + 2*hour
		s.admit(t, a)
		end := a.Snoozes[0].ExpiresAt * 1000
		equal(t, "window before", s.window(t, hookID, "window", end-1), a.Snoozes[0].Snooze)
		equal(t, "window at its expiry", s.window(t, hookID, "window", end), hook.Snooze{})
		b := s.admitted(hookID, "", "window", 0)
		b.NowMS = end - 1
		is(t, "Admit before the expiry", s.Admit(t.Context(), b), hook.ErrStale)
		b.NowMS = end
		s.admit(t, b)
	})

	t.Run("AddSuppressed counts in the window that it names, and in no other", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "", "window", 0)
		s.admit(t, a)
		want := a.Snoozes[0].Snooze
		add := func(key string, until, n int64, event, reason string, yes bool) {
			t.Helper()
			added, err := s.AddSuppressed(t.Context(), hookID, key, until, n, event, reason)
			ok(t, "AddSuppressed", err)
			if added != yes {
				t.Errorf("AddSuppressed(%q, %d) = %v; want %v", key, until, added, yes)
			}
			equal(t, "window", s.window(t, hookID, "window", s.now), want)
		}
		add("window", want.UntilMS-1, 5, "e", "r", false)
		add("window", want.UntilMS+1, 5, "e", "r", false)
		add("nobody's", want.UntilMS, 5, "e", "r", false)
		equal(t, "nobody's window", s.window(t, hookID, "nobody's", s.now), hook.Snooze{})
		want.Suppressed, want.LastEvent, want.LastReason = 5, "event ü", "snoozed 😀"
		add("window", want.UntilMS, 5, "event ü", "snoozed 😀", true)
		want.Suppressed, want.LastEvent, want.LastReason = 1<<40+5, "another", "again"
		add("window", want.UntilMS, 1<<40, "another", "again", true)
	})

	t.Run("AddSuppressed at the same time loses no count", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "", "window", 0)
		s.admit(t, a)
		for i, err := range race(func(worker int) error {
			for range 5 {
				if err := won(s.AddSuppressed(t.Context(), hookID, "window", a.Snoozes[0].Snooze.UntilMS, int64(worker+1), "e", "r")); err != nil {
					return err
				}
			}
			return nil
		}) {
			ok(t, fmt.Sprintf("AddSuppressed of worker %d", i), err)
		}
		if got, want := s.window(t, hookID, "window", s.now).Suppressed, int64(5*workers*(workers+1)/2); got != want {
			t.Errorf("Suppressed = %d; want %d", got, want)
		}
	})

	t.Run("W9: giving back makes the slot forget its Sig and ends the window", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "slot", "window", 0)
		s.admit(t, a)
		for range 2 { // twice is harmless
			ok(t, "GiveBack", s.GiveBack(t.Context(), a.Rows[0]))
			got := s.slot(t, hookID, "slot", s.now)
			if got.Sig != "" || got.Seen != a.Slot.Slot.Seen || got.Rev <= a.Slot.Slot.Rev {
				t.Errorf("slot = %+v; want no Sig, Seen %q as before, Rev above %d", got, a.Slot.Slot.Seen, a.Slot.Slot.Rev)
			}
			if until := s.window(t, hookID, "window", s.now).UntilMS; until != 0 {
				t.Errorf("UntilMS = %d; want 0", until)
			}
		}
		seen, err := s.SeeSlot(t.Context(), hookID, "slot", hook.SlotSight{Sig: a.Slot.Slot.Sig, Seen: newEventID(), N: 1}, s.now)
		ok(t, "SeeSlot", err)
		if seen {
			t.Errorf("SeeSlot after a give-back = true; want false")
		}
		added, err := s.AddSuppressed(t.Context(), hookID, "window", a.Snoozes[0].Snooze.UntilMS, 1, "e", "r")
		ok(t, "AddSuppressed", err)
		if added {
			t.Errorf("AddSuppressed after a give-back = true; want false")
		}
		is(t, "Admit over a reading from before the give-back", s.Admit(t.Context(), s.admitted(hookID, "slot", "", 1)), hook.ErrStale)
		next := s.admitted(hookID, "slot", "window", s.slot(t, hookID, "slot", s.now).Rev)
		s.admit(t, next)
		s.holds(t, "the next event's row", next.Rows[0])
	})

	t.Run("W9: what another event holds is not given back", func(t *testing.T) {
		hookID := newID()
		old := s.admitted(hookID, "slot", "window", 0)
		s.admit(t, old)
		now := s.admitted(hookID, "slot", "window", 1)
		now.NowMS = s.now + hour
		now.Snoozes[0].Snooze.UntilMS = s.now + 2*hour
		s.admit(t, now)
		ok(t, "GiveBack", s.GiveBack(t.Context(), old.Rows[0]))
		equal(t, "slot", s.slot(t, hookID, "slot", s.now), now.Slot.Slot)
		equal(t, "window", s.window(t, hookID, "window", s.now), now.Snoozes[0].Snooze)
	})

	t.Run("W9: slot and window are given back each on its own", func(t *testing.T) {
		hookID := newID()
		old := s.admitted(hookID, "slot", "window", 0)
		s.admit(t, old)
		now := s.admitted(hookID, "slot", "", 1) // the slot moved on, the window did not
		s.admit(t, now)
		ok(t, "GiveBack", s.GiveBack(t.Context(), old.Rows[0]))
		equal(t, "slot", s.slot(t, hookID, "slot", s.now), now.Slot.Slot)
		if until := s.window(t, hookID, "window", s.now).UntilMS; until != 0 {
			t.Errorf("UntilMS = %d; want 0", until)
		}
	})

	t.Run("W9: giving back what was never remembered is harmless and leaves nothing", func(t *testing.T) {
		d := s.newRow(newID())
		ok(t, "GiveBack without keys", s.GiveBack(t.Context(), d))
		d.SlotKey, d.SnoozeKey = "slot", "window"
		ok(t, "GiveBack of nothing", s.GiveBack(t.Context(), d))
		slots, err := s.Slots(t.Context(), d.HookID, []string{"slot"}, s.now)
		ok(t, "Slots", err)
		equal(t, "Slots", slots, map[string]hook.Slot{})
		windows, err := s.Snoozes(t.Context(), d.HookID, []string{"window"}, s.now)
		ok(t, "Snoozes", err)
		equal(t, "Snoozes", windows, map[string]hook.Snooze{})
	})
}

// openWindows reads all pages of a hook's open windows with the given limit.
func (s *suite) openWindows(t *testing.T, hookID, prefix, after string, limit int, now int64) []hook.OpenSnooze {
	t.Helper()
	all := []hook.OpenSnooze{}
	for {
		page, more, err := s.OpenSnoozes(t.Context(), hookID, prefix, after, limit, now)
		ok(t, "OpenSnoozes", err)
		if len(page) > limit {
			t.Fatalf("OpenSnoozes returned %d windows; want at most %d", len(page), limit)
		}
		for _, w := range page {
			if w.Key <= after {
				t.Fatalf("OpenSnoozes after %q returned %q; want rising keys", after, w.Key)
			}
			after = w.Key
		}
		all = append(all, page...)
		if !more {
			return all
		}
		if len(page) == 0 {
			t.Fatalf("OpenSnoozes(%q, after %q) returned an empty page and says that there is more", prefix, after)
		}
	}
}

func windowKeys(ws []hook.OpenSnooze) []string {
	out := []string{}
	for _, w := range ws {
		out = append(out, w.Key)
	}
	return out
}

// endSnooze is EndSnooze, which must answer as wanted.
func (s *suite) endSnooze(t *testing.T, what, hookID, key string, now int64, want bool) {
	t.Helper()
	ended, err := s.EndSnooze(t.Context(), hookID, key, now)
	ok(t, "EndSnooze", err)
	if ended != want {
		t.Errorf("EndSnooze of %s = %v; want %v", what, ended, want)
	}
}

// openMany opens windows of a minute, many in one admission.
func (s *suite) openMany(t *testing.T, hookID string, keys []string) {
	t.Helper()
	for part := range slices.Chunk(keys, 99) {
		a := hook.Admission{HookID: hookID, NowMS: s.now}
		for _, key := range part {
			a.Snoozes = append(a.Snoozes, claim(key, "by "+key, s.now))
		}
		s.admit(t, a)
	}
}

func testOpenSnoozes(t *testing.T, s *suite) {
	t.Run("a page of no windows is refused", func(t *testing.T) {
		a := s.admitted(newID(), "", "7#w", 0)
		s.admit(t, a)
		for _, limit := range []int{0, -1} {
			page, more, err := s.OpenSnoozes(t.Context(), a.HookID, "", "", limit, s.now)
			refused(t, "OpenSnoozes", limit, len(page), more, err)
		}
	})

	t.Run("a window is listed whole, with its key, while it is open", func(t *testing.T) {
		hookID := newID()
		full := claim("7#full", "", s.now)
		full.Snooze = filled[hook.Snooze]()
		bare := hook.SnoozeClaim{Key: "7#bare", Snooze: hook.Snooze{UntilMS: s.now + minute}}
		s.admit(t, hook.Admission{HookID: hookID, NowMS: s.now, Snoozes: []hook.SnoozeClaim{full, bare}})
		at := func(what string, now int64, want ...hook.SnoozeClaim) {
			t.Helper()
			ws := []hook.OpenSnooze{}
			for _, c := range want {
				ws = append(ws, hook.OpenSnooze{Key: c.Key, Snooze: c.Snooze})
			}
			equal(t, what, s.openWindows(t, hookID, "7#", "", 10, now), ws)
		}
		at("both", s.now, bare, full)
		at("a millisecond before one ends", s.now+minute-1, bare, full)
		at("when it ends", s.now+minute, full)
		at("a second before the other is forgotten", full.ExpiresAt*1000-1, full)
		at("when it is forgotten, open or not", full.ExpiresAt*1000)
	})

	t.Run("a window that was given back, or opened anew, is listed as it is now", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "", "7#w", 0)
		s.admit(t, a)
		ok(t, "GiveBack", s.GiveBack(t.Context(), a.Rows[0]))
		equal(t, "given back", s.openWindows(t, hookID, "7#", "", 10, s.now), []hook.OpenSnooze{})
		b := s.admitted(hookID, "", "7#w", 0)
		s.admit(t, b)
		added, err := s.AddSuppressed(t.Context(), hookID, "7#w", b.Snoozes[0].Snooze.UntilMS, 3, "an event", "snoozed")
		ok(t, "AddSuppressed", err)
		if !added {
			t.Errorf("AddSuppressed = false; want true")
		}
		want := hook.OpenSnooze{Key: "7#w", Snooze: b.Snoozes[0].Snooze}
		want.Suppressed, want.LastEvent, want.LastReason = 3, "an event", "snoozed"
		equal(t, "opened anew", s.openWindows(t, hookID, "7#", "", 10, s.now), []hook.OpenSnooze{want})
	})

	t.Run("open windows are listed by prefix, in the order of their keys' bytes, whatever the page", func(t *testing.T) {
		hookID, other := newID(), newID()
		// The widest keys that events can have, and some that no event has.
		long := "7#" + strings.Repeat("s", 255) + "/" + strings.Repeat("é", 127) + "#" + strings.Repeat("f", 32)
		want := []string{"7#", "7#\u0001", "7# ", "7##", "7#%00", "7#%2F", "7#/", "7#A", "7#a", "7#a\"b", "7#a#", "7#a/b#c", "7#aa", long, "7#é", "7#日本", "7#\uFFFD", "7#😀", "7#\U0010FFFF"}
		if !slices.IsSorted(want) {
			t.Fatalf("the keys are not in the order of their bytes: %q", want)
		}
		// The hook as it was before, and as it will be, when it is made anew.
		beside := []string{"6#a", "7", "7\"", "70#a", "71#", "77#a", "8#a"}
		s.openMany(t, hookID, append(slices.Clone(beside), want...))
		s.openMany(t, other, []string{"7#a", "7#z"})

		for _, limit := range []int{1, 2, 7, len(want) - 1, len(want), len(want) + 1, 1000} {
			got := s.openWindows(t, hookID, "7#", "", limit, s.now)
			equal(t, fmt.Sprintf("limit %d", limit), windowKeys(got), want)
			for _, w := range got {
				equal(t, "the window", w.Snooze, hook.Snooze{UntilMS: s.now + minute, By: "by " + w.Key})
			}
		}
		keys := func(prefix, after string, limit int) []string {
			t.Helper()
			return windowKeys(s.openWindows(t, hookID, prefix, after, limit, s.now))
		}
		all := slices.Sorted(slices.Values(append(slices.Clone(beside), want...)))
		equal(t, "every prefix", keys("", "", 5), all)
		equal(t, "every prefix, after one", keys("", "70#a", 5), all[slices.Index(all, "70#a")+1:])
		equal(t, "another prefix", keys("6#", "", 5), []string{"6#a"})
		equal(t, "a longer prefix", keys("7#a", "", 2), []string{"7#a", "7#a\"b", "7#a#", "7#a/b#c", "7#aa"})
		equal(t, "a prefix that nobody has", keys("9#", "", 5), []string{})
		equal(t, "after one of them", keys("7#", long, 2), want[slices.Index(want, long)+1:])
		equal(t, "after what lies between two", keys("7#", "7#a0", 5), want[slices.Index(want, "7#aa"):])
		equal(t, "after the prefix itself", keys("7#", "7#", 5), want[1:])
		equal(t, "after what comes before the prefix", keys("7#", "6#a", 5), want)
		equal(t, "after what comes after the prefix", keys("7#", "8#a", 5), []string{})
		equal(t, "after the last", keys("7#", want[len(want)-1], 5), []string{})
		equal(t, "those of another hook", windowKeys(s.openWindows(t, other, "7#", "", 1, s.now)), []string{"7#a", "7#z"})
		equal(t, "those of a hook that has none", s.openWindows(t, newID(), "7#", "", 5, s.now), []hook.OpenSnooze{})

		for _, key := range want {
			s.endSnooze(t, fmt.Sprintf("%.20q", key), hookID, key, s.now, true)
		}
		equal(t, "when those of the prefix were ended", keys("", "", 5), beside)
		equal(t, "those of another hook, then", windowKeys(s.openWindows(t, other, "7#", "", 1, s.now)), []string{"7#a", "7#z"})
	})

	t.Run("a page is never empty while there is more, however many windows have passed", func(t *testing.T) {
		hookID := newID()
		a := hook.Admission{HookID: hookID, NowMS: s.now}
		admit := func() {
			s.admit(t, a)
			a.Snoozes = nil
		}
		var want []string
		for i := range 120 {
			c := claim(fmt.Sprintf("7#%03d", i), newEventID(), s.now)
			switch {
			case i%37 == 36:
				want = append(want, c.Key)
				c.Snooze.UntilMS = s.now + hour
			case i%3 == 0:
				c.Snooze.UntilMS, c.ExpiresAt = s.now+hour, s.now/1000+60 // forgotten
			case i%3 == 1:
				c.Snooze.UntilMS = 0 // given back
			}
			if a.Snoozes = append(a.Snoozes, c); len(a.Snoozes) == 60 {
				admit()
			}
		}
		for _, limit := range []int{1, 2, 3, 10, 200} {
			equal(t, fmt.Sprintf("limit %d", limit), windowKeys(s.openWindows(t, hookID, "7#", "", limit, s.now+minute)), want)
		}
	})

	t.Run("many windows, and more than a megabyte of them, are listed page by page", func(t *testing.T) {
		hookID := newID()
		var want []string
		a := hook.Admission{HookID: hookID, NowMS: s.now}
		for i := range 300 {
			c := claim(fmt.Sprintf("7#%04d", i), newEventID(), s.now)
			c.Snooze.LastReason = strings.Repeat("r", 5000)
			if i < 250 {
				c.Snooze.UntilMS = s.now + 1 // so that a whole megabyte has passed
			} else {
				want = append(want, c.Key)
			}
			if a.Snoozes = append(a.Snoozes, c); len(a.Snoozes) == 75 {
				s.admit(t, a)
				a.Snoozes = nil
			}
		}
		for _, limit := range []int{7, 1000} {
			equal(t, fmt.Sprintf("those that are open, limit %d", limit), windowKeys(s.openWindows(t, hookID, "7#", "", limit, s.now+1)), want)
		}
		if got := s.openWindows(t, hookID, "7#", "", 1000, s.now); len(got) != 300 {
			t.Errorf("OpenSnoozes when all are open = %d windows; want 300", len(got))
		}
	})

	t.Run("W10: an ended window's UntilMS is 0, and nothing else of it changes", func(t *testing.T) {
		hookID := newID()
		c := claim("7#w", "", s.now)
		c.Snooze = filled[hook.Snooze]()
		c.Snooze.UntilMS = s.now + minute
		s.openMany(t, hookID, []string{"7#v"})
		s.admit(t, hook.Admission{HookID: hookID, NowMS: s.now, Snoozes: []hook.SnoozeClaim{c}})
		s.endSnooze(t, "an open window", hookID, "7#w", s.now, true)
		want := c.Snooze
		want.UntilMS = 0
		equal(t, "the ended window", s.window(t, hookID, "7#w", s.now), want)
		equal(t, "the ended window before its expiry, which stays", s.window(t, hookID, "7#w", c.ExpiresAt*1000-1), want)
		equal(t, "the ended window at its expiry", s.window(t, hookID, "7#w", c.ExpiresAt*1000), hook.Snooze{})
		equal(t, "OpenSnoozes", windowKeys(s.openWindows(t, hookID, "7#", "", 10, s.now)), []string{"7#v"})
		s.endSnooze(t, "what was ended", hookID, "7#w", s.now, false)
		equal(t, "the window that was ended twice", s.window(t, hookID, "7#w", s.now), want)
	})

	t.Run("W10: what has passed, was given back, is forgotten or not there cannot be ended", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "", "7#passed", 0)
		s.admit(t, a)
		until := a.Snoozes[0].Snooze.UntilMS
		s.endSnooze(t, "a window that has just passed", hookID, "7#passed", until, false)
		equal(t, "the window that has passed", s.window(t, hookID, "7#passed", s.now), a.Snoozes[0].Snooze)
		s.endSnooze(t, "the same in its last millisecond", hookID, "7#passed", until-1, true)

		b := s.admitted(hookID, "", "7#back", 0)
		s.admit(t, b)
		ok(t, "GiveBack", s.GiveBack(t.Context(), b.Rows[0]))
		s.endSnooze(t, "a window that was given back", hookID, "7#back", s.now, false)

		c := s.admitted(hookID, "", "7#forgotten", 0)
		c.Snoozes[0].ExpiresAt, c.Snoozes[0].Snooze.UntilMS = s.now/1000+60, s.now+hour
		s.admit(t, c)
		end := c.Snoozes[0].ExpiresAt * 1000
		s.endSnooze(t, "a window that is forgotten", hookID, "7#forgotten", end, false)
		equal(t, "the window that is forgotten", s.window(t, hookID, "7#forgotten", end-1), c.Snoozes[0].Snooze)

		s.endSnooze(t, "nothing", hookID, "7#nobody's", s.now, false)
		s.endSnooze(t, "another hook's", newID(), "7#forgotten", s.now, false)
		windows, err := s.Snoozes(t.Context(), hookID, []string{"7#nobody's"}, s.now)
		ok(t, "Snoozes", err)
		equal(t, "Snoozes after EndSnooze of nothing", windows, map[string]hook.Snooze{})
	})

	t.Run("W10: a window that was ended counts no more, and the next admission opens another", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "", "7#w", 0)
		s.admit(t, a)
		until := a.Snoozes[0].Snooze.UntilMS
		s.endSnooze(t, "an open window", hookID, "7#w", s.now, true)
		added, err := s.AddSuppressed(t.Context(), hookID, "7#w", until, 1, "e", "r")
		ok(t, "AddSuppressed", err)
		if added {
			t.Errorf("AddSuppressed to a window that was ended = true; want false")
		}
		b := s.admitted(hookID, "", "7#w", 0)
		b.NowMS++
		b.Snoozes[0].Snooze.UntilMS++
		s.admit(t, b)
		s.holds(t, "the next event's row", b.Rows[0])
		ok(t, "GiveBack", s.GiveBack(t.Context(), a.Rows[0])) // of who holds nothing any more
		equal(t, "the next window", s.window(t, hookID, "7#w", s.now), b.Snoozes[0].Snooze)
		s.endSnooze(t, "the next window", hookID, "7#w", s.now, true)
	})

	t.Run("W10: of enders at the same time exactly one ends the window", func(t *testing.T) {
		hookID := newID()
		s.openMany(t, hookID, []string{"7#w"})
		oneWins(t, "EndSnooze", race(func(int) error {
			return won(s.EndSnooze(t.Context(), hookID, "7#w", s.now))
		}), errLost)
	})

	t.Run("W10: of counting, ending and admitting at the same time, no count is lost and no window stays that was not opened", func(t *testing.T) {
		hookID := newID()
		first := s.admitted(hookID, "", "7#w", 0)
		s.admit(t, first)
		until := first.Snoozes[0].Snooze.UntilMS
		next := s.admitted(hookID, "", "7#w", 0)
		next.NowMS++
		next.Snoozes[0].Snooze.UntilMS++ // told apart
		answers := race(func(worker int) error {
			switch worker {
			case 0:
				return won(s.EndSnooze(t.Context(), hookID, "7#w", s.now))
			case 1:
				return patiently(func() error { return s.Admit(t.Context(), next) })
			}
			return won(s.AddSuppressed(t.Context(), hookID, "7#w", until, 1, "e", "r"))
		})
		for i, err := range answers {
			if err != nil && !errors.Is(err, errLost) && !errors.Is(err, hook.ErrStale) {
				t.Errorf("worker %d: %v", i, err)
			}
		}
		ended, opened, counted := answers[0] == nil, answers[1] == nil, int64(0)
		for _, err := range answers[2:] {
			if err == nil {
				counted++
			}
		}
		got := s.window(t, hookID, "7#w", s.now)
		what := fmt.Sprintf("ended %v, opened %v, counted %d: window %+v", ended, opened, counted, got)
		switch {
		case !ended:
			t.Errorf("%s: a window was open all the time", what)
		case opened:
			// The end came between the two windows; the counts are the first's.
			equal(t, what, got, next.Snoozes[0].Snooze)
		case got.UntilMS != 0 || got.Suppressed != counted || got.By != first.Snoozes[0].Snooze.By:
			t.Errorf("%s: want the first window, ended, with its counts", what)
		}
	})

	t.Run("under what is no key there is no window", func(t *testing.T) {
		hookID := newID()
		s.openMany(t, hookID, []string{"7#a", "7#\uFFFD", "7#z", "k"})
		for _, key := range []string{"", "7#\xff", "7#a\x00", strings.Repeat("k", 1025), "7#" + strings.Repeat("é", 2000)} {
			s.endSnooze(t, fmt.Sprintf("%.10q", key), hookID, key, s.now, false)
		}
		keys := func(prefix, after string) []string {
			t.Helper()
			return windowKeys(s.openWindows(t, hookID, prefix, after, 2, s.now))
		}
		all := []string{"7#a", "7#z", "7#\uFFFD", "k"}
		for _, hooks := range []string{"", hookID + "\x00" + "7#", strings.Repeat("h", 3000)} {
			equal(t, fmt.Sprintf("those of hook %.10q", hooks), s.openWindows(t, hooks, "", "", 2, s.now), []hook.OpenSnooze{})
			s.endSnooze(t, "a window of such a hook", hooks, "a", s.now, false)
		}
		equal(t, "a prefix that is too long", keys(strings.Repeat("k", 1025), ""), []string{})
		equal(t, "a prefix that is not UTF-8", keys("7#\xff", ""), []string{})
		equal(t, "after a key that is too long", keys("", "7#a"+strings.Repeat("é", 1000)), all[1:])
		equal(t, "after a key that is too long, of a prefix", keys("7#", "7#a"+strings.Repeat("é", 1000)), all[1:3])
		equal(t, "after a key that is not UTF-8", keys("", "7#a\xff"), all[1:])
		equal(t, "after a key that is not UTF-8, and behind all of a prefix", keys("7#", "7#\xff"), []string{})
		equal(t, "after a key that is not UTF-8 from its first byte", keys("", "\xff"), []string{})
		equal(t, "all of them, still", keys("", ""), all)
	})
}
