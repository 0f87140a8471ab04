package boltstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"eventhooks/internal/boltstore"
	"eventhooks/internal/hook"
	"eventhooks/internal/storetest"
)

// open opens a store in a file of its own; at the end of the test the file must
// be without a fault.
func open(t testing.TB, o boltstore.Options) *boltstore.Store {
	t.Helper()
	return openFile(t, filepath.Join(t.TempDir(), "store.db"), o)
}

func openFile(t testing.TB, path string, o boltstore.Options) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFile(t, s) })
	return s
}

func closeFile(t testing.TB, s *boltstore.Store) {
	t.Helper()
	faults, err := boltstore.Faults(s)
	if err != nil && !errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		t.Error(err)
	}
	for _, f := range faults {
		t.Errorf("the file is at fault: %s", f)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestStore(t *testing.T) {
	for _, c := range []struct {
		name string
		o    boltstore.Options
	}{
		{"as in local mode", boltstore.Options{}},
		{"strict", boltstore.Options{Strict: true, NoSync: true}},
		{"strict with short pages", boltstore.Options{Strict: true, PageBytes: 700, NoSync: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, c.o) })
		})
	}
}

// now is the time of these tests, Unix milliseconds.
const now = int64(1_795_284_000_000)

var noSync = boltstore.Options{NoSync: true}

func eventID(n int) string { return fmt.Sprintf("019a0000-%04x-7000-8000-000000000000", n) }

// row returns a pending row.
func row(hookID string, n int) hook.Delivery {
	return hook.Delivery{
		HookID: hookID,
		Event:  hook.Event{ID: eventID(n), Source: "balancer", Event: "health", Time: time.UnixMilli(now).UTC(), Data: []byte(`{"a":1}`)},
		Gen:    3, Status: hook.Pending, Run: 1, Attempt: 1, Seq: 4, Tries: 1, Parks: 2, Nudges: 3,
		CreatedMS: now, DeadlineMS: now + 1e6, DueMS: now + 5000, WakeMS: now + 125_000,
		Attempts: []hook.Attempt{{AtMS: now, TookMS: 7, Code: 503, Error: "status 503", IP: "192.0.2.1"}},
	}
}

// ended returns the row as it is when it has ended, forgotten at the given
// Unix second.
func ended(d hook.Delivery, status hook.Status, expiresAt int64) hook.Delivery {
	d.Status, d.DueMS, d.WakeMS, d.LeaseMS, d.ExpiresAt = status, 0, 0, 0, expiresAt
	return d
}

func create(t testing.TB, s *boltstore.Store, rows ...hook.Delivery) {
	t.Helper()
	for _, d := range rows {
		created, err := s.CreateDelivery(t.Context(), d, now)
		if err != nil || !created {
			t.Fatalf("CreateDelivery(%s) = %v, %v; want true", d.Key(), created, err)
		}
	}
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// opened stores an open breaker of a hook that has none, and returns it.
func opened(t testing.TB, s *boltstore.Store, hookID string, wakeMS int64) hook.Breaker {
	t.Helper()
	b, err := s.CountFailures(t.Context(), hookID, 3, 10, now)
	must(t, err)
	b.State, b.OpenedMS, b.WakeMS, b.Event, b.Seq = hook.BreakerOpen, now, wakeMS, eventID(1), 4
	b, err = s.UpdateBreaker(t.Context(), b, now)
	must(t, err)
	return b
}

func holds(t testing.TB, what string, s *boltstore.Store, want hook.Delivery) {
	t.Helper()
	got, err := s.Delivery(t.Context(), want.Key(), now)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, what, got, want)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	t.Run("everything is there after the file was closed and opened again", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "store.db")
		s := openFile(t, path, noSync)
		ctx := t.Context()
		epoch, err := s.Write(ctx, hook.FeedHooks, []hook.Change{
			{Record: hook.Record{Kind: hook.KindHook, ID: "h1", Data: []byte("doc")}},
			{Record: hook.Record{Kind: hook.KindSource, ID: "gone", Deleted: true}, Expect: hook.ExpectAny},
		}, []hook.Delivery{row("h1", 1)}, now)
		must(t, err)
		_, err = s.Write(ctx, hook.FeedNone, []hook.Change{{Record: hook.Record{Kind: hook.KindToken, ID: "t1", Data: []byte("token")}}}, nil, now)
		must(t, err)
		admitted := row("h1", 2)
		admitted.SlotKey, admitted.SnoozeKey = "slot", "window"
		slot := hook.Slot{Rev: 1, Sig: "sig", Seen: admitted.Event.ID, By: admitted.Event.ID, Suppressed: 3, LastEvent: "e", LastReason: "stale"}
		window := hook.Snooze{UntilMS: now + 60_000, By: admitted.Event.ID}
		must(t, s.Admit(ctx, hook.Admission{
			HookID: "h1", NowMS: now, Slot: &hook.SlotWrite{Key: "slot", Slot: slot},
			Snoozes: []hook.SnoozeClaim{{Key: "window", Snooze: window, ExpiresAt: now/1000 + 100}}, Rows: []hook.Delivery{admitted},
		}))
		l, _, err := s.AcquireProbe(ctx, "u1", now, now+70_000)
		must(t, err)
		state := hook.ProbeState{Address: "t1/192.0.2.1:80", Health: hook.Unhealthy, ProbedMS: now, Ordered: "o0", Outbox: &admitted.Event}
		must(t, s.PutProbeState(ctx, l, state, now))
		order := hook.HealthOrder{ID: "o1", TargetID: "t1", IP: "192.0.2.1", Health: hook.Healthy}
		must(t, s.PutHealthOrder(ctx, "u1", order, now))
		must(t, s.WatchProbes(ctx, "u1", now+600_000, now))
		l.Summary = []byte("summary")
		must(t, s.ReleaseProbe(ctx, l, now))
		claim := hook.IngestClaim{TokenID: "t1", Key: "k", BodyHash: "h", FirstSeenMS: now, Pending: true, ExpiresAt: now/1000 + 100}
		_, err = s.ClaimIngest(ctx, claim, now)
		must(t, err)
		must(t, s.NoteTokenUse(ctx, hook.TokenUse{TokenID: "t1", At: now / 1000}))
		breaker := opened(t, s, "h1", now+60_000)
		closeFile(t, s)

		s = openFile(t, path, noSync)
		n, err := s.Epoch(ctx, hook.FeedHooks)
		must(t, err)
		equal(t, "Epoch", n, epoch)
		changes, err := s.Changes(ctx, hook.KindHook, 0)
		must(t, err)
		equal(t, "Changes", changes, []hook.Record{{Kind: hook.KindHook, ID: "h1", Changed: epoch, Data: []byte("doc")}})
		changes, err = s.Changes(ctx, hook.KindSource, 0)
		must(t, err)
		equal(t, "Changes", changes, []hook.Record{{Kind: hook.KindSource, ID: "gone", Changed: epoch, Deleted: true, ExpiresAt: now/1000 + 86400}})
		token, err := s.Get(ctx, hook.KindToken, "t1", now)
		must(t, err)
		equal(t, "Get", token, hook.Record{Kind: hook.KindToken, ID: "t1", Data: []byte("token")})
		rows, _, err := s.ListDeliveries(ctx, "h1", hook.Pending, "", 10, now)
		must(t, err)
		equal(t, "ListDeliveries", rows, []hook.Delivery{admitted, row("h1", 1)})
		slots, err := s.Slots(ctx, "h1", []string{"slot"}, now)
		must(t, err)
		equal(t, "Slots", slots, map[string]hook.Slot{"slot": slot})
		windows, err := s.Snoozes(ctx, "h1", []string{"window"}, now)
		must(t, err)
		equal(t, "Snoozes", windows, map[string]hook.Snooze{"window": window})
		probes, err := s.Probes(ctx, "u1", now)
		must(t, err)
		equal(t, "Probes", probes, hook.ProbeView{
			Summary: l.Summary, States: []hook.ProbeState{state}, Orders: []hook.HealthOrder{order}, WatchedMS: now + 600_000,
		})
		breakers, err := s.OverdueBreakers(ctx, now+60_000, 10)
		must(t, err)
		equal(t, "OverdueBreakers", breakers, []hook.Breaker{breaker})
		next, free, err := s.AcquireProbe(ctx, "u1", now, now+1)
		if err != nil || !free || next.Gen <= l.Gen {
			t.Errorf("AcquireProbe = %+v, %v, %v; want a Gen above %d", next, free, err, l.Gen)
		}
		later := claim
		later.BodyHash = "other"
		got, err := s.ClaimIngest(ctx, later, now)
		must(t, err)
		equal(t, "ClaimIngest", got, claim)
		uses, err := s.TokenUses(ctx, []string{"t1"}, now)
		must(t, err)
		equal(t, "TokenUses", uses, map[string]int64{"t1": now / 1000})
	})

	t.Run("a file that is open elsewhere is an error, not a wait for ever", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "store.db")
		openFile(t, path, noSync)
		s, err := boltstore.Open(path, noSync)
		if err == nil {
			t.Errorf("Open = %v, nil; want an error", s)
		} else if !strings.Contains(err.Error(), "another process") {
			t.Errorf("Open = %v; want it to say that another process has the file", err)
		}
	})

	t.Run("a file of a later form is refused", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "store.db")
		closeFile(t, openFile(t, path, noSync))
		db, err := bbolt.Open(path, 0o600, nil)
		must(t, err)
		must(t, db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("store/meta")).Put([]byte("form"), binary.AppendUvarint(nil, 2))
		}))
		must(t, db.Close())
		if s, err := boltstore.Open(path, noSync); err == nil {
			t.Errorf("Open = %v, nil; want an error", s)
		}
	})

	t.Run("a store shares a file that others use and leaves it open", func(t *testing.T) {
		db, err := bbolt.Open(filepath.Join(t.TempDir(), "shared.db"), 0o600, nil)
		must(t, err)
		must(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("queue/events"))
			if err != nil {
				return err
			}
			return b.Put([]byte("k"), []byte("v"))
		}))
		s, err := boltstore.New(db, boltstore.Options{})
		must(t, err)
		create(t, s, row("h", 1))
		must(t, s.Close())
		must(t, db.View(func(tx *bbolt.Tx) error {
			equal(t, "the other's value", string(tx.Bucket([]byte("queue/events")).Get([]byte("k"))), "v")
			return nil
		}))
		must(t, db.Close())
	})
}

func TestStore_Recover(t *testing.T) {
	s := open(t, noSync)
	ctx := t.Context()

	waiting := row("h", 1)
	leased := row("h", 2)
	nudged := row("h", 3)
	nudged.WakeMS = now + 4*3600_000
	over := row("h", 4) // its lease has ended, its attempt was never recorded
	done := ended(row("h", 5), hook.Delivered, now/1000+1000)
	failed := ended(row("h", 6), hook.Failed, now/1000+1000)
	var many []hook.Delivery // more than one transaction's worth
	for i := range 1200 {
		many = append(many, row("other", i))
	}
	create(t, s, waiting, leased, nudged, over, done, failed)
	for part := range slices.Chunk(many, 90) {
		_, err := s.Write(ctx, hook.FeedNone, nil, part, now)
		must(t, err)
	}
	leased, err := s.ClaimDelivery(ctx, hook.Wake{DeliveryKey: leased.Key(), Seq: leased.Seq}, now+90_000, now)
	must(t, err)
	over, err = s.ClaimDelivery(ctx, hook.Wake{DeliveryKey: over.Key(), Seq: over.Seq}, now-1, now)
	must(t, err)
	held, _, err := s.AcquireProbe(ctx, "u1", now, now+70_000)
	must(t, err)
	free, _, err := s.AcquireProbe(ctx, "u2", now, now+70_000)
	must(t, err)
	free.Summary = []byte("kept")
	must(t, s.ReleaseProbe(ctx, free, now))
	must(t, s.PutHealthOrder(ctx, "u1", hook.HealthOrder{ID: "o1"}, now))
	must(t, s.WatchProbes(ctx, "u1", now+600_000, now))

	at := now + 1000
	for range 2 { // twice is harmless
		must(t, s.Recover(ctx, at))
	}

	want := func(d hook.Delivery, wake int64) hook.Delivery {
		d.LeaseMS, d.WakeMS = 0, wake
		return d
	}
	holds(t, "a row that waits wakes when it is due", s, want(waiting, waiting.DueMS))
	holds(t, "a row that was nudged wakes when it is due", s, want(nudged, nudged.DueMS))
	holds(t, "a row that was claimed wakes at once", s, want(leased, at))
	holds(t, "a row whose lease is over wakes at once", s, want(over, at))
	holds(t, "a delivered row stays", s, done)
	holds(t, "a failed row stays", s, failed)
	for _, d := range many {
		holds(t, "every other row too", s, want(d, d.DueMS))
	}
	overdue, err := s.OverdueDeliveries(ctx, leased.Key().WakeShard(), at, 10)
	must(t, err)
	if !slices.ContainsFunc(overdue, func(o hook.Overdue) bool { return o.Wake == (hook.Wake{DeliveryKey: leased.Key(), Seq: leased.Seq}) }) {
		t.Errorf("OverdueDeliveries = %+v; want the row that was claimed, at its Seq", overdue)
	}
	// A wake-up that is still queued stays good.
	_, err = s.ClaimDelivery(ctx, hook.Wake{DeliveryKey: waiting.Key(), Seq: waiting.Seq}, now+90_000, now)
	must(t, err)

	probes, err := s.Probes(ctx, "u1", at)
	must(t, err)
	equal(t, "Probes of the upstream whose lease was held", probes, hook.ProbeView{Orders: []hook.HealthOrder{{ID: "o1"}}, WatchedMS: now + 600_000})
	l, got, err := s.AcquireProbe(ctx, "u1", at, at+70_000)
	if err != nil || !got || l.Gen <= held.Gen {
		t.Errorf("AcquireProbe = %+v, %v, %v; want it free, with a Gen above %d", l, got, err, held.Gen)
	}
	if err := s.ReleaseProbe(ctx, held, at); !errors.Is(err, hook.ErrStale) {
		t.Errorf("ReleaseProbe of the predecessor's lease = %v; want ErrStale", err)
	}
	l, got, err = s.AcquireProbe(ctx, "u2", at, at+70_000)
	if err != nil || !got || string(l.Summary) != "kept" {
		t.Errorf("AcquireProbe = %+v, %v, %v; want it free, with the summary", l, got, err)
	}
}

func TestStore_Recover_freesALeaseAfterTheCrashItself(t *testing.T) {
	s := open(t, noSync)
	d := row("h", 1)
	create(t, s, d)
	d, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, now+90_000, now)
	must(t, err)
	must(t, s.Recover(t.Context(), now))
	// The attempt that the predecessor had begun counts as a claim; the next
	// claim goes by the row's Seq as it is.
	got, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, now+90_000, now)
	must(t, err)
	if got.Tries != d.Tries+1 {
		t.Errorf("Tries = %d; want %d", got.Tries, d.Tries+1)
	}
}

func TestStore_LastEventID(t *testing.T) {
	s := open(t, noSync)
	last := func(want string) {
		t.Helper()
		got, err := s.LastEventID(t.Context())
		if err != nil || got != want {
			t.Errorf("LastEventID = %q, %v; want %q", got, err, want)
		}
	}
	last("")
	create(t, s, row("b", 5))
	last(eventID(5))
	create(t, s, row("a", 9), row("a", 2), row("c", 7), row("a1", 1))
	last(eventID(9))
	create(t, s, row("c", 10))
	last(eventID(10))
	create(t, s, row("a", 11))
	last(eventID(11))
}

func TestStore_Expire(t *testing.T) {
	t.Run("what has expired goes, the longest ago first, and everything else stays", func(t *testing.T) {
		s := open(t, noSync)
		ctx := t.Context()
		sec := now / 1000
		at := func(n int64, expiresAt int64) hook.Delivery { return ended(row("h", int(n)), hook.Failed, expiresAt) }
		create(t, s, at(1, sec+30), at(2, sec+10), at(3, sec+20), at(4, 0), row("h", 5), ended(row("h", 6), hook.Delivered, sec+25))
		left := func(what string, want ...int) {
			t.Helper()
			got := []int{}
			for n := 1; n <= 6; n++ {
				// At the time 0 nothing has expired: what is not there was removed.
				if _, err := s.Delivery(ctx, hook.DeliveryKey{HookID: "h", EventID: eventID(n)}, 0); err == nil {
					got = append(got, n)
				}
			}
			equal(t, what, got, want)
		}
		expire := func(now int64, limit, want int) {
			t.Helper()
			if n, err := s.Expire(ctx, now, limit); err != nil || n != want {
				t.Errorf("Expire = %d, %v; want %d", n, err, want)
			}
		}
		expire((sec+10)*1000-1, 100, 0)
		left("before the first expiry", 1, 2, 3, 4, 5, 6)
		expire((sec+40)*1000, 1, 1)
		left("after one", 1, 3, 4, 5, 6)
		expire((sec+25)*1000, 100, 2)
		left("at an expiry", 1, 4, 5)
		expire((sec+40)*1000, 100, 1)
		left("at the end", 4, 5)
		expire((sec+40)*1000, 100, 0)
	})

	t.Run("an expiry that was moved counts as it is now", func(t *testing.T) {
		s := open(t, noSync)
		ctx := t.Context()
		sec := now / 1000
		d := ended(row("h", 1), hook.Failed, sec+10)
		create(t, s, d)
		again := row("h", 1)
		again.Seq = d.Seq
		seq, err := s.RedeliverDelivery(ctx, again, now) // pending: never expires
		must(t, err)
		n, err := s.Expire(ctx, now+1e9, 100)
		if err != nil || n != 0 {
			t.Errorf("Expire = %d, %v; want 0", n, err)
		}
		again.Seq = seq
		holds(t, "the redelivered row", s, again)
	})

	t.Run("it takes tombstones, tokens, windows, slots, closed breakers, probe states, orders, watches, claims and uses, and their index entries", func(t *testing.T) {
		s := open(t, noSync)
		ctx := t.Context()
		_, err := s.Write(ctx, hook.FeedHooks, []hook.Change{{Record: hook.Record{Kind: hook.KindHook, ID: "h", Deleted: true}, Expect: hook.ExpectAny}}, nil, now)
		must(t, err)
		_, err = s.Write(ctx, hook.FeedNone, []hook.Change{{Record: hook.Record{Kind: hook.KindToken, ID: "t", Data: []byte("x"), ExpiresAt: now/1000 + 10}}}, nil, now)
		must(t, err)
		must(t, s.Admit(ctx, hook.Admission{
			HookID: "h", NowMS: now, Slot: &hook.SlotWrite{Key: "k", Slot: hook.Slot{Rev: 1}},
			Snoozes: []hook.SnoozeClaim{{Key: "k", Snooze: hook.Snooze{UntilMS: now + 5}, ExpiresAt: now/1000 + 10}},
		}))
		l, _, err := s.AcquireProbe(ctx, "u", now, now+5)
		must(t, err)
		must(t, s.PutProbeState(ctx, l, hook.ProbeState{Address: "a"}, now))
		must(t, s.PutHealthOrder(ctx, "u", hook.HealthOrder{ID: "o"}, now))
		must(t, s.WatchProbes(ctx, "u", now+10, now))
		_, err = s.ClaimIngest(ctx, hook.IngestClaim{TokenID: "t", Key: "k", ExpiresAt: now/1000 + 10}, now)
		must(t, err)
		must(t, s.NoteTokenUse(ctx, hook.TokenUse{TokenID: "t", At: now / 1000, ExpiresAt: now/1000 + 10}))
		_, err = s.CountFailures(ctx, "h", 3, 1, now)
		must(t, err)
		stays := opened(t, s, "open", now)

		n, err := s.Expire(ctx, now+int64(31*24*time.Hour/time.Millisecond), 1000)
		if err != nil || n != 11 {
			t.Errorf("Expire = %d, %v; want 11", n, err)
		}
		breakers, err := s.OverdueBreakers(ctx, now, 10)
		must(t, err)
		equal(t, "OverdueBreakers", breakers, []hook.Breaker{stays})
		changes, err := s.Changes(ctx, hook.KindHook, 0)
		must(t, err)
		equal(t, "Changes", changes, []hook.Record{})
	})

	t.Run("it goes beyond one transaction", func(t *testing.T) {
		s := open(t, noSync)
		for part := range 20 {
			var rows []hook.Delivery
			for i := range 80 {
				rows = append(rows, ended(row("h", part*80+i), hook.Delivered, now/1000+1))
			}
			_, err := s.Write(t.Context(), hook.FeedNone, nil, rows, now)
			must(t, err)
		}
		n, err := s.Expire(t.Context(), now+1000, 1550)
		if err != nil || n != 1550 {
			t.Errorf("Expire = %d, %v; want 1550", n, err)
		}
		n, err = s.Expire(t.Context(), now+1000, 1550)
		if err != nil || n != 50 {
			t.Errorf("Expire = %d, %v; want 50", n, err)
		}
	})
}

func TestStore_indexesFollowRandomWrites(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := open(t, noSync) // whose indexes are checked when it is closed
	ctx := t.Context()
	breakerStates := []hook.BreakerState{hook.BreakerClosed, hook.BreakerOpen, hook.BreakerReleasing}
	statuses := []hook.Status{hook.Pending, hook.Delivered, hook.Failed, hook.Superseded}
	at := now
	for range 2000 {
		at += r.Int64N(20_000)
		d := row(fmt.Sprint("h", r.IntN(2)), r.IntN(4))
		d.Seq, d.WakeMS, d.Run = r.Int64N(5), at+r.Int64N(60_000), 1+r.Int64N(2)
		if old, err := s.Delivery(ctx, d.Key(), at); err == nil && r.IntN(3) > 0 {
			d.Seq, d.Run = old.Seq, old.Run
		}
		end := ended(d, statuses[r.IntN(4)], at/1000+r.Int64N(60))
		var err error
		switch r.IntN(12) {
		case 0:
			_, err = s.CreateDelivery(ctx, end, at)
		case 1:
			_, err = s.ClaimDelivery(ctx, hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, at+1000, at)
		case 2:
			_, err = s.UpdateDelivery(ctx, end, at)
		case 3:
			_, err = s.RecordDelivered(ctx, ended(d, hook.Delivered, end.ExpiresAt), at)
		case 4:
			_, err = s.RedeliverDelivery(ctx, d, at)
		case 5:
			_, err = s.NudgeDelivery(ctx, hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key()}, WakeMS: d.WakeMS}, at+r.Int64N(60_000))
		case 6:
			_, err = s.Expire(ctx, at, r.IntN(3))
		case 7:
			err = s.Recover(ctx, at)
		case 8:
			change := hook.Change{Record: hook.Record{Kind: hook.KindHook, ID: d.HookID, Data: []byte("x"), Deleted: r.IntN(2) == 0}, Expect: hook.ExpectAny}
			feed := hook.FeedHooks
			if r.IntN(3) == 0 {
				feed = hook.FeedNone
			}
			_, err = s.Write(ctx, feed, []hook.Change{change}, nil, at)
		case 9:
			_, err = s.CountFailures(ctx, d.HookID, r.Int64N(2), 1, at)
		case 10, 11:
			b, found := s.Breaker(ctx, d.HookID, r.Int64N(2), at)
			if found != nil {
				continue
			}
			b.State, b.WakeMS = breakerStates[r.IntN(3)], r.Int64N(3)*at
			if r.IntN(4) == 0 {
				err = s.DeleteBreaker(ctx, b)
			} else {
				_, err = s.UpdateBreaker(ctx, b, at)
			}
		}
		if err != nil && !errors.Is(err, hook.ErrStale) {
			t.Fatal(err)
		}
	}
}

func TestStore_limits(t *testing.T) {
	s := open(t, noSync)
	ctx := t.Context()
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, hook.ErrStale) || errors.Is(err, hook.ErrExists) || errors.Is(err, hook.ErrNotFound) {
			t.Errorf("%s = %v; want an error of its own", what, err)
		}
	}
	put := func(id string, size int) hook.Change {
		return hook.Change{Record: hook.Record{Kind: hook.KindHook, ID: id, Data: make([]byte, size)}, Expect: hook.ExpectAny}
	}

	t.Run("a write of more than 4 MB is an error and leaves nothing", func(t *testing.T) {
		var changes []hook.Change
		for i := range 12 {
			changes = append(changes, put(fmt.Sprint("large", i), 360<<10))
		}
		_, err := s.Write(ctx, hook.FeedHooks, changes, nil, now)
		refused("Write", err)
		a := hook.Admission{HookID: "large", NowMS: now}
		for i := range 12 {
			d := row("large", i)
			d.Event.Data = make([]byte, 360<<10)
			a.Rows = append(a.Rows, d)
		}
		refused("Admit", s.Admit(ctx, a))
		page, _, err := s.List(ctx, hook.KindHook, "large", "", 10, now)
		must(t, err)
		rows, _, err := s.ListDeliveries(ctx, "large", "", "", 10, now)
		must(t, err)
		if n, _ := s.Epoch(ctx, hook.FeedHooks); len(page) != 0 || len(rows) != 0 || n != 0 {
			t.Errorf("%d records, %d rows, epoch %d; want none", len(page), len(rows), n)
		}
		_, err = s.Write(ctx, hook.FeedHooks, changes[:11], nil, now)
		must(t, err)
	})

	t.Run("one thing twice in a write is an error", func(t *testing.T) {
		_, err := s.Write(ctx, hook.FeedHooks, []hook.Change{put("a", 1), put("a", 2)}, nil, now)
		refused("Write of one record twice", err)
		_, err = s.Write(ctx, hook.FeedHooks, nil, []hook.Delivery{row("h", 1), row("h", 1)}, now)
		refused("Write of one row twice", err)
		refused("Admit of one row twice", s.Admit(ctx, hook.Admission{HookID: "h", NowMS: now, Rows: []hook.Delivery{row("h", 1), row("h", 1)}}))
		refused("Admit of one window twice", s.Admit(ctx, hook.Admission{HookID: "h", NowMS: now, Snoozes: []hook.SnoozeClaim{{Key: "k"}, {Key: "k"}}}))
	})

	t.Run("keys that DynamoDB refuses, and keys that could be taken for others, are errors", func(t *testing.T) {
		long := strings.Repeat("k", 1025)
		for _, id := range []string{"", long} {
			_, err := s.Write(ctx, hook.FeedHooks, []hook.Change{put(id, 1)}, nil, now)
			refused("Write", err)
			_, err = s.CreateDelivery(ctx, hook.Delivery{HookID: "h", Event: hook.Event{ID: id}}, now)
			refused("CreateDelivery", err)
			_, err = s.Slots(ctx, "h", []string{id}, now)
			refused("Slots", err)
			_, err = s.SeeSlot(ctx, "h", id, hook.SlotSight{Sig: "s", Seen: "e", N: 1}, now)
			refused("SeeSlot", err)
			_, err = s.AddSuppressed(ctx, "h", id, 1, 1, "", "")
			refused("AddSuppressed", err)
			refused("Admit with a slot", s.Admit(ctx, hook.Admission{HookID: "h", NowMS: now, Slot: &hook.SlotWrite{Key: id}}))
			refused("Admit with a window", s.Admit(ctx, hook.Admission{HookID: "h", NowMS: now, Snoozes: []hook.SnoozeClaim{{Key: id}}}))
			_, _, err = s.AcquireProbe(ctx, id, now, now+1)
			refused("AcquireProbe", err)
			_, err = s.Probes(ctx, id, now)
			refused("Probes", err)
			refused("PutHealthOrder", s.PutHealthOrder(ctx, "u", hook.HealthOrder{ID: id}, now))
			refused("PutHealthOrder of an upstream", s.PutHealthOrder(ctx, id+id, hook.HealthOrder{ID: "o"}, now))
			refused("DeleteHealthOrder", s.DeleteHealthOrder(ctx, hook.ProbeLease{UpstreamID: "u", Gen: 1}, id, now))
			refused("WatchProbes", s.WatchProbes(ctx, id, now+1, now))
			refused("PutProbeState", s.PutProbeState(ctx, hook.ProbeLease{UpstreamID: "u", Gen: 1}, hook.ProbeState{Address: id}, now))
			refused("DeleteProbeState", s.DeleteProbeState(ctx, hook.ProbeLease{UpstreamID: "u", Gen: 1}, id, now))
			_, err = s.ClaimIngest(ctx, hook.IngestClaim{TokenID: "t", Key: id}, now)
			refused("ClaimIngest", err)
			refused("FinishIngest", s.FinishIngest(ctx, hook.IngestClaim{TokenID: "t", Key: id}))
			refused("NoteTokenUse", s.NoteTokenUse(ctx, hook.TokenUse{TokenID: id, At: 1}))
		}
		_, err := s.CreateDelivery(ctx, hook.Delivery{HookID: "h\x00x", Event: hook.Event{ID: "e"}}, now)
		refused("CreateDelivery", err)
		_, err = s.CreateDelivery(ctx, hook.Delivery{HookID: strings.Repeat("h", 2049), Event: hook.Event{ID: "e"}}, now)
		refused("CreateDelivery", err)
		for _, id := range []string{"", "h\x00x", strings.Repeat("h", 2049)} {
			_, err = s.CountFailures(ctx, id, 3, 1, now)
			refused("CountFailures", err)
			_, err = s.Breaker(ctx, id, 3, now)
			refused("Breaker", err)
			_, err = s.UpdateBreaker(ctx, hook.Breaker{HookID: id}, now)
			refused("UpdateBreaker", err)
			refused("DeleteBreaker", s.DeleteBreaker(ctx, hook.Breaker{HookID: id}))
		}
	})

	t.Run("nothing is done for who has gone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.CreateDelivery(ctx, row("cancelled", 1), now)
		refused("CreateDelivery", err)
		_, err = s.Delivery(ctx, hook.DeliveryKey{HookID: "h", EventID: "e"}, now)
		refused("Delivery", err)
	})
}

func TestStore_shortPages(t *testing.T) {
	s := open(t, boltstore.Options{NoSync: true, PageBytes: 1000})
	ctx := t.Context()
	for i := range 10 {
		d := row("h", i)
		d.Event.Data = make([]byte, 400)
		create(t, s, d)
		_, err := s.Write(ctx, hook.FeedHooks, []hook.Change{{Record: hook.Record{Kind: hook.KindHook, ID: fmt.Sprint(i), Data: make([]byte, 400)}}}, nil, now)
		must(t, err)
		must(t, s.Admit(ctx, hook.Admission{HookID: "h", NowMS: now, Snoozes: []hook.SnoozeClaim{
			{Key: fmt.Sprint(i), Snooze: hook.Snooze{UntilMS: now + 1, LastReason: strings.Repeat("r", 400)}},
		}}))
	}
	rows, more, err := s.ListDeliveries(ctx, "h", "", "", 10, now)
	if err != nil || len(rows) == 0 || len(rows) > 4 || !more {
		t.Errorf("ListDeliveries = %d rows, %v, %v; want a few, and more", len(rows), more, err)
	}
	waiting, more, err := s.PendingDeliveries(ctx, "h", "", 10)
	if err != nil || len(waiting) == 0 || len(waiting) > 4 || !more {
		t.Errorf("PendingDeliveries = %d rows, %v, %v; want a few, and more", len(waiting), more, err)
	}
	page, more, err := s.List(ctx, hook.KindHook, "", "", 10, now)
	if err != nil || len(page) == 0 || len(page) > 4 || !more {
		t.Errorf("List = %d records, %v, %v; want a few, and more", len(page), more, err)
	}
	windows, more, err := s.OpenSnoozes(ctx, "h", "", "", 10, now)
	if err != nil || len(windows) == 0 || len(windows) > 4 || !more {
		t.Errorf("OpenSnoozes = %d windows, %v, %v; want a few, and more", len(windows), more, err)
	}
}

func TestStore_strict(t *testing.T) {
	strict := boltstore.Options{Strict: true, NoSync: true}
	ids := func(t *testing.T, s *boltstore.Store, status hook.Status, limit int) string {
		t.Helper()
		page, more, err := s.ListDeliveries(t.Context(), "h", status, "", limit, now)
		must(t, err)
		var out strings.Builder
		for _, d := range page {
			fmt.Fprintf(&out, "%s ", strings.TrimLeft(d.Event.ID[9:13], "0"))
		}
		if more {
			out.WriteString("…")
		}
		return strings.TrimSpace(out.String())
	}

	t.Run("a list misses the latest write, once", func(t *testing.T) {
		s := open(t, strict)
		create(t, s, row("h", 1), row("h", 2), row("h", 3))
		equal(t, "the first read", ids(t, s, "", 10), "2 1")
		equal(t, "the second read", ids(t, s, "", 10), "3 2 1")
		d := row("h", 2)
		_, err := s.UpdateDelivery(t.Context(), ended(d, hook.Failed, 0), now)
		must(t, err)
		equal(t, "pending, as before", ids(t, s, hook.Pending, 10), "3 2 1")
		equal(t, "pending", ids(t, s, hook.Pending, 10), "3 1")
		d = row("h", 1)
		_, err = s.UpdateDelivery(t.Context(), ended(d, hook.Failed, 0), now)
		must(t, err)
		equal(t, "failed, as before", ids(t, s, hook.Failed, 10), "2")
		equal(t, "failed", ids(t, s, hook.Failed, 10), "2 1")
		d = row("h", 3)
		_, err = s.UpdateDelivery(t.Context(), ended(d, hook.Failed, 0), now)
		must(t, err)
		create(t, s, row("h", 4), row("h", 5))
		create(t, s, row("elsewhere", 1))
		equal(t, "after a write to another hook", ids(t, s, "", 2), "5 4 …")
	})

	t.Run("a list that has lost its place in a page keeps the page's size", func(t *testing.T) {
		s := open(t, strict)
		create(t, s, row("h", 1), row("h", 2), row("h", 3))
		_, err := s.UpdateDelivery(t.Context(), ended(row("h", 3), hook.Failed, 0), now)
		must(t, err)
		equal(t, "pending, as before", ids(t, s, hook.Pending, 2), "3 2 …")
		equal(t, "pending", ids(t, s, hook.Pending, 2), "2 1")
	})

	t.Run("what waits misses the latest write, once", func(t *testing.T) {
		s := open(t, strict)
		waiting := func(what, after string, limit int, want string) {
			t.Helper()
			page, more, err := s.PendingDeliveries(t.Context(), "h", after, limit)
			must(t, err)
			var got strings.Builder
			for _, w := range page {
				fmt.Fprintf(&got, "%s/%d ", strings.TrimLeft(w.EventID[9:13], "0"), w.Seq)
			}
			if more {
				got.WriteString("…")
			}
			equal(t, what, strings.TrimSpace(got.String()), want)
		}
		create(t, s, row("h", 1), row("h", 2), row("h", 3))
		waiting("the first read", "", 10, "1/4 2/4")
		waiting("the second read", "", 10, "1/4 2/4 3/4")
		_, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: row("h", 2).Key(), Seq: 4}, now, now)
		must(t, err)
		waiting("before the claim is seen", "", 10, "1/4 2/4 3/4")
		waiting("after it", "", 10, "1/4 2/5 3/4")
		_, err = s.UpdateDelivery(t.Context(), ended(row("h", 1), hook.Failed, 0), now)
		must(t, err)
		waiting("before the end is seen", "", 2, "1/4 2/5 …")
		waiting("after it", "", 2, "2/5 3/4")
		_, err = s.UpdateDelivery(t.Context(), ended(row("h", 3), hook.Failed, 0), now)
		must(t, err)
		waiting("before another end is seen, after it", eventID(3), 2, "")
	})

	t.Run("a breaker misses the latest write, once", func(t *testing.T) {
		s := open(t, strict)
		ctx := t.Context()
		state := func(what string, want hook.BreakerState) {
			t.Helper()
			b, err := s.Breaker(ctx, "h", 3, now)
			if err != nil && !errors.Is(err, hook.ErrNotFound) {
				t.Fatal(err)
			}
			equal(t, what, b.State, want)
		}
		overdue := func(what string, want ...int64) {
			t.Helper()
			bs, err := s.OverdueBreakers(ctx, now, 10)
			must(t, err)
			got := []int64{}
			for _, b := range bs {
				got = append(got, b.WakeMS)
			}
			equal(t, what, got, want)
		}
		b, err := s.CountFailures(ctx, "h", 3, 10, now)
		must(t, err)
		state("before the count is seen", "")
		state("after it", hook.BreakerClosed)
		b.State, b.WakeMS = hook.BreakerOpen, now-5
		b, err = s.UpdateBreaker(ctx, b, now)
		must(t, err)
		state("before it is seen open", hook.BreakerClosed)
		state("after it", hook.BreakerOpen)
		overdue("open", now-5)
		b.WakeMS = now - 3
		b, err = s.UpdateBreaker(ctx, b, now)
		must(t, err)
		overdue("before the move is seen", now-5)
		overdue("after it", now-3)
		must(t, s.DeleteBreaker(ctx, b))
		overdue("before the deletion is seen", now-3)
		overdue("after it")
		state("deleted", "")
	})

	t.Run("what is overdue misses the latest write, once", func(t *testing.T) {
		s := open(t, strict)
		d := row("h", 1)
		overdue := func(what string, want ...int64) {
			t.Helper()
			all, err := s.OverdueDeliveries(t.Context(), d.Key().WakeShard(), now+1e6, 10)
			must(t, err)
			got := []int64{}
			for _, o := range all {
				got = append(got, o.WakeMS)
			}
			equal(t, what, got, want)
		}
		create(t, s, d)
		overdue("before the first write is seen")
		overdue("after it", d.WakeMS)
		claimed, err := s.ClaimDelivery(t.Context(), hook.Wake{DeliveryKey: d.Key(), Seq: d.Seq}, now+5, now)
		must(t, err)
		overdue("before the claim is seen", d.WakeMS)
		overdue("after it", now+5)
		_, err = s.UpdateDelivery(t.Context(), ended(claimed, hook.Failed, 0), now)
		must(t, err)
		overdue("before the end is seen", now+5)
		overdue("after it")
	})
}

func TestStore_oneFailingWriteDoesNotHarmOthers(t *testing.T) {
	s := open(t, boltstore.Options{})
	large := row("large", 1)
	large.Event.Data = make([]byte, 500<<10)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if i%4 == 0 {
				if created, err := s.CreateDelivery(t.Context(), large, now); err == nil {
					t.Errorf("CreateDelivery of a large row = %v, nil; want an error", created)
				}
				return
			}
			create(t, s, row("h", i))
		})
	}
	wg.Wait()
	page, _, err := s.ListDeliveries(t.Context(), "h", "", "", 100, now)
	if err != nil || len(page) != 30 {
		t.Errorf("ListDeliveries = %d rows, %v; want 30", len(page), err)
	}
}

func TestStore_aPanicIsItsOwnCallersOnly(t *testing.T) {
	s := open(t, noSync)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				func() {
					defer func() {
						if recover() == nil {
							t.Error("Commit of a write that panics returned; want the panic")
						}
					}()
					_ = s.Commit(func(*bbolt.Tx) error { panic("broken page") })
				}()
			}
		})
		wg.Go(func() {
			for range 50 {
				if err := s.Commit(func(*bbolt.Tx) error { return nil }); err != nil {
					t.Errorf("Commit beside a write that panics = %v; want nil", err)
				}
			}
		})
	}
	wg.Wait()
	create(t, s, row("h", 1))
}
