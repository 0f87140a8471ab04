package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"eventhooks/internal/hook"
)

// A transaction over the same item refuses a plain write, and the SDK does not
// try it again.
func TestStore_transactionInTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left, requests := 3, 0
		s := scripted(func(string, map[string]any) (int, any) {
			requests++
			if left--; left >= 0 {
				return exception("TransactionConflictException", nil)
			}
			return http.StatusOK, map[string]any{}
		})
		created, err := s.CreateDelivery(t.Context(), pendingRow("e1"), nowMS)
		if err != nil || !created {
			t.Errorf("CreateDelivery = %v, %v; want true", created, err)
		}
		if requests != 4 {
			t.Errorf("%d requests; want 4", requests)
		}

		left, requests = 1<<30, 0
		_, err = s.NudgeDelivery(t.Context(), hook.Overdue{}, nowMS)
		if !errors.Is(err, hook.ErrBusy) {
			t.Errorf("NudgeDelivery = %v; want ErrBusy", err)
		}
		if requests != tries {
			t.Errorf("%d requests; want %d", requests, tries)
		}
	})
}

func TestStore_cancelledTransactions(t *testing.T) {
	admission := hook.Admission{
		HookID: "h", NowMS: nowMS, Rows: []hook.Delivery{pendingRow("e1"), pendingRow("e2")},
		Slot: &hook.SlotWrite{Key: "slot"}, Snoozes: []hook.SnoozeClaim{{Key: "window"}},
	}
	const none, failed, conflicted = "None", "ConditionalCheckFailed", "TransactionConflict"
	tests := []struct {
		name     string
		codes    []string // of slot, window and the two rows
		want     error    // nil: an error that is none of ours
		row      int      // of the Conflict, -1 for no Conflict
		requests int
	}{
		{"the slot has moved", []string{failed, none, none, none}, hook.ErrStale, -1, 1},
		{"the window is open", []string{none, failed, none, none}, hook.ErrStale, -1, 1},
		{"a row is there", []string{none, none, none, failed}, hook.ErrExists, 1, 1},
		{"a row is there, and the slot has moved", []string{failed, failed, failed, none}, hook.ErrExists, 0, 1},
		{"a condition beside a conflict", []string{conflicted, failed, none, none}, hook.ErrStale, -1, 1},
		{"nothing but conflicts", []string{none, conflicted, none, conflicted}, hook.ErrBusy, -1, tries},
		{"throttled", []string{none, none, "ThrottlingError", none}, hook.ErrBusy, -1, tries},
		{"an item too large", []string{none, none, "ValidationError", none}, nil, -1, 1},
		{"reasons that fit no write", []string{failed}, nil, -1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := map[any]bool{}
				s := scripted(func(_ string, in map[string]any) (int, any) {
					tokens[in["ClientRequestToken"]] = true
					return cancelled(tt.codes...)
				})
				err := s.Admit(t.Context(), admission)
				for _, sentinel := range []error{hook.ErrStale, hook.ErrExists, hook.ErrBusy} {
					if errors.Is(err, sentinel) != (sentinel == tt.want) {
						t.Errorf("Admit = %v; want %v", err, tt.want)
					}
				}
				if err == nil {
					t.Error("Admit = nil; want an error")
				}
				c, is := errors.AsType[*hook.Conflict](err)
				if is != (tt.row >= 0) || is && (c.Row != tt.row || c.Change != -1) {
					t.Errorf("Admit = %v; want a Conflict with row %d", err, tt.row)
				}
				if len(tokens) != tt.requests {
					t.Errorf("%d transactions; want %d, each with a token of its own", len(tokens), tt.requests)
				}
			})
		})
	}
}

// The SDK tries a throttled transaction again by itself; DynamoDB knows it by
// its token.
func TestStore_oneTokenForRepeats(t *testing.T) {
	var tokens []any
	s := scripted(func(_ string, in map[string]any) (int, any) {
		tokens = append(tokens, in["ClientRequestToken"])
		if len(tokens) < 3 {
			return exception("TransactionInProgressException", nil)
		}
		return http.StatusOK, map[string]any{}
	})
	if err := s.Admit(t.Context(), hook.Admission{HookID: "h", NowMS: nowMS, Rows: []hook.Delivery{pendingRow("e1")}}); err != nil {
		t.Fatal(err)
	}
	if len(tokens) != 3 || tokens[0] != tokens[1] || tokens[1] != tokens[2] || tokens[0] == nil {
		t.Errorf("tokens = %v; want one, three times", tokens)
	}
}

func TestStore_Write_epochRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Another writer is always first.
		epoch, transactions, reads := 5, 0, 0
		stop := 3
		s := scripted(func(op string, in map[string]any) (int, any) {
			if op == "GetItem" {
				reads++
				return http.StatusOK, map[string]any{"Item": map[string]any{"n": map[string]any{"N": fmt.Sprint(epoch)}}}
			}
			transactions++
			if transactions > stop {
				return http.StatusOK, map[string]any{}
			}
			epoch++
			return exception("TransactionCanceledException", map[string]any{"CancellationReasons": []any{
				map[string]any{"Code": conditionFailed, "Item": map[string]any{"n": map[string]any{"N": fmt.Sprint(epoch)}}},
				map[string]any{"Code": "None"},
			}})
		})
		write := func() (int64, error) {
			return s.Write(t.Context(), hook.FeedHooks, []hook.Change{{Record: hook.Record{Kind: hook.KindHook, ID: "h"}, Expect: hook.ExpectAny}}, nil, nowMS)
		}
		got, err := write()
		if err != nil || got != 9 {
			t.Errorf("Write = %d, %v; want 9", got, err)
		}
		if reads != 4 || transactions != 4 {
			t.Errorf("%d reads and %d transactions; want 4 and 4", reads, transactions)
		}

		stop, transactions = 1<<30, 0
		if _, err := write(); !errors.Is(err, hook.ErrBusy) {
			t.Errorf("Write = %v; want ErrBusy", err)
		}
		if transactions != tries {
			t.Errorf("%d transactions; want %d", transactions, tries)
		}
	})
}

// Among many writers the epoch goes on while one of them pauses: what its
// refusal said is old then.
func TestStore_Write_epochMovesDuringThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var transactions int
		// Others are done after the first refusal: epoch 6 was first, and 7
		// came while this writer paused.
		epoch := func() string {
			switch {
			case transactions == 0:
				return "5"
			case time.Since(start) == 0:
				return "6"
			}
			return "7"
		}
		s := scripted(func(op string, in map[string]any) (int, any) {
			if op == "GetItem" {
				return http.StatusOK, map[string]any{"Item": map[string]any{"n": map[string]any{"N": epoch()}}}
			}
			transactions++
			put := in["TransactItems"].([]any)[0].(map[string]any)["Put"].(map[string]any)
			asked := put["ExpressionAttributeValues"].(map[string]any)[":n"].(map[string]any)["N"]
			if transactions > 1 && asked == epoch() {
				return http.StatusOK, map[string]any{}
			}
			return exception("TransactionCanceledException", map[string]any{"CancellationReasons": []any{
				map[string]any{"Code": conditionFailed, "Item": map[string]any{"n": map[string]any{"N": epoch()}}},
				map[string]any{"Code": "None"},
			}})
		})
		got, err := s.Write(t.Context(), hook.FeedHooks, []hook.Change{{Record: hook.Record{Kind: hook.KindHook, ID: "h"}, Expect: hook.ExpectAny}}, nil, nowMS)
		if err != nil || got != 8 || transactions != 2 {
			t.Errorf("Write = %d, %v after %d transactions; want 8 after 2", got, err, transactions)
		}
	})
}

// A change that does not hold does not hold for the next epoch either.
func TestStore_Write_conflictBesideEpochRace(t *testing.T) {
	transactions := 0
	s := scripted(func(op string, in map[string]any) (int, any) {
		if op == "GetItem" {
			return http.StatusOK, map[string]any{}
		}
		transactions++
		return cancelled(conditionFailed, "None", conditionFailed)
	})
	_, err := s.Write(t.Context(), hook.FeedHooks, []hook.Change{
		{Record: hook.Record{Kind: hook.KindHook, ID: "a"}, Expect: hook.ExpectAny},
		{Record: hook.Record{Kind: hook.KindHook, ID: "b"}, Expect: 4},
	}, nil, nowMS)
	c, is := errors.AsType[*hook.Conflict](err)
	if !is || c.Change != 1 || !errors.Is(err, hook.ErrStale) || transactions != 1 {
		t.Errorf("Write = %v after %d transactions; want change 1 stale after 1", err, transactions)
	}
}

// BatchGetItem may leave keys unprocessed, as many as it likes.
func TestStore_Deliveries_unprocessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored := map[string]any{}
		for i := range 7 {
			it, err := encodeDelivery(pendingRow(fmt.Sprint("e", i)))
			if err != nil {
				t.Fatal(err)
			}
			stored[fmt.Sprint("e", i)] = wireItem(it)
		}
		give := 2 // of each request
		s := scripted(func(_ string, in map[string]any) (int, any) {
			keys := in["RequestItems"].(map[string]any)["state"].(map[string]any)["Keys"].([]any)
			n := min(give, len(keys))
			var items []any
			for _, k := range keys[:n] {
				items = append(items, stored[k.(map[string]any)["sk"].(map[string]any)["S"].(string)])
			}
			out := map[string]any{"Responses": map[string]any{"state": items}}
			if n < len(keys) {
				out["UnprocessedKeys"] = map[string]any{"state": map[string]any{"Keys": keys[n:]}}
			}
			return http.StatusOK, out
		})
		var keys []hook.DeliveryKey
		for i := range 7 {
			keys = append(keys, pendingRow(fmt.Sprint("e", i)).Key(), pendingRow("e0").Key())
		}
		got, err := s.Deliveries(t.Context(), keys, nowMS)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for _, d := range got {
			seen[d.Event.ID]++
		}
		if len(seen) != 7 || len(got) != 7 {
			t.Errorf("Deliveries = %v; want each of 7 rows once", seen)
		}

		give = 0
		if _, err := s.Deliveries(t.Context(), keys, nowMS); err == nil {
			t.Error("Deliveries of a table that answers nothing = nil; want an error")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Deliveries(ctx, keys, nowMS); !errors.Is(err, context.Canceled) {
			t.Errorf("Deliveries with a context that has ended = %v; want context.Canceled", err)
		}
	})
}

// wireItem is an item as DynamoDB's JSON has it.
func wireItem(it item) map[string]any {
	out := map[string]any{}
	for name, v := range it {
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			out[name] = map[string]any{"S": v.Value}
		case *types.AttributeValueMemberN:
			out[name] = map[string]any{"N": v.Value}
		case *types.AttributeValueMemberB:
			out[name] = map[string]any{"B": v.Value} // encoding/json writes base64
		default:
			panic(fmt.Sprintf("a %T", v))
		}
	}
	return out
}

// An error of AWS is none of ours, whatever its text says.
func TestStore_otherErrors(t *testing.T) {
	s := scripted(func(string, map[string]any) (int, any) {
		return exception("ValidationException", map[string]any{"message": "ConditionalCheckFailed TransactionConflict not found"})
	})
	ctx := t.Context()
	calls := map[string]func() error{
		"CreateDelivery":  func() error { _, err := s.CreateDelivery(ctx, pendingRow("e"), nowMS); return err },
		"ClaimDelivery":   func() error { _, err := s.ClaimDelivery(ctx, hook.Wake{}, nowMS, nowMS); return err },
		"UpdateDelivery":  func() error { _, err := s.UpdateDelivery(ctx, pendingRow("e"), nowMS); return err },
		"RecordDelivered": func() error { _, err := s.RecordDelivered(ctx, pendingRow("e"), nowMS); return err },
		"Delivery":        func() error { _, err := s.Delivery(ctx, pendingRow("e").Key(), nowMS); return err },
		"ListDeliveries":  func() error { _, _, err := s.ListDeliveries(ctx, "h", "", "", 1, nowMS); return err },
		"ListDeliveries of a status": func() error {
			_, _, err := s.ListDeliveries(ctx, "h", hook.Failed, "", 1, nowMS)
			return err
		},
		"Get":  func() error { _, err := s.Get(ctx, "k", "i", nowMS); return err },
		"List": func() error { _, _, err := s.List(ctx, "k", "", "", 1, nowMS); return err },
		"Write": func() error {
			_, err := s.Write(ctx, hook.FeedNone, []hook.Change{{Record: hook.Record{Kind: "k", ID: "i"}, Expect: hook.ExpectAny}}, nil, nowMS)
			return err
		},
		"Admit": func() error {
			return s.Admit(ctx, hook.Admission{HookID: "h", NowMS: nowMS, Rows: []hook.Delivery{pendingRow("e")}})
		},
		"RedeliverDelivery": func() error { _, err := s.RedeliverDelivery(ctx, pendingRow("e"), nowMS); return err },
		"Deliveries": func() error {
			_, err := s.Deliveries(ctx, []hook.DeliveryKey{pendingRow("e").Key()}, nowMS)
			return err
		},
		"SeeSlot":           func() error { _, err := s.SeeSlot(ctx, "h", "k", hook.SlotSight{N: 1}, nowMS); return err },
		"CountFailures":     func() error { _, err := s.CountFailures(ctx, "h", 7, 1, nowMS); return err },
		"Breaker":           func() error { _, err := s.Breaker(ctx, "h", 7, nowMS); return err },
		"UpdateBreaker":     func() error { _, err := s.UpdateBreaker(ctx, hook.Breaker{HookID: "h", Rev: 1}, nowMS); return err },
		"DeleteBreaker":     func() error { return s.DeleteBreaker(ctx, hook.Breaker{HookID: "h", Rev: 1}) },
		"OverdueBreakers":   func() error { _, err := s.OverdueBreakers(ctx, nowMS, 1); return err },
		"PendingDeliveries": func() error { _, _, err := s.PendingDeliveries(ctx, "h", "", 1); return err },
		"OpenSnoozes":       func() error { _, _, err := s.OpenSnoozes(ctx, "h", "7#", "", 1, nowMS); return err },
		"EndSnooze":         func() error { _, err := s.EndSnooze(ctx, "h", "k", nowMS); return err },
		"GiveBack":          func() error { d := pendingRow("e"); d.SlotKey = "s"; return s.GiveBack(ctx, d) },
		"AcquireProbe":      func() error { _, _, err := s.AcquireProbe(ctx, "u", nowMS, nowMS); return err },
		"ReleaseProbe":      func() error { return s.ReleaseProbe(ctx, hook.ProbeLease{UpstreamID: "u"}, nowMS) },
		"PutProbeState":     func() error { return s.PutProbeState(ctx, hook.ProbeLease{UpstreamID: "u"}, hook.ProbeState{}, nowMS) },
		"DeleteProbeState":  func() error { return s.DeleteProbeState(ctx, hook.ProbeLease{UpstreamID: "u"}, "a", nowMS) },
		"Probes":            func() error { _, err := s.Probes(ctx, "u", nowMS); return err },
		"PutHealthOrder":    func() error { return s.PutHealthOrder(ctx, "u", hook.HealthOrder{ID: "o"}, nowMS) },
		"DeleteHealthOrder": func() error { return s.DeleteHealthOrder(ctx, hook.ProbeLease{UpstreamID: "u"}, "o", nowMS) },
		"WatchProbes":       func() error { return s.WatchProbes(ctx, "u", nowMS+1, nowMS) },
		"ProbedUpstreams":   func() error { _, err := s.ProbedUpstreams(ctx, nowMS); return err },
		"ClaimIngest":       func() error { _, err := s.ClaimIngest(ctx, hook.IngestClaim{}, nowMS); return err },
		"FinishIngest":      func() error { return s.FinishIngest(ctx, hook.IngestClaim{}) },
		"NoteTokenUse":      func() error { return s.NoteTokenUse(ctx, hook.TokenUse{TokenID: "t", At: 1}) },
		"TokenUses":         func() error { _, err := s.TokenUses(ctx, []string{"t"}, nowMS); return err },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			err := call()
			if err == nil {
				t.Fatalf("%s = nil; want an error", name)
			}
			for _, sentinel := range []error{hook.ErrNotFound, hook.ErrExists, hook.ErrStale, hook.ErrBusy} {
				if errors.Is(err, sentinel) {
					t.Errorf("%s = %v, which is %v; want an error that is none of ours", name, err, sentinel)
				}
			}
		})
	}
}

// The table looks at a MB for one request, and leaves out afterwards what has
// passed: what it answers may be empty although there is more.
func TestStore_OpenSnoozes_emptyAnswers(t *testing.T) {
	window := func(key string) map[string]any {
		return wireItem(item{"pk": str("snooze#h"), "sk": str(key), "until_ms": num(nowMS + 1), "suppressed": num(2)})
	}
	type answer struct {
		keys []string
		last string // the key that the answer ends at, "" for the end
	}
	tests := []struct {
		name    string
		answers []answer
		want    []string
		more    bool
		limits  []string // of the requests: 3 is one more than asked for
	}{
		{"nothing", []answer{{nil, ""}}, nil, false, []string{"3"}},
		{"a full page and one more", []answer{{[]string{"7#a", "7#b", "7#c"}, "7#c"}}, []string{"7#a", "7#b"}, true, []string{"3"}},
		{"a full page, and one that has passed", []answer{{[]string{"7#a", "7#c"}, "7#c"}}, []string{"7#a", "7#c"}, true, []string{"3"}},
		{"a full page at the end", []answer{{[]string{"7#a", "7#b"}, ""}}, []string{"7#a", "7#b"}, false, []string{"3"}},
		{"megabytes that have passed", []answer{{nil, "7#c"}, {nil, "7#d"}, {nil, "7#e"}, {nil, ""}}, nil, false, []string{"3", "all", "all", "all"}},
		{"one behind megabytes that have passed", []answer{{nil, "7#c"}, {nil, "7#d"}, {[]string{"7#e"}, "7#f"}}, []string{"7#e"}, true, []string{"3", "all", "all"}},
		{"few, and a megabyte of which most have passed", []answer{{[]string{"7#a"}, "7#c"}, {nil, "7#d"}}, []string{"7#a"}, true, []string{"3", "all"}},
		{"few, and more than a page in what follows", []answer{{[]string{"7#a"}, "7#c"}, {[]string{"7#d", "7#e"}, ""}}, []string{"7#a", "7#d"}, true, []string{"3", "all"}},
		{"one that is under a hash of its key", []answer{{[]string{"7#a", sortKey("")}, ""}}, []string{"7#a"}, false, []string{"3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var limits []string
			last := "7#0"
			s := scripted(func(_ string, in map[string]any) (int, any) {
				limit := "all"
				if l, is := in["Limit"]; is {
					limit = fmt.Sprint(l)
				}
				if limits = append(limits, limit); len(limits) > len(tt.answers) {
					t.Fatalf("%d requests; want %d", len(limits), len(tt.answers))
				}
				if from := in["ExclusiveStartKey"].(map[string]any)["sk"].(map[string]any)["S"]; from != last {
					t.Errorf("a request begins after %q; want %q", from, last)
				}
				if in["ConsistentRead"] != true {
					t.Error("a read is not consistent")
				}
				a := tt.answers[len(limits)-1]
				out := map[string]any{}
				var items []any
				for _, key := range a.keys {
					items = append(items, window(key))
				}
				out["Items"] = items
				if last = a.last; last != "" {
					out["LastEvaluatedKey"] = wireItem(stateKey("snooze#h", last))
				}
				return http.StatusOK, out
			})
			page, more, err := s.OpenSnoozes(t.Context(), "h", "7#", "7#0", 2, nowMS)
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, w := range page {
				keys = append(keys, w.Key)
				if want := (hook.Snooze{UntilMS: nowMS + 1, Suppressed: 2}); w.Snooze != want {
					t.Errorf("window %s = %+v; want %+v", w.Key, w.Snooze, want)
				}
			}
			if !slices.Equal(keys, tt.want) || more != tt.more || !slices.Equal(limits, tt.limits) {
				t.Errorf("OpenSnoozes = %q, %v in requests of %v; want %q, %v in %v", keys, more, limits, tt.want, tt.more, tt.limits)
			}
		})
	}
}

// DynamoDB refuses a request that has a key of more than 1,024 bytes, or an
// empty one; what people ask for must not become one.
func TestStore_keysThatDynamoDBTakes(t *testing.T) {
	var requests atomic.Int64
	// check looks for strings wherever in a request they are.
	var check func(v any)
	check = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if s, is := v["S"].(string); is && (s == "" || len(s) > 1024 || strings.Contains(s, "\uFFFD")) {
				t.Errorf("a request has %d bytes, %.20q; want 1 to 1,024, as they were given", len(s), s)
			}
			for _, part := range v {
				check(part)
			}
		case []any:
			for _, part := range v {
				check(part)
			}
		}
	}
	s := scripted(func(op string, in map[string]any) (int, any) {
		requests.Add(1)
		check(in)
		if op == "BatchGetItem" {
			return http.StatusOK, map[string]any{"Responses": map[string]any{}}
		}
		return http.StatusOK, map[string]any{}
	})
	ctx := t.Context()
	const id = "3f0d2a6c-6a0b-4f7e-8d1b-0c6c8f0d2a6c"
	for _, key := range []string{"", id, id + "\xff", "\xff", strings.Repeat("k", 1024), strings.Repeat("k", 1025), id + strings.Repeat("é", 1000), strings.Repeat("😀", 1000)} {
		var errs []error
		note := func(err error) {
			if !errors.Is(err, hook.ErrNotFound) {
				errs = append(errs, err)
			}
		}
		_, err := s.Get(ctx, hook.KindHook, key, nowMS)
		note(err)
		for _, prefix := range []string{"", id, key} {
			_, _, err = s.List(ctx, hook.KindHook, prefix, key, 5, nowMS)
			note(err)
			_, _, err = s.OpenSnoozes(ctx, id, prefix, key, 5, nowMS)
			note(err)
		}
		_, _, err = s.PendingDeliveries(ctx, id, key, 5)
		note(err)
		_, err = s.Delivery(ctx, hook.DeliveryKey{HookID: id, EventID: key}, nowMS)
		note(err)
		_, err = s.Deliveries(ctx, []hook.DeliveryKey{{HookID: id, EventID: key}}, nowMS)
		note(err)
		for _, status := range []hook.Status{"", hook.Failed} {
			_, _, err = s.ListDeliveries(ctx, id, status, key, 5, nowMS)
			note(err)
		}
		if err := errors.Join(errs...); err != nil {
			t.Errorf("key %.20q: %v", key, err)
		}
		// An empty key is stored, under its hash: whether there is a window the
		// table says.
		if _, err = s.EndSnooze(ctx, id, key, nowMS); err != nil {
			t.Errorf("EndSnooze of key %.20q: %v", key, err)
		}
	}
	n := requests.Load()
	if n < 20 {
		t.Errorf("%d requests; want many to have looked at", n)
	}
	for _, hookID := range []string{strings.Repeat("h", 1025), id + "\xff"} {
		page, more, err := s.PendingDeliveries(ctx, hookID, "", 5)
		if len(page) > 0 || more || err != nil || requests.Load() != n {
			t.Errorf("PendingDeliveries of hook %.40q = %v, %v, %v in %d requests; want none, in none", hookID, page, more, err, requests.Load()-n)
		}
	}
}
