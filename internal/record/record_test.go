package record_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

func ptr[T any](v T) *T { return &v }

// revealed compares secrets by value.
var revealed = cmp.Comparer(func(a, b hook.Secret) bool { return a.Reveal() == b.Reveal() })

// fullHook has every field there is, though no hook of any handler has all.
func fullHook() hook.Hook {
	return hook.Hook{
		ID: "c57340ab-9fed-40fd-bb7e-1cef8d37c2df", CreatedAt: 1, UpdatedAt: 2,
		Source: "crud", Event: "admins:create", Handler: hook.HandlerCustom, OnChange: ptr(false), Snooze: ptr(int64(0)),
		Config: hook.Config{
			URL: "https://x.test/?a=<b>&c", Headers: map[string]string{"X-A": "\u2028<&"}, Secret: hook.NewSecret("new"), SSLVerify: true,
			Timeout: 5, SignatureAlgo: hook.SignatureSHA1, Method: "PUT", HeadersFormat: true,
			Payload: []byte(`{"n":[1.50,1e+2,-0,12345678901234567890],"s":"<\u2028é"}`), PayloadFormat: true, Body: ptr(""), BodyFormat: true,
			Functions: []string{"return function (data)\n\treturn data.a < \"\u2028\"\nend", ""},
			OldSecret: hook.NewSecret("old"), OldSecretUntil: 1795284000,
		},
		Name: "n", Enabled: true, DisabledReason: "gone", Tags: []string{"a", "b"}, Workspace: "w",
		Filter: []byte(`{"a":[1.50,{"prefix":"<"}],"$or":[{"b":[null]},{"c":[""]}]}`), Retry: hook.Retry{MaxAttempts: 3, MaxAge: 4},
		Changed: 7, Gen: 6,
	}
}

// stored is what a store gives back of a record that it wrote as its n-th.
func stored(r hook.Record, n int64) hook.Record {
	r.Changed = n
	return r
}

func TestHook_roundTrip(t *testing.T) {
	tests := []struct {
		name string
		h    hook.Hook
	}{
		{"every field", fullHook()},
		{"webhook", hook.Hook{
			ID: "a", Source: "s", Handler: hook.HandlerWebhook, Enabled: true, OnChange: ptr(true), Snooze: ptr(int64(60)),
			Config: hook.Config{URL: "http://x.test/", SSLVerify: true}, Changed: 7, Gen: 7,
		}},
		{"webhook-custom", hook.Hook{
			ID: "a", Source: "s", Handler: hook.HandlerCustom,
			Config: hook.Config{URL: "http://x.test/", Method: "POST", Payload: []byte(`{}`)}, Changed: 7, Gen: 7,
		}},
		{"log", hook.Hook{ID: "a", Source: "s", Handler: hook.HandlerLog, Changed: 7, Gen: 7}},
		{"lambda", hook.Hook{
			ID: "a", Source: "s", Handler: hook.HandlerLambda,
			Config: hook.Config{Functions: []string{"return function () return true end"}}, Changed: 7, Gen: 7,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := record.Hook(tt.h)
			if err != nil {
				t.Fatal(err)
			}
			got, err := record.ToHook(stored(r, tt.h.Changed))
			if diff := cmp.Diff(tt.h, got, revealed); err != nil || diff != "" {
				t.Errorf("ToHook = %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestHook_everyField: a field that is added to hooks is added to the fixture,
// and so is known to be stored.
func TestHook_everyField(t *testing.T) {
	everyField(t, "Hook", reflect.ValueOf(fullHook()))
	everyField(t, "Source", reflect.ValueOf(fullSource()), "BuiltIn") // which is not stored
	everyField(t, "Upstream", reflect.ValueOf(fullUpstream()))
	everyField(t, "Target", reflect.ValueOf(fullTarget()))
	everyField(t, "Token", reflect.ValueOf(fullToken()))
}

func everyField(t *testing.T, path string, v reflect.Value, except ...string) {
	t.Helper()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case len(except) > 0 && name == except[0]:
		case f.IsZero():
			t.Errorf("%s.%s is not in the fixture", path, name)
		case f.Kind() == reflect.Struct && f.Type() != reflect.TypeFor[hook.Secret]():
			everyField(t, path+"."+name, f)
		}
	}
}

func TestToHook_generation(t *testing.T) {
	h := fullHook()
	h.Gen = 0
	r, err := record.Hook(h)
	if err != nil {
		t.Fatal(err)
	}
	got, err := record.ToHook(stored(r, 9))
	if err != nil || got.Gen != 9 || got.Changed != 9 {
		t.Errorf("Gen = %d, Changed = %d, %v; want that of the first write, 9", got.Gen, got.Changed, err)
	}
}

// TestToHook_ofBefore: what was written before there were filters, functions
// and rotations is read as a hook without them.
func TestToHook_ofBefore(t *testing.T) {
	const doc = `{"v":1,"created_at":1,"updated_at":2,"source":"crud","handler":"webhook",` +
		`"config":{"url":"http://x.test/","secret":"s","ssl_verify":true},"enabled":true,"gen":3}`
	got, err := record.ToHook(hook.Record{Kind: hook.KindHook, ID: "a", Changed: 4, Data: []byte(doc)})
	want := hook.Hook{
		ID: "a", CreatedAt: 1, UpdatedAt: 2, Source: "crud", Handler: hook.HandlerWebhook, Enabled: true, Changed: 4, Gen: 3,
		Config: hook.Config{URL: "http://x.test/", Secret: hook.NewSecret("s"), SSLVerify: true},
	}
	if diff := cmp.Diff(want, got, revealed); err != nil || diff != "" {
		t.Errorf("ToHook = %v (-want +got):\n%s", err, diff)
	}
}

func TestToHook_refuses(t *testing.T) {
	for name, r := range map[string]hook.Record{
		"a record of another kind":      {Kind: hook.KindToken, ID: "a", Data: []byte(`{"v":1}`)},
		"what is no JSON":               {Kind: hook.KindHook, ID: "a", Data: []byte(`{"v":1`)},
		"a field of another type":       {Kind: hook.KindHook, ID: "a", Data: []byte(`{"v":1,"config":[]}`)},
		"a form of a newer version":     {Kind: hook.KindHook, ID: "a", Data: []byte(`{"v":2}`)},
		"a tombstone, which has no doc": {Kind: hook.KindHook, ID: "a", Deleted: true},
	} {
		t.Run(name, func(t *testing.T) {
			if h, err := record.ToHook(r); err == nil || !strings.Contains(err.Error(), "decode ") {
				t.Errorf("ToHook = %+v, %v; want an error that says what was decoded", h, err)
			}
		})
	}
}

func fullSource() hook.Source {
	return hook.Source{
		Source: "s", Event: "e", Description: "d<", Fields: []string{"a", "b"}, Unique: []string{"a"}, Slot: []string{"b"},
		Sample: []byte(`{"a":1.50}`), Changed: 7,
	}
}

func fullUpstream() hook.Upstream {
	return hook.Upstream{
		ID: "u", CreatedAt: 1, UpdatedAt: 2, Name: "web", HostHeader: "h.test", Tags: []string{"a"}, Changed: 7,
		RemindEvery: 3600,
		Active: hook.ActiveCheck{
			Type: "https", Timeout: 0.5, Concurrency: 3, HTTPPath: "/x?y", HTTPSVerify: true, HTTPSSNI: "s.test",
			Headers: map[string][]string{"X": {"a", "b"}}, HealthyInterval: 1.5, HealthyStatuses: []int64{200}, Successes: 1,
			UnhealthyInterval: 2.5, UnhealthyStatuses: []int64{500}, TCPFailures: 2, Timeouts: 3, HTTPFailures: 4,
			GRPCService: "s", CertificateDays: 14,
		},
	}
}

func fullTarget() hook.Target {
	return hook.Target{
		ID: "t", UpstreamID: "u", CreatedAt: 1.123, UpdatedAt: 2.456, Target: "web.test:80", Weight: 5, Tags: []string{"a"}, Changed: 7,
	}
}

func fullToken() hook.Token {
	return hook.Token{
		ID: "f00d", Name: "n", Scopes: []string{hook.ScopeAdmin}, Sources: []string{"crud"}, ExpiresAt: 9, CreatedAt: 1,
	}
}

func TestOthers_roundTrip(t *testing.T) {
	roundTrip(t, fullSource(), record.Source, record.ToSource)
	roundTrip(t, fullUpstream(), record.Upstream, record.ToUpstream)
	roundTrip(t, fullTarget(), record.Target, record.ToTarget)
	roundTrip(t, fullToken(), record.Token, record.ToToken)
}

func roundTrip[T any](t *testing.T, want T, to func(T) (hook.Record, error), from func(hook.Record) (T, error)) {
	t.Helper()
	r, err := to(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := from(stored(r, 7))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%T: %v (-want +got):\n%s", want, err, diff)
	}
}

func TestToken_expires(t *testing.T) {
	r, err := record.Token(fullToken())
	if err != nil || r.ExpiresAt != 9 {
		t.Errorf("ExpiresAt = %d, %v; want that of the token, 9", r.ExpiresAt, err)
	}
}
