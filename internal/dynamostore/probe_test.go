package dynamostore

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

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
		states, err := second.ProbeStates(ctx, id, late)
		ok("ProbeStates", err)
		if len(states) > 0 {
			t.Errorf("ProbeStates = %+v; want none", states)
		}
		ok("ReleaseProbe", second.ReleaseProbe(ctx, l, late))
		listed(t, id, late, false)
	})

	t.Run("a state that is put between the look for states and the end keeps the upstream on the list", func(t *testing.T) {
		const id = "new"
		l := lease(t, first, id, nowMS)
		if _, err := first.ProbeStates(ctx, id, nowMS); err != nil {
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
