package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"eventhooks/internal/hook"
)

func testRecords(t *testing.T, s *suite) {
	t.Run("a feed's epoch is 0 before its first write and rises by one with each", func(t *testing.T) {
		feed, kind := hook.Feed("feed-"+newID()), "kind-"+newID()
		if got := s.epoch(t, feed); got != 0 {
			t.Errorf("Epoch = %d; want 0", got)
		}
		for want := int64(1); want <= 3; want++ {
			if got := s.write(t, feed, put(kind, newID(), "x"), put(kind, newID(), "y")); got != want {
				t.Errorf("Write = %d; want %d", got, want)
			}
			if got := s.epoch(t, feed); got != want {
				t.Errorf("Epoch = %d; want %d", got, want)
			}
		}
	})

	t.Run("a write moves the epoch of its own feed only", func(t *testing.T) {
		hooks, ups := s.epoch(t, hook.FeedHooks), s.epoch(t, hook.FeedUpstreams)
		if got := s.write(t, hook.FeedHooks, put(hook.KindHook, newID(), "x")); got != hooks+1 {
			t.Errorf("Write = %d; want %d", got, hooks+1)
		}
		if got := s.epoch(t, hook.FeedUpstreams); got != ups {
			t.Errorf("Epoch of the other feed = %d; want %d", got, ups)
		}
	})

	t.Run("a record reads back as it was written, byte for byte", func(t *testing.T) {
		base := newID()
		data := map[string][]byte{
			"json": []byte(`{"n": 12345678901234567890.10, "s": "\u0000"}`), "bytes": everyByte(), "noise": noise(10_000), "empty": {},
		}
		for _, w := range words {
			data["/"+w] = []byte(w)
		}
		var changes []hook.Change
		for id, b := range data {
			changes = append(changes, hook.Change{Record: hook.Record{Kind: hook.KindSource, ID: base + id, Data: b}, Expect: hook.ExpectAbsent})
		}
		epoch := s.write(t, hook.FeedHooks, changes...)
		for _, c := range changes {
			got, err := s.Get(t.Context(), c.Record.Kind, c.Record.ID, s.now)
			ok(t, "Get", err)
			want := c.Record
			want.Changed = epoch
			equal(t, "Get("+c.Record.ID+")", got, want)
		}
	})

	t.Run("a record keeps its expiry", func(t *testing.T) {
		r := hook.Record{Kind: hook.KindToken, ID: newID(), Data: []byte("{}"), ExpiresAt: s.now/1000 + 3600}
		s.write(t, hook.FeedNone, hook.Change{Record: r, Expect: hook.ExpectAbsent})
		got, err := s.Get(t.Context(), r.Kind, r.ID, s.now)
		ok(t, "Get", err)
		equal(t, "Get", got, r)
	})

	t.Run("a record's Changed is the epoch of its last write", func(t *testing.T) {
		id := newID()
		first := s.write(t, hook.FeedHooks, put(hook.KindHook, id, "one"))
		second := s.write(t, hook.FeedHooks, put(hook.KindHook, id, "two"))
		if second <= first {
			t.Errorf("second Write = %d; want more than %d", second, first)
		}
		want := hook.Record{Kind: hook.KindHook, ID: id, Changed: second, Data: []byte("two")}
		got, err := s.Get(t.Context(), hook.KindHook, id, s.now)
		ok(t, "Get", err)
		equal(t, "Get", got, want)
		equal(t, "List", s.list(t, hook.KindHook, id, "", 10, s.now), []hook.Record{want})
	})

	t.Run("what was never written is not found", func(t *testing.T) {
		id := newID()
		s.absent(t, "never written", hook.KindHook, id, s.now)
		s.write(t, hook.FeedHooks, put(hook.KindHook, id, "x"))
		s.absent(t, "the same id under another kind", hook.KindSource, id, s.now)
		s.absent(t, "a longer id", hook.KindHook, id+"0", s.now)
		s.absent(t, "a shorter id", hook.KindHook, id[:len(id)-1], s.now)
	})

	t.Run("a deleted record leaves a tombstone for a day, which only Changes shows", func(t *testing.T) {
		id, since := newID(), s.epoch(t, hook.FeedHooks)
		s.write(t, hook.FeedHooks, put(hook.KindHook, id, "x"))
		epoch := s.write(t, hook.FeedHooks, hook.Change{
			Record: hook.Record{Kind: hook.KindHook, ID: id, Deleted: true, Data: []byte("left over")}, Expect: hook.ExpectAny,
		})
		s.absent(t, "deleted", hook.KindHook, id, s.now)
		equal(t, "List", s.list(t, hook.KindHook, id, "", 10, s.now), []hook.Record{})
		equal(t, "Changes", s.changes(t, hook.KindHook, since, id), []hook.Record{
			{Kind: hook.KindHook, ID: id, Changed: epoch, Deleted: true, ExpiresAt: s.now/1000 + 86400},
		})
	})

	t.Run("a tombstone keeps the expiry it was given", func(t *testing.T) {
		id, since := newID(), s.epoch(t, hook.FeedUpstreams)
		r := hook.Record{Kind: hook.KindTarget, ID: id, Deleted: true, ExpiresAt: s.now/1000 + 12345}
		r.Changed = s.write(t, hook.FeedUpstreams, hook.Change{Record: r, Expect: hook.ExpectAny})
		equal(t, "Changes", s.changes(t, hook.KindTarget, since, id), []hook.Record{r})
	})

	t.Run("a deleted record can be made anew", func(t *testing.T) {
		id, since := newID(), s.epoch(t, hook.FeedHooks)
		s.write(t, hook.FeedHooks, put(hook.KindHook, id, "old"))
		s.write(t, hook.FeedHooks, remove(hook.KindHook, id))
		want := hook.Record{Kind: hook.KindHook, ID: id, Data: []byte("new")}
		want.Changed = s.write(t, hook.FeedHooks, hook.Change{Record: want, Expect: hook.ExpectAbsent})
		got, err := s.Get(t.Context(), hook.KindHook, id, s.now)
		ok(t, "Get", err)
		equal(t, "Get", got, want)
		equal(t, "Changes", s.changes(t, hook.KindHook, since, id), []hook.Record{want})
	})

	t.Run("without a feed there is no epoch, and deleting removes", func(t *testing.T) {
		id := newID()
		hooks, ups := s.epoch(t, hook.FeedHooks), s.epoch(t, hook.FeedUpstreams)
		if got := s.write(t, hook.FeedNone, put(hook.KindToken, id, "one")); got != 0 {
			t.Errorf("Write = %d; want 0", got)
		}
		got, err := s.Get(t.Context(), hook.KindToken, id, s.now)
		ok(t, "Get", err)
		equal(t, "Get", got, hook.Record{Kind: hook.KindToken, ID: id, Data: []byte("one")})

		s.write(t, hook.FeedNone, remove(hook.KindToken, id))
		s.absent(t, "deleted", hook.KindToken, id, s.now)
		equal(t, "List", s.list(t, hook.KindToken, id, "", 10, s.now), []hook.Record{})
		equal(t, "Changes", s.changes(t, hook.KindToken, 0, id), []hook.Record{})
		s.write(t, hook.FeedNone, remove(hook.KindToken, id)) // twice is harmless
		s.write(t, hook.FeedNone, hook.Change{Record: hook.Record{Kind: hook.KindToken, ID: id, Data: []byte("two")}, Expect: hook.ExpectAbsent})

		if h, u := s.epoch(t, hook.FeedHooks), s.epoch(t, hook.FeedUpstreams); h != hooks || u != ups {
			t.Errorf("epochs = %d, %d; want %d, %d as before", h, u, hooks, ups)
		}
	})

	t.Run("an expired record is not there although it is still stored", func(t *testing.T) {
		end := s.now/1000 + 3600
		token := hook.Record{Kind: hook.KindToken, ID: newID(), Data: []byte("t"), ExpiresAt: end}
		s.write(t, hook.FeedNone, hook.Change{Record: token, Expect: hook.ExpectAbsent})
		source := hook.Record{Kind: hook.KindSource, ID: newID(), Data: []byte("s"), ExpiresAt: end}
		source.Changed = s.write(t, hook.FeedHooks, hook.Change{Record: source, Expect: hook.ExpectAbsent})

		for _, r := range []hook.Record{token, source} {
			got, err := s.Get(t.Context(), r.Kind, r.ID, end*1000-1)
			ok(t, "Get a millisecond before the end", err)
			equal(t, "Get a millisecond before the end", got, r)
			s.absent(t, "at its end", r.Kind, r.ID, end*1000)
			equal(t, "List a millisecond before the end", s.list(t, r.Kind, r.ID, "", 10, end*1000-1), []hook.Record{r})
			equal(t, "List at the end", s.list(t, r.Kind, r.ID, "", 10, end*1000), []hook.Record{})
		}

		_, err := s.Write(t.Context(), hook.FeedNone, []hook.Change{{Record: token, Expect: hook.ExpectAbsent}}, nil, end*1000-1)
		conflict(t, "Write expecting none before the end", err, hook.ErrExists, 0, -1)
		_, err = s.Write(t.Context(), hook.FeedHooks, []hook.Change{{Record: source, Expect: source.Changed}}, nil, end*1000)
		conflict(t, "Write expecting the expired one", err, hook.ErrStale, 0, -1)
		for _, c := range []struct {
			feed hook.Feed
			r    hook.Record
		}{{hook.FeedNone, token}, {hook.FeedHooks, source}} {
			c.r.ExpiresAt = 0
			_, err = s.Write(t.Context(), c.feed, []hook.Change{{Record: c.r, Expect: hook.ExpectAbsent}}, nil, end*1000)
			ok(t, "Write expecting none at the end", err)
			_, err = s.Get(t.Context(), c.r.Kind, c.r.ID, end*1000)
			ok(t, "Get of what replaced it", err)
		}
	})
}

func testWrites(t *testing.T, s *suite) {
	t.Run("an Expect holds only against the record's own Changed", func(t *testing.T) {
		id := newID()
		try := func(expect int64) error {
			_, err := s.Write(t.Context(), hook.FeedHooks, []hook.Change{
				{Record: hook.Record{Kind: hook.KindHook, ID: id, Data: fmt.Appendf(nil, "after %d", expect)}, Expect: expect},
			}, nil, s.now)
			return err
		}
		conflict(t, "Write expecting what was never there", try(1), hook.ErrStale, 0, -1)
		s.absent(t, "after a refused write", hook.KindHook, id, s.now)

		first := s.write(t, hook.FeedHooks, put(hook.KindHook, id, "x"))
		ok(t, "Write expecting what is there", try(first))
		conflict(t, "Write expecting what was there before", try(first), hook.ErrStale, 0, -1)
		conflict(t, "Write expecting what is yet to come", try(first+2), hook.ErrStale, 0, -1)
		got, err := s.Get(t.Context(), hook.KindHook, id, s.now)
		ok(t, "Get", err)
		equal(t, "Get", got, hook.Record{Kind: hook.KindHook, ID: id, Changed: first + 1, Data: fmt.Appendf(nil, "after %d", first)})

		gone := s.write(t, hook.FeedHooks, remove(hook.KindHook, id))
		conflict(t, "Write expecting what was deleted", try(first+1), hook.ErrStale, 0, -1)
		conflict(t, "Write expecting the tombstone", try(gone), hook.ErrStale, 0, -1)
		s.absent(t, "deleted", hook.KindHook, id, s.now)
	})

	t.Run("a deletion too holds only against what it expects", func(t *testing.T) {
		id := newID()
		first := s.write(t, hook.FeedHooks, put(hook.KindHook, id, "x"))
		del := hook.Record{Kind: hook.KindHook, ID: id, Deleted: true}
		_, err := s.Write(t.Context(), hook.FeedHooks, []hook.Change{{Record: del, Expect: first - 1}}, nil, s.now)
		conflict(t, "Write deleting another version", err, hook.ErrStale, 0, -1)
		_, err = s.Get(t.Context(), hook.KindHook, id, s.now)
		ok(t, "Get", err)
		s.write(t, hook.FeedHooks, hook.Change{Record: del, Expect: first})
		s.absent(t, "deleted", hook.KindHook, id, s.now)
	})

	t.Run("ExpectAbsent refuses what is there, with and without a feed", func(t *testing.T) {
		for _, c := range []struct {
			feed hook.Feed
			kind string
		}{{hook.FeedHooks, hook.KindHook}, {hook.FeedNone, hook.KindToken}} {
			r := hook.Record{Kind: c.kind, ID: newID(), Data: []byte("first")}
			r.Changed = s.write(t, c.feed, hook.Change{Record: r, Expect: hook.ExpectAbsent})
			again := r
			again.Data = []byte("second")
			_, err := s.Write(t.Context(), c.feed, []hook.Change{{Record: again, Expect: hook.ExpectAbsent}}, nil, s.now)
			conflict(t, "Write of what exists", err, hook.ErrExists, 0, -1)
			got, err := s.Get(t.Context(), c.kind, r.ID, s.now)
			ok(t, "Get", err)
			equal(t, "Get", got, r)
		}
	})

	t.Run("ExpectAny replaces whatever is there", func(t *testing.T) {
		id := newID()
		for _, c := range []hook.Change{
			put(hook.KindHook, id, "made"), put(hook.KindHook, id, "replaced"), remove(hook.KindHook, id), put(hook.KindHook, id, "made anew"),
		} {
			s.write(t, hook.FeedHooks, c)
			if c.Record.Deleted {
				continue
			}
			got, err := s.Get(t.Context(), hook.KindHook, id, s.now)
			ok(t, "Get", err)
			equal(t, "Get", string(got.Data), string(c.Record.Data))
		}
	})

	t.Run("one change that does not hold keeps all others out, and is named", func(t *testing.T) {
		there := newID()
		epoch := s.write(t, hook.FeedHooks, put(hook.KindHook, there, "x"))
		for bad := range 3 {
			for _, want := range []error{hook.ErrStale, hook.ErrExists} {
				row := s.newRow(newID())
				changes := make([]hook.Change, 3)
				for i := range changes {
					changes[i] = hook.Change{Record: hook.Record{Kind: hook.KindHook, ID: newID(), Data: []byte("y")}, Expect: hook.ExpectAbsent}
				}
				changes[bad].Record.ID = there
				if want == hook.ErrStale {
					changes[bad].Expect = epoch - 1
				}
				_, err := s.Write(t.Context(), hook.FeedHooks, changes, []hook.Delivery{row}, s.now)
				conflict(t, fmt.Sprintf("Write whose change %d does not hold", bad), err, want, bad, -1)
				for i, c := range changes {
					if i != bad {
						s.absent(t, "after a refused write", hook.KindHook, c.Record.ID, s.now)
					}
				}
				s.holdsNone(t, "after a refused write", row.Key())
			}
		}
		got, err := s.Get(t.Context(), hook.KindHook, there, s.now)
		ok(t, "Get", err)
		equal(t, "Get", got, hook.Record{Kind: hook.KindHook, ID: there, Changed: epoch, Data: []byte("x")})
		if now := s.epoch(t, hook.FeedHooks); now != epoch {
			t.Errorf("Epoch after refused writes = %d; want %d as before", now, epoch)
		}
	})

	t.Run("a row that exists keeps everything out, and is named", func(t *testing.T) {
		there := s.newRow(newID())
		s.create(t, there)
		for bad := range 3 {
			id := newID()
			rows := []hook.Delivery{s.newRow(id), s.newRow(id), s.newRow(id)}
			rows[bad] = there
			rows[bad].Attempt = 99
			epoch := s.epoch(t, hook.FeedHooks)
			_, err := s.Write(t.Context(), hook.FeedHooks, []hook.Change{put(hook.KindHook, id, "x")}, rows, s.now)
			conflict(t, fmt.Sprintf("Write whose row %d exists", bad), err, hook.ErrExists, -1, bad)
			s.absent(t, "after a refused write", hook.KindHook, id, s.now)
			for i, d := range rows {
				if i != bad {
					s.holdsNone(t, "after a refused write", d.Key())
				}
			}
			if now := s.epoch(t, hook.FeedHooks); now != epoch {
				t.Errorf("Epoch after a refused write = %d; want %d as before", now, epoch)
			}
		}
		s.holds(t, "the row that was there", there)
	})

	t.Run("rows are stored with the changes, and a Gen of 0 becomes the epoch", func(t *testing.T) {
		id := newID()
		ping, old := s.newRow(id), s.newRow(id)
		ping.Gen, ping.Attempt, ping.Attempts = 0, 0, nil
		old.Gen = 5
		epoch, err := s.Write(t.Context(), hook.FeedHooks, []hook.Change{put(hook.KindHook, id, "x")}, []hook.Delivery{ping, old}, s.now)
		ok(t, "Write", err)
		ping.Gen = epoch
		s.holds(t, "the row without a Gen", ping)
		s.holds(t, "the row with a Gen", old)
		_, err = s.Get(t.Context(), hook.KindHook, id, s.now)
		ok(t, "Get", err)
	})

	t.Run("rows may come without changes, and over rows that have expired", func(t *testing.T) {
		d := s.ended(s.newRow(newID()), hook.Failed)
		s.create(t, d)
		anew := s.newRow(d.HookID)
		anew.Event.ID = d.Event.ID
		later := d.ExpiresAt * 1000
		_, err := s.Write(t.Context(), hook.FeedNone, nil, []hook.Delivery{anew}, later-1)
		conflict(t, "Write over a row", err, hook.ErrExists, -1, 0)
		_, err = s.Write(t.Context(), hook.FeedNone, nil, []hook.Delivery{anew}, later)
		ok(t, "Write over an expired row", err)
		s.holds(t, "the new row", anew)
	})

	t.Run("90 changes and rows fit in one write, 91 are an error", func(t *testing.T) {
		base := newID()
		var changes []hook.Change
		for i := range 80 {
			changes = append(changes, put(hook.KindUpstream, fmt.Sprintf("%s/%02d", base, i), "x"))
		}
		var rows []hook.Delivery
		for range 11 {
			rows = append(rows, s.newRow(base))
		}
		epoch := s.epoch(t, hook.FeedUpstreams)
		if _, err := s.Write(t.Context(), hook.FeedUpstreams, changes, rows, s.now); err == nil {
			t.Errorf("Write of 91 = nil; want an error")
		}
		equal(t, "List after a refused write", s.list(t, hook.KindUpstream, base, "", 100, s.now), []hook.Record{})
		s.holdsNone(t, "after a refused write", rows[0].Key())
		if now := s.epoch(t, hook.FeedUpstreams); now != epoch {
			t.Errorf("Epoch after a refused write = %d; want %d as before", now, epoch)
		}
		_, err := s.Write(t.Context(), hook.FeedUpstreams, changes, rows[:10], s.now)
		ok(t, "Write of 90", err)
		if got := len(s.list(t, hook.KindUpstream, base, "", 100, s.now)); got != 80 {
			t.Errorf("List after Write = %d records; want 80", got)
		}
		s.holds(t, "the last row", rows[9])
	})

	t.Run("a record or a row over 400 KB is an error and nothing is written", func(t *testing.T) {
		id, small := newID(), newID()
		epoch := s.epoch(t, hook.FeedHooks)
		_, err := s.Write(t.Context(), hook.FeedHooks, []hook.Change{
			put(hook.KindHook, small, "x"),
			{Record: hook.Record{Kind: hook.KindHook, ID: id, Data: noise(maxItem + 1)}, Expect: hook.ExpectAny},
		}, nil, s.now)
		if err == nil {
			t.Errorf("Write of a large record = nil; want an error")
		}
		row := s.newRow(small)
		row.Event.Data = noise(maxItem + 1)
		if _, err = s.Write(t.Context(), hook.FeedHooks, []hook.Change{put(hook.KindHook, small, "x")}, []hook.Delivery{row}, s.now); err == nil {
			t.Errorf("Write of a large row = nil; want an error")
		}
		s.absent(t, "too large", hook.KindHook, id, s.now)
		s.absent(t, "beside one too large", hook.KindHook, small, s.now)
		s.holdsNone(t, "too large", row.Key())
		if now := s.epoch(t, hook.FeedHooks); now != epoch {
			t.Errorf("Epoch after refused writes = %d; want %d as before", now, epoch)
		}

		large := hook.Record{Kind: hook.KindHook, ID: id, Data: noise(maxItem - 16<<10)}
		large.Changed = s.write(t, hook.FeedHooks, hook.Change{Record: large, Expect: hook.ExpectAbsent})
		got, err := s.Get(t.Context(), hook.KindHook, id, s.now)
		ok(t, "Get", err)
		equal(t, "Get of a record of nearly 400 KB", got, large)
		s.write(t, hook.FeedHooks, remove(hook.KindHook, id)) // no later reader of the feed need carry it
	})

	t.Run("writers at the same time get epochs of their own, rising, and lose nothing", func(t *testing.T) {
		const each = 6
		base, since := newID(), s.epoch(t, hook.FeedHooks)
		var (
			mu    sync.Mutex
			wrote = map[int64]string{}
		)
		for i, err := range race(func(worker int) error {
			var last int64
			for n := range each {
				id := fmt.Sprintf("%s/%d/%d", base, worker, n)
				var epoch int64
				err := patiently(func() (err error) {
					epoch, err = s.Write(t.Context(), hook.FeedHooks, []hook.Change{
						{Record: hook.Record{Kind: hook.KindHook, ID: id, Data: []byte(id)}, Expect: hook.ExpectAbsent},
						put(hook.KindSource, id, "x"),
					}, nil, s.now)
					return err
				})
				if err != nil {
					return err
				}
				if epoch <= last {
					return fmt.Errorf("epoch %d came after %d", epoch, last)
				}
				last = epoch
				mu.Lock()
				if other, twice := wrote[epoch]; twice {
					err = fmt.Errorf("epoch %d was given to %s and to %s", epoch, other, id)
				}
				wrote[epoch] = id
				mu.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		}) {
			if err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		}
		if got, want := s.epoch(t, hook.FeedHooks), since+workers*each; got != want {
			t.Errorf("Epoch = %d; want %d", got, want)
		}
		for _, kind := range []string{hook.KindHook, hook.KindSource} {
			changes := s.changes(t, kind, since, base)
			if len(changes) != workers*each {
				t.Errorf("Changes of %s = %d; want %d", kind, len(changes), workers*each)
			}
			for _, r := range changes {
				if wrote[r.Changed] != r.ID {
					t.Errorf("%s %s has Changed %d; that was given to %q", kind, r.ID, r.Changed, wrote[r.Changed])
				}
			}
		}
	})

	t.Run("of creators of one record at the same time exactly one wins", func(t *testing.T) {
		for _, c := range []struct {
			feed hook.Feed
			kind string
		}{{hook.FeedHooks, hook.KindHook}, {hook.FeedNone, hook.KindToken}} {
			id := newID()
			winner := oneWins(t, "Write", race(func(worker int) error {
				return patiently(func() error {
					_, err := s.Write(t.Context(), c.feed, []hook.Change{
						{Record: hook.Record{Kind: c.kind, ID: id, Data: fmt.Append(nil, worker)}, Expect: hook.ExpectAbsent},
					}, nil, s.now)
					return err
				})
			}), hook.ErrExists)
			got, err := s.Get(t.Context(), c.kind, id, s.now)
			ok(t, "Get", err)
			equal(t, "the record", string(got.Data), fmt.Sprint(winner))
		}
	})

	t.Run("of replacers of one version at the same time exactly one wins", func(t *testing.T) {
		id := newID()
		epoch := s.write(t, hook.FeedHooks, put(hook.KindHook, id, "x"))
		winner := oneWins(t, "Write", race(func(worker int) error {
			return patiently(func() error {
				_, err := s.Write(t.Context(), hook.FeedHooks, []hook.Change{
					{Record: hook.Record{Kind: hook.KindHook, ID: id, Data: fmt.Append(nil, worker)}, Expect: epoch},
				}, nil, s.now)
				return err
			})
		}), hook.ErrStale)
		got, err := s.Get(t.Context(), hook.KindHook, id, s.now)
		ok(t, "Get", err)
		equal(t, "the record", string(got.Data), fmt.Sprint(winner))
	})
}

func testLists(t *testing.T, s *suite) {
	t.Run("a page of no records is refused", func(t *testing.T) {
		id := newID()
		s.write(t, hook.FeedHooks, put(hook.KindSource, id, "x"))
		for _, limit := range []int{0, -1} {
			page, more, err := s.List(t.Context(), hook.KindSource, id, "", limit, s.now)
			refused(t, "List", limit, len(page), more, err)
		}
	})

	t.Run("a list has the records of a prefix in the order of their ids' bytes, whatever the page", func(t *testing.T) {
		base := newID() + "/"
		want := []string{"!", "0", "00", "1", "10", "A", "a", "a/b", "aa", "b", "é", "日本", "\uFFFD", "😀", "\U0010FFFF"}
		for i := range want {
			want[i] = base + want[i]
		}
		if !slices.IsSorted(want) {
			t.Fatalf("the ids are not in the order of their bytes: %q", want)
		}
		var changes []hook.Change
		for _, id := range want {
			changes = append(changes, put(hook.KindSource, id, "data of "+id))
		}
		slices.Reverse(changes)
		beside := strings.TrimSuffix(base, "/")
		changes = append(changes, put(hook.KindSource, beside, "x"), put(hook.KindSource, beside+"0", "x"), put(hook.KindSource, beside+"-", "x"))
		epoch := s.write(t, hook.FeedHooks, changes...)

		for _, limit := range []int{1, 2, 7, len(want), len(want) + 1, 1000} {
			got := s.list(t, hook.KindSource, base, "", limit, s.now)
			equal(t, fmt.Sprintf("List with limit %d", limit), ids(got), want)
			for _, r := range got {
				equal(t, "List's record", r, hook.Record{Kind: hook.KindSource, ID: r.ID, Changed: epoch, Data: []byte("data of " + r.ID)})
			}
		}
		equal(t, "List of a longer prefix", ids(s.list(t, hook.KindSource, base+"a", "", 2, s.now)), []string{base + "a", base + "a/b", base + "aa"})
		equal(t, "List of another kind", ids(s.list(t, hook.KindHook, base, "", 10, s.now)), []string{})
		equal(t, "List of a prefix that nobody has", ids(s.list(t, hook.KindSource, base+"zz", "", 10, s.now)), []string{})

		equal(t, "List after one of them", ids(s.list(t, hook.KindSource, base, base+"aa", 4, s.now)), want[9:])
		equal(t, "List after an id between two", ids(s.list(t, hook.KindSource, base, base+"a0", 4, s.now)), want[8:])
		equal(t, "List after what comes before the prefix", ids(s.list(t, hook.KindSource, base, beside, 4, s.now)), want)
		equal(t, "List after the last", ids(s.list(t, hook.KindSource, base, want[len(want)-1], 4, s.now)), []string{})
		equal(t, "List after what comes after the prefix", ids(s.list(t, hook.KindSource, base, beside+"0", 4, s.now)), []string{})

		page, _, err := s.List(t.Context(), hook.KindSource, "", base, 1, s.now)
		ok(t, "List of all prefixes", err)
		equal(t, "List of all prefixes, after an id", ids(page), want[:1])
	})

	t.Run("under what is no id there is no record, and a list may begin after any text", func(t *testing.T) {
		base := newID()
		want := []string{base + "/a", base + "/a\uFFFD", base + "/z"}
		for _, id := range want {
			s.write(t, hook.FeedNone, put(hook.KindToken, id, "x"))
		}
		for _, id := range []string{"", strings.Repeat("i", 1025), base + "/a\xff", base + "/a" + strings.Repeat("é", 1000), "\xff"} {
			s.absent(t, "no id", hook.KindToken, id, s.now)
		}
		list := func(prefix, after string) []string {
			t.Helper()
			return ids(s.list(t, hook.KindToken, prefix, after, 2, s.now))
		}
		equal(t, "List after a text that is too long", list(base, base+"/a"+strings.Repeat("a", 2000)), want[1:])
		equal(t, "List after characters that are too many", list(base, base+"/a"+strings.Repeat("é", 1000)), want[1:])
		equal(t, "List after what is not UTF-8", list(base, base+"/a\xfe"), want[2:])
		equal(t, "List after what is not UTF-8, and behind all", list(base, base+"/z\xff"), []string{})
		equal(t, "List of a prefix that is too long", list(base+strings.Repeat("i", 1024), ""), []string{})
		equal(t, "List of a prefix that is not UTF-8", list(base+"/a\xff", ""), []string{})
		equal(t, "List of all prefixes, after what is not UTF-8 from its first byte", list("", "\xff"), []string{})
		if page, _, err := s.List(t.Context(), hook.KindToken, "", base+"/a"+strings.Repeat("a", 2000), 1, s.now); err != nil || len(page) != 1 || page[0].ID != want[1] {
			t.Errorf("List of all prefixes, after a text that is too long = %q, %v; want %q", ids(page), err, want[1])
		}
	})

	t.Run("a page is never empty while there is more, however many are deleted or expired", func(t *testing.T) {
		base := newID() + "/"
		var changes, deletions []hook.Change
		var want []string
		for i := range 40 {
			id := fmt.Sprintf("%s%02d", base, i)
			c := put(hook.KindHook, id, "x")
			switch {
			case i%13 == 12:
				want = append(want, id)
			case i%2 == 0:
				c.Record.ExpiresAt = s.now/1000 + 60
			default:
				deletions = append(deletions, remove(hook.KindHook, id))
			}
			changes = append(changes, c)
		}
		s.write(t, hook.FeedHooks, changes...)
		s.write(t, hook.FeedHooks, deletions...)
		for _, limit := range []int{1, 2, 3, 10} {
			equal(t, fmt.Sprintf("List with limit %d", limit), ids(s.list(t, hook.KindHook, base, "", limit, s.now+minute)), want)
		}
	})

	t.Run("Changes has what changed since, tombstones included, in the order of Changed", func(t *testing.T) {
		base, start := newID(), s.epoch(t, hook.FeedHooks)
		// Ids fall while epochs rise, so that neither order can pass for the other.
		a, b, c := base+"/c", base+"/b", base+"/a"
		s.write(t, hook.FeedHooks, put(hook.KindHook, a, "a1"), put(hook.KindSource, a, "other kind"))
		e2 := s.write(t, hook.FeedHooks, put(hook.KindHook, b, "b1"))
		e3 := s.write(t, hook.FeedHooks, put(hook.KindHook, c, "c1"))
		e4 := s.write(t, hook.FeedHooks, put(hook.KindHook, a, "a2"))
		e5 := s.write(t, hook.FeedHooks, remove(hook.KindHook, b))

		want := []hook.Record{
			{Kind: hook.KindHook, ID: c, Changed: e3, Data: []byte("c1")},
			{Kind: hook.KindHook, ID: a, Changed: e4, Data: []byte("a2")},
			{Kind: hook.KindHook, ID: b, Changed: e5, Deleted: true, ExpiresAt: s.now/1000 + 86400},
		}
		equal(t, "Changes since the start", s.changes(t, hook.KindHook, start, base), want)
		equal(t, "Changes since a write that is overwritten", s.changes(t, hook.KindHook, e2, base), want)
		equal(t, "Changes since the third", s.changes(t, hook.KindHook, e3, base), want[1:])
		equal(t, "Changes since the fourth", s.changes(t, hook.KindHook, e4, base), want[2:])
		equal(t, "Changes since the last", s.changes(t, hook.KindHook, e5, base), []hook.Record{})
	})

	t.Run("Changes is in the order of numbers, not of digits", func(t *testing.T) {
		feed, kind := hook.Feed("feed-"+newID()), "kind-"+newID()
		for i := range 11 {
			s.write(t, feed, put(kind, fmt.Sprint(11-i), "x"))
		}
		got, err := s.Changes(t.Context(), kind, 8)
		ok(t, "Changes", err)
		equal(t, "Changes since 8", ids(got), []string{"3", "2", "1"})
	})

	t.Run("lists and Changes go beyond a megabyte", func(t *testing.T) {
		base, since := newID()+"/", s.epoch(t, hook.FeedUpstreams)
		var want []hook.Record
		for i := range 12 {
			want = append(want, hook.Record{Kind: hook.KindTarget, ID: fmt.Sprintf("%s%02d", base, i), Data: noise(120 << 10)})
		}
		for i := range want {
			want[i].Changed = s.write(t, hook.FeedUpstreams, hook.Change{Record: want[i], Expect: hook.ExpectAbsent})
		}
		equal(t, "List", s.list(t, hook.KindTarget, base, "", 100, s.now), want)
		equal(t, "Changes", s.changes(t, hook.KindTarget, since, base), want)
		var deletions []hook.Change // no later reader of the feed need carry them
		for _, r := range want {
			deletions = append(deletions, remove(r.Kind, r.ID))
		}
		s.write(t, hook.FeedUpstreams, deletions...)
	})
}

// changes returns those of Changes whose ids begin with prefix. What is left
// out is checked for order only.
func (s *suite) changes(t *testing.T, kind string, since int64, prefix string) []hook.Record {
	t.Helper()
	all, err := s.Changes(t.Context(), kind, since)
	ok(t, "Changes", err)
	out := []hook.Record{}
	last := since
	for _, r := range all {
		if r.Changed <= since || r.Changed < last {
			t.Errorf("Changes(%s, %d) has Changed %d after %d; want rising and above %d", kind, since, r.Changed, last, since)
		}
		last = r.Changed
		if strings.HasPrefix(r.ID, prefix) {
			out = append(out, r)
		}
	}
	return out
}
