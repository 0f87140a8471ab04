package dynamostore

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
)

// The list of upstreams that have states is kept beside the states, so what
// runs that overlap do to it is tested apart.
func TestStore_ProbedUpstreams_overlappingRuns(t *testing.T) {
	first, w := wired(t)
	second := New(first.client, *first.config, *first.state) // another process
	ctx := t.Context()
	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	lease := func(t *testing.T, s *Store, id string, now int64) hook.ProbeLease {
		t.Helper()
		l, free, err := s.AcquireProbe(ctx, id, now, now+70_000)
		ok("AcquireProbe", err)
		if !free {
			t.Fatal("AcquireProbe = false; want true")
		}
		return l
	}
	listed := func(t *testing.T, id string, now int64, want bool) {
		t.Helper()
		ids, err := first.ProbedUpstreams(ctx, now)
		ok("ProbedUpstreams", err)
		if got := slices.Contains(ids, id); got != want {
			t.Errorf("ProbedUpstreams has it: %v; want %v", got, want)
		}
	}
	put := func(t *testing.T, s *Store, l hook.ProbeLease, now int64) {
		t.Helper()
		ok("PutProbeState", s.PutProbeState(ctx, l, hook.ProbeState{Address: "a", Health: hook.Unhealthy}, now))
	}

	t.Run("a run that lost its lease does not take off what its successor lists between its look and its delete", func(t *testing.T) {
		const id = "overlap"
		old := lease(t, first, id, nowMS)
		put(t, first, old, nowMS)
		ok("DeleteProbeState", first.DeleteProbeState(ctx, old, "a", nowMS))
		late := nowMS + 70_000
		w.beforeNext("DeleteItem", func() {
			put(t, second, lease(t, second, id, late), late)
		})
		if err := first.ReleaseProbe(ctx, old, late); !errors.Is(err, hook.ErrStale) {
			t.Errorf("ReleaseProbe = %v; want ErrStale", err)
		}
		listed(t, id, late, true)
	})

	t.Run("what one process took off, another lists again", func(t *testing.T) {
		const id = "again"
		l := lease(t, first, id, nowMS)
		put(t, first, l, nowMS)
		ok("ReleaseProbe", first.ReleaseProbe(ctx, l, nowMS))
		l = lease(t, second, id, nowMS)
		ok("DeleteProbeState", second.DeleteProbeState(ctx, l, "a", nowMS))
		ok("ReleaseProbe", second.ReleaseProbe(ctx, l, nowMS))
		listed(t, id, nowMS, false)
		l = lease(t, first, id, nowMS)
		put(t, first, l, nowMS)
		listed(t, id, nowMS, true)
	})

	t.Run("a run finds out that the one before it died between the last state and the list", func(t *testing.T) {
		const id = "died"
		l := lease(t, first, id, nowMS)
		put(t, first, l, nowMS)
		ok("DeleteProbeState", first.DeleteProbeState(ctx, l, "a", nowMS))
		late := nowMS + 70_000
		l = lease(t, second, id, late)
		listed(t, id, late, true)
		v, err := second.Probes(ctx, id, late)
		ok("Probes", err)
		if len(v.States) > 0 {
			t.Errorf("States = %+v; want none", v.States)
		}
		ok("ReleaseProbe", second.ReleaseProbe(ctx, l, late))
		listed(t, id, late, false)
	})

	t.Run("a state that is put between the look for states and the end keeps the upstream on the list", func(t *testing.T) {
		const id = "new"
		l := lease(t, first, id, nowMS)
		if _, err := first.Probes(ctx, id, nowMS); err != nil {
			t.Fatal(err)
		}
		put(t, first, l, nowMS)
		ok("ReleaseProbe", first.ReleaseProbe(ctx, l, nowMS))
		listed(t, id, nowMS, true)
	})

	t.Run("an upstream leaves the list after its last state has expired", func(t *testing.T) {
		const id, day = "old", int64(24 * 3600 * 1000)
		put(t, first, lease(t, first, id, nowMS), nowMS)
		listed(t, id, nowMS+30*day, true)
		listed(t, id, nowMS+31*day, false)
	})

	t.Run("a lease that the table has forgotten goes on above its old Gen", func(t *testing.T) {
		const id = "forgotten"
		old := lease(t, first, id, nowMS)
		put(t, first, old, nowMS)
		if _, err := first.client.DeleteItem(context.WithoutCancel(ctx), &dynamodb.DeleteItemInput{TableName: first.state, Key: leaseKey(id)}); err != nil {
			t.Fatal(err)
		}
		l := lease(t, first, id, nowMS+1000)
		if l.Gen <= old.Gen {
			t.Errorf("Gen = %d; want above %d", l.Gen, old.Gen)
		}
		put(t, first, l, nowMS+1000)
		if err := first.PutProbeState(ctx, old, hook.ProbeState{Address: "a"}, nowMS+1000); !errors.Is(err, hook.ErrStale) {
			t.Errorf("PutProbeState under the old lease = %v; want ErrStale", err)
		}
	})
}

// What is known of an upstream may be more than one answer holds, and more than
// this version knows.
func TestStore_Probes_pages(t *testing.T) {
	pk := probePartition("u")
	packed, err := pack([]byte("summary"))
	if err != nil {
		t.Fatal(err)
	}
	stored := []item{
		{"sk": str("lease"), "until_ms": num(nowMS + 1), "gen": num(3), "summary": bin(packed)},
		{"sk": str("lease#later"), "until_ms": num(7), "health": num(7)},
		{"sk": str("order#a"), "target": str("t1"), "ip": str("192.0.2.1"), "health": str("healthy"), "expires_at": num(nowMS/1000 + 1)},
		{"sk": str("order#b"), "target": str("t1"), "health": str("healthy"), "expires_at": num(nowMS / 1000)},
		{"sk": str("order#c"), "target": str("t2"), "health": str("unhealthy"), "expires_at": num(nowMS/1000 + 1)},
		{"sk": str("state#t1/192.0.2.1"), "health": str("unhealthy"), "probed_ms": num(5), "ordered": str("a")},
		{"sk": str("state#t2/192.0.2.2"), "health": str("healthy"), "expires_at": num(nowMS / 1000)},
		{"sk": str("watch"), "until_ms": num(nowMS + 2), "expires_at": num(nowMS/1000 + 1)},
		{"sk": str("watch#later"), "until_ms": num(8)},
	}
	want := hook.ProbeView{
		UntilMS: nowMS + 1, Summary: []byte("summary"), WatchedMS: nowMS + 2,
		States: []hook.ProbeState{{Address: "t1/192.0.2.1", Health: hook.Unhealthy, ProbedMS: 5, Ordered: "a"}},
		Orders: []hook.HealthOrder{{ID: "a", TargetID: "t1", IP: "192.0.2.1", Health: hook.Healthy}, {ID: "c", TargetID: "t2", Health: hook.Unhealthy}},
	}
	for size := 1; size <= len(stored); size++ {
		at := 0
		s := scripted(func(op string, in map[string]any) (int, any) {
			if op != "Query" || in["ConsistentRead"] != true || in["TableName"] != "state" {
				t.Errorf("%s of %v, consistent: %v; want a consistent Query of the StateTable", op, in["TableName"], in["ConsistentRead"])
			}
			if values := in["ExpressionAttributeValues"]; !cmp.Equal(values, map[string]any{":pk": map[string]any{"S": pk}}) {
				t.Errorf("a request asks with %v; want the partition alone", values)
			}
			if from, begun := in["ExclusiveStartKey"]; begun != (at > 0) || begun && from.(map[string]any)["sk"].(map[string]any)["S"] != stored[at-1]["sk"].(*types.AttributeValueMemberS).Value {
				t.Errorf("a request begins after %v; want it after item %d", from, at-1)
			}
			page := stored[at:min(at+size, len(stored))]
			at += len(page)
			var items []any
			for _, it := range page {
				items = append(items, wireItem(it))
			}
			out := map[string]any{"Items": items}
			if at < len(stored) {
				out["LastEvaluatedKey"] = wireItem(stateKey(pk, page[len(page)-1]["sk"].(*types.AttributeValueMemberS).Value))
			}
			return http.StatusOK, out
		})
		got, err := s.Probes(t.Context(), "u", nowMS)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Probes in pages of %d differ (-want +got):\n%s", size, diff)
		}
		if at != len(stored) {
			t.Errorf("Probes in pages of %d read %d items; want %d", size, at, len(stored))
		}
	}
}

// An item that cannot be read is told of: to leave it out would be to forget a
// state, or who holds the lease.
func TestStore_Probes_damaged(t *testing.T) {
	for name, it := range map[string]item{
		"a lease whose end is a text":             {"sk": str("lease"), "until_ms": str("1")},
		"a summary of another form":               {"sk": str("lease"), "summary": bin([]byte{9, 1})},
		"a state whose counter is a text":         {"sk": str("state#a"), "success": str("1")},
		"a state whose time is no whole number":   {"sk": str("state#a"), "probed_ms": &types.AttributeValueMemberN{Value: "1.5"}},
		"a state that was ordered by a number":    {"sk": str("state#a"), "ordered": num(1)},
		"an outbox that is cut off":               {"sk": str("state#a"), "outbox": bin([]byte{packedDeflate})},
		"an order whose target is a number":       {"sk": str("order#a"), "target": num(1)},
		"an order whose health is a number":       {"sk": str("order#a"), "health": num(1)},
		"a watch whose end is a text":             {"sk": str("watch"), "until_ms": str("1")},
		"an item whose key is of another type":    {"sk": num(1)},
		"an item whose expiry is of another type": {"sk": str("watch"), "expires_at": str("soon"), "until_ms": str("1")},
	} {
		t.Run(name, func(t *testing.T) {
			s := scripted(func(string, map[string]any) (int, any) {
				return http.StatusOK, map[string]any{"Items": []any{wireItem(it)}}
			})
			if v, err := s.Probes(t.Context(), "u", nowMS); err == nil {
				t.Errorf("Probes = %+v; want an error", v)
			} else if diff := cmp.Diff(hook.ProbeView{}, v); diff != "" {
				t.Errorf("Probes with an error has something (-want +got):\n%s", diff)
			}
		})
	}
}

// Transactions over one lease cancel each other, so that a run's writes go one
// after the other, whatever they are of.
func TestStore_underLease_oneAtATime(t *testing.T) {
	var open, most, transactions atomic.Int32
	s := scripted(func(op string, _ map[string]any) (int, any) {
		if op == "TransactWriteItems" {
			transactions.Add(1)
			most.Store(max(most.Load(), open.Add(1)))
			for range 1000 {
				runtime.Gosched() // whoever may go on, does
			}
			open.Add(-1)
		}
		return http.StatusOK, map[string]any{}
	})
	l := hook.ProbeLease{UpstreamID: "u", Gen: 1}
	var wg sync.WaitGroup
	for i := range 4 {
		id := strconv.Itoa(i)
		for _, write := range []func() error{
			func() error { return s.PutProbeState(t.Context(), l, hook.ProbeState{Address: id}, nowMS) },
			func() error { return s.DeleteProbeState(t.Context(), l, id, nowMS) },
			func() error { return s.DeleteHealthOrder(t.Context(), l, id, nowMS) },
		} {
			wg.Go(func() {
				if err := write(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if most.Load() != 1 || transactions.Load() != 12 {
		t.Errorf("%d transactions, %d of them at once; want 12, 1", transactions.Load(), most.Load())
	}
}
