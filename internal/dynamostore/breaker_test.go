package dynamostore

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
)

// What was begun, counted, opened or deleted since a request was made decides
// what the next one asks for.
func TestStore_CountFailures_raced(t *testing.T) {
	s, w := wired(t)
	ctx := t.Context()
	const memory = int64(hook.BreakerMemory / 1e6)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	count := func(id string, n, now int64) hook.Breaker {
		t.Helper()
		b, err := s.CountFailures(ctx, id, 7, n, now)
		must(err)
		return b
	}
	open := func(b hook.Breaker) {
		t.Helper()
		b.State, b.WakeMS = hook.BreakerOpen, nowMS+60_000
		_, err := s.UpdateBreaker(ctx, b, nowMS)
		must(err)
	}
	// becomes counts one more failure, after which the breaker must be as wanted.
	becomes := func(t *testing.T, id string, now int64, want hook.Breaker) {
		t.Helper()
		want.HookID, want.Gen = id, 7
		if diff := cmp.Diff(want, count(id, 1, now)); diff != "" {
			t.Errorf("CountFailures differs (-want +got):\n%s", diff)
		}
		stored, err := s.Breaker(ctx, id, 7, now)
		must(err)
		if diff := cmp.Diff(want, stored); diff != "" {
			t.Errorf("Breaker differs (-want +got):\n%s", diff)
		}
	}

	t.Run("another begins it", func(t *testing.T) {
		w.beforeNext("PutItem", func() { count("a", 2, nowMS-1) })
		becomes(t, "a", nowMS, hook.Breaker{Rev: 1, State: hook.BreakerClosed, Count: 3, SinceMS: nowMS - 1, LastMS: nowMS})
	})
	t.Run("another, whose clock is ahead, begins it", func(t *testing.T) {
		w.beforeNext("PutItem", func() { count("b", 2, nowMS+5) })
		becomes(t, "b", nowMS, hook.Breaker{Rev: 1, State: hook.BreakerClosed, Count: 3, SinceMS: nowMS + 5, LastMS: nowMS + 5})
	})
	t.Run("another begins it anew", func(t *testing.T) {
		count("c", 5, nowMS)
		w.beforeNext("PutItem", func() { count("c", 2, nowMS+memory) })
		becomes(t, "c", nowMS+memory, hook.Breaker{Rev: 2, State: hook.BreakerClosed, Count: 3, SinceMS: nowMS + memory, LastMS: nowMS + memory})
	})
	t.Run("another, whose clock is behind, counts on what is to begin anew", func(t *testing.T) {
		count("d", 5, nowMS)
		w.beforeNext("PutItem", func() { count("d", 2, nowMS+memory-1) })
		becomes(t, "d", nowMS+memory, hook.Breaker{Rev: 1, State: hook.BreakerClosed, Count: 8, SinceMS: nowMS, LastMS: nowMS + memory})
	})
	t.Run("another opens it", func(t *testing.T) {
		b := count("f", 5, nowMS)
		w.beforeNext("UpdateItem", func() { open(b) })
		becomes(t, "f", nowMS+1, hook.Breaker{Rev: 2, State: hook.BreakerOpen, Count: 6, SinceMS: nowMS, LastMS: nowMS + 1, WakeMS: nowMS + 60_000})
	})
	t.Run("another, whose clock is ahead, counts once it is known to be open", func(t *testing.T) {
		open(count("g", 5, nowMS))
		w.beforeNext("UpdateItem", func() {
			w.beforeNext("UpdateItem", func() { count("g", 2, nowMS+5) })
		})
		becomes(t, "g", nowMS+1, hook.Breaker{Rev: 2, State: hook.BreakerOpen, Count: 8, SinceMS: nowMS, LastMS: nowMS + 5, WakeMS: nowMS + 60_000})
	})
	t.Run("another deletes it", func(t *testing.T) {
		b := count("h", 5, nowMS)
		w.beforeNext("UpdateItem", func() { must(s.DeleteBreaker(ctx, b)) })
		becomes(t, "h", nowMS+1, hook.Breaker{Rev: 1, State: hook.BreakerClosed, Count: 1, SinceMS: nowMS + 1, LastMS: nowMS + 1})
	})
}

// What is there is another thing at each request.
func TestStore_CountFailures_busy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		s := scripted(func(string, map[string]any) (int, any) {
			requests++
			b := hook.Breaker{HookID: "h", Gen: 7, Rev: 1, State: hook.BreakerOpen, Count: 10, LastMS: nowMS}
			if requests%2 == 0 {
				b.State = hook.BreakerReleasing
			}
			return exception("ConditionalCheckFailedException", map[string]any{"Item": wireItem(encodeBreaker(b))})
		})
		_, err := s.CountFailures(t.Context(), "h", 7, 1, nowMS)
		if !errors.Is(err, hook.ErrBusy) || requests != tries {
			t.Errorf("CountFailures = %v after %d requests; want ErrBusy after %d", err, requests, tries)
		}
	})
}

// The index is older than the breakers that it names: they say what they are.
func TestStore_OverdueBreakers_oldIndex(t *testing.T) {
	open := func(id string, wakeMS int64) hook.Breaker {
		return hook.Breaker{HookID: id, Gen: 7, Rev: 2, State: hook.BreakerOpen, Count: 10, SinceMS: 1, LastMS: nowMS, OpenedMS: 2, WakeMS: wakeMS}
	}
	closed := open("closed", 0)
	closed.State = hook.BreakerClosed
	stored := map[string]hook.Breaker{}
	for _, b := range []hook.Breaker{open("as it was", 500), closed, open("without a time", 0), open("put off", 1001), open("put off a little", 1000), open("sooner", 400), open("on the second page", 450)} {
		stored["breaker#"+b.HookID] = b
	}
	pages := [][]string{{"closed", "as it was", "deleted"}, {"put off", "put off a little", "without a time"}, {"sooner", "on the second page"}}
	for limit, want := range map[int][]string{
		1:    {"as it was"},
		2:    {"as it was", "put off a little"},
		3:    {"sooner", "on the second page", "as it was"},
		1000: {"sooner", "on the second page", "as it was", "put off a little"},
	} {
		queries := 0
		s := scripted(func(op string, in map[string]any) (int, any) {
			var items []any
			if op == "Query" {
				if values := in["ExpressionAttributeValues"].(map[string]any); in["IndexName"] != "due" || values[":shard"].(map[string]any)["S"] != "b" {
					t.Errorf("a query of index %v for %v; want the breakers' part of due", in["IndexName"], values)
				}
				for _, id := range pages[queries] {
					items = append(items, wireItem(item{"pk": str("breaker#" + id), "sk": str("7"), "wake_shard": str("b"), "wake_at": num(1)}))
				}
				out := map[string]any{"Items": items}
				if queries++; queries < len(pages) {
					out["LastEvaluatedKey"] = items[len(items)-1]
				}
				return http.StatusOK, out
			}
			asked := in["RequestItems"].(map[string]any)["state"].(map[string]any)
			if asked["ConsistentRead"] != true {
				t.Error("a read of breakers is not consistent")
			}
			for _, k := range asked["Keys"].([]any) {
				if b, there := stored[k.(map[string]any)["pk"].(map[string]any)["S"].(string)]; there {
					items = append(items, wireItem(encodeBreaker(b)))
				}
			}
			return http.StatusOK, map[string]any{"Responses": map[string]any{"state": items}}
		})
		bs, err := s.OverdueBreakers(t.Context(), 1000, limit)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, b := range bs {
			got = append(got, b.HookID)
			if b != stored["breaker#"+b.HookID] {
				t.Errorf("OverdueBreakers has %+v; want it as stored, %+v", b, stored["breaker#"+b.HookID])
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("OverdueBreakers with limit %d = %q; want %q", limit, got, want)
		}
	}
}

// Pages of the index end where the table likes.
func TestStore_PendingDeliveries_pages(t *testing.T) {
	type answer struct {
		events []string
		last   bool
	}
	tests := []struct {
		name    string
		answers []answer
		want    []string
		more    bool
	}{
		{"nothing", []answer{{nil, true}}, nil, false},
		{"a full page and one more", []answer{{[]string{"a", "b", "c"}, false}}, []string{"a", "b"}, true},
		{"a full page at the end", []answer{{[]string{"a", "b"}, true}}, []string{"a", "b"}, false},
		{"a page that is cut short", []answer{{[]string{"a"}, false}}, []string{"a"}, true},
		{"an empty answer, and more behind it", []answer{{nil, false}, {nil, false}, {[]string{"c"}, true}}, []string{"c"}, false},
		{"many behind an empty answer", []answer{{nil, false}, {[]string{"c", "d", "e"}, true}}, []string{"c", "d"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			queries := 0
			s := scripted(func(_ string, in map[string]any) (int, any) {
				if _, from := in["ExclusiveStartKey"]; from != (queries > 0) {
					t.Errorf("request %d begins at a key: %v", queries, from)
				}
				a := tt.answers[queries]
				queries++
				var items []any
				for _, id := range a.events {
					items = append(items, wireItem(item{"pk": str(deliveryPartition("h", 0)), "sk": str(id), "seq": num(1)}))
				}
				out := map[string]any{"Items": items}
				if !a.last {
					out["LastEvaluatedKey"] = wireItem(stateKey(deliveryPartition("h", 0), "x"))
				}
				return http.StatusOK, out
			})
			page, more, err := s.PendingDeliveries(t.Context(), "h", "", 2)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range page {
				got = append(got, w.EventID)
			}
			if !slices.Equal(got, tt.want) || more != tt.more || queries != len(tt.answers) {
				t.Errorf("PendingDeliveries = %q, %v in %d requests; want %q, %v in %d", got, more, queries, tt.want, tt.more, len(tt.answers))
			}
		})
	}
}

func TestDecodeBreaker_refuses(t *testing.T) {
	for name, change := range map[string]func(item){
		"the key of something else": func(it item) { it["pk"] = str("snooze#h") },
		"a Gen that is no number":   func(it item) { it["sk"] = str("seven") },
		"a number that is a text":   func(it item) { it["count"] = str("1") },
		"a text that is a number":   func(it item) { it["state"] = num(1) },
	} {
		t.Run(name, func(t *testing.T) {
			it := encodeBreaker(hook.Breaker{HookID: "h", Gen: 7, Rev: 1, State: hook.BreakerOpen, Count: 1})
			change(it)
			if b, err := decodeBreaker(it, nowMS); err == nil {
				t.Errorf("decodeBreaker = %+v; want an error", b)
			}
		})
	}
}
