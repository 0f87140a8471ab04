package dynamostore

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"eventhooks/internal/hook"
)

func TestEncodeDelivery_attributes(t *testing.T) {
	always := []string{"pk", "sk", "run", "attempt", "seq", "gen", "status", "source", "event", "created_ms", "deadline_ms", "data", "attempts"}
	tests := []struct {
		name   string
		change func(*hook.Delivery)
		more   []string
	}{
		{"pending: in both indexes, never expiring", func(d *hook.Delivery) { d.ExpiresAt = 5 }, []string{"due_ms", "wake_shard", "wake_at", "status_key"}},
		{"pending under a claim", func(d *hook.Delivery) { d.LeaseMS, d.Tries = 5, 1 }, []string{"due_ms", "wake_shard", "wake_at", "status_key", "lease_ms", "tries"}},
		{"failed: in the status index", func(d *hook.Delivery) {
			d.Status, d.Reason, d.ExpiresAt, d.Response = hook.Failed, hook.ReasonExhausted, 5, &hook.Response{Code: 500}
		}, []string{"status_key", "reason", "expires_at", "response"}},
		{"delivered: in no index", func(d *hook.Delivery) {
			d.Status, d.ExpiresAt, d.LeaseMS, d.Parks, d.Nudges = hook.Delivered, 5, 7, 1, 2
		}, []string{"expires_at", "parks", "nudges"}},
		{"admitted by option", func(d *hook.Delivery) { d.SlotKey, d.SnoozeKey = "s", "k" }, []string{"due_ms", "wake_shard", "wake_at", "status_key", "slot", "snooze_key"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := pendingRow("e1")
			tt.change(&d)
			it, err := encodeDelivery(d)
			if err != nil {
				t.Fatal(err)
			}
			got, want := slices.Sorted(maps.Keys(it)), slices.Sorted(slices.Values(append(slices.Clone(always), tt.more...)))
			if !slices.Equal(got, want) {
				t.Errorf("attributes = %v\nwant %v", got, want)
			}
		})
	}
}

// A delivered row of a 1 KB event is billed as one kilobyte: that is what the
// full log of a million deliveries costs.
func TestEncodeDelivery_size(t *testing.T) {
	d := pendingRow("0197a0e0-0000-7000-8000-00000000000a")
	d.Status, d.DueMS, d.WakeMS, d.ExpiresAt = hook.Delivered, 0, 0, 1_795_900_000
	d.Attempts = []hook.Attempt{{AtMS: nowMS, TookMS: 153, Code: 200, IP: "203.0.113.207"}}
	it, err := encodeDelivery(d)
	if err != nil {
		t.Fatal(err)
	}
	it["w"] = str(newMark())
	size := 0
	for name, v := range it {
		size += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			size += len(v.Value)
		case *types.AttributeValueMemberB:
			size += len(v.Value)
		case *types.AttributeValueMemberN:
			size += (len(v.Value)+1)/2 + 1 // two digits a byte, and one
		default:
			t.Fatalf("attribute %s is a %T", name, v)
		}
	}
	t.Logf("an event of %d bytes: an item of %d", len(d.Event.Data), size)
	if size > 1024 {
		t.Errorf("a delivered row of an event of %d bytes is an item of %d; want at most 1024", len(d.Event.Data), size)
	}
}

func TestDecodeDelivery_survives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r < 0xD800 || r > 0xDFFF }))
		n := rapid.Int64()
		want := hook.Delivery{
			HookID: text.Draw(t, "hook"),
			Event: hook.Event{
				ID: text.Draw(t, "id"), Source: text.Draw(t, "source"), Event: text.Draw(t, "event"),
				Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"), Workspace: text.Draw(t, "workspace"), Traceparent: text.Draw(t, "trace"),
			},
			Gen: n.Draw(t, "gen"), Reason: text.Draw(t, "reason"),
			Status: rapid.SampledFrom([]hook.Status{hook.Pending, hook.Delivered, hook.Failed, hook.Superseded}).Draw(t, "status"),
			Run:    n.Draw(t, "run"), Attempt: n.Draw(t, "attempt"), Seq: n.Draw(t, "seq"), Tries: n.Draw(t, "tries"),
			Parks: n.Draw(t, "parks"), Nudges: n.Draw(t, "nudges"), CreatedMS: n.Draw(t, "created"), DeadlineMS: n.Draw(t, "deadline"),
			SlotKey: text.Draw(t, "slot"), SnoozeKey: text.Draw(t, "snooze"),
		}
		if want.Status == hook.Pending {
			want.DueMS, want.WakeMS, want.LeaseMS = n.Draw(t, "due"), n.Draw(t, "wake"), n.Draw(t, "lease")
		} else {
			want.ExpiresAt = n.Draw(t, "expires")
		}
		for range rapid.IntRange(0, 3).Draw(t, "attempts") {
			want.Attempts = append(want.Attempts, hook.Attempt{AtMS: n.Draw(t, "at"), TookMS: n.Draw(t, "took"), Code: rapid.Int().Draw(t, "code"), Error: text.Draw(t, "error"), IP: text.Draw(t, "ip")})
		}
		if rapid.Bool().Draw(t, "answered") {
			want.Response = &hook.Response{Code: rapid.Int().Draw(t, "code"), Headers: rapid.MapOf(text, text).Draw(t, "headers"), Body: text.Draw(t, "body")}
		}
		it, err := encodeDelivery(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeDelivery(it)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("decodeDelivery(encodeDelivery(d)) differs (-want +got):\n%s", diff)
		}
	})
}

func TestDecode_refuses(t *testing.T) {
	good := func() item {
		it, err := encodeDelivery(pendingRow("e1"))
		if err != nil {
			t.Fatal(err)
		}
		return it
	}
	for name, change := range map[string]func(item){
		"the key of something else":  func(it item) { it["pk"] = str("snooze#h") },
		"a key without a shard":      func(it item) { it["pk"] = str("delivery#h") },
		"a number that is a text":    func(it item) { it["seq"] = str("1") },
		"a text that is a number":    func(it item) { it["status"] = num(1) },
		"no data":                    func(it item) { delete(it, "data") },
		"data of another form":       func(it item) { it["data"] = bin([]byte{9, 1}) },
		"attempts that are not JSON": func(it item) { it["attempts"] = str("[{") },
		"a response that is cut off": func(it item) { it["response"] = bin([]byte{packedDeflate}) },
	} {
		t.Run(name, func(t *testing.T) {
			it := good()
			change(it)
			if d, err := decodeDelivery(it); err == nil {
				t.Errorf("decodeDelivery = %+v; want an error", d)
			}
		})
	}
	if r, err := decodeRecord(item{"kind": str("hook"), "id": str("h"), "deleted": str("yes")}); err == nil {
		t.Errorf("decodeRecord = %+v; want an error", r)
	}
}

func TestSortKey(t *testing.T) {
	long := strings.Repeat("k", maxSortKey)
	for _, key := range []string{"k", "7#orders/health#ab", long} {
		if got := sortKey(key); got != key {
			t.Errorf("sortKey(%.40q) = %.40q; want it as it is", key, got)
		}
	}
	seen := map[string]string{}
	for _, key := range []string{"", long + "k", long + "kk", sortKey(""), sortKey(long + "k"), "sha256#"} {
		got := sortKey(key)
		if len(got) == 0 || len(got) > maxSortKey {
			t.Errorf("sortKey(%.40q) has %d bytes; want 1 to %d", key, len(got), maxSortKey)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("sortKey(%.40q) = sortKey(%.40q)", key, other)
		}
		seen[got] = key
	}
}
