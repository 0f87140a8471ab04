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

	t.Run("SeeSlot raises Seen and Rev while Sig is the same and Seen is less", func(t *testing.T) {
		hookID := newID()
		older, sameAge := newEventID(), ""
		a := s.admitted(hookID, "slot", "", 0)
		sameAge = a.Rows[0].Event.ID
		newer := newEventID()
		s.admit(t, a)
		want := a.Slot.Slot
		see := func(key, sig, event string, yes bool) {
			t.Helper()
			seen, err := s.SeeSlot(t.Context(), hookID, key, sig, event, s.now)
			ok(t, "SeeSlot", err)
			if seen != yes {
				t.Errorf("SeeSlot(%q, %q, %q) = %v; want %v", key, sig, event, seen, yes)
			}
			equal(t, "slot", s.slot(t, hookID, "slot", s.now), want)
		}
		see("slot", want.Sig, older, false)
		see("slot", want.Sig, sameAge, false)
		see("slot", "another sig", newer, false)
		see("nobody's", want.Sig, newer, false)
		equal(t, "nobody's slot", s.slot(t, hookID, "nobody's", s.now), hook.Slot{})
		want.Seen, want.Rev = newer, want.Rev+1
		see("slot", want.Sig, newer, true)
		see("slot", want.Sig, newer, false)

		b := s.admitted(hookID, "slot", "", 1)
		is(t, "Admit over a reading from before SeeSlot", s.Admit(t.Context(), b), hook.ErrStale)
		c := s.admitted(hookID, "slot", "", want.Rev)
		s.admit(t, c)
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
			_, err := s.SeeSlot(t.Context(), hookID, "slot", a.Slot.Slot.Sig, events[worker], s.now)
			return err
		}) {
			ok(t, fmt.Sprintf("SeeSlot of worker %d", i), err)
		}
		if got, want := s.slot(t, hookID, "slot", s.now).Seen, events[workers-1]; got != want {
			t.Errorf("Seen = %q; want %q", got, want)
		}
	})

	t.Run("a slot is forgotten 30 days after it was written or seen last", func(t *testing.T) {
		hookID := newID()
		a := s.admitted(hookID, "slot", "", 0)
		s.admit(t, a)
		equal(t, "slot after 29 days", s.slot(t, hookID, "slot", s.now+29*day), a.Slot.Slot)
		equal(t, "slot after 31 days", s.slot(t, hookID, "slot", s.now+31*day), hook.Slot{})

		seen, err := s.SeeSlot(t.Context(), hookID, "slot", a.Slot.Slot.Sig, newEventID(), s.now+31*day)
		ok(t, "SeeSlot", err)
		if seen {
			t.Errorf("SeeSlot of a forgotten slot = true; want false")
		}
		event := newEventID()
		_, err = s.SeeSlot(t.Context(), hookID, "slot", a.Slot.Slot.Sig, event, s.now+20*day)
		ok(t, "SeeSlot", err)
		equal(t, "slot 29 days after it was seen", s.slot(t, hookID, "slot", s.now+49*day).Seen, event)
		equal(t, "slot 31 days after it was seen", s.slot(t, hookID, "slot", s.now+51*day), hook.Slot{})

		anew := s.admitted(hookID, "slot", "", 0) // as one who found nothing
		anew.NowMS = s.now + 51*day
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
		seen, err := s.SeeSlot(t.Context(), hookID, "slot", a.Slot.Slot.Sig, newEventID(), s.now)
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
