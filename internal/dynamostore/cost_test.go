package dynamostore

import (
	"fmt"
	"slices"
	"testing"

	"eventhooks/internal/hook"
)

// The requests that each method's comment promises.
func TestStore_requests(t *testing.T) {
	s, w := wired(t)
	ctx := t.Context()
	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	did := func(what string, want ...string) {
		t.Helper()
		wantRequests(t, what, w.requests(), want...)
	}

	d := pendingRow("e1")
	_, err := s.CreateDelivery(ctx, d, nowMS)
	ok("CreateDelivery", err)
	did("W1, a row", "PutItem")
	_, err = s.CreateDelivery(ctx, d, nowMS)
	ok("CreateDelivery", err)
	did("W1, of what is there", "PutItem")

	nudged, err := s.NudgeDelivery(ctx, hook.Overdue{Wake: hook.Wake{DeliveryKey: d.Key(), Seq: 1}, WakeMS: d.WakeMS}, nowMS+900_000)
	ok("NudgeDelivery", err)
	if !nudged {
		t.Fatal("NudgeDelivery = false; want true")
	}
	did("W6", "UpdateItem")

	d, err = s.ClaimDelivery(ctx, hook.Wake{DeliveryKey: d.Key(), Seq: 1}, nowMS+60_000, nowMS)
	ok("ClaimDelivery", err)
	did("W2", "UpdateItem")
	d.Seq, err = s.UpdateDelivery(ctx, d, nowMS)
	ok("UpdateDelivery", err)
	did("W3", "PutItem")
	_, err = s.RecordDelivered(ctx, d, nowMS)
	ok("RecordDelivered", err)
	did("W4", "PutItem")
	d.Seq = d.DeliveredSeq()
	d.Run++
	_, err = s.RedeliverDelivery(ctx, d, nowMS)
	ok("RedeliverDelivery", err)
	did("W5", "PutItem")

	_, err = s.Delivery(ctx, d.Key(), nowMS)
	ok("Delivery", err)
	did("Delivery", "GetItem")
	var keys []hook.DeliveryKey
	for i := range 150 {
		keys = append(keys, hook.DeliveryKey{HookID: d.HookID, EventID: fmt.Sprint("e", i)})
	}
	_, err = s.Deliveries(ctx, keys, nowMS)
	ok("Deliveries", err)
	did("Deliveries of 150", "BatchGetItem", "BatchGetItem")
	_, err = s.Deliveries(ctx, nil, nowMS)
	ok("Deliveries", err)
	did("Deliveries of none")
	_, err = s.OverdueDeliveries(ctx, d.Key().WakeShard(), nowMS+1_000_000, 100)
	ok("OverdueDeliveries", err)
	did("OverdueDeliveries", "Query")
	_, _, err = s.ListDeliveries(ctx, d.HookID, "", "", 20, nowMS)
	ok("ListDeliveries", err)
	did("ListDeliveries of all", "Query", "Query", "Query", "Query", "Query", "Query", "Query", "Query")
	_, _, err = s.ListDeliveries(ctx, d.HookID, hook.Pending, "", 20, nowMS)
	ok("ListDeliveries", err)
	did("ListDeliveries of the pending", "Query", "BatchGetItem")

	row := pendingRow("e2")
	row.SlotKey, row.SnoozeKey = "slot", "window"
	ok("Admit", s.Admit(ctx, hook.Admission{
		HookID: row.HookID, NowMS: nowMS, Rows: []hook.Delivery{row},
		Slot:    &hook.SlotWrite{Key: "slot", Slot: hook.Slot{Sig: "sig", Seen: "e2", By: "e2"}},
		Snoozes: []hook.SnoozeClaim{{Key: "window", Snooze: hook.Snooze{UntilMS: nowMS + 60_000, By: "e2"}}},
	}))
	did("W7", "TransactWriteItems")
	_, err = s.Slots(ctx, row.HookID, []string{"slot", "other"}, nowMS)
	ok("Slots", err)
	did("Slots", "BatchGetItem")
	_, err = s.Snoozes(ctx, row.HookID, []string{"window"}, nowMS)
	ok("Snoozes", err)
	did("Snoozes", "BatchGetItem")
	_, err = s.SeeSlot(ctx, row.HookID, "slot", hook.SlotSight{Sig: "sig", Seen: "e3", N: 1, LastEvent: "e3", LastReason: "unchanged"}, nowMS)
	ok("SeeSlot", err)
	did("SeeSlot", "UpdateItem")
	_, err = s.AddSuppressed(ctx, row.HookID, "window", nowMS+60_000, 1, "e3", "snoozed")
	ok("AddSuppressed", err)
	did("AddSuppressed", "UpdateItem")
	ws, _, err := s.OpenSnoozes(ctx, row.HookID, "", "", 20, nowMS)
	ok("OpenSnoozes", err)
	if len(ws) != 1 {
		t.Fatalf("OpenSnoozes = %+v; want one", ws)
	}
	did("OpenSnoozes", "Query")
	ok("GiveBack", s.GiveBack(ctx, row))
	did("W9", "UpdateItem", "UpdateItem")
	_, err = s.EndSnooze(ctx, row.HookID, "window", nowMS)
	ok("EndSnooze", err)
	did("W10", "UpdateItem")

	count := func(what string, now int64, want ...string) (b hook.Breaker) {
		t.Helper()
		b, err := s.CountFailures(ctx, row.HookID, 7, 1, now)
		ok("CountFailures", err)
		did("CountFailures "+what, want...)
		return b
	}
	count("where none is", nowMS, "UpdateItem", "PutItem")
	count("where a closed one counts", nowMS+1, "UpdateItem")
	count("by a clock that is behind", nowMS, "UpdateItem", "UpdateItem")
	b := count("too late", nowMS+hook.BreakerMemory.Milliseconds()+1, "UpdateItem", "PutItem")
	_, err = s.OverdueBreakers(ctx, nowMS+60_000, 100)
	ok("OverdueBreakers", err)
	did("OverdueBreakers of none", "Query")
	b.State, b.WakeMS = hook.BreakerOpen, nowMS
	b, err = s.UpdateBreaker(ctx, b, nowMS)
	ok("UpdateBreaker", err)
	did("UpdateBreaker", "PutItem")
	count("of one that is open", b.LastMS+1, "UpdateItem", "UpdateItem")
	_, err = s.Breaker(ctx, row.HookID, 7, nowMS)
	ok("Breaker", err)
	did("Breaker", "GetItem")
	bs, err := s.OverdueBreakers(ctx, nowMS+60_000, 100)
	ok("OverdueBreakers", err)
	if len(bs) != 1 {
		t.Fatalf("OverdueBreakers = %+v; want one", bs)
	}
	did("OverdueBreakers of one", "Query", "BatchGetItem")
	ok("DeleteBreaker", s.DeleteBreaker(ctx, b))
	did("DeleteBreaker", "DeleteItem")
	waiting, _, err := s.PendingDeliveries(ctx, row.HookID, "", 1000)
	ok("PendingDeliveries", err)
	if len(waiting) != 2 {
		t.Fatalf("PendingDeliveries = %+v; want two", waiting)
	}
	did("PendingDeliveries", "Query")

	_, err = s.Epoch(ctx, hook.FeedHooks)
	ok("Epoch", err)
	did("Epoch", "GetItem")
	_, err = s.Write(ctx, hook.FeedHooks, []hook.Change{{Record: hook.Record{Kind: hook.KindHook, ID: "h", Data: []byte("{}")}, Expect: hook.ExpectAbsent}}, nil, nowMS)
	ok("Write", err)
	did("W8", "GetItem", "TransactWriteItems")
	_, err = s.Write(ctx, hook.FeedNone, []hook.Change{{Record: hook.Record{Kind: hook.KindToken, ID: "t", Data: []byte("{}")}, Expect: hook.ExpectAny}}, nil, nowMS)
	ok("Write", err)
	did("Write without a feed", "PutItem")
	_, err = s.Get(ctx, hook.KindToken, "t", nowMS)
	ok("Get", err)
	did("Get", "GetItem")
	_, _, err = s.List(ctx, hook.KindHook, "", "", 20, nowMS)
	ok("List", err)
	did("List", "Query")
	_, err = s.Changes(ctx, hook.KindHook, 0)
	ok("Changes", err)
	did("Changes", "Query")

	l, _, err := s.AcquireProbe(ctx, "u", nowMS, nowMS+70_000)
	ok("AcquireProbe", err)
	did("AcquireProbe for the first time", "UpdateItem", "UpdateItem")
	for _, address := range []string{"a", "b"} {
		ok("PutProbeState", s.PutProbeState(ctx, l, hook.ProbeState{Address: address}, nowMS))
	}
	did("PutProbeState twice", "PutItem", "TransactWriteItems", "TransactWriteItems")
	ok("ReleaseProbe", s.ReleaseProbe(ctx, l, nowMS))
	did("ReleaseProbe", "UpdateItem")
	l, _, err = s.AcquireProbe(ctx, "u", nowMS, nowMS+70_000)
	ok("AcquireProbe", err)
	did("AcquireProbe", "UpdateItem")
	_, _, err = s.AcquireProbe(ctx, "u", nowMS, nowMS+70_000)
	ok("AcquireProbe", err)
	did("AcquireProbe of a lease that is held", "UpdateItem")
	_, err = s.Probes(ctx, "u", nowMS)
	ok("Probes", err)
	did("Probes", "Query")
	ok("PutHealthOrder", s.PutHealthOrder(ctx, "u", hook.HealthOrder{ID: "o", TargetID: "a", Health: hook.Healthy}, nowMS))
	did("PutHealthOrder", "PutItem")
	ok("DeleteHealthOrder", s.DeleteHealthOrder(ctx, l, "o", nowMS))
	did("DeleteHealthOrder", "TransactWriteItems")
	for _, until := range []int64{nowMS + 600_000, nowMS + 300_000} {
		ok("WatchProbes", s.WatchProbes(ctx, "u", until, nowMS))
		did("WatchProbes", "PutItem")
	}
	for _, address := range []string{"a", "b"} {
		ok("DeleteProbeState", s.DeleteProbeState(ctx, l, address, nowMS))
	}
	did("DeleteProbeState twice", "TransactWriteItems", "TransactWriteItems")
	ok("ReleaseProbe", s.ReleaseProbe(ctx, l, nowMS))
	did("ReleaseProbe after the last state", "Query", "DeleteItem", "UpdateItem")
	_, err = s.ProbedUpstreams(ctx, nowMS)
	ok("ProbedUpstreams", err)
	did("ProbedUpstreams", "Query")

	c := hook.IngestClaim{TokenID: "t", Key: "k", BodyHash: "h", FirstSeenMS: nowMS, Pending: true, ExpiresAt: nowMS/1000 + 60}
	for range 2 {
		_, err = s.ClaimIngest(ctx, c, nowMS)
		ok("ClaimIngest", err)
		did("ClaimIngest", "PutItem")
	}
	ok("FinishIngest", s.FinishIngest(ctx, c))
	did("FinishIngest", "UpdateItem")

	use := hook.TokenUse{TokenID: "t", At: nowMS / 1000}
	for range 2 {
		ok("NoteTokenUse", s.NoteTokenUse(ctx, use))
		did("NoteTokenUse", "PutItem")
	}
	ids := []string{"t", "t"}
	for i := range 100 {
		ids = append(ids, fmt.Sprint("t", i))
	}
	_, err = s.TokenUses(ctx, ids, nowMS)
	ok("TokenUses", err)
	did("TokenUses of 101", "BatchGetItem", "BatchGetItem")
	_, err = s.TokenUses(ctx, nil, nowMS)
	ok("TokenUses", err)
	did("TokenUses of none")
}

// A page costs what is on it, however many there are beside it.
func TestStore_List_cost(t *testing.T) {
	s, w := wired(t)
	ctx := t.Context()
	id := func(i int) string { return fmt.Sprintf("%04d", i) }
	write := func(from, to int, r hook.Record) {
		t.Helper()
		var changes []hook.Change
		for i := from; i < to; i++ {
			r.Kind, r.ID = hook.KindHook, id(i)
			changes = append(changes, hook.Change{Record: r, Expect: hook.ExpectAny})
		}
		for part := range slices.Chunk(changes, maxWrites) {
			if _, err := s.Write(ctx, hook.FeedHooks, part, nil, nowMS); err != nil {
				t.Fatal(err)
			}
		}
		w.requests()
	}
	// page reads a page and returns what it took.
	page := func(prefix, after string, limit, want int) (requests, read int) {
		t.Helper()
		got, _, err := s.List(ctx, hook.KindHook, prefix, after, limit, nowMS)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != want {
			t.Errorf("List of prefix %q after %q, limit %d = %d records; want %d", prefix, after, limit, len(got), want)
		}
		return len(w.requests()), w.itemsRead()
	}
	there := 0
	for _, n := range []int{30, 300} {
		write(there, n, hook.Record{Data: []byte("{}")})
		there = n
		for _, p := range []struct{ prefix, after string }{{"", ""}, {"", id(0)}, {"", id(n / 3)}, {"00", ""}, {"00", id(4)}} {
			if requests, read := page(p.prefix, p.after, 15, 15); requests != 1 || read != 16 {
				t.Errorf("a page of 15, of prefix %q after %q, of %d hooks took %d requests and read %d records; want 1 and 16", p.prefix, p.after, n, requests, read)
			}
		}
		if requests, read := page("", id(n-6), 15, 5); requests != 1 || read != 5 {
			t.Errorf("the last page of %d hooks took %d requests and read %d records; want 1 and 5", n, requests, read)
		}
	}
	// Tombstones are read, but each request takes more of them.
	write(0, 280, hook.Record{Deleted: true})
	if requests, read := page("", "", 2, 2); requests > 5 || read > 300 {
		t.Errorf("a page of 2 behind 280 tombstones took %d requests and read %d records; want at most 5 and 300", requests, read)
	}
}

func TestStore_OpenSnoozes_cost(t *testing.T) {
	s, w := wired(t)
	ctx := t.Context()
	open := func(from, to int, until int64) {
		t.Helper()
		a := hook.Admission{HookID: "h", NowMS: nowMS}
		for i := from; i < to; i++ {
			a.Snoozes = append(a.Snoozes, hook.SnoozeClaim{Key: fmt.Sprintf("7#%04d", i), Snooze: hook.Snooze{UntilMS: until}, ExpiresAt: nowMS/1000 + 3600})
			if len(a.Snoozes) == maxAdmitted || i == to-1 {
				if err := s.Admit(ctx, a); err != nil {
					t.Fatal(err)
				}
				a.Snoozes = nil
			}
		}
		w.requests()
	}
	took := func(what, after string, limit, want, requests, read int) {
		t.Helper()
		got, _, err := s.OpenSnoozes(ctx, "h", "7#", after, limit, nowMS)
		if err != nil {
			t.Fatal(err)
		}
		if r, n := len(w.requests()), w.itemsRead(); len(got) != want || r != requests || n != read {
			t.Errorf("%s: %d windows, in %d requests that read %d; want %d, %d, %d", what, len(got), r, n, want, requests, read)
		}
	}
	open(0, 20, nowMS+60_000)
	took("a page of many that are open", "", 10, 10, 1, 11)
	open(20, 200, nowMS+60_000)
	took("a page of more that are open", "", 10, 10, 1, 11)
	took("a page in their midst", "7#0100", 10, 10, 1, 11)
	took("the last page", "7#0194", 10, 5, 1, 5)
	open(200, 500, nowMS)
	took("a page behind which all have passed", "7#0194", 10, 5, 2, 305)
	open(500, 501, nowMS+60_000)
	took("a page before which many have passed", "7#0200", 10, 1, 2, 300)
}
