package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"eventhooks/internal/hook"
)

// uses is TokenUses; it must succeed.
func (s *suite) uses(t *testing.T, now int64, ids ...string) map[string]int64 {
	t.Helper()
	got, err := s.TokenUses(t.Context(), ids, now)
	ok(t, "TokenUses", err)
	return got
}

func testTokenUses(t *testing.T, s *suite) {
	at := s.now / 1000
	note := func(t *testing.T, u hook.TokenUse) {
		t.Helper()
		ok(t, "NoteTokenUse", s.NoteTokenUse(t.Context(), u))
	}

	t.Run("a use reads back, with those of other tokens", func(t *testing.T) {
		one, two, none := newID(), newID(), newID()
		note(t, hook.TokenUse{TokenID: one, At: at, ExpiresAt: at + 10})
		note(t, hook.TokenUse{TokenID: two, At: at + 1})
		equal(t, "TokenUses", s.uses(t, s.now, one, none, two, one), map[string]int64{one: at, two: at + 1})
		equal(t, "TokenUses of one", s.uses(t, s.now, two), map[string]int64{two: at + 1})
		equal(t, "TokenUses of none", s.uses(t, s.now), map[string]int64{})
		equal(t, "TokenUses of a token that was not used", s.uses(t, s.now, none), map[string]int64{})
	})

	t.Run("the latest use stays, in whichever order they are noted", func(t *testing.T) {
		id := newID()
		for _, u := range []struct{ at, want int64 }{{at, at}, {at + 5, at + 5}, {at + 3, at + 5}, {at + 5, at + 5}, {at + 6, at + 6}} {
			note(t, hook.TokenUse{TokenID: id, At: u.at, ExpiresAt: at + 100})
			equal(t, fmt.Sprintf("TokenUses after one at %+d s", u.at-at), s.uses(t, s.now, id), map[string]int64{id: u.want})
		}
	})

	t.Run("the latest use stays when all are noted at once", func(t *testing.T) {
		id := newID()
		for _, err := range race(func(worker int) error {
			return s.NoteTokenUse(t.Context(), hook.TokenUse{TokenID: id, At: at + int64(worker)})
		}) {
			ok(t, "NoteTokenUse", err)
		}
		equal(t, "TokenUses", s.uses(t, s.now, id), map[string]int64{id: at + workers - 1})
	})

	t.Run("a use is forgotten when it expires, and a later one is remembered longer", func(t *testing.T) {
		id, ever := newID(), newID()
		note(t, hook.TokenUse{TokenID: id, At: at, ExpiresAt: at + 10})
		note(t, hook.TokenUse{TokenID: ever, At: at})
		last := (at+10)*1000 - 1
		equal(t, "TokenUses before", s.uses(t, last, id, ever), map[string]int64{id: at, ever: at})
		equal(t, "TokenUses after", s.uses(t, last+1, id, ever), map[string]int64{ever: at})
		note(t, hook.TokenUse{TokenID: id, At: at + 10, ExpiresAt: at + 20})
		equal(t, "TokenUses after another use", s.uses(t, last+1, id), map[string]int64{id: at + 10})
	})

	t.Run("uses of many tokens are read at once", func(t *testing.T) {
		want := map[string]int64{}
		for i := range 120 { // more than a BatchGetItem takes
			id := newID()
			want[id] = at + int64(i)
			note(t, hook.TokenUse{TokenID: id, At: want[id]})
		}
		ids := slices.Collect(maps.Keys(want))
		for range 120 {
			ids = append(ids, newID())
		}
		equal(t, "TokenUses", s.uses(t, s.now, ids...), want)
	})

	t.Run("a use is not an idempotency key, nor a token", func(t *testing.T) {
		c := s.newClaim()
		c.Key = "used"
		note(t, hook.TokenUse{TokenID: c.TokenID, At: at})
		equal(t, "the claim", s.claimed(t, c, s.now), c)
		equal(t, "TokenUses", s.uses(t, s.now, c.TokenID), map[string]int64{c.TokenID: at})
		s.absent(t, "a token that was only used", hook.KindToken, c.TokenID, s.now)
	})

	t.Run("what is no id has no use", func(t *testing.T) {
		for _, id := range []string{"", strings.Repeat("t", 1025), "\xff"} {
			equal(t, fmt.Sprintf("TokenUses of %.10q", id), s.uses(t, s.now, id), map[string]int64{})
		}
	})
}
