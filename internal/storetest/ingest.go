package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"eventhooks/internal/hook"
)

// newClaim returns a claim of a key that nobody has claimed, good for an hour.
func (s *suite) newClaim() hook.IngestClaim {
	return hook.IngestClaim{
		TokenID: newID(), Key: newID(), BodyHash: newID(), FirstSeenMS: s.now, Pending: true, ExpiresAt: s.now/1000 + 3600,
	}
}

// claimed is ClaimIngest; it must succeed.
func (s *suite) claimed(t *testing.T, c hook.IngestClaim, now int64) hook.IngestClaim {
	t.Helper()
	got, err := s.ClaimIngest(t.Context(), c, now)
	ok(t, "ClaimIngest", err)
	return got
}

func testIngest(t *testing.T, s *suite) {
	t.Run("the first claim of a key stays, and later ones are answered with it", func(t *testing.T) {
		full := filled[hook.IngestClaim]()
		full.TokenID, full.Key, full.ExpiresAt = newID(), newID(), s.now/1000+3600
		for _, first := range []hook.IngestClaim{s.newClaim(), full} {
			equal(t, "the first claim", s.claimed(t, first, s.now), first)
			later := first
			later.BodyHash, later.FirstSeenMS, later.ExpiresAt = "another", first.FirstSeenMS+5, first.ExpiresAt+5
			equal(t, "a later claim", s.claimed(t, later, s.now), first)
			equal(t, "a later claim", s.claimed(t, later, first.ExpiresAt*1000-1), first)
		}
	})

	t.Run("claims are kept apart by token and by key, whatever the key", func(t *testing.T) {
		one, two := s.newClaim(), s.newClaim()
		keys := slices.Concat(words, hardKeys(), []string{strings.Repeat("ü", 255)})
		for i, key := range keys {
			for _, c := range []hook.IngestClaim{one, two} {
				c.Key, c.BodyHash = key, fmt.Sprint(c.TokenID, i)
				equal(t, fmt.Sprintf("the claim of %.20q", key), s.claimed(t, c, s.now), c)
			}
		}
	})

	t.Run("a finished claim is no longer pending", func(t *testing.T) {
		c := s.newClaim()
		s.claimed(t, c, s.now)
		want := c
		want.Pending = false
		for range 2 { // twice is harmless
			ok(t, "FinishIngest", s.FinishIngest(t.Context(), c))
			equal(t, "the claim", s.claimed(t, c, s.now), want)
		}
	})

	t.Run("an expired claim is not there although it is still stored", func(t *testing.T) {
		old := s.newClaim()
		s.claimed(t, old, s.now)
		ok(t, "FinishIngest", s.FinishIngest(t.Context(), old))
		anew := old
		anew.BodyHash, anew.FirstSeenMS, anew.ExpiresAt = "another", s.now+hour, old.ExpiresAt+3600
		equal(t, "a claim at the expiry", s.claimed(t, anew, old.ExpiresAt*1000), anew)
		equal(t, "a claim after it", s.claimed(t, old, old.ExpiresAt*1000), anew)

		// What finishes late is the old claim, not the one that took its place.
		ok(t, "FinishIngest of the old claim", s.FinishIngest(t.Context(), old))
		equal(t, "the new claim", s.claimed(t, old, old.ExpiresAt*1000), anew)
	})

	t.Run("finishing what was never claimed is harmless and leaves nothing", func(t *testing.T) {
		c := s.newClaim()
		ok(t, "FinishIngest", s.FinishIngest(t.Context(), c))
		equal(t, "the first claim", s.claimed(t, c, s.now), c)
	})

	t.Run("of claims at the same time one stays, and all are answered with it", func(t *testing.T) {
		c := s.newClaim()
		type answer struct {
			claim hook.IngestClaim
			err   error
		}
		answers := race(func(worker int) answer {
			mine := c
			mine.BodyHash, mine.FirstSeenMS = fmt.Sprint(worker), s.now+int64(worker)
			got, err := s.ClaimIngest(t.Context(), mine, s.now)
			return answer{got, err}
		})
		for i, a := range answers {
			ok(t, fmt.Sprintf("ClaimIngest of worker %d", i), a.err)
			equal(t, "the claim", a.claim, answers[0].claim)
		}
	})
}
