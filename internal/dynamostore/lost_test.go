package dynamostore

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"eventhooks/internal/hook"
)

// The SDK repeats a request whose answer was lost. Each write must then report
// the success that it was, and have taken effect once.
func TestStore_lostAnswers(t *testing.T) {
	s, w := wired(t)
	ctx := t.Context()
	ok := func(t *testing.T, what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	// lose runs a write of which the answer to one request is lost.
	lose := func(t *testing.T, op string, write func() (bool, error)) {
		t.Helper()
		w.loseNext(op)
		done, err := write()
		ok(t, "write", err)
		if w.losses() != 1 {
			t.Fatalf("%d answers to %s were lost; want 1", w.losses(), op)
		}
		if !done {
			t.Errorf("write = false; want true")
		}
	}
	yes := func(err error) (bool, error) { return true, err }
	create := func(t *testing.T, d hook.Delivery) {
		t.Helper()
		created, err := s.CreateDelivery(ctx, d, nowMS)
		ok(t, "CreateDelivery", err)
		if !created {
			t.Fatalf("CreateDelivery(%s) = false; want true", d.Key())
		}
	}
	holds := func(t *testing.T, want hook.Delivery) {
		t.Helper()
		got, err := s.Delivery(ctx, want.Key(), nowMS)
		ok(t, "Delivery", err)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("row differs (-want +got):\n%s", diff)
		}
	}

	t.Run("W1 create", func(t *testing.T) {
		d := pendingRow("w1")
		lose(t, "PutItem", func() (bool, error) { return s.CreateDelivery(ctx, d, nowMS) })
		holds(t, d)
	})
	t.Run("W2 claim, which returns the row all the same", func(t *testing.T) {
		d := pendingRow("w2")
		create(t, d)
		var got hook.Delivery
		lose(t, "UpdateItem", func() (bool, error) {
			var err error
			got, err = s.ClaimDelivery(ctx, hook.Wake{DeliveryKey: d.Key(), Seq: 1}, nowMS+60_000, nowMS)
			return true, err
		})
		d.Seq, d.Tries, d.LeaseMS, d.WakeMS = 2, 1, nowMS+60_000, nowMS+60_000
		if diff := cmp.Diff(d, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("ClaimDelivery differs (-want +got):\n%s", diff)
		}
		holds(t, d)
	})
	t.Run("W3 update", func(t *testing.T) {
		d := pendingRow("w3")
		create(t, d)
		d.Attempt = 2
		lose(t, "PutItem", func() (bool, error) {
			seq, err := s.UpdateDelivery(ctx, d, nowMS)
			return seq == 2, err
		})
		d.Seq = 2
		holds(t, d)
	})
	t.Run("W4 delivered", func(t *testing.T) {
		d := pendingRow("w4")
		d.Status, d.DueMS, d.WakeMS, d.ExpiresAt = hook.Delivered, 0, 0, nowMS/1000+60
		lose(t, "PutItem", func() (bool, error) { return s.RecordDelivered(ctx, d, nowMS) })
		d.Seq = d.DeliveredSeq()
		holds(t, d)
	})
	t.Run("W5 redeliver", func(t *testing.T) {
		d := pendingRow("w5")
		create(t, d)
		d.Run = 2
		lose(t, "PutItem", func() (bool, error) {
			seq, err := s.RedeliverDelivery(ctx, d, nowMS)
			return seq == 2, err
		})
		d.Seq = 2
		holds(t, d)
	})
	t.Run("W6 nudge", func(t *testing.T) {
		d := pendingRow("w6")
		create(t, d)
		o := hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key(), Seq: 1}, WakeMS: d.WakeMS}
		lose(t, "UpdateItem", func() (bool, error) { return s.NudgeDelivery(ctx, o, nowMS+900_000) })
		d.WakeMS, d.Nudges = nowMS+900_000, 1
		holds(t, d)
	})
	t.Run("W7 admit", func(t *testing.T) {
		d := pendingRow("w7")
		d.SlotKey, d.SnoozeKey = "slot", "window"
		slot := hook.Slot{Rev: 1, Sig: "sig", Seen: "w7", By: "w7"}
		window := hook.Snooze{UntilMS: nowMS + 60_000, By: "w7"}
		lose(t, "TransactWriteItems", func() (bool, error) {
			return yes(s.Admit(ctx, hook.Admission{
				HookID: d.HookID, NowMS: nowMS, Rows: []hook.Delivery{d},
				Slot:    &hook.SlotWrite{Key: "slot", Slot: slot},
				Snoozes: []hook.SnoozeClaim{{Key: "window", Snooze: window, ExpiresAt: nowMS/1000 + 3600}},
			}))
		})
		holds(t, d)
		slots, err := s.Slots(ctx, d.HookID, []string{"slot"}, nowMS)
		ok(t, "Slots", err)
		if slots["slot"] != slot {
			t.Errorf("slot = %+v; want %+v", slots["slot"], slot)
		}

		lose(t, "UpdateItem", func() (bool, error) {
			return s.SeeSlot(ctx, d.HookID, "slot", hook.SlotSight{Sig: "sig", Seen: "w8", N: 2, LastEvent: "w8", LastReason: "unchanged"}, nowMS)
		})
		lose(t, "UpdateItem", func() (bool, error) {
			return s.SeeSlot(ctx, d.HookID, "slot", hook.SlotSight{N: 3, LastEvent: "w6", LastReason: "stale"}, nowMS)
		})
		lose(t, "UpdateItem", func() (bool, error) {
			return s.AddSuppressed(ctx, d.HookID, "window", window.UntilMS, 3, "w8", "snoozed")
		})
		slots, err = s.Slots(ctx, d.HookID, []string{"slot"}, nowMS)
		ok(t, "Slots", err)
		slot.Rev, slot.Seen, slot.Suppressed, slot.LastEvent, slot.LastReason = 3, "w8", 5, "w6", "stale"
		if slots["slot"] != slot {
			t.Errorf("slot = %+v; want %+v: each counted once", slots["slot"], slot)
		}
		windows, err := s.Snoozes(ctx, d.HookID, []string{"window"}, nowMS)
		ok(t, "Snoozes", err)
		if got := windows["window"].Suppressed; got != 3 {
			t.Errorf("Suppressed = %d; want 3: counted once", got)
		}

		lose(t, "UpdateItem", func() (bool, error) { return yes(s.GiveBack(ctx, d)) })
		slots, err = s.Slots(ctx, d.HookID, []string{"slot"}, nowMS)
		ok(t, "Slots", err)
		slot.Rev, slot.Sig = 4, ""
		if slots["slot"] != slot {
			t.Errorf("slot = %+v; want %+v", slots["slot"], slot)
		}
	})
	t.Run("W10 end of a window", func(t *testing.T) {
		open := func(by string, at int64) {
			t.Helper()
			ok(t, "Admit", s.Admit(ctx, hook.Admission{HookID: "w10", NowMS: at, Snoozes: []hook.SnoozeClaim{
				{Key: "window", Snooze: hook.Snooze{UntilMS: at + 60_000, By: by, Suppressed: 1}},
			}}))
		}
		shut := func(by string) {
			t.Helper()
			windows, err := s.Snoozes(ctx, "w10", []string{"window"}, nowMS)
			ok(t, "Snoozes", err)
			if got, want := windows["window"], (hook.Snooze{By: by, Suppressed: 1}); got != want {
				t.Errorf("window = %+v; want %+v", got, want)
			}
		}
		end := func() (bool, error) { return s.EndSnooze(ctx, "w10", "window", nowMS) }
		open("e1", nowMS)
		lose(t, "UpdateItem", end)
		shut("e1")

		// Another's end is not taken for ours.
		w.loseNext("UpdateItem")
		if ended, err := end(); err != nil || ended {
			t.Errorf("EndSnooze of what was ended before, its answer lost = %v, %v; want false", ended, err)
		}

		// The next event may open a window before the request is repeated.
		open("e2", nowMS)
		w.beforeNext("UpdateItem", func() {
			w.beforeNext("UpdateItem", func() { open("e3", nowMS+1) })
		})
		lose(t, "UpdateItem", end)
		shut("e3")
	})
	t.Run("a breaker", func(t *testing.T) {
		want := hook.Breaker{HookID: "h", Gen: 7, Rev: 1, State: hook.BreakerClosed, Count: 3, SinceMS: nowMS, LastMS: nowMS}
		count := func(n, now int64) func() (bool, error) {
			return func() (bool, error) {
				got, err := s.CountFailures(ctx, "h", 7, n, now)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("CountFailures differs (-want +got):\n%s", diff)
				}
				return true, err
			}
		}
		stored := func(what string) {
			t.Helper()
			got, err := s.Breaker(ctx, "h", 7, nowMS)
			ok(t, "Breaker", err)
			if got != want {
				t.Errorf("%s: breaker = %+v; want %+v", what, got, want)
			}
		}
		// secondUpdate makes the answer to the update after the next one be lost.
		secondUpdate := func() {
			w.beforeNext("UpdateItem", func() {
				w.beforeNext("UpdateItem", func() { w.loseNext("UpdateItem") })
			})
		}
		lose(t, "PutItem", count(3, nowMS))
		stored("begun")
		want.Count, want.LastMS = 5, nowMS+1
		lose(t, "UpdateItem", count(2, nowMS+1))
		stored("counted")
		want.Count = 6
		secondUpdate()
		if _, err := count(1, nowMS)(); err != nil || w.losses() != 1 {
			t.Errorf("CountFailures = %v, with %d answers lost; want 1", err, w.losses())
		}
		stored("counted by a clock that is behind")

		read := want
		want.State, want.OpenedMS, want.WakeMS = hook.BreakerOpen, nowMS, nowMS+60_000
		read, want.Rev = want, 2
		lose(t, "PutItem", func() (bool, error) {
			got, err := s.UpdateBreaker(ctx, read, nowMS)
			return got == want, err
		})
		stored("opened")
		want.Count, want.LastMS = 7, nowMS+2
		secondUpdate()
		if _, err := count(1, nowMS+2)(); err != nil || w.losses() != 1 {
			t.Errorf("CountFailures = %v, with %d answers lost; want 1", err, w.losses())
		}
		stored("counted while open")

		// The repeat finds nothing: it is gone, whoever did it.
		w.loseNext("DeleteItem")
		if err := s.DeleteBreaker(ctx, want); !errors.Is(err, hook.ErrStale) || w.losses() != 1 {
			t.Errorf("DeleteBreaker = %v, with %d answers lost; want ErrStale, 1", err, w.losses())
		}
		if b, err := s.Breaker(ctx, "h", 7, nowMS); !errors.Is(err, hook.ErrNotFound) {
			t.Errorf("Breaker = %+v, %v; want ErrNotFound", b, err)
		}
	})
	t.Run("W8 write to a feed, with its row", func(t *testing.T) {
		d := pendingRow("w8")
		d.Gen = 0
		change := hook.Change{Record: hook.Record{Kind: hook.KindHook, ID: "h1", Data: []byte("{}")}, Expect: hook.ExpectAbsent}
		lose(t, "TransactWriteItems", func() (bool, error) {
			epoch, err := s.Write(ctx, hook.FeedHooks, []hook.Change{change}, []hook.Delivery{d}, nowMS)
			return epoch == 1, err
		})
		d.Gen = 1
		holds(t, d)
		change.Expect, change.Record.Data = 1, []byte("two")
		lose(t, "TransactWriteItems", func() (bool, error) {
			epoch, err := s.Write(ctx, hook.FeedHooks, []hook.Change{change}, nil, nowMS)
			return epoch == 2, err
		})
		epoch, err := s.Epoch(ctx, hook.FeedHooks)
		ok(t, "Epoch", err)
		if epoch != 2 {
			t.Errorf("Epoch = %d; want 2", epoch)
		}
	})
	t.Run("a write without a feed", func(t *testing.T) {
		change := hook.Change{Record: hook.Record{Kind: hook.KindToken, ID: "t1", Data: []byte("{}")}, Expect: hook.ExpectAbsent}
		lose(t, "PutItem", func() (bool, error) {
			_, err := s.Write(ctx, hook.FeedNone, []hook.Change{change}, nil, nowMS)
			return true, err
		})
		change.Record.Deleted, change.Expect = true, hook.ExpectAny
		lose(t, "DeleteItem", func() (bool, error) {
			_, err := s.Write(ctx, hook.FeedNone, []hook.Change{change}, nil, nowMS)
			return true, err
		})
		if _, err := s.Get(ctx, hook.KindToken, "t1", nowMS); !errors.Is(err, hook.ErrNotFound) {
			t.Errorf("Get = %v; want ErrNotFound", err)
		}
	})
	t.Run("a run's lease, state and summary, and what is asked of it", func(t *testing.T) {
		probes := func(what string, want hook.ProbeView) {
			t.Helper()
			got, err := s.Probes(ctx, "u1", nowMS)
			ok(t, "Probes", err)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: probes differ (-want +got):\n%s", what, diff)
			}
		}
		order := hook.HealthOrder{ID: "o1", TargetID: "t1", Health: hook.Healthy}
		lose(t, "PutItem", func() (bool, error) { return yes(s.PutHealthOrder(ctx, "u1", order, nowMS)) })
		for _, until := range []int64{nowMS + 300_000, nowMS + 600_000, nowMS + 300_000} {
			lose(t, "PutItem", func() (bool, error) { return yes(s.WatchProbes(ctx, "u1", until, nowMS)) })
		}
		probes("an order and a watch", hook.ProbeView{Orders: []hook.HealthOrder{order}, WatchedMS: nowMS + 600_000})

		// Another may watch for longer before the request is repeated.
		lose(t, "PutItem", func() (bool, error) {
			w.beforeNext("PutItem", func() {
				w.beforeNext("PutItem", func() { ok(t, "WatchProbes", s.WatchProbes(ctx, "u2", nowMS+600_000, nowMS)) })
			})
			return yes(s.WatchProbes(ctx, "u2", nowMS+300_000, nowMS))
		})
		v, err := s.Probes(ctx, "u2", nowMS)
		ok(t, "Probes", err)
		if v.WatchedMS != nowMS+600_000 {
			t.Errorf("WatchedMS = %d; want %d", v.WatchedMS, nowMS+600_000)
		}

		var l hook.ProbeLease
		acquire := func() (got bool, err error) {
			l, got, err = s.AcquireProbe(ctx, "u1", nowMS, nowMS+70_000)
			return got, err
		}
		lose(t, "UpdateItem", acquire)
		st := hook.ProbeState{Address: "t1/192.0.2.1", Health: hook.Healthy}
		lose(t, "TransactWriteItems", func() (bool, error) { return yes(s.PutProbeState(ctx, l, st, nowMS)) })
		lose(t, "TransactWriteItems", func() (bool, error) { return yes(s.DeleteProbeState(ctx, l, st.Address, nowMS)) })
		for range 2 { // also of one that is gone
			lose(t, "TransactWriteItems", func() (bool, error) { return yes(s.DeleteHealthOrder(ctx, l, order.ID, nowMS)) })
		}
		probes("after the order was deleted", hook.ProbeView{UntilMS: l.UntilMS, WatchedMS: nowMS + 600_000})
		lose(t, "DeleteItem", func() (bool, error) { return yes(s.ReleaseProbe(ctx, l, nowMS)) })
		gen := l.Gen
		lose(t, "UpdateItem", acquire)
		if l.Gen != gen+1 {
			t.Errorf("Gen = %d; want %d", l.Gen, gen+1)
		}
		lose(t, "UpdateItem", func() (bool, error) { return yes(s.ReleaseProbe(ctx, l, nowMS)) })
	})
	t.Run("an idempotency key", func(t *testing.T) {
		c := hook.IngestClaim{TokenID: "t", Key: "k", BodyHash: "h", FirstSeenMS: nowMS, Pending: true, ExpiresAt: nowMS/1000 + 60}
		lose(t, "PutItem", func() (bool, error) {
			got, err := s.ClaimIngest(ctx, c, nowMS)
			return got == c, err
		})
		lose(t, "UpdateItem", func() (bool, error) { return yes(s.FinishIngest(ctx, c)) })
	})
	t.Run("a token's use", func(t *testing.T) {
		lose(t, "PutItem", func() (bool, error) { return yes(s.NoteTokenUse(ctx, hook.TokenUse{TokenID: "t", At: nowMS / 1000})) })
	})
}

// A mark is good for its own write only: what somebody else wrote is not taken
// for ours.
func TestStore_lostRace(t *testing.T) {
	s, w := wired(t)
	ctx := context.WithoutCancel(t.Context())
	d := pendingRow("e1")
	if _, err := s.CreateDelivery(ctx, d, nowMS); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		created, err := s.CreateDelivery(ctx, d, nowMS)
		if err != nil || created {
			t.Errorf("CreateDelivery of what is there = %v, %v; want false", created, err)
		}
	}
	w.loseNext("PutItem")
	created, err := s.CreateDelivery(ctx, d, nowMS)
	if err != nil || created {
		t.Errorf("CreateDelivery of what is there, its answer lost = %v, %v; want false", created, err)
	}
}
